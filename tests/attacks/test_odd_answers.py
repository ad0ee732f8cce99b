"""Answers, addresses and keys as nobody writes them: each is a sentence or a result, at once, and no traceback."""

import json
import time

import pytest
from attacks.raw_server import RawServer, response

from d2skill.config import EmbedderConfig, EndpointConfig
from d2skill.embedders import make_embedder
from d2skill.endpoints import ChatClient, check, connect
from d2skill.errors import ConfigError, D2SkillError
from d2skill.reflectors.answer import SkillFields, UnusableAnswer, last_answer
from d2skill.utils.key_mask import MASK, KeyMask

DIGITS = "9" * 400


@pytest.fixture(autouse=True)
def keyless(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def settings_of(url, **more):
    return EndpointConfig(model="toy", url=url, retries=0, timeout=20, **more)


@pytest.mark.parametrize(
    "end",
    [
        "{" * 200 + '"' + '\\"' * 5000,
        "{" * 200 + '\\"' * 5000,
        "{" * 200 + '"\\' * 5000,
        "{" * 200 + "/*" * 5000,
        "{" * 200 + "/*/" * 3000,
        "{" * 200 + "," * 5000 + " " * 4999,
        "{" * 200 + ("," + " " * 100) * 100,
        "{" * 200 + "//" * 5000,
    ],
)
def test_no_answer_takes_long_to_read(end):
    began = time.process_time()
    with pytest.raises(UnusableAnswer):
        last_answer(end, SkillFields)
    assert time.process_time() - began < 10, "quadratic time took minutes"


@pytest.mark.parametrize("number", [DIGITS, f"-{DIGITS}", "-1e999", "NaN", "null", "true", '"-1"', "[]"])
@pytest.mark.parametrize("name", ["logprob", "id"])
def test_odd_log_probabilities_are_left_out(name, number):
    entry = ", ".join(f'"{key}": {number if key == name else -1}' for key in ("logprob", "id"))
    body = f'{{"choices": [{{"message": {{"content": "yes"}}, "logprobs": {{"content": [{{{entry}}}]}}}}]}}'
    with RawServer(lambda connection, closing: connection.sendall(response(body))) as server:
        settings = settings_of(server.url)
        assert ChatClient(connect(settings), settings).complete([], tokens=5).text == "yes"


def test_a_context_of_many_digits_is_none(caplog):
    answers = {
        b"models": {"data": [{"id": "toy", "owned_by": "library"}]},
        b"show": {"parameters": f"num_ctx {'9' * 5000}"},
    }

    def way(connection, closing):
        route = server.seen[-1].split(b" ")[1].rpartition(b"/")[2]
        connection.sendall(response(json.dumps(answers.get(route, {}))))

    from d2skill.endpoints import Room

    with RawServer(way) as server:
        settings = settings_of(server.url)
        check(connect(settings), settings, room=Room(5000, 500, "prompt.max_tokens", "reflect.answer_tokens"))
        assert any(b"/api/show" in request for request in server.seen)


@pytest.mark.parametrize(
    "place", ["http://[::1", "http://a:b", "http://999.9.9.9", f"http://{'a' * 70_000}", "//", "http://xn--a-999999999"]
)
def test_a_redirect_to_no_address_is_a_sentence(place):
    sent = f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()
    with RawServer(lambda connection, closing: connection.sendall(sent)) as server:
        settings = settings_of(server.url)
        with pytest.raises(ConfigError, match="cannot be reached"):
            check(connect(settings), settings)
        with pytest.raises(D2SkillError):
            ChatClient(connect(settings), settings).complete([], tokens=5)


@pytest.mark.parametrize("value", [1e308, 1e200, 1e-308, 5e-324, 0.0])
def test_vectors_beyond_a_float_are_one_sentence(value, recwarn):
    body = json.dumps({"data": [{"embedding": [value] * 8}]})
    with RawServer(lambda connection, closing: connection.sendall(response(body))) as server:
        embedder = EmbedderConfig(
            kind="openai", endpoint=settings_of(server.url), cache="none", task_gate=0.5, step_gate=0.5
        )
        with pytest.raises(ConfigError, match="0 or not finite"):
            make_embedder(embedder)
    assert not [one for one in recwarn if issubclass(one.category, RuntimeWarning)]


@pytest.mark.parametrize(
    "url",
    [
        "http://999.1.1.1/v1",
        "http://[v1.a]/v1",
        f"http://host/{'a' * 70_000}",
        "http://host/v1?api_key=sk-secret",
        "http://host?key=sk-secret",
        "http://user:sk-secret@host/v1",
        "http://host:80:80/v1",
        "http://[::1",
    ],
)
def test_an_address_that_cannot_be_is_a_sentence_without_its_query(url):
    with pytest.raises(ConfigError) as refused:
        connect(settings_of(url), "--reflect.endpoint")
    said = str(refused.value)
    assert len(said) < 600 and "\n" not in said and "sk-secret" not in said and "reflect.endpoint.url" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", ":::"),
        ("HTTPS_PROXY", "http://[::1"),
        ("HTTPS_PROXY", "ftp://host"),
        ("SSL_CERT_FILE", "/none"),
        ("SSL_CERT_FILE", "/dev/null"),
    ],
)
def test_proxies_and_certificates_that_cannot_be_are_a_sentence(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-odd-answers-0123456789")
    with pytest.raises(ConfigError, match="environment variables"):
        connect(EndpointConfig(model="toy"))


@pytest.mark.parametrize(
    "key", ["a\r\nX-Evil: 1", "a\nb" * 9, "schlüssel-ßßß", "a\tb", "\x1b[31m", "k" * 8193, "x1" * 60_000]
)
def test_what_cannot_be_a_key_is_refused_at_once(key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError, match="holds no key") as refused:
        connect(EndpointConfig(model="toy"))
    assert key[:8] not in str(refused.value)


def test_a_long_key_is_masked_and_its_mask_is_small():
    key = "".join(f"k{number:x}" for number in range(2000))[:8192]
    began = time.process_time()
    mask = KeyMask(key)
    for said in (key, f"the key {key[:12]}...{key[-5:]}", key[100:5000]):
        assert (
            mask.hide(f"no: {said}").startswith("no: ") and MASK in mask.hide(said) and key[-5:] not in mask.hide(said)
        )
    assert mask.hide("The drawer is empty.") == "The drawer is empty." and time.process_time() - began < 10


WORDS = ["EMPTY", "none", "null", "token", "skill", "the", "a", "look", "general", "ollama", "password", "dummy"]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_in_place_of_a_key_is_no_secret_and_hides_no_texts(word):
    sentence = f"The drawer is {word.lower()}, and {word}: go on by the general skill to look for a token."
    assert KeyMask(word).hide(sentence) == sentence
    assert MASK in KeyMask(f"{word}-7Kq93xZ").hide(f"Bearer {word}-7Kq93xZ")
