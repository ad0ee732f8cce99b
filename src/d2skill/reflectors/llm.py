"""Reflector that asks a language model behind a server: many questions at a time, within a budget.

An answer that cannot be used is requested once more and then dropped. Each failure gets at most one reflection of three
short texts per skill, and each group a few edits, in the order of the questions, whatever the order of the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic

from d2skill.config import ReflectConfig
from d2skill.endpoints import ChatClient, Message, Reply, Room, check, connect, estimate_tokens, map_concurrently
from d2skill.errors import EndpointFault, ReflectionFault
from d2skill.reflectors.answer import UnusableAnswer
from d2skill.reflectors.contrast import ContrastReflector
from d2skill.reflectors.group_prompt import GROUP_FORM, group_question
from d2skill.reflectors.prompt import FAILURE_FORM, REPAIR_TOKENS, Answer, Question, failure_question
from d2skill.types import Edit, Group, Reflection, Skill, Trajectory

FLAG = "--reflect.endpoint"
"""Name of the server's settings on the command line."""

_LONGEST_RECORD = 20_000  # characters of an answer

Pair = tuple[Trajectory, Trajectory | None]
"""A failure, and a success of the same task if there is one."""

GroupAndSkills = tuple[Group, tuple[Skill, ...]]
"""A group, and the skills of the bank that are about it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Calls and tokens that count against the budget."""

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
        """Returns True if it is within the budget."""
        return (
            (settings.max_calls is None or self.calls <= settings.max_calls)
            and (settings.max_tokens is None or self.tokens <= settings.max_tokens)
            and (settings.max_cost is None or self.cost(settings) <= settings.max_cost)
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One question and its answer: the failure (or, without a member, the group) it is about, the outcome in words."""

    task: str
    member: int | None
    attempt: int
    messages: list[Message]
    answer: str
    tokens_in: int
    tokens_out: int
    seconds: float
    outcome: str


def used_outcome(remark: str) -> str:
    """Returns the outcome of an answer that was used, with a remark on what was left out."""
    return f"used, {remark}" if remark else "used"


def call_metrics(calls: Sequence[Call]) -> dict[str, float]:
    """Returns the metrics of calls that all reflectors with a model have."""
    outcomes = [call.outcome for call in calls]
    return {
        "reflect/calls": len(calls),
        "reflect/repaired": sum(call.attempt > 0 and call.outcome.startswith("used") for call in calls),
        "reflect/dropped": sum(outcome.startswith("dropped") or "left out" in outcome for outcome in outcomes),
        "reflect/tokens": sum(call.tokens_in + call.tokens_out for call in calls),
    }


@dataclass(frozen=True, slots=True)
class _BudgetedQuestion(Generic[Answer]):
    """A question, and the number of calls that the budget has for it."""

    question: Question[Answer]
    calls: int


class LLMReflector:
    """A `BatchReflector`, `GroupReflector`, `BudgetedReflector` and `HasOrigin` that asks a model behind a server.

    The budget is divided before anything is asked. In their order, each question reserves the most that two calls, or
    else one, can use: the estimated prompt, rather too high, and the longest answer. The first question for which not
    even one call is left is not asked, and neither are those after it. Afterwards only the actual usage counts. So the
    calls of a question depend on answers of earlier iterations, never on time.
    """

    runs_beside_update = True

    def __init__(self, settings: ReflectConfig, chat: ChatClient | None = None) -> None:
        self._settings = settings
        self._chat = chat
        self._used = Usage()
        self._calls: list[Call] = []
        self._form = FAILURE_FORM
        self._not_asked = 0
        self._left_to_contrast: list[str] = []

    @property
    def origin(self) -> Mapping[str, str]:
        """The model, a hash of the latest questions' wording, and the failures that were left to contrast."""
        contrast = " ".join(self._left_to_contrast)
        origin = {"model": self._settings.endpoint.model, "prompt": self._form.fingerprint}
        return origin | ({"by contrast": contrast} if contrast else {})

    def check(self) -> None:
        """Raises `ConfigError`, with the way out, if the server does not answer or does not know the model."""
        settings = self._settings
        client = connect(settings.endpoint, FLAG)
        room = Room(settings.prompt_tokens, settings.answer_tokens, "reflect.prompt_tokens", "reflect.answer_tokens")
        check(client, settings.endpoint, FLAG, room=room)
        self._chat = ChatClient(client, settings.endpoint)

    def reflect(self, failure: Trajectory, success: Trajectory | None) -> Reflection:
        """Asks about one failure; raises `ReflectionFault` without a usable answer."""
        (reflection,) = self.reflect_batch([(failure, success)])
        if reflection is None:
            raise ReflectionFault(self._calls[-1].outcome)
        return reflection

    def reflect_batch(self, pairs: Sequence[Pair]) -> list[Reflection | None]:
        """Asks about all failures; returns None for those without a usable answer.

        What the budget has no room for goes to contrast.
        """
        self._form = FAILURE_FORM
        reflections = self._answers([failure_question(*pair, self._settings.prompt_tokens) for pair in pairs])
        rest = pairs[len(reflections) :]
        self._left_to_contrast = [failure.name for failure, _ in rest]
        return reflections + [ContrastReflector().reflect(*pair) for pair in rest]

    def reflect_groups(self, questions: Sequence[GroupAndSkills]) -> list[list[Edit] | None]:
        """Asks about all groups; returns None for those without a usable answer, or without room in the budget."""
        self._form = GROUP_FORM
        edits = self._answers([group_question(*one, self._settings.prompt_tokens) for one in questions])
        return edits + [None] * (len(questions) - len(edits))

    def drain_calls(self) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Returns the calls since the last drain, by question and attempt, and their metrics."""
        calls = [asdict(call) for call in self._calls]
        metrics = call_metrics(self._calls) | {
            "reflect/failed": sum(call.outcome.startswith("failed") for call in self._calls),
            "reflect/fallback": self._not_asked,
            "reflect/cost": _usage(calls).cost(self._settings),
        }
        self._calls, self._not_asked, self._left_to_contrast = [], 0, []
        return calls, metrics

    def restore_usage(self, calls: Iterable[Mapping[str, Any]]) -> None:
        """Sets the usage of the budget to that of some calls, as drained earlier."""
        self._used = _usage(calls)

    def stop(self) -> None:
        """Gives up the requests on their way; a later one connects anew."""
        chat, self._chat = self._chat, None
        if chat is not None:
            chat.stop()

    def _answers(self, questions: Sequence[Question[Answer]]) -> list[Answer | None]:
        """Asks the first questions, as many as the budget has room for, some at a time; None is no usable answer."""
        budgeted = self._budgeted(questions)
        answers: list[tuple[Answer | None, list[Call]]] = []
        if budgeted:
            endpoint = self._settings.endpoint
            chat = self._chat = self._chat or ChatClient(connect(endpoint, FLAG), endpoint)
            answers = map_concurrently(lambda one: self._ask(chat, one), budgeted, endpoint.concurrency)
        calls = [call for _, calls in answers for call in calls]
        self._calls += calls
        self._used += _usage(map(asdict, calls))
        self._not_asked = len(questions) - len(budgeted)
        return [answer for answer, _ in answers]

    def _budgeted(self, questions: Sequence[Question[Answer]]) -> list[_BudgetedQuestion[Answer]]:
        budgeted: list[_BudgetedQuestion[Answer]] = []
        used = self._used
        for question in questions:
            first = Usage(1, estimate_tokens(question.messages), self._settings.answer_tokens)
            second = replace(first, tokens_in=first.tokens + REPAIR_TOKENS)
            if (used + first + second).fits(self._settings):
                used, calls = used + first + second, 2
            elif (used + first).fits(self._settings):
                used, calls = used + first, 1
            else:
                break
            budgeted.append(_BudgetedQuestion(question, calls))
        return budgeted

    def _ask(self, chat: ChatClient, budgeted: _BudgetedQuestion[Answer]) -> tuple[Answer | None, list[Call]]:
        """Asks one question, at most twice; returns the answer, if there is one, and the calls."""
        question, form = budgeted.question, budgeted.question.form
        messages = question.messages
        calls: list[Call] = []
        for attempt in range(budgeted.calls):
            last = attempt + 1 == budgeted.calls
            reply = Reply("", "stop", 0, 0, 0.0)
            answer, next_messages = None, messages
            try:
                reply = chat.complete(messages, tokens=self._settings.answer_tokens, schema=form.schema)
                if reply.finish_reason == "too long":
                    outcome, last = "dropped: it does not end", True
                else:
                    answer, remark = question.read(reply.text)
                    outcome = used_outcome(remark)
            except EndpointFault as fault:
                outcome, last = f"failed: {fault}", True
            except UnusableAnswer as error:
                was_cut = reply.finish_reason == "length"
                why = "it was cut off at the limit of tokens" if was_cut else str(error)
                outcome = f"{'dropped' if last else 'asked again'}: {why}"
                next_messages = form.repair_messages(messages, reply.text, why)
            about = question.task, question.member, attempt, messages, reply.text[:_LONGEST_RECORD]
            calls.append(Call(*about, reply.tokens_in, reply.tokens_out, reply.seconds, outcome))
            if last or answer is not None:
                return answer, calls
            messages = next_messages
        return None, calls


def _usage(calls: Iterable[Mapping[str, Any]]) -> Usage:
    """Returns the usage of calls; one that failed counts as a call."""
    return sum((Usage(1, call["tokens_in"], call["tokens_out"]) for call in calls), Usage())
