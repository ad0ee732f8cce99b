"""Time limit of a request as a whole, from the look-up of a name to the last byte, with its redirects and retries.

An HTTP library limits each single wait, so a server that sends a byte now and then is never too slow. Here a limit
holds for all that a thread does within `time_limit`: `LimitedNetwork` gives each wait the time that is left.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any

_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))
_LONGEST_CONNECT = 10.0  # seconds for one address
_WRITE_BYTES = 16384  # so that a server that reads slowly is noticed


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limits the time of all requests in a block; a limit that is set already and ends sooner stays."""
    token = _deadline.set(min(_deadline.get(), monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


def time_left() -> float:
    """Returns the seconds that are left, infinity without a limit."""
    return _deadline.get() - monotonic()


class LimitedNetwork:
    """Network of an HTTP client, in place of that of its library (httpcore), within the time limit."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._errors = sys.modules[type(network).__module__.partition(".")[0]]  # httpcore or httpcore2

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> LimitedStream:
        """Returns a connection to the first address of a host that takes one."""
        failure: Exception = self._errors.ConnectError(f"{host} has no address")
        for address in self._addresses(host, port):
            try:
                wait = _wait(min(timeout or _LONGEST_CONNECT, _LONGEST_CONNECT), self._errors.ConnectTimeout)
                return LimitedStream(self._network.connect_tcp(address, port, timeout=wait, **options), self._errors)
            except (self._errors.ConnectError, self._errors.ConnectTimeout) as error:
                failure = error
        raise failure

    def sleep(self, seconds: float) -> None:
        """Waits."""
        self._network.sleep(min(seconds, max(0.0, time_left())))

    def _addresses(self, host: str, port: int) -> list[str]:
        """Looks a name up, in a thread of its own, since nothing can stop the system's look-up."""
        wait = _wait(None, self._errors.ConnectTimeout)
        results: SimpleQueue[list[str] | OSError] = SimpleQueue()

        def look_up() -> None:
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                results.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
            except (OSError, UnicodeError) as error:
                results.put(OSError(str(error)))

        Thread(target=look_up, name="name look-up", daemon=True).start()
        try:
            result = results.get(timeout=wait)
        except Empty:
            raise self._errors.ConnectTimeout(f"the look-up of {host} took too long") from None
        if isinstance(result, OSError):
            raise self._errors.ConnectError(str(result))
        return result


class LimitedStream:
    """Connection within the time limit."""

    def __init__(self, stream: Any, errors: Any) -> None:
        self._stream, self._errors = stream, errors

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Returns some bytes."""
        return bytes(self._stream.read(max_bytes, timeout=_wait(timeout, self._errors.ReadTimeout)))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends bytes."""
        for start in range(0, len(buffer), _WRITE_BYTES):
            wait = _wait(timeout, self._errors.WriteTimeout)
            self._stream.write(buffer[start : start + _WRITE_BYTES], timeout=wait)

    def close(self) -> None:
        """Closes the connection."""
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: Any = None) -> LimitedStream:
        """Returns the encrypted connection."""
        wait = _wait(timeout, self._errors.ConnectTimeout)
        return LimitedStream(self._stream.start_tls(ssl_context, server_hostname, wait), self._errors)

    def get_extra_info(self, info: str) -> Any:
        """Returns what the library wants to know of the connection."""
        return self._stream.get_extra_info(info)


def _wait(timeout: float | None, error: type[Exception]) -> float | None:
    """Returns the seconds of one wait, None for any; raises an error if no time is left."""
    left = time_left()
    if left <= 0:
        raise error("the request took too long")
    wait = min(left, float("inf") if timeout is None else timeout)
    return None if wait == float("inf") else wait
