"""How a model behind a server is asked, once or many times at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import uniform
from threading import Event, Lock, Thread
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from d2skill.config import EndpointConfig
from d2skill.errors import EndpointFault
from d2skill.utils.text import storable

if TYPE_CHECKING:
    from openai import OpenAI

Message = dict[str, str]
"""One message of a chat: its "role" and its "content"."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds before a request is sent again, where the server names none
_MOST_PATIENCE = 120.0  # seconds that a server may ask for
_WORTH_RETRYING = (408, 409, 425, 429)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered.

    `ended` says whether it came to its end, to the limit of tokens, or was cut off while it was read, and then there is
    no text. Tokens are the server's count, or estimated by `estimate` where it gives none.
    """

    text: str
    ended: Literal["stop", "length", "too long"]
    tokens_in: int
    tokens_out: int
    seconds: float


class AnswerTooLong(EndpointFault):
    """An answer is longer than any that is wanted, and was not read to its end."""


class Chat:
    """Asks a model of a server, from any number of threads; `stop` makes all of them give up."""

    def __init__(self, client: OpenAI, settings: EndpointConfig) -> None:
        self._client = client.with_options(max_retries=0)
        self._settings = settings
        self._stopped = Event()
        self._form = 0  # the richest form of answer that the server is known to take
        self._limits = ["max_tokens", "max_completion_tokens"]
        if settings.url is None:
            self._limits.reverse()

    def ask(
        self,
        messages: Sequence[Message],
        *,
        tokens: int,
        schema: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Returns the answer, of at most that many tokens; raises `EndpointFault` when none can be had.

        With a schema, JSON of that shape is asked for in the best of the ways that the server takes: by the schema, as
        any JSON, or by the words of the messages alone. With `sampling` (temperature, seed, stop) all of it is asked
        for, or else the temperature, or else nothing. A server that is busy, fails or hangs up is asked again after
        as long as it says, or else longer and longer.
        """
        import openai

        forms: list[dict[str, Any]] = [{}]
        if schema is not None:
            by_schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
            forms = [{"response_format": by_schema}, {"response_format": {"type": "json_object"}}, {}]
        elif sampling:
            forms = [dict(sampling), {"temperature": sampling["temperature"]}, {}]
        messages = [{name: storable(text) for name, text in message.items()} for message in messages]
        body = {"model": self._settings.model, "messages": messages}
        started, wait = perf_counter(), _FIRST_WAIT
        pause: float | None
        for left in range(self._settings.retries, -1, -1):
            try:
                text = self._adapted(body, forms, tokens)
                if (reply := reply_in(text, messages, perf_counter() - started)) is not None:
                    return reply
                pause, fault = 0.0, EndpointFault("the answer is none of a chat")
            except openai.APIStatusError as error:
                pause, fault = _pause_asked_for(error), EndpointFault(plain(error))
                if pause is None:
                    raise fault from None
            except AnswerTooLong:
                return Reply("", "too long", estimate(messages), tokens, perf_counter() - started)
            except openai.APIConnectionError as error:
                if isinstance(error.__cause__, AnswerTooLong):
                    return Reply("", "too long", estimate(messages), tokens, perf_counter() - started)
                pause, fault = 0.0, EndpointFault(f"no answer: {plain(error.__cause__ or error)}")
            except (openai.OpenAIError, RuntimeError) as error:  # the client was closed under it, for one
                raise EndpointFault(plain(error)) from None
            if not left or self._stopped.wait(pause or wait * uniform(0.75, 1)):
                raise fault
            wait = min(2 * wait, _LONGEST_WAIT)
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """Ends all waiting and hangs up."""
        self._stopped.set()
        self._client.close()

    def _adapted(self, body: dict[str, Any], forms: Sequence[dict[str, Any]], tokens: int) -> str:
        """Sends a request in the richest form that the server takes; returns the body of its response."""
        import openai

        form, limits, swapped = min(self._form, len(forms) - 1), self._limits, False
        while True:
            extra = forms[form] | {limits[0]: tokens}
            try:
                raw = self._client.chat.completions.with_raw_response.create(**body, **extra)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not swapped and limits[0] in str(error):
                    limits, swapped = limits[::-1], True
                elif form + 1 < len(forms):
                    form += 1
                else:
                    raise
                continue
            self._limits = limits
            if len(forms) > 1:
                self._form = form
            return str(raw.http_response.text)


def each(work: Callable[[_Item], _Result], items: Sequence[_Item], workers: int) -> list[_Result]:
    """Returns what `work` makes of each item, in their order, with some at work at a time.

    The threads hold up neither an interrupt nor the end of the program. The first error, by the order of items, is
    raised once all are done.
    """
    todo, lock = iter(range(len(items))), Lock()
    done: dict[int, _Result] = {}
    failed: dict[int, BaseException] = {}

    def take() -> None:
        while True:
            with lock:
                at = next(todo, None)
            if at is None:
                return
            try:
                done[at] = work(items[at])
            except BaseException as error:
                failed[at] = error

    threads = [Thread(target=take, name="endpoint", daemon=True) for _ in range(min(workers, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[min(failed)]
    return [done[at] for at in range(len(items))]


def estimate(messages: Sequence[Message] | str) -> int:
    """Returns about how many tokens texts are; rather too many, as a budget wants it."""
    texts = [messages] if isinstance(messages, str) else [message["content"] for message in messages]
    return sum(8 + len(text.encode("utf-8", "replace")) // 3 for text in texts)


def plain(error: object) -> str:
    """Returns what an error says, which may be a server's text, as one short line of printable characters."""
    said = " ".join(str(error)[:2000].split()) or type(error).__name__
    said = "".join(c for c in said if c.isprintable())
    return said if len(said) <= 160 else f"{said[:160]}..."


def reply_in(body: str, messages: Sequence[Message], seconds: float) -> Reply | None:
    """Reads the body of a chat completion; returns None for anything else."""
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        text = storable(choice["message"].get("content") or "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    usage = answer.get("usage")
    return Reply(
        text,
        "length" if choice.get("finish_reason") == "length" else "stop",
        _count(usage, "prompt_tokens", estimate(messages)),
        _count(usage, "completion_tokens", estimate(text)),
        seconds,
    )


def _count(usage: Any, name: str, otherwise: int) -> int:
    counted = usage.get(name) if isinstance(usage, dict) else None
    return counted if isinstance(counted, int) and 0 <= counted < 10**9 else otherwise


def _pause_asked_for(error: Any) -> float | None:
    """Returns the seconds that a server which refused wants to be left alone, 0 if it names none, None for ever."""
    if (error.status_code not in _WORTH_RETRYING and error.status_code < 500) or error.code == "insufficient_quota":
        return None
    named = error.response.headers.get("retry-after", "")
    try:
        pause = float(named)
    except ValueError:
        try:
            pause = parsedate_to_datetime(named).timestamp() - time()
        except (ValueError, OverflowError):
            return 0.0
    if pause > _MOST_PATIENCE:
        return None
    return pause if pause > 0 else 0.0
