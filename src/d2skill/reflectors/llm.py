"""Reflection by a language model behind a server: many questions at a time, within a budget.

An answer that cannot be used is asked for once more and then dropped. Whatever comes back, from whichever server and
in whichever order, is at most a reflection of three short texts, and is given in the order of the failures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from d2skill.config import ReflectConfig
from d2skill.endpoints import Chat, Message, Reply, check, connect, each, estimate
from d2skill.errors import EndpointFault, ReflectionFault
from d2skill.reflectors.answer import SCHEMA, Unusable, read
from d2skill.reflectors.contrast import ContrastReflector
from d2skill.reflectors.prompt import FINGERPRINT, REPAIR_TOKENS, question, repair
from d2skill.types import Reflection, Trajectory

FLAG = "--reflect.endpoint"
"""How the settings of the server are called on the command line."""

_KEPT = 20_000  # characters of an answer on record

Pair = tuple[Trajectory, Trajectory | None]


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used of a budget."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.calls + other.calls, self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out)

    @property
    def tokens(self) -> int:
        """All tokens, in and out."""
        return self.tokens_in + self.tokens_out

    def cost(self, settings: ReflectConfig) -> float:
        """Returns the price of the tokens."""
        return (self.tokens_in * settings.price_in + self.tokens_out * settings.price_out) / 1e6

    def fits(self, settings: ReflectConfig) -> bool:
        """Returns whether it is within the budget."""
        return (
            (settings.max_calls is None or self.calls <= settings.max_calls)
            and (settings.max_tokens is None or self.tokens <= settings.max_tokens)
            and (settings.max_cost is None or self.cost(settings) <= settings.max_cost)
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One question and its answer: the failure it is about, and what became of it."""

    task: str
    member: int
    attempt: int
    messages: list[Message]
    answer: str
    tokens_in: int
    tokens_out: int
    seconds: float
    outcome: str


def used(left_out: Sequence[str]) -> str:
    """Returns the outcome of an answer that was used, but for the skills that were left out."""
    return "used" + (f", {' and '.join(left_out)} left out: another language" if left_out else "")


def tally(calls: Sequence[Call]) -> dict[str, float]:
    """Returns the metrics of calls, whoever was asked."""
    outcomes = [call.outcome for call in calls]
    return {
        "reflect/calls": len(calls),
        "reflect/repaired": sum(call.attempt > 0 and call.outcome.startswith("used") for call in calls),
        "reflect/dropped": sum(outcome.startswith("dropped") or "left out" in outcome for outcome in outcomes),
        "reflect/tokens": sum(call.tokens_in + call.tokens_out for call in calls),
    }


@dataclass(frozen=True, slots=True)
class _Question:
    """A failure to ask about, and how many calls the budget has for it."""

    pair: Pair
    messages: list[Message]
    calls: int


class LLMReflector:
    """A reflector that asks a model behind a server (`BatchReflector`, `BudgetedReflector`, `HasOrigin`)."""

    runs_beside_update = True

    def __init__(self, settings: ReflectConfig, chat: Chat | None = None) -> None:
        self._settings = settings
        self._chat = chat
        self._used = Usage()
        self._calls: list[Call] = []
        self._left_to_contrast: list[str] = []

    @property
    def origin(self) -> Mapping[str, str]:
        """The model and a hash of the prompt's template; where the budget was short, what contrast wrote instead."""
        contrast = " ".join(self._left_to_contrast)
        made = {"model": self._settings.endpoint.model, "prompt": FINGERPRINT}
        return made | ({"by contrast": contrast} if contrast else {})

    def check(self) -> None:
        """Finds out whether the server answers and knows the model; raises `ConfigError` with the way out if not."""
        client = connect(self._settings.endpoint, FLAG)
        check(client, self._settings.endpoint, FLAG)
        self._chat = Chat(client, self._settings.endpoint)

    def reflect(self, failure: Trajectory, success: Trajectory | None) -> Reflection:
        """Asks about one failure; raises `ReflectionFault` when no usable answer can be had."""
        (reflection,) = self.reflect_batch([(failure, success)])
        if reflection is None:
            raise ReflectionFault(self._calls[-1].outcome)
        return reflection

    def reflect_batch(self, pairs: Sequence[Pair]) -> list[Reflection | None]:
        """Asks about all failures, as many at a time as the settings say; None where no usable answer came.

        What fits the budget is settled before anything is asked: in the order of the pairs, each sets aside what two
        calls, or else one, can use at most (the prompt is estimated, rather too high, and the answer is as long as
        allowed). The first pair for which not even one is left, and all after it, go to contrast. Afterwards only
        what was really used is counted, so what a pair gets depends on answers of earlier iterations, never on time.
        """
        questions = self._budgeted(pairs)
        chat = self._chat
        if chat is None and questions:
            chat = self._chat = Chat(connect(self._settings.endpoint, FLAG), self._settings.endpoint)
        asked = each(lambda one: self._ask(chat, one), questions, self._settings.endpoint.concurrency) if chat else []
        calls = [call for _, own in asked for call in own]
        self._calls += calls
        self._used += _usage(map(asdict, calls))
        rest = pairs[len(questions) :]
        self._left_to_contrast = [failure.name for failure, _ in rest]
        return [reflection for reflection, _ in asked] + [ContrastReflector().reflect(*pair) for pair in rest]

    def drain_calls(self) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Returns the calls since the last account, by pair and attempt, and what they come to."""
        calls = [asdict(call) for call in self._calls]
        metrics = tally(self._calls) | {
            "reflect/failed": sum(call.outcome.startswith("failed") for call in self._calls),
            "reflect/fallback": len(self._left_to_contrast),
            "reflect/cost": _usage(calls).cost(self._settings),
        }
        self._calls, self._left_to_contrast = [], []
        return calls, metrics

    def restore_usage(self, calls: Iterable[Mapping[str, Any]]) -> None:
        """Takes calls of earlier accounts as those that the budget was used for so far."""
        self._used = _usage(calls)

    def stop(self) -> None:
        """Gives up what is on its way; what is asked later connects anew."""
        chat, self._chat = self._chat, None
        if chat is not None:
            chat.stop()

    def _budgeted(self, pairs: Sequence[Pair]) -> list[_Question]:
        """Returns the questions about the first pairs, as many as the budget has room for."""
        questions: list[_Question] = []
        used = self._used
        for pair in pairs:
            messages = question(*pair, self._settings.prompt_tokens)
            first = Usage(1, estimate(messages), self._settings.answer_tokens)
            second = replace(first, tokens_in=first.tokens + REPAIR_TOKENS)
            if (used + first + second).fits(self._settings):
                used, calls = used + first + second, 2
            elif (used + first).fits(self._settings):
                used, calls = used + first, 1
            else:
                break
            questions.append(_Question(pair, messages, calls))
        return questions

    def _ask(self, chat: Chat, one: _Question) -> tuple[Reflection | None, list[Call]]:
        """Asks about one failure, at most twice, and returns what came of it."""
        failure, messages = one.pair[0], one.messages
        calls: list[Call] = []
        for attempt in range(one.calls):
            last = attempt + 1 == one.calls
            reply = Reply("", "stop", 0, 0, 0.0)
            reflection, again = None, messages
            try:
                reply = chat.ask(messages, tokens=self._settings.answer_tokens, schema=SCHEMA)
                if reply.ended == "too long":
                    outcome, last = "dropped: it does not end", True
                else:
                    reflection, left_out = read(reply.text, failure)
                    outcome = used(left_out)
            except EndpointFault as fault:
                outcome, last = f"failed: {fault}", True
            except Unusable as why:
                cut = "it was cut off at the limit of tokens" if reply.ended == "length" else str(why)
                outcome = f"{'dropped' if last else 'asked again'}: {cut}"
                again = repair(messages, reply.text, cut)
            own = failure.task.id, failure.index, attempt, messages, reply.text[:_KEPT]
            calls.append(Call(*own, reply.tokens_in, reply.tokens_out, reply.seconds, outcome))
            if last or reflection is not None:
                return reflection, calls
            messages = again
        return None, calls


def _usage(calls: Iterable[Mapping[str, Any]]) -> Usage:
    """Returns what calls used; one that failed counts as a call."""
    return sum((Usage(1, call["tokens_in"], call["tokens_out"]) for call in calls), Usage())
