"""Connection to an OpenAI-compatible server: makes a client, and checks that the server answers and knows the model."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from d2skill.config import EndpointConfig
from d2skill.endpoints.chat_client import AnswerTooLong, ChatClient, one_line, parse_reply
from d2skill.endpoints.served_model import ListedModel, Room, compare_context, compare_name, list_models
from d2skill.errors import ConfigError

if TYPE_CHECKING:
    from openai import OpenAI

OPENAI = "https://api.openai.com/v1"
"""Base URL if none is set."""

_LONGEST_BODY = 256 * 2**20  # bytes, for a batch of embeddings
_LONGEST_CHAT = 2 * 2**20
_LONGEST_ERROR = 64 * 2**10
_WORD_TOKENS = 256  # for an answer of one word, with room for a thought before it
_NO_KEY = "none"  # sent to servers without keys, since the SDK requires one


def connect(settings: EndpointConfig, flag: str = "endpoint") -> OpenAI:
    """Returns a client of the server; nothing is sent yet (see `check`).

    `flag` is the name of the settings on the command line, such as --reflect.endpoint. Raises `ConfigError` without the
    SDK or a model, for a wrong URL, and without the key that a remote server requires.
    """
    url = settings.url or OPENAI
    if not _is_url(url):
        raise ConfigError(f'{flag}.url "{one_line(url)}" is no URL: it looks like http://localhost:8000/v1')
    if "@" in urlsplit(url).netloc:
        raise ConfigError(
            f"{flag}.url holds a password, which a run would keep: put it into ${settings.key_env} instead"
        )
    if not settings.model:
        raise ConfigError(f"{flag}.model is not set: name a model that {url} has, by {flag}.model NAME")
    key = os.environ.get(settings.key_env, "").strip()
    if not key and not _needs_no_key(url):
        raise ConfigError(
            f"{url} wants a key and ${settings.key_env} is not set: export it, "
            f"or name another server by {flag}.url or another variable by {flag}.key-env"
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"${settings.key_env} holds no key: it has characters that a key cannot have")
    try:
        import openai
    except ImportError as error:
        raise ConfigError(
            f"a model behind a server needs the package {error.name}: pip install 'd2skill[llm]'"
        ) from None
    return openai.OpenAI(
        api_key=key or _NO_KEY,
        base_url=url,
        timeout=openai.Timeout(settings.timeout, connect=min(settings.timeout, 10)),
        max_retries=settings.retries,
        default_headers={"Accept-Encoding": "identity"},
        http_client=openai.DefaultHttpxClient(
            base_url=url,
            trust_env=not _is_local(url),  # no proxy is between this machine and itself
            event_hooks={
                "request": [_note_start],
                "response": [lambda reply: _limit_body(reply, settings.timeout)],
            },
        ),
    )


def check(
    client: OpenAI,
    settings: EndpointConfig,
    flag: str = "endpoint",
    route: Literal["chat", "embeddings"] = "chat",
    room: Room | None = None,
) -> None:
    """Raises `ConfigError`, with the way out, if the server does not answer or does not know the model.

    A model in the server's list is known. If there is no list, or the model is not in it (it may go by another name),
    or requests have fields of the user's own, the model is asked for one word. What the server says of the model is
    compared with the settings, which may log a warning (`served_model`).

    Args:
        client: Client of the server (`connect`).
        settings: URL, model and key.
        flag: Name of the settings on the command line.
        route: Kind of the model.
        room: Tokens that a prompt and its answer may take; None compares no context.
    """
    import openai

    url, client = settings.url or OPENAI, client.with_options(max_retries=min(settings.retries, 1))
    listed: list[ListedModel] = []
    names: list[str] = []
    try:
        listed = list_models(client)
        names = [name for model in listed for name in model.names]
        if settings.model not in names or settings.request_fields:
            answered = _answered_name(client, settings, route)
            if answered is None:
                raise ConfigError(
                    f"{url} answers, but not as a server of models does: its URL often ends in /v1; set {flag}.url"
                )
            if settings.model not in names:
                compare_name(url, flag, settings.model, answered, listed)
    except openai.APITimeoutError:
        raise ConfigError(
            f"{url} did not answer within {settings.timeout:g} s: is it busy? {flag}.timeout waits longer"
        ) from None
    except openai.APIConnectionError as error:
        raise ConfigError(
            f"{url} cannot be reached ({one_line(error.__cause__ or error)}): start the server, or correct {flag}.url"
        ) from None
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise ConfigError(
            f"{url} refuses the key in ${settings.key_env} ({one_line(error)}): export a valid one"
        ) from None
    except (openai.NotFoundError, openai.BadRequestError, openai.UnprocessableEntityError) as error:
        if settings.request_fields and (settings.model in names or "model" not in str(error)):
            fields = " and ".join(
                f"{flag}.{name}" for name in ("extra", "thinking") if getattr(settings, name) not in ({}, None)
            )
            raise ConfigError(f"{url} refuses {fields} ({one_line(error)}): leave out what it does not take") from None
        known = f"it has {', '.join(one_line(name) for name in names[:5])}" if names else "the URL often ends in /v1"
        raise ConfigError(
            f'{url} does not know the model "{settings.model}" ({one_line(error)}): {known}; '
            f"set {flag}.model or {flag}.url"
        ) from None
    except (openai.APIError, OSError) as error:
        raise ConfigError(f"{url} cannot be used ({one_line(error)}): try again later") from None
    if room is not None:
        compare_context(client, url, settings.model, listed, room)


def _answered_name(client: OpenAI, settings: EndpointConfig, route: Literal["chat", "embeddings"]) -> str | None:
    """Asks for one word, or its embedding; returns the name of the model that has answered, None for no such answer."""
    if route == "chat":
        body = {"model": settings.model, "messages": [{"role": "user", "content": "Say yes."}]}
        reply = parse_reply(ChatClient(client, settings).request(body, {}, _WORD_TOKENS)[0], (), 0.0)
        return reply.model if reply else None
    raw = client.embeddings.with_raw_response.create(
        model=settings.model, input="yes", extra_body=settings.request_fields
    )
    try:
        answer = json.loads(raw.http_response.text)
        return str(answer.get("model", "")) if answer["data"][0]["embedding"] else None
    except (AttributeError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        plain_text = url.isascii() and url.isprintable() and " " not in url
        return plain_text and parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _needs_no_key(url: str) -> bool:
    return urlsplit(url).scheme == "http" or _is_local(url)


def _is_local(url: str) -> bool:
    """Returns True if a URL is of this machine or a private network."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".lan")):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def _limit_body(response: Any, seconds: float) -> None:
    """Limits length and time of reading a response; an error's body is cut, that of an answer raises."""
    http = sys.modules[type(response).__module__.partition(".")[0]]  # httpx or httpx2, as the SDK has chosen
    stream, failed = response.stream, response.status_code >= 400
    deadline = response.request.extensions["started"] + seconds
    longest = _LONGEST_CHAT if response.request.url.path.endswith("/chat/completions") else _LONGEST_BODY
    response.headers.pop("content-encoding", None)  # none was requested, and a packed body has no limit

    class LimitedStream(http.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            left = _LONGEST_ERROR if failed else longest
            for chunk in stream:
                left -= len(chunk)
                if left >= 0 and monotonic() <= deadline:
                    yield chunk
                elif failed:
                    return
                elif left < 0:
                    raise AnswerTooLong(f"the answer has more than {longest} bytes")
                else:
                    raise http.ReadTimeout(f"the answer took longer than {seconds:g} s")

        def close(self) -> None:
            stream.close()

    response.stream = LimitedStream()


def _note_start(request: Any) -> None:
    request.extensions["started"] = monotonic()
