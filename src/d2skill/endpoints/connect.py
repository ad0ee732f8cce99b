"""Connection to an OpenAI-compatible server: makes a client, and checks that the server answers and knows the model."""

from __future__ import annotations

import ipaddress
import json
import os
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from d2skill.config import EndpointConfig
from d2skill.config.key_hosts import host_of, may_send, way_to_allow
from d2skill.endpoints.chat_client import ChatClient, one_line, parse_reply, with_retries
from d2skill.endpoints.limited_http import AnswerTooLong, limited_client
from d2skill.endpoints.served_model import ListedModel, Room, compare_context, compare_name, list_models
from d2skill.errors import ConfigError
from d2skill.utils.key_mask import mask_of

if TYPE_CHECKING:
    from openai import OpenAI

OPENAI = "https://api.openai.com/v1"
"""Base URL if none is set."""

_WORD_TOKENS = 256  # for an answer of one word, with room for a thought before it
_LONGEST_KEY = 8192  # characters: servers take no longer header
_NO_KEY = "none"  # sent to servers without keys, since the SDK requires one


def connect(settings: EndpointConfig, flag: str = "endpoint") -> OpenAI:
    """Returns a client of the server; nothing is sent yet (see `check`).

    `flag` is the name of the settings on the command line, such as --reflect.endpoint. Raises `ConfigError` without the
    SDK or a model, for a wrong URL, without the key that a remote server requires, and for a key that nobody has
    allowed to be sent there (`config.key_hosts`); a server that needs no key gets none then.
    """
    url = settings.url or OPENAI
    if not is_url(url):
        raise ConfigError(f'{flag}.url "{one_line(url)}" is no URL: it looks like http://localhost:8000/v1')
    if "@" in urlsplit(url).netloc:
        raise ConfigError(
            f"{flag}.url holds a password, which a run would keep: put it into ${settings.key_env} instead"
        )
    if "?" in url:
        raise ConfigError(
            f"{flag}.url holds a query after its question mark, which a run would keep and no request could have: "
            f"leave it out, and put a key into ${settings.key_env} instead"
        )
    if not settings.model:
        raise ConfigError(f"{flag}.model is not set: name a model that {url} has, by {flag}.model NAME")
    key = os.environ.get(settings.key_env, "").strip()
    allowed = may_send(settings.key_env, url, ask=bool(key) and not _needs_no_key(url))
    if key and not allowed and not _needs_no_key(url):
        raise ConfigError(way_to_allow(settings.key_env, url))
    key = key if allowed else ""
    if not key and not _needs_no_key(url):
        raise ConfigError(
            f"{url} wants a key and ${settings.key_env} is not set: export it, "
            f"or name another server by {flag}.url or another variable by {flag}.key-env"
        )
    if not (key.isascii() and key.isprintable() and len(key) <= _LONGEST_KEY):
        raise ConfigError(f"${settings.key_env} holds no key: it is too long, or has characters that a key cannot have")
    try:
        import openai
    except ImportError as error:
        raise ConfigError(
            f"a model behind a server needs the package {error.name}: pip install 'd2skill[llm]'"
        ) from None
    try:
        http_client = limited_client(
            url,
            settings.timeout,
            mask_of(key) if key else None,
            trust_env=not is_local(url),  # no proxy is between this machine and itself
            own_headers=allowed,
        )
    except Exception as error:  # of the library: it takes fewer URLs, also for proxies, and reads certificates
        raise ConfigError(
            f"{one_line(url)} cannot be used ({one_line(error)}): correct {flag}.url, or the proxies and certificates "
            "in your environment variables"
        ) from None
    return openai.OpenAI(
        api_key=key or _NO_KEY,
        base_url=url,
        timeout=openai.Timeout(settings.timeout),
        max_retries=0,  # `with_retries` asks again
        default_headers={"Accept-Encoding": "identity"},
        http_client=http_client,
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

    url, few = settings.url or OPENAI, settings.model_copy(update={"retries": min(settings.retries, 1)})
    listed: list[ListedModel] = []
    names: list[str] = []
    try:
        listed = with_retries(lambda: list_models(client), few)
        names = [name for model in listed for name in model.names]
        if settings.model not in names or settings.request_fields:
            answered = with_retries(lambda: _answered_name(client, settings, route), few)
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
        if os.environ.get(settings.key_env, "").strip() and not may_send(settings.key_env, url):
            raise ConfigError(way_to_allow(settings.key_env, url)) from None
        if not os.environ.get(settings.key_env, "").strip():
            raise ConfigError(
                f"{url} asks for a key, and ${settings.key_env} is not set ({one_line(error)}): export it, or name "
                f"another variable by {flag}.key_env"
            ) from None
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
    except (openai.APIError, AnswerTooLong, OSError) as error:
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


def is_url(url: str) -> bool:
    """Returns True if a text is an address of http or https."""
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        plain_text = url.isascii() and url.isprintable() and " " not in url
        return plain_text and parts.scheme in ("http", "https") and bool(host_of(url)) and (parts.port or 1) > 0
    except ValueError:
        return False


def _needs_no_key(url: str) -> bool:
    return urlsplit(url).scheme == "http" or is_local(url)


def is_local(url: str) -> bool:
    """Returns True if a URL is of this machine or a private network."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".lan")):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
