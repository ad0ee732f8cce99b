"""A server on loopback of which a test writes every byte: a function is called for each request, in a thread."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable


class RawServer:
    """Calls `way(connection, closing)` for each request until the block ends; `seen` are those that were read."""

    def __init__(self, way: Callable[[socket.socket, threading.Event], None], *, read: bool = True) -> None:
        self._way, self._read = way, read
        self.closing = threading.Event()
        self.seen: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> RawServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._socket.close()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while not self.closing.is_set():
                    if self._read:
                        if not (request := _request(connection)):
                            return
                        self.seen.append(request)
                    self._way(connection, self.closing)
            except OSError:  # who asked has hung up
                return


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and (more := connection.recv(2**20)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    while length and len(body) < int(length[1]) and (more := connection.recv(2**20)):
        body += more
    return head + b"\r\n\r\n" + body if head else b""


def response(body: str | bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A whole response."""
    data = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Content-Type": "application/json", "Content-Length": str(len(data))} | named
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data
