"""HTTP client of a server that is not trusted: limited in time and length, on one host, and with the key masked.

It is a client of the library that the SDK has chosen (httpx or httpx2), so connections are kept and used again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from d2skill.endpoints.time_limit import LimitedNetwork, time_limit
from d2skill.errors import EndpointFault
from d2skill.utils.key_mask import KeyMask, mask_error, mask_keys

_LONGEST_BODY = 256 * 2**20  # bytes, for a batch of embeddings
_LONGEST_CHAT = 2 * 2**20
_LONGEST_ERROR = 64 * 2**10
_OWN_HEADERS = ("openai-organization", "openai-project")


class AnswerTooLong(EndpointFault):
    """An answer is longer than the limit and was not read to its end."""


def limited_client(url: str, seconds: float, mask: KeyMask | None, *, trust_env: bool, own_headers: bool) -> Any:
    """Returns a client for the SDK.

    Args:
        url: Base URL of the server.
        seconds: Seconds of one request with its redirects, at most; `time_limit` may set a shorter time.
        mask: Mask of the key that is sent.
        trust_env: Whether the proxies in environment variables are used.
        own_headers: Whether headers that the SDK makes of the user's environment variables may be sent there.
    """
    import openai

    class Client(openai.DefaultHttpxClient):  # type: ignore[misc]
        def send(self, request: Any, **options: Any) -> Any:
            if not own_headers:
                _remove_own_headers(request)
            try:
                with time_limit(seconds):
                    return super().send(request, **options)
            except Exception as error:
                mask_error(error)
                http = http_library(request)
                if isinstance(error, http.InvalidURL | ValueError):  # such as of a redirect; the SDK does not know them
                    raise http.RequestError(str(error), request=request) from error
                raise

    client = Client(
        base_url=url, trust_env=trust_env, event_hooks={"response": [_stay_on_host, lambda one: _limit_body(one, mask)]}
    )
    for transport in filter(None, (client._transport, *client._mounts.values())):
        pool = transport._pool
        pool._network_backend = LimitedNetwork(pool._network_backend)
    return client


def _remove_own_headers(request: Any) -> None:
    """Removes what the SDK takes from OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS."""
    import os

    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    for name in (*_OWN_HEADERS, *(line.partition(":")[0].strip() for line in lines)):
        if name.lower() not in ("", "content-length", "content-type", "host", "accept", "accept-encoding"):
            request.headers.pop(name, None)


def _stay_on_host(response: Any) -> None:
    """Raises an error of the library for a redirect to another host, or to another server on the same host."""
    if not response.has_redirect_location:
        return
    location = response.headers["location"]
    if mask_keys(location) != location:
        raise http_library(response).TooManyRedirects(
            "it redirects to an address with the key", request=response.request
        )
    old, new = response.request.url, response.request.url.join(location)
    ways = {"http": 80, "https": 443}
    upgraded = (old.scheme, new.scheme) == ("http", "https") and old.port is None and new.port is None
    same = (new.scheme, new.port or ways.get(new.scheme)) == (old.scheme, old.port or ways.get(old.scheme))
    if new.host != old.host or not (same or upgraded):
        http = http_library(response)
        where = f"{new.scheme}://{new.netloc.decode('ascii', 'replace').rpartition('@')[2]}"
        raise http.TooManyRedirects(
            mask_keys(f"it redirects to {where[:100]}, another server, which is not followed"), request=response.request
        )


def _limit_body(response: Any, mask: KeyMask | None) -> None:
    """Limits the length of a body, and masks the key in it; an error's body is cut, that of an answer raises."""
    http = http_library(response)
    stream, failed = response.stream, response.status_code >= 300
    path = response.request.url.path
    longest = _LONGEST_ERROR if failed else _LONGEST_CHAT if path.endswith("/chat/completions") else _LONGEST_BODY
    plain = not failed and path.endswith("/embeddings")  # of vectors, numbers alone are used
    charset = response.charset_encoding or "utf-8"
    response.headers.pop("content-encoding", None)  # none was requested, and a packed body has no limit
    if not plain:
        response.headers["content-type"] = "application/json; charset=utf-8"

    class LimitedBody(http.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            if plain:
                yield from chunks()
            else:
                text = _decoded(b"".join(chunks()), charset)
                yield (mask.hide_body(text) if mask else text).encode("utf-8", "replace")

        def close(self) -> None:
            stream.close()

    def chunks() -> Iterator[bytes]:
        left = longest
        try:
            for chunk in stream:
                left -= len(chunk)
                if left < 0 and failed:
                    return
                if left < 0:
                    raise AnswerTooLong(f"the answer has more than {longest} bytes")
                yield chunk
        except http.TimeoutException:
            if not failed:
                raise

    response.stream = LimitedBody()


def _decoded(body: bytes, charset: str) -> str:
    """Returns the text of a body; a charset that does not exist or does not fit is taken as UTF-8."""
    try:
        return body.decode(charset, "replace")
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace")


def http_library(part: Any) -> Any:
    """Returns the library (httpx or httpx2) of a response or a client."""
    part = getattr(part, "_transport", part)
    return sys.modules[type(part).__module__.partition(".")[0]]
