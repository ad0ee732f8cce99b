"""Embedding models behind a server: what is asked of it, and what becomes of its mistakes."""

import math
import socket

import chat_server
import numpy as np
import pytest
from chat_server import ChatServer, vector

from d2skill.config import EmbedderConfig, EndpointConfig
from d2skill.embedders import make_embedder
from d2skill.embedders.gates import KNOWN_GATES, ModelGates
from d2skill.errors import ConfigError

pytest.importorskip("openai")

ROUTE = "/v1/embeddings"
WORDS = [f"mug number {n}" for n in range(20)]


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def embedder(server, cache="none", model="toy", retries=0, concurrency=4, timeout=20, **settings):
    url = server if isinstance(server, str) else server.url
    endpoint = EndpointConfig(model=model, url=url, retries=retries, concurrency=concurrency, timeout=timeout)
    return make_embedder(EmbedderConfig(kind="openai", endpoint=endpoint, cache=str(cache), **settings))


def expected(texts, dimension=32):
    return np.array([vector(text, dimension) for text in texts], dtype=np.float32)


def test_vectors_are_the_servers_in_the_order_of_the_texts():
    with ChatServer(dimension=24) as server:
        made = embedder(server, batch_texts=3)
        assert made.dimension == 24 and made.fingerprint == "openai/toy/24"
        texts = [*WORDS, WORDS[0]]
        found = made.embed(texts)
        np.testing.assert_allclose(found, expected(texts, 24), atol=1e-6)
        assert found.dtype == np.float32
        sizes = [len(request.body["input"]) for request in server.requests if request.path == ROUTE]
        assert sizes[0] == 1 and sorted(sizes[1:]) == [2, 3, 3, 3, 3, 3, 3], "the dimension, then batches"
        assert made.embed([]).shape == (0, 24)


def test_the_dimension_is_asked_once():
    with ChatServer() as server:
        made = embedder(server)
        for _ in range(3):
            made.embed(WORDS)
        assert server.count(ROUTE) == 2


def test_some_requests_are_at_work_at_a_time():
    with ChatServer("slow") as server:
        embedder(server, batch_texts=1, concurrency=3).embed(WORDS)
        assert 2 <= server.most_at_once <= 3


def test_the_cache_is_of_the_server_as_well(tmp_path):
    with ChatServer() as server, ChatServer() as other:
        embedder(server, tmp_path).embed(WORDS)
        embedder(server, tmp_path).embed(WORDS)
        assert server.count(ROUTE) == 3
        embedder(other, tmp_path).embed(WORDS)
        assert other.count(ROUTE) == 2, "whoever has a model of that name may have another"


def test_a_prompt_goes_before_each_text_and_no_text_is_empty():
    with ChatServer() as server:
        made = embedder(server, prompt="query: ")
        made.embed(["mug", ""])
        assert server.requests[-1].body["input"] == ["query: mug", "query: "]
        assert made.fingerprint == "openai/toy/32/'query: '"
        embedder(server).embed([""])
        assert server.requests[-1].body["input"] == [" "]


def test_a_busy_server_is_asked_again():
    with ChatServer(["ok", "429"]) as server:
        np.testing.assert_allclose(
            embedder(server, retries=1, concurrency=1, batch_texts=5).embed(WORDS), expected(WORDS), atol=1e-6
        )


def refused(make):
    with pytest.raises(ConfigError) as error:
        make()
    said = str(error.value)
    assert "\n" not in said and len(said) < 600
    return said


def test_a_server_that_is_not_there():
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{own.getsockname()[1]}/v1"
        said = refused(lambda: embedder(url))
    assert url in said and "embedder.endpoint.url" in said


def test_a_model_that_the_server_does_not_have():
    with ChatServer() as server:
        said = refused(lambda: embedder(server, model="gone"))
        assert '"gone"' in said and "it has toy" in said and "embedder.endpoint.model" in said
        assert "embedder.endpoint.model" in refused(lambda: embedder(server, model=""))


def test_a_key_is_sent_and_a_wrong_one_is_told(monkeypatch):
    with ChatServer(key="secret") as server:
        monkeypatch.setenv("OPENAI_API_KEY", "wrong")
        said = refused(lambda: embedder(server))
        assert "$OPENAI_API_KEY" in said and "wrong" not in said.replace("is wrong", "")
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        assert embedder(server).dimension == 32


@pytest.mark.parametrize("behaviour", ["500", "400", "404", "drop", "half", "html", "no choices", "gzip", "10 MB"])
def test_a_server_that_fails_later_is_told_in_a_sentence(behaviour):
    with ChatServer(lambda number, _: behaviour if number else "ok") as server:
        made = embedder(server, batch_texts=5)
        said = refused(lambda: made.embed(WORDS))
        assert server.url in said and '"toy"' in said


def test_a_server_that_never_answers_is_given_up():
    with ChatServer(lambda number, _: "hang" if number else "ok") as server:
        made = embedder(server, timeout=0.3)
        assert "check the server" in refused(lambda: made.embed(WORDS))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda own: own[:-1], "31 numbers, not 32"),
        (lambda own: [math.nan, *own[1:]], "0 or not finite"),
        (lambda own: [math.inf, *own[1:]], "0 or not finite"),
        (lambda own: [0.0] * len(own), "0 or not finite"),
        (lambda own: ["1.5x", *own[1:]], "not numbers"),
        (lambda own: [None, *own[1:]], "0 or not finite"),
        (lambda own: [[1.0], *own[1:]], "not numbers"),
        (lambda own: [], "0 numbers"),
        (lambda own: "AAAA", "several lengths"),
        (lambda own: None, "several lengths"),
    ],
)
def test_vectors_that_are_none(spoil, told, monkeypatch):
    with ChatServer() as server:
        made = embedder(server)
        monkeypatch.setattr(chat_server, "vector", lambda text, dimension: spoil(vector(text, dimension)))
        said = refused(lambda: made.embed(WORDS))
        assert told in said and "is that an embedding model?" in said
        if told != "31 numbers, not 32":
            assert "embedding model" in refused(lambda: embedder(server))


def test_vectors_of_several_lengths(monkeypatch):
    lengths = iter(range(3, 100))
    monkeypatch.setattr(chat_server, "vector", lambda text, dimension: [1.0] * next(lengths))
    with ChatServer() as server:
        made = embedder(server)
        assert "several lengths" in refused(lambda: made.embed(WORDS))


def test_vectors_of_any_length_become_unit_vectors(monkeypatch):
    monkeypatch.setattr(chat_server, "vector", lambda text, dimension: [3.0, 4.0])
    with ChatServer() as server:
        np.testing.assert_allclose(embedder(server).embed(["mug"]), [[0.6, 0.8]], atol=1e-7)


def test_the_gates_of_a_served_model_are_those_of_the_model():
    for name in ("Qwen/Qwen3-Embedding-0.6B", "qwen3-embedding:0.6b", "all-minilm:l6-v2", "toy"):
        own = ModelGates(name, None, None)
        if name == "toy":
            assert "d2skill calibrate" in refused(lambda own=own: own.task)
            assert "d2skill calibrate" in refused(lambda own=own: own.step)
        else:
            assert (own.task, own.step) in KNOWN_GATES.values()
            assert ModelGates(name, 0.1, None).task == 0.1 and ModelGates(name, 0.1, None).step == own.step
