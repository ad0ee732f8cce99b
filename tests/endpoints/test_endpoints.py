"""How a server is reached, checked and asked; what is wrong is said in one sentence, before any work."""

import sys
import threading

import pytest
from chat_server import ChatServer, vector

from d2skill import endpoints
from d2skill.config import EndpointConfig
from d2skill.endpoints import ChatClient, check, connect, map_concurrently
from d2skill.errors import ConfigError, EndpointFault

ASK = [{"role": "user", "content": "Say yes."}]
CLOSED = "http://127.0.0.1:1/v1"


@pytest.fixture(autouse=True)
def keyless(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(endpoints.chat_client, "_FIRST_WAIT", 0.001)


def endpoint(server=None, model="toy", **fields):
    return EndpointConfig(**({"model": model, "url": server and server.url, "retries": 2} | fields))


def chat(server, **fields):
    settings = endpoint(server, **fields)
    return ChatClient(connect(settings), settings)


# reaching


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model": ""}, r"--e.model is not set: name a model that https://api.openai.com/v1 has, by --e.model NAME"),
        ({}, r"https://api.openai.com/v1 wants a key and \$OPENAI_API_KEY is not set: export it, or .* by --e.url"),
        ({"url": "https://models.example/v1", "key_env": "MY_KEY"}, r"\$MY_KEY is not set.*--e.key-env"),
        ({"url": "localhost:8000"}, r'--e.url "localhost:8000" is no URL: it looks like http://localhost:8000/v1'),
        ({"url": "http://[::1/v1"}, "is no URL"),
        ({"url": "ftp://localhost/v1"}, "is no URL"),
        ({"url": "http://localhost:99999/v1"}, "is no URL"),
        ({"url": "http://a..b/v1"}, "is no URL"),
        ({"url": "http://☃/v1"}, "is no URL"),
        ({"url": "http://localhost/\x00"}, "is no URL"),
        ({"url": "https://me:secret@models.example/v1"}, r"holds a password, .* put it into \$OPENAI_API_KEY instead"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_sent(fields, sentence):
    with pytest.raises(ConfigError, match=sentence):
        connect(endpoint(**fields), "--e")


@pytest.mark.parametrize(
    "url", ["http://models.example/v1", "https://127.0.0.1/v1", "https://10.1.2.3/v1", "https://[::1]/v1"]
)
def test_servers_nearby_and_those_without_encryption_need_no_key(url):
    assert connect(endpoint(url=url))


def test_a_key_is_sent_and_one_that_cannot_be_is_refused(monkeypatch):
    with ChatServer(key="secret") as server:
        with pytest.raises(ConfigError, match=r"asks for a key, and \$OPENAI_API_KEY is not set .*key is not known"):
            check(connect(endpoint(server)), endpoint(server))
        monkeypatch.setenv("OPENAI_API_KEY", "another")
        with pytest.raises(ConfigError, match=r"refuses the key in \$OPENAI_API_KEY .*this key is not known"):
            check(connect(endpoint(server)), endpoint(server))
        monkeypatch.setenv("OPENAI_API_KEY", "secret\n")
        check(connect(endpoint(server)), endpoint(server))
    monkeypatch.setenv("OPENAI_API_KEY", "sec\nret")
    with pytest.raises(ConfigError, match="holds no key"):
        connect(endpoint())


def test_without_the_sdk_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"needs the package openai: pip install 'd2skill\[llm\]'"):
        connect(endpoint(url=CLOSED))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (CLOSED, r"http://127.0.0.1:1/v1 cannot be reached \(.*refused\): start the server, or correct --e.url"),
        ("http://no-such-host.invalid/v1", r"no-such-host.invalid/v1 cannot be reached"),
    ],
)
def test_a_server_that_is_not_there(url, sentence):
    settings = endpoint(url=url, retries=0)
    with pytest.raises(ConfigError, match=sentence):
        check(connect(settings, "--e"), settings, "--e")


# knowing the model


def test_a_model_that_is_listed_is_not_asked():
    with ChatServer() as server:
        check(connect(endpoint(server)), endpoint(server))
        assert server.count() == 0 and server.count("/v1/models") == 1


@pytest.mark.parametrize("behaviour", ["html", "no choices"])
@pytest.mark.parametrize("route", ["chat", "embeddings"])
def test_what_answers_as_no_server_of_models_does_is_named(behaviour, route):
    with ChatServer(models=False) as server:
        settings = endpoint(server, f"toy:{behaviour}")
        with pytest.raises(ConfigError, match="answers, but not as a server of models does: its URL often ends in /v1"):
            check(connect(settings), settings, "--e", route)


@pytest.mark.parametrize("models", [True, False])
@pytest.mark.parametrize("route", ["chat", "embeddings"])
def test_a_model_that_is_not_listed_is_asked_for_a_word(models, route):
    path = {"chat": "/v1/chat/completions", "embeddings": "/v1/embeddings"}[route]
    with ChatServer(models=models) as server:
        settings = endpoint(server, "toy:ok")
        check(connect(settings), settings, route=route)
        assert server.count(path) == 1
        settings = endpoint(server, "gone")
        with pytest.raises(
            ConfigError, match='does not know the model "gone" .*' + ("it has toy" if models else "/v1")
        ):
            check(connect(settings), settings, route=route)


@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [
        ("401", "asks for a key, and .*API_KEY is not set"),
        ("500", "cannot be used .*: try again later"),
        ("429", "cannot be used"),
        ("drop", "cannot be reached"),
        ("hang", "did not answer within 0.3 s: is it busy"),
    ],
)
def test_a_server_that_is_not_well(behaviour, sentence):
    with ChatServer() as server:
        settings = endpoint(server, f"toy:{behaviour}", timeout=0.3, retries=0)
        with pytest.raises(ConfigError, match=sentence):
            check(connect(settings), settings)


def test_what_a_server_says_is_shown_in_one_plain_line():
    assert endpoints.one_line("a\n\x1b[31mb\u202e" + "c" * 500) == "a [31mb" + "c" * 153 + "..."
    assert endpoints.one_line(ValueError()) == "ValueError"


# asking


def test_an_answer_comes_with_its_tokens():
    with ChatServer(answer=lambda body: "yes") as server:
        reply = chat(server).complete(ASK, tokens=5)
        assert (reply.text, reply.finish_reason, reply.tokens_out) == ("yes", "stop", 50)
        assert server.requests[-1].body["max_tokens"] == 5
        assert server.requests[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("formats", [("json_schema", "json_object"), ("json_object",), ()])
@pytest.mark.parametrize("names", [("max_tokens",), ("max_completion_tokens",)])
def test_the_server_is_asked_in_the_form_that_it_takes(formats, names):
    with ChatServer(formats=formats, names=names) as server:
        own = chat(server)
        assert own.complete(ASK, tokens=5, schema={"type": "object"}).text
        learning = server.count()
        own.complete(ASK, tokens=5, schema={"type": "object"})
        assert server.count() == learning + 1, "it is known by then"
        last = server.requests[-1].body
    assert last.get("response_format", {}).get("type") == (formats[0] if formats else None)
    assert last[names[0]] == 5


def test_a_server_is_asked_again_as_often_as_was_said():
    for retries in (0, 3):
        with ChatServer("500") as server, pytest.raises(EndpointFault, match="500"):
            chat(server, retries=retries).complete(ASK, tokens=5)
        assert server.count() == retries + 1
    with ChatServer(["500", "drop", "429", "ok"]) as server:
        assert chat(server, retries=3).complete(ASK, tokens=5).text


def test_a_wait_that_is_too_long_is_not_waited():
    class Error:
        status_code, code = 429, None

        def __init__(self, header):
            self.response = type("Response", (), {"headers": {"retry-after": header}})

    pause = endpoints.chat_client._retry_after
    assert [pause(Error(h)) for h in ("3", "0.5", "-1", "soon", "nan")] == [3.0, 0.5, 0.0, 0.0, 0.0]
    assert pause(Error("100000")) is None and pause(Error("inf")) is None
    assert pause(Error("Fri, 01 Jan 2100 00:00:00 GMT")) is None
    assert pause(Error("Thu, 01 Jan 2015 00:00:00 GMT")) == 0.0


def test_stopping_ends_what_waits(monkeypatch):
    monkeypatch.setattr(endpoints.chat_client, "_FIRST_WAIT", 1000.0)
    ended = []
    with ChatServer("500") as server:
        own = chat(server)

        def ask():
            with pytest.raises(EndpointFault):
                own.complete(ASK, tokens=5)
            ended.append(True)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        assert server.wait_for(1)
        own.stop()
        thread.join(30)
        assert ended
        with pytest.raises(EndpointFault):
            own.complete(ASK, tokens=5)


def test_each_keeps_the_order_and_raises_the_first_error():
    assert map_concurrently(lambda n: n * n, range(20), 3) == [n * n for n in range(20)]
    assert map_concurrently(lambda n: n, [], 3) == []
    with pytest.raises(ZeroDivisionError, match="division"):
        map_concurrently(lambda n: 1 // (n - 5), range(20), 4)


def test_the_test_server_embeds():
    with ChatServer(dimension=8) as server:
        client = connect(endpoint(server))
        found = client.embeddings.create(model="toy", input=["a ruby", "a pearl"]).data
        assert found[0].embedding == pytest.approx(vector("a ruby", 8), abs=1e-6)
        plain = client.embeddings.create(model="toy", input="a ruby", encoding_format="float").data
        assert plain[0].embedding == vector("a ruby", 8)
