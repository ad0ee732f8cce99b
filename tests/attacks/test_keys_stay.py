"""A key stays in its environment variable: a server that quotes it, whole or in part, gets it into no file or text.

Each way of quoting is tried in each place of a response, with a chat, with the check before a run, with an embedder and
in whole runs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import traceback
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from attacks.raw_server import RawServer, response
from chat_server import ChatServer, reflection
from commands import SMALL, fails
from hypothesis import assume, example, given
from hypothesis import strategies as st

from d2skill.config import EmbedderConfig, EndpointConfig
from d2skill.embedders import make_embedder
from d2skill.endpoints import ChatClient, check, connect
from d2skill.errors import D2SkillError
from d2skill.utils.foreign_text import visible
from d2skill.utils.key_mask import MASK, KeyMask, mask_error

KEY = "sk-proj-Q7dRf6hIj9kLmN0pXrStUvWxYz1234567890abcdPZ4K"
ASK = [{"role": "user", "content": "Say yes."}]

QUOTES = {
    "whole": KEY,
    "bearer": f"Bearer {KEY}",
    "header": f"authorization: Bearer {KEY}",
    "in quotes": f'"{KEY}"',
    "openai": f"Incorrect API key provided: {KEY[:8]}{'*' * 40}{KEY[-4:]}. You can find your API key at ...",
    "dots": f"invalid key {KEY[:7]}...{KEY[-4:]}",
    "ellipsis": f"invalid key {KEY[:10]}…{KEY[-6:]}",
    "stars before": f"invalid key ********{KEY[-4:]}",
    "dots after": f"invalid key {KEY[:12]}...",
    "exes": f"invalid key {KEY[:8]}XXXXXXXX{KEY[-4:]}",
    "bullets": f"invalid key {KEY[:8]}••••••{KEY[-4:]}",
    "spaced": f"invalid key {KEY[:8]} ... {KEY[-4:]}",
    "first characters": f"the key that starts with {KEY[:9]} is not known",
    "last characters": f"the key that ends in {KEY[-4:]} is not known",
    "first and last": f"the key from {KEY[:9]} to {KEY[-5:]} is not known",
    "half": f"the key {KEY[: len(KEY) // 2]} is not known",
    "middle": f"the key with {KEY[12:30]} in it is not known",
    "two lines": f"the key\n{KEY[:26]}\n{KEY[26:]}\nis not known",
    "upper case": KEY.upper(),
    "in a url": f"https://proxy.example/?key={quote(KEY)}&x=1",
    "base64": b64encode(KEY.encode()).decode(),
    "basic": f"Basic {b64encode(f'user:{KEY}'.encode()).decode()}",
    "html": f"<html><b>{KEY}</b></html>",
}
STATUSES = ("400 Bad", "401 No", "403 No", "404 No", "422 No", "429 Busy", "500 No", "502 Proxy", "200 OK")


def leaks(text: str) -> list[str]:
    """Parts of the key in a text: 7 characters of it anywhere, or its last 4 as a word."""
    low = text.lower()
    found = [KEY[i : i + 7] for i in range(len(KEY) - 6) if KEY[i : i + 7].lower() in low]
    encoded = b64encode(KEY.encode()).decode()
    found += [encoded[i : i + 12] for i in range(len(encoded) - 12) if encoded[i : i + 12] in text]
    return found + re.findall(rf"\b{KEY[-4:]}\b", text)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("d2skill.endpoints.chat_client._FIRST_WAIT", 0.001)


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


BODIES = {
    "error": lambda said: json.dumps({"error": {"message": said, "type": "x", "code": said, "param": None}}),
    "name": lambda said: json.dumps({"error": {said: said}}),
    "escaped": lambda said: f'{{"error": {{"message": "{escaped(said)}"}}}}',
    "chat": lambda said: json.dumps({"model": said, "choices": [{"message": {"content": said, "reasoning": said}}]}),
    "escaped chat": lambda said: f'{{"model": "x", "choices": [{{"message": {{"content": "{escaped(said)}"}}}}]}}',
    "text": lambda said: said,
    "broken json": lambda said: '{"error": "' + said,
    "utf-16": lambda said: said.encode("utf-16"),
}


def chat(settings):
    return repr(ChatClient(connect(settings), settings).complete(ASK, tokens=5))


def checked(settings):
    check(connect(settings), settings)
    return ""


def embedded(settings):
    make_embedder(EmbedderConfig(kind="openai", endpoint=settings, cache="none", task_gate=0.5, step_gate=0.5))
    return ""


def all_of(door, settings, caplog):
    """All that a door gives, raises and logs, with tracebacks and all errors behind an error."""
    try:
        said = door(settings)
    except D2SkillError as error:
        chain = [str(one) + repr(one.args) + repr(vars(one)) for one in behind(error)]
        said = "\n".join([*chain, *traceback.format_exception(error)])
    return "\n".join([said, *(record.getMessage() for record in caplog.records)])


def behind(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def quoting(quoted, statuses):
    """The responses that quote the key in one way: status, kind of body, bytes."""
    for status in statuses:
        for kind, body in BODIES.items():
            charset = {"Content-Type": "text/plain; charset=utf-16"} if kind == "utf-16" else {}
            yield status, kind, response(body(QUOTES[quoted]), status, **charset)


@pytest.mark.parametrize("quoted", QUOTES)
def test_no_response_to_a_chat_brings_the_key_back(quoted, caplog):
    sent = [b""]
    with RawServer(lambda connection, closing: connection.sendall(sent[0])) as server:
        settings = EndpointConfig(model="toy", url=server.url, retries=0, timeout=20)
        client = ChatClient(connect(settings), settings)
        for status, kind, sent[0] in quoting(quoted, STATUSES):
            said = all_of(lambda _: repr(client.complete(ASK, tokens=5)), settings, caplog)
            assert not leaks(said), (status, kind, said)
        assert all(KEY.encode() in request for request in server.seen), "the key was sent"


@pytest.mark.parametrize("quoted", ["whole", "openai", "bullets", "last characters", "middle", "two lines", "basic"])
@pytest.mark.parametrize("door", [checked, embedded])
def test_no_response_to_a_check_brings_the_key_back(door, quoted, caplog):
    sent = [b""]
    with RawServer(lambda connection, closing: connection.sendall(sent[0])) as server:
        settings = EndpointConfig(model="toy", url=server.url, retries=0, timeout=20)
        for status, kind, sent[0] in quoting(quoted, ["401 No"]):
            said = all_of(door, settings, caplog)
            assert not leaks(said), (status, kind, said)


@pytest.mark.parametrize("quoted", ["bearer", "dots"])
@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 %s\r\n\r\n",
        b"%s\r\n\r\n",
        b"HTTP/1.1 200 %s\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\n%s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
        b"HTTP/1.1 307 There\r\nLocation: https://x.example/%s\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 There\r\nLocation: https://%s.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 There\r\nLocation: %s://x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 There\r\nLocation: /v1/%s\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Busy\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=%s\r\nContent-Length: 2\r\n\r\n[]",
    ],
)
def test_no_broken_response_brings_the_key_back(line, quoted, caplog):
    sent = line.replace(b"%s", QUOTES[quoted].encode())

    def way(connection, closing):
        connection.sendall(sent)
        connection.close()

    for door in (chat, checked, embedded):
        with RawServer(way) as server:
            settings = EndpointConfig(model="toy", url=server.url, retries=1, timeout=20)
            assert not leaks(all_of(door, settings, caplog))


@pytest.mark.parametrize("quoted", ["whole", "openai", "last characters", "half"])
def test_no_file_of_a_run_has_the_key(quoted, tmp_path, capsys):
    """A server that refuses some questions and answers others, with the key in all of them."""
    kinds = ["ok", "500", "401", "ok", "400"]

    def answer(body):
        own = json.loads(reflection(body))
        own["task_skill"]["principle"] += f" {QUOTES[quoted]}"
        return json.dumps(own)

    with ChatServer(
        answer=answer, refuse=lambda body: "" if kinds.append(0) or len(kinds) % 3 else QUOTES[quoted]
    ) as server:
        command = ["train", *SMALL, "--train.iterations", "2", "--out", tmp_path / "run", "--bank.skills", "paper"]
        command += ["--reflect.kind", "llm", "--reflect.endpoint.model", "toy", "--reflect.endpoint.url", server.url]
        from d2skill.cli.main import main

        main(list(map(str, command)))
        assert any(request.headers.get("authorization") == f"Bearer {KEY}" for request in server.requests)
    printed = capsys.readouterr()
    assert not leaks(printed.out + printed.err)
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    texts = {file: file.read_bytes().decode("latin-1") for file in files}
    assert MASK in texts[tmp_path / "run" / "reflections.jsonl"]
    assert not {file: found for file, text in texts.items() if (found := leaks(text))}


def test_a_refused_key_is_not_printed(capsys, tmp_path):
    with ChatServer(refuse=lambda body: QUOTES["openai"]) as server:
        flags = ["--reflect.kind", "llm", "--reflect.endpoint.model", "other", "--reflect.endpoint.url", server.url]
        assert not leaks(fails(capsys, "train", *SMALL, *flags, "--out", tmp_path / "run"))


def test_a_key_given_as_the_name_of_a_variable_is_not_printed(capsys, tmp_path):
    said = fails(capsys, "train", *SMALL, "--reflect.endpoint.key-env", KEY, "--out", tmp_path / "run")
    assert not leaks(said) and "name of an environment variable" in said
    assert not (tmp_path / "run").exists()


def test_an_exception_that_nobody_catches_prints_no_key():
    """The last guard: the traceback of a command, with a key in an exception and in the one behind it."""
    code = (
        "import sys\n"
        "from d2skill.utils.foreign_text import print_traceback\n"
        "from d2skill.utils.key_mask import mask_of\n"
        "sys.excepthook = print_traceback\n"
        f"key = {'-'.join(KEY.split('-'))!r}; mask_of(key)\n"
        "try:\n    raise ValueError('Bearer ' + key)\n"
        "except ValueError as error:\n    raise RuntimeError(f'got {key}') from error\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert MASK in done.stderr and "RuntimeError" in done.stderr and "ValueError" in done.stderr
    assert not leaks(done.stderr)


def test_errors_are_masked_with_all_that_led_to_them():
    connect(EndpointConfig(model="toy", url="http://127.0.0.1:1/v1"))
    try:
        try:
            raise OSError(5, f"Bearer {KEY}", KEY)
        except OSError as error:
            raise ValueError(f"bad {KEY}", KEY.encode()) from error
    except ValueError as error:
        mask_error(error)
        assert not any(leaks(str(one) + repr(one.args)) for one in behind(error))
    assert not leaks(visible(f"got {KEY}"))


# the mask itself

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-_"
keys = st.lists(st.sampled_from(LETTERS), min_size=12, max_size=30, unique=True).map("".join)


@given(keys, st.text(max_size=30), st.text(max_size=30), st.data())
def test_every_part_of_every_key_is_masked(key, before, after, data):
    start = data.draw(st.integers(0, len(key) - 8))
    end = data.draw(st.integers(start + 8, len(key)))
    assume(not any(len(word) >= 8 for word in re.findall(r"(?<![a-z0-9])[a-z]+(?![a-z0-9])", key)))
    hidden = KeyMask(key).hide(f"{before} {key[start:end]} {after}")
    assert MASK in hidden and key[start:end].lower() not in hidden.replace(MASK, "").lower()


@example("abcdefghijkxl", 3, 2, "...")  # the tail begins like what stands for the middle
@given(keys, st.integers(3, 11), st.integers(2, 11), st.sampled_from(["...", "…", "****", "xxxxxxxx", "•••", " ... "]))
def test_first_and_last_characters_are_masked(key, first, last, dots):
    assert KeyMask(key).hide(f"(key {key[:first]}{dots}{key[-last:]})") in (f"(key {MASK})", f"({MASK})")


@given(st.text(max_size=300))
def test_other_text_stays(text):
    assert KeyMask("\u0001\u0002\u0003\u0004" * 4).hide(text) == text or "\u0001\u0002\u0003" in text


def test_a_word_of_a_key_stays_in_a_path_and_the_rest_of_the_key_does_not():
    mask = KeyMask("sk-newcomer-secret-0123456789abcdef")
    assert mask.hide("/home/newcomer/runs/secret") == "/home/newcomer/runs/secret"
    for quoted in ("sk-newcomer-secret-0123456789abcdef", "newcomer-secret", "secret-01", "456789abc", "sk-newco"):
        assert mask.hide(f"no: {quoted}") in (f"no: {MASK}", f"no: n{MASK}")


def test_ordinary_sentences_stay():
    mask = KeyMask(KEY)
    sentences = Path(__file__).parents[2].joinpath("README.md").read_text("utf-8").splitlines()
    assert [mask.hide(sentence) for sentence in sentences] == sentences
