"""Search at real servers on loopback: both forms of request, and servers that are slow, die or talk garbage."""

import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.passage import Passage
from d2skill.envs.search_qa.retrieval import http, make_retriever
from d2skill.envs.search_qa.retrieval.http import ServedSearch
from d2skill.errors import ConfigError, EnvironmentFault

pytest.importorskip("openai")


class PassageServer:
    """A server whose `answer` maps the JSON of a request to a status and a body; `requests` has what it got."""

    def __init__(self, answer: Callable[[dict[str, Any]], tuple[int, Any]], port: int = 0) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections: list[socket.socket] = []
        self.closed = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections.append(self.connection)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(body)
                outer.headers.append(dict(self.headers.items()))
                status, content = answer(body)
                if status == 0:  # hangs up
                    self.close_connection = True
                    return
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                if status in (301, 302, 307, 308):
                    self.send_header("Location", data.decode())
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address, daemon_threads, request_queue_size = True, True, 64

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/retrieve"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> "PassageServer":
        return self

    def __exit__(self, *_: Any) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def hit(query: str, rank: int, scores: bool) -> dict[str, Any]:
    document = {"id": f"{query}-{rank}", "contents": f'"{query}"\nText {rank}'}
    return {"document": document, "score": 9.5 - rank} if scores else document


def hits(query: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [hit(query, rank, body["return_scores"]) for rank in range(body["topk"])]


def search_r1(body: dict[str, Any]) -> tuple[int, Any]:
    if "queries" not in body:
        return 422, {"detail": [{"loc": ["body", "queries"], "msg": "Field required"}]}
    return 200, {"result": [hits(query, body) for query in body["queries"]]}


def sky_rl(body: dict[str, Any]) -> tuple[int, Any]:
    if "query" not in body:
        return 422, {"detail": [{"loc": ["body", "query"], "msg": "Field required"}]}
    return 200, {"result": [hits(body["query"], body)]}


def without_scores(body: dict[str, Any]) -> tuple[int, Any]:
    return 200, [hits(query, {**body, "return_scores": False}) for query in body["queries"]]


def without_ids(body: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"result": [[{"document": {"contents": query}, "score": None}] for query in body["queries"]]}


def expected(query: str, k: int, scores: bool = True) -> list[Passage]:
    return [Passage(f"{query}-{i}", f'"{query}"\nText {i}', 9.5 - i if scores else 0.0) for i in range(k)]


def test_many_queries_go_in_one_request():
    with PassageServer(search_r1) as server:
        retriever = make_retriever(SearchQAConfig(retriever="http", url=server.url), None)
        queries = [f"who is {i}" for i in range(100)]
        found = retriever.search([*queries, "who is 3", "\ud800?"], 3)
        assert found == [*[expected(query, 3) for query in queries], expected("who is 3", 3), expected("??", 3)]
        assert retriever.search(["who is 7"], 3) == [expected("who is 7", 3)]  # remembered
    assert [len(body["queries"]) for body in server.requests] == [1, 101]
    assert server.requests[1] == {"queries": [*queries, "??"], "topk": 3, "return_scores": True}


def test_a_server_of_single_queries_is_found_out_once():
    with PassageServer(sky_rl) as server:
        retriever = make_retriever(SearchQAConfig(retriever="http", url=server.url), None)
        assert [sorted(body)[0] for body in server.requests] == ["queries", "query"]
        queries = [f"who is {i}" for i in range(40)]
        assert retriever.search(queries, 2) == [expected(query, 2) for query in queries]
    assert sorted(body["query"] for body in server.requests[2:]) == sorted(queries)
    assert server.requests[-1].keys() == {"query", "topk", "return_scores"}


@pytest.mark.parametrize("status", [400, 404, 405, 500])
def test_other_refusals_of_the_first_form(status):
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return (status, b"") if "queries" in body else sky_rl(body)

    with PassageServer(answer) as server:
        assert ServedSearch(server.url, 20).search(["a"], 1) == [expected("a", 1)]


def test_answers_without_scores_or_ids():
    with PassageServer(without_scores) as server:
        assert ServedSearch(server.url, 20).search(["a", "b"], 2) == [expected("a", 2, False), expected("b", 2, False)]
    with PassageServer(without_ids) as server:
        assert ServedSearch(server.url, 20).search(["a"], 2) == [[Passage("", "a")]]


def test_more_passages_than_asked_for_are_cut():
    with PassageServer(lambda body: search_r1({**body, "topk": 9})) as server:
        search = ServedSearch(server.url, 20)
        assert search.search(["a"], 2) == [expected("a", 2)]
        assert search.search([], 2) == []


def test_no_key_is_sent(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-secret-value-of-mine")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Mine: sk-secret-value-of-mine")
    with PassageServer(search_r1) as server:
        ServedSearch(server.url, 20).search(["a"], 1)
    assert len(server.headers) == 2
    assert "secret" not in str(server.headers) and "Authorization" not in str(server.headers)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda body: (200, b"<html>Hello</html>"), "sent no JSON: is it a server of passages"),
        (lambda body: (200, b"[" * 100_000), "sent no JSON"),
        (lambda body: (200, {"error": "x"}), "sent JSON that is no lists of passages"),
        (lambda body: (200, {"result": []}), "lists of passages for 0 queries, not for 1"),
        (lambda body: (200, {"result": [[{"document": {"id": "1"}}]]}), r"sent a passage that is none \(it has no co"),
        (lambda body: (200, {"result": [[3]]}), r"sent a passage that is none \(it is no JSON object\)"),
        (lambda body: (404, b"not here"), "takes neither queries .answers 404: not here.* ends in /retrieve"),
        (lambda body: (503, b""), "answers 503: no reason"),
        (lambda body: (0, b""), "cannot be reached .*: start the server, or correct env.search_qa.url"),
        (lambda body: (307, b"http://127.0.0.2:1/x"), "another server, which is not followed"),
    ],
)
def test_what_is_no_server_of_passages(answer, sentence):
    with PassageServer(answer) as server, pytest.raises(ConfigError, match=sentence) as caught:
        ServedSearch(server.url, 20)
    assert str(caught.value).startswith(server.url)
    assert "\n" not in str(caught.value)


def test_a_dead_server_is_one_sentence_before_the_run():
    with PassageServer(search_r1) as server:
        url = server.url
    with pytest.raises(ConfigError, match=rf"^{url} cannot be reached .*: start the server, or correct env.search_qa"):
        make_retriever(SearchQAConfig(retriever="http", url=url), None)


@pytest.mark.parametrize("url", ["127.0.0.1:8000/retrieve", "ftp://host/x", "http://", "http://a b/"])
def test_a_text_that_is_no_address(url):
    with pytest.raises(ConfigError, match=r"env.search_qa.url .* is no URL: it looks like"):
        ServedSearch(url, 5)


def test_settings_that_lack_the_address_or_hold_a_password(tmp_path):
    with pytest.raises(ConfigError, match=r"env.search_qa.url is not set"):
        make_retriever(SearchQAConfig(retriever="http"), tmp_path)
    with pytest.raises(ConfigError, match="holds a password") as caught:
        ServedSearch("http://me:hidden@127.0.0.1:1/retrieve", 5)
    assert "hidden" not in str(caught.value)


def test_a_slow_server_ends_with_the_time():
    server: PassageServer

    def hangs(body: dict[str, Any]) -> tuple[int, Any]:
        if body["topk"] == 3:
            server.closed.wait(60)
        return search_r1(body)

    with PassageServer(hangs) as server:
        search = ServedSearch(server.url, 1)
        with pytest.raises(
            EnvironmentFault, match=rf"{server.url} did not answer within 1 s \(env.search_qa.timeout\)"
        ):
            search.search(["a"], 3)
        assert search.search(["a"], 2) == [expected("a", 2)]

    def always(body: dict[str, Any]) -> tuple[int, Any]:
        server.closed.wait(60)
        return search_r1(body)

    with PassageServer(always) as server, pytest.raises(ConfigError, match=r"did not answer within 0\.3 s"):
        ServedSearch(server.url, 0.3)


def test_a_server_that_dies_and_one_that_comes_back():
    with PassageServer(search_r1) as server:
        search, port = ServedSearch(server.url, 20), server.port
        assert search.search(["a"], 1) == [expected("a", 1)]
    search._timeout = 0.5
    with pytest.raises(EnvironmentFault, match=r"cannot be reached .*: is the server of passages still there"):
        search.search(["b"], 1)
    search._timeout = 60
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(search.search(["c"], 1)))
    waiting.start()
    waiting.join(0.8)
    with PassageServer(search_r1, port):
        waiting.join()
    assert found == [[expected("c", 1)]]


def test_a_busy_server_is_asked_again(monkeypatch):
    monkeypatch.setattr(http, "_FIRST_WAIT", 0.01)
    statuses = iter([200, 503, 429, 0, 500, 200, 400])

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        status = next(statuses)
        return search_r1(body) if status == 200 else (status, b"busy")

    with PassageServer(answer) as server:
        search = ServedSearch(server.url, 30)
        assert search.search(["a"], 1) == [expected("a", 1)]
        with pytest.raises(EnvironmentFault, match="answers 400: busy"):  # refused for good
            search.search(["b"], 1)
    assert len(server.requests) == 7


def test_an_answer_of_fewer_lists_is_a_fault():
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return search_r1({**body, "queries": body["queries"][:2]})

    with PassageServer(answer) as server:
        search = ServedSearch(server.url, 20)
        with pytest.raises(EnvironmentFault, match="for 2 queries, not for 3"):
            search.search(["a", "b", "c"], 1)


def test_texts_of_a_server_cannot_steer_a_terminal():
    with (
        PassageServer(lambda body: (404, b"\x1b[31mred\n\nlines " + b"x" * 5000)) as server,
        pytest.raises(ConfigError) as caught,
    ):
        ServedSearch(server.url, 20)
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 800


def test_an_answer_is_limited_in_length(monkeypatch):
    monkeypatch.setattr("d2skill.endpoints.limited_http._LONGEST_BODY", 10_000)

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return search_r1(body) if body["topk"] == 1 else (200, b" " * 20_000)

    with PassageServer(answer) as server:
        search = ServedSearch(server.url, 20)
        with pytest.raises(EnvironmentFault, match="sent too much"):
            search.search(["a"], 2)


def test_a_forked_process_has_connections_of_its_own():
    with PassageServer(search_r1) as server:
        search = ServedSearch(server.url, 20)
        child = os.fork()
        if child == 0:
            os._exit(0 if search.search(["a"], 1) == [expected("a", 1)] else 1)
        for _ in range(5):
            assert search.search(["b"], 2) == [expected("b", 2)]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
