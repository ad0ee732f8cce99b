"""A request ends in time, whatever a server does: `timeout` bounds it whole, with its look-up, redirects and retries.

Each way is tried with a chat, with the check before a run and with an embedder.
"""

from __future__ import annotations

import json
import socket
import time

import openai  # noqa: F401  which takes its time, once
import pytest
from attacks.raw_server import RawServer, response
from chat_server import ChatServer

from d2skill.config import EmbedderConfig, EndpointConfig
from d2skill.embedders import make_embedder
from d2skill.endpoints import ChatClient, check, connect
from d2skill.errors import ConfigError, D2SkillError, EndpointFault

TIMEOUT = 0.4
BOUND = 3.0  # seconds: two requests of a check, and a slow machine
ASK = [{"role": "user", "content": "Say yes."}]
CHAT = json.dumps({"choices": [{"message": {"content": "yes"}}]})


@pytest.fixture(autouse=True)
def keyless(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def drip(connection, closing, data, pause=0.02):
    """Sends some bytes one by one, again and again."""
    while True:
        for byte in data:
            connection.sendall(bytes([byte]))
            if closing.wait(pause):
                return


def pour(connection, closing, data):
    """Sends some bytes again and again, as fast as they are read."""
    while not closing.is_set():
        connection.sendall(data)


def silence(connection, closing):
    closing.wait()


def drip_status(connection, closing):
    drip(connection, closing, b"H" + b"T" * 1000)


def drip_head(connection, closing):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    drip(connection, closing, b"X-More: 1\r\n")


def pour_head(connection, closing):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-More: ")
    drip(connection, closing, b"1" * 100, pause=0.001)


def drip_early_hints(connection, closing):
    drip(connection, closing, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", pause=0.002)


def pour_early_hints(connection, closing):
    pour(connection, closing, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")


def pour_continue(connection, closing):
    pour(connection, closing, b"HTTP/1.1 100 Continue\r\n\r\n")


def drip_processing(connection, closing):
    while not closing.wait(0.05):
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")


def drip_body(connection, closing):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    drip(connection, closing, CHAT.encode())


def drip_chunks(connection, closing):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    drip(connection, closing, b"1\r\n \r\n", pause=0.005)


def drip_without_length(connection, closing):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    drip(connection, closing, b" ")


def drip_trailers(connection, closing):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    drip(connection, closing, b"X-More: 1\r\n")


def drip_error(connection, closing):
    connection.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n")
    drip(connection, closing, b"no ")


def redirect_slowly(connection, closing):
    if not closing.wait(0.15):
        connection.sendall(response("", "307 There", Location="/v1/again"))


def redirect_for_ever(connection, closing):
    connection.sendall(response("", "302 There", Location="/v1/again"))


def drip_redirects(connection, closing):
    connection.sendall(b"HTTP/1.1 307 There\r\nLocation: /v1/again\r\nContent-Length: 5000\r\n\r\n")
    drip(connection, closing, b".")


def busy_for_long(connection, closing):
    connection.sendall(response("", "429 Busy", Retry_After="100"))


def busy_for_a_moment(connection, closing):
    connection.sendall(response("", "503 Busy", Retry_After="0.15"))


def fail_each_time(connection, closing):
    connection.sendall(response("", "500 No"))


def busy_in_milliseconds(connection, closing):
    connection.sendall(response("", "429 Busy", retry_after_ms="30000"))


def hang_up(connection, closing):
    connection.close()


def answer_nonsense(connection, closing):
    connection.sendall(response("[]"))


WAYS = [
    *(silence, drip_status, drip_head, pour_head, drip_early_hints, pour_early_hints, pour_continue, drip_processing),
    *(drip_body, drip_chunks, drip_without_length, drip_trailers, drip_error, redirect_slowly, redirect_for_ever),
    *(drip_redirects, busy_for_long, busy_for_a_moment, fail_each_time, busy_in_milliseconds, hang_up),
    answer_nonsense,
]


def chat(settings):
    ChatClient(connect(settings), settings).complete(ASK, tokens=5)


def checked(settings):
    check(connect(settings), settings)


def embedded(settings):
    make_embedder(EmbedderConfig(kind="openai", endpoint=settings, cache="none", task_gate=0.5, step_gate=0.5))


DOORS = [chat, checked, embedded]


def ends(door, settings):
    """A request ends in time, and with an error of ours."""
    started = time.monotonic()
    with pytest.raises(D2SkillError) as said:
        door(settings)
    assert time.monotonic() - started < BOUND
    assert "Traceback" not in str(said.value) and "\n" not in str(said.value)


def endpoint(url, **fields):
    return EndpointConfig(**{"model": "toy", "url": url, "timeout": TIMEOUT, "retries": 50} | fields)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("way", WAYS)
def test_a_request_ends_in_time(way, door):
    with RawServer(way) as server:
        ends(door, endpoint(server.url))


@pytest.mark.parametrize("door", DOORS)
def test_an_encryption_that_does_not_begin(door):
    with RawServer(silence) as server:
        ends(door, endpoint(server.url.replace("http:", "https:")))


@pytest.mark.parametrize("door", DOORS)
def test_a_name_that_is_looked_up_for_ever(door, monkeypatch):
    real = socket.getaddrinfo

    def slow(host, *rest, **options):
        if host == "models.example":
            time.sleep(2 * BOUND)
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    ends(door, endpoint("http://models.example/v1"))


@pytest.mark.parametrize("door", DOORS)
def test_a_port_that_takes_no_connection(door):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        time.sleep(0.05)
        try:
            ends(door, endpoint(f"http://127.0.0.1:{address[1]}/v1"))
        finally:
            for filler in fillers:
                filler.close()


def test_a_server_that_does_not_read():
    with RawServer(silence, read=False) as server:
        settings = endpoint(server.url)
        started = time.monotonic()
        with pytest.raises(EndpointFault):
            ChatClient(connect(settings), settings).complete([{"role": "user", "content": "word " * 10**7}], tokens=5)
        assert time.monotonic() - started < BOUND + 2, "the text alone takes a while to write as JSON"


def test_a_server_that_reads_a_little_now_and_then():
    def read_slowly(connection, closing):
        while not closing.wait(0.05):
            connection.recv(1000)

    with RawServer(read_slowly, read=False) as server:
        settings = endpoint(server.url)
        started = time.monotonic()
        with pytest.raises(EndpointFault):
            ChatClient(connect(settings), settings).complete([{"role": "user", "content": "word " * 10**7}], tokens=5)
        assert time.monotonic() - started < BOUND + 2


def test_an_answer_in_time_is_taken_after_retries():
    with ChatServer(["500", "drop", "429", "ok"], answer=lambda body: "yes") as server:
        settings = endpoint(server.url, timeout=30)
        assert ChatClient(connect(settings), settings).complete(ASK, tokens=5).text == "yes"


def test_connections_are_used_again():
    def answer(connection, closing):
        connection.sendall(response(CHAT))

    connections = set()

    def counted(connection, closing):
        connections.add(connection.getpeername())
        answer(connection, closing)

    with RawServer(counted) as server:
        settings = endpoint(server.url, timeout=30)
        client = ChatClient(connect(settings), settings)
        assert [client.complete(ASK, tokens=5).text for _ in range(20)] == ["yes"] * 20
    assert len(connections) == 1


# redirects


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "place",
    ["http://127.0.0.1:{port}/v1/x", "http://localhost:{port}/v1", "//127.0.0.1:{port}/", "http://0x7f000001:{port}/"],
)
def test_a_redirect_to_another_server_is_not_followed(door, status, place, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-user-0123456789")
    with RawServer(lambda connection, closing: connection.sendall(response(CHAT))) as other:

        def redirect(connection, closing):
            connection.sendall(response("", f"{status} There", Location=place.format(port=other.port)))

        with RawServer(redirect) as server:
            ends(door, endpoint(server.url, timeout=5))
            assert server.seen and not other.seen


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_on_the_same_server_is_followed(status):
    def way(connection, closing):
        moved = b"/v2/" not in server.seen[-1].partition(b"\r\n")[0]
        answer = response("", f"{status} There", Location="/v2/chat/completions") if moved else response(CHAT)
        connection.sendall(answer)

    with RawServer(way) as server:
        settings = endpoint(server.url, timeout=30)
        assert ChatClient(connect(settings), settings).complete(ASK, tokens=5).text == "yes"


def test_a_redirect_elsewhere_is_said_and_not_tried_again():
    def redirect(connection, closing):
        connection.sendall(response("", "307 There", Location="https://elsewhere.example/v1?key=1"))

    with RawServer(redirect) as server:
        settings = endpoint(server.url, timeout=30)
        with pytest.raises(
            EndpointFault, match=r"redirects to https://elsewhere.example, another server, which is not"
        ):
            ChatClient(connect(settings), settings).complete(ASK, tokens=5)
        assert len(server.seen) == 1
        with pytest.raises(ConfigError, match=r"cannot be reached .it redirects to https://elsewhere.example"):
            check(connect(settings), settings)
