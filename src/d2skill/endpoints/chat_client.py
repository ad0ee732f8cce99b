"""Chat client: asks a model behind a server for answers, with retries, and from many threads at once.

The SDK's own retries are off: they cannot be stopped while they wait, their waits are beyond any time limit, they
repeat a request that is refused for good (no money left, or a Retry-After of hours), and they take any body with status
200 for an answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from multiprocessing.pool import ThreadPool
from random import uniform
from threading import Event
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from d2skill.config import EndpointConfig
from d2skill.endpoints.limited_http import AnswerTooLong
from d2skill.endpoints.time_limit import time_left, time_limit
from d2skill.errors import EndpointFault
from d2skill.utils.key_mask import mask_keys
from d2skill.utils.text import storable

if TYPE_CHECKING:
    from openai import OpenAI

Message = dict[str, str]
"""One message of a chat: its "role" and its "content"."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds before a retry, if the server names none
_LONGEST_RETRY_AFTER = 120.0  # seconds that a server may ask for
_RETRYABLE = (408, 409, 425, 429)
_SAMPLING = ("logprobs", "seed", "stop", "temperature")  # in the order in which they are left out
_TOO_LONG = re.compile(r"context.{0,12}(length|size|window)|context_length|context_size", re.IGNORECASE)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer of a model.

    `finish_reason` is "stop" at the answer's own end, "length" at the limit of tokens, and "too long" for an answer
    that was not read to its end and has no text. Tokens are the server's counts, or estimates if it gives none.

    `reasoning` is the model's reasoning, if the server sends it apart from the answer, `model` the name by which the
    server answers. `token_ids` and `log_probs` are those of the answer's tokens, if they were sent; an id that was not
    is -1. `left_out` are the fields of the request that the server refused and was asked without.
    """

    text: str
    finish_reason: Literal["stop", "length", "too long"]
    tokens_in: int
    tokens_out: int
    seconds: float
    reasoning: str = ""
    model: str = ""
    token_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    left_out: frozenset[str] = frozenset()


class NoAnswer(EndpointFault):
    """A server answered with something else than what was asked for; it is asked again."""


class PromptTooLong(EndpointFault):
    """A prompt, with room for its answer, is longer than the context that the server has for the model."""


class ChatClient:
    """Client of one model, for any number of threads; `stop` makes all of them give up."""

    def __init__(self, client: OpenAI, settings: EndpointConfig) -> None:
        self._client = client.with_options(max_retries=0)
        self._settings = settings
        self._stopped = Event()
        self._refused: frozenset[str] = frozenset()  # fields that the server is known to refuse
        self._takes_schema = False
        self._limits = ["max_tokens", "max_completion_tokens"]
        if settings.url is None:
            self._limits.reverse()

    def complete(
        self,
        messages: Sequence[Message],
        *,
        tokens: int,
        schema: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Returns the answer to a chat. A server that is busy, fails or hangs up is asked again (`with_retries`).

        Args:
            messages: Messages of the chat.
            tokens: Tokens of the answer, at most.
            schema: JSON schema of the answer. It is requested in the best way that the server takes: by the schema, as
                any JSON, or by the words of the messages alone.
            sampling: Temperature, seed, stop and logprobs; those that a server refuses are left out.

        Raises:
            PromptTooLong: The prompt does not fit into the model's context.
            EndpointFault: There is no answer, after all retries.
        """
        import openai

        fields: dict[str, Any] = {}
        if schema is not None:
            by_schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
            fields = {"json_schema": by_schema, "json_object": {"type": "json_object"}}
        fields |= {name: sampling[name] for name in _SAMPLING if name in sampling} if sampling else {}
        messages = [{name: storable(text) for name, text in message.items()} for message in messages]
        body = {"model": self._settings.model, "messages": messages}
        started = perf_counter()

        def ask() -> Reply:
            answer, left_out = self.request(body, fields, tokens)
            reply = parse_reply(answer, messages, perf_counter() - started)
            if reply is None:
                raise NoAnswer("the answer is no chat completion")
            return replace(reply, left_out=left_out)

        try:
            return with_retries(ask, self._settings, self._stopped)
        except AnswerTooLong:
            return Reply("", "too long", estimate_tokens(messages), tokens, perf_counter() - started)
        except openai.APITimeoutError:
            raise EndpointFault(f"no answer within {self._settings.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise EndpointFault(f"no answer: {one_line(error.__cause__ or error)}") from None
        except (openai.OpenAIError, RuntimeError) as error:  # such as a client that `stop` has closed
            raise EndpointFault(one_line(error)) from None

    def stop(self) -> None:
        """Ends all waiting and closes the connections."""
        self._stopped.set()
        self._client.close()

    def request(self, body: dict[str, Any], fields: Mapping[str, Any], tokens: int) -> tuple[str, frozenset[str]]:
        """Sends a request once, with as many of the fields as the server takes. Raises errors of the SDK.

        A field that a refusal names is left out, or else the first one. A schema that is refused after another was
        taken is only left out once: it may be too large. Returns the body of the response and the fields left out.
        """
        import openai

        refused, limits, swapped = set(self._refused), self._limits, False
        while True:
            left = {name: value for name, value in fields.items() if name not in refused}
            sent = {name: value for name, value in left.items() if not name.startswith("json_")}
            if form := left.get("json_schema") or left.get("json_object"):
                sent["response_format"] = form
            if "logprobs" in sent:
                sent["top_logprobs"] = 1  # llama.cpp sends 20 by default, and with 0 none
            sent |= {limits[0]: tokens, "extra_body": self._settings.request_fields}
            try:
                raw = self._client.chat.completions.with_raw_response.create(**body, **sent)
            except (openai.BadRequestError, openai.UnprocessableEntityError, openai.PermissionDeniedError) as error:
                reason = str(error)
                if isinstance(error, openai.PermissionDeniedError) and "logprobs" not in reason:
                    raise  # OpenAI forbids them for some models
                if _TOO_LONG.search(reason):
                    raise PromptTooLong(f"the prompt is longer than the server's context ({one_line(error)})") from None
                if not swapped and limits[0] in reason:
                    limits, swapped = limits[::-1], True
                elif left:
                    named = (name for name in left if re.search(rf"\b{name}\b", reason))
                    refused.add(next(named, next(iter(left))))
                else:
                    raise
                continue
            self._limits = limits
            self._takes_schema |= "json_schema" in left
            self._refused = frozenset(refused - {"json_schema"} if self._takes_schema else refused)
            return str(raw.http_response.text), frozenset(refused & {*fields})


def with_retries(ask: Callable[[], _Result], settings: EndpointConfig, stopped: Event | None = None) -> _Result:
    """Returns the result of a request, which is sent again after longer and longer waits, all within the time limit.

    Args:
        ask: Sends the request once, by a client without retries of its own.
        settings: The number of retries, and the seconds for all of them.
        stopped: Ends a wait once it is set.

    Raises the error of the last request; for one that is refused for good there is no other.
    """
    import openai

    wait, stopped = _FIRST_WAIT, stopped or Event()
    with time_limit(settings.timeout):
        for left in range(settings.retries, -1, -1):
            try:
                return ask()
            except (openai.APIStatusError, openai.APIConnectionError, NoAnswer) as error:
                pause = _pause(error)
                if pause is None or not left:
                    raise
                pause = pause or wait * uniform(0.75, 1)
                if pause >= time_left() or stopped.wait(pause):
                    raise
            wait = min(2 * wait, _LONGEST_WAIT)
    raise AssertionError("the last request has an answer or an error")


def map_concurrently(work: Callable[[_Item], _Result], items: Sequence[_Item], workers: int) -> list[_Result]:
    """Returns the results of `work` for items, in their order, computed in some threads at a time.

    Raises the first error, by the order of items. The threads are daemons, unlike those of `ThreadPoolExecutor`: a
    server that does not answer delays neither an interrupt nor the end of the program.
    """
    if not items:
        return []
    with ThreadPool(min(workers, len(items))) as pool:
        return list(pool.imap(work, items))


def estimate_tokens(messages: Sequence[Message] | str) -> int:
    """Returns an estimate of the tokens of texts, rather too high, for a budget."""
    texts = [messages] if isinstance(messages, str) else [message["content"] for message in messages]
    return sum(8 + len(text.encode("utf-8", "replace")) // 3 for text in texts)


def one_line(error: object) -> str:
    """Returns the message of an error, which may be a server's text, as one short line of printable characters.

    Keys are masked in it.
    """
    text = " ".join(str(error)[:2000].split()) or type(error).__name__
    text = mask_keys("".join(c for c in text if c.isprintable()))
    return text if len(text) <= 160 else f"{text[:160]}..."


def parse_reply(body: str, messages: Sequence[Message], seconds: float) -> Reply | None:
    """Parses the body of a chat completion; returns None for anything else."""
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        text = storable(choice["message"].get("content") or "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    usage, message = answer.get("usage"), choice["message"]
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return Reply(
        text,
        "length" if choice.get("finish_reason") == "length" else "stop",
        _count(usage, "prompt_tokens", estimate_tokens(messages)),
        _count(usage, "completion_tokens", estimate_tokens(text)),
        seconds,
        storable(reasoning) if isinstance(reasoning, str) else "",
        name if isinstance(name := answer.get("model"), str) else "",
        *_token_log_probs(choice),
    )


def _token_log_probs(choice: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Returns ids and log-probabilities of an answer's tokens, empty if they were not all sent."""
    try:
        entries = choice["logprobs"]["content"] or []
        log_probs = tuple(min(float(entry["logprob"]), 0.0) for entry in entries)
        ids = tuple(entry["id"] if isinstance(entry.get("id"), int) else -1 for entry in entries)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return (), ()
    return (ids, log_probs) if all(map(math.isfinite, log_probs)) else ((), ())


def _count(usage: Any, name: str, estimate: int) -> int:
    """Returns a token count of a response, or the estimate if there is none."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count < 10**9 else estimate


def _pause(error: Exception) -> float | None:
    """Returns the seconds until a retry after an error, 0 if nothing names them, None if a retry is no use."""
    if hasattr(error, "status_code"):
        return _retry_after(error)
    return None if type(error.__cause__).__name__ == "TooManyRedirects" else 0.0


def _retry_after(error: Any) -> float | None:
    """Returns the seconds until a retry that a refusal asks for, 0 if it names none, None if a retry is no use."""
    if (error.status_code not in _RETRYABLE and error.status_code < 500) or error.code == "insufficient_quota":
        return None
    header = error.response.headers.get("retry-after", "")
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time()
        except (ValueError, OverflowError):
            return 0.0
    if seconds > _LONGEST_RETRY_AFTER:
        return None
    return seconds if seconds > 0 else 0.0
