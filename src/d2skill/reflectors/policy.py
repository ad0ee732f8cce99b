"""Reflector that asks the policy itself about its episodes, as another model would be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from time import perf_counter
from typing import Any

from d2skill.config import ReflectConfig
from d2skill.endpoints import estimate_tokens
from d2skill.errors import ReflectionFault
from d2skill.protocols import SupportsChat
from d2skill.reflectors.answer import UnusableAnswer
from d2skill.reflectors.group_prompt import GROUP_FORM, group_question
from d2skill.reflectors.llm import Call, GroupAndSkills, Pair, call_metrics, used_outcome
from d2skill.reflectors.prompt import FAILURE_FORM, Answer, Question, failure_question
from d2skill.types import Edit, Reflection, Trajectory

_ATTEMPTS = 2


class PolicyReflector:
    """A `BatchReflector`, `GroupReflector`, `BudgetedReflector` and `HasOrigin` that asks a policy that writes text.

    It asks after the policy's update, all questions in one batch, and once more after answers that cannot be used.
    Nothing is paid for, so there is no budget.
    """

    runs_beside_update = False

    def __init__(self, settings: ReflectConfig, policy: SupportsChat) -> None:
        self._settings = settings
        self._policy = policy
        self._calls: list[Call] = []
        self._form = FAILURE_FORM

    @property
    def origin(self) -> Mapping[str, str]:
        """The words "the policy itself", and a hash of the latest questions' wording."""
        return {"model": "the policy itself", "prompt": self._form.fingerprint}

    def check(self) -> None:
        """Does nothing: there is no server."""

    def reflect(self, failure: Trajectory, success: Trajectory | None) -> Reflection:
        """Asks about one failure; raises `ReflectionFault` without a usable answer."""
        (reflection,) = self.reflect_batch([(failure, success)])
        if reflection is None:
            raise ReflectionFault(self._calls[-1].outcome)
        return reflection

    def reflect_batch(self, pairs: Sequence[Pair]) -> list[Reflection | None]:
        """Asks about all failures at once; returns None for those without a usable answer."""
        self._form = FAILURE_FORM
        return self._answers([failure_question(*pair, self._settings.prompt_tokens) for pair in pairs])

    def reflect_groups(self, questions: Sequence[GroupAndSkills]) -> list[list[Edit] | None]:
        """Asks about all groups at once; returns None for those without a usable answer."""
        self._form = GROUP_FORM
        return self._answers([group_question(*one, self._settings.prompt_tokens) for one in questions])

    def drain_calls(self) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Returns the calls since the last drain, by question and attempt, and their metrics."""
        calls, self._calls = self._calls, []
        return [asdict(call) for call in calls], call_metrics(calls)

    def restore_usage(self, calls: Iterable[Mapping[str, Any]]) -> None:
        """Does nothing: there is no budget."""

    def stop(self) -> None:
        """Does nothing: there is no connection."""

    def _answers(self, questions: Sequence[Question[Answer]]) -> list[Answer | None]:
        """Asks all questions at once, and some of them again; None stands for no usable answer."""
        found: list[Answer | None] = [None] * len(questions)
        chats = {at: question.messages for at, question in enumerate(questions)}
        calls: dict[tuple[int, int], Call] = {}
        for attempt in range(_ATTEMPTS):
            started = perf_counter()
            answers = self._policy.generate_chat(list(chats.values()), self._settings.answer_tokens) if chats else []
            seconds = (perf_counter() - started) / max(1, len(chats))
            repairs = {}
            for (at, messages), answer in zip(chats.items(), answers, strict=True):
                question = questions[at]
                try:
                    found[at], remark = question.read(answer)
                    outcome = used_outcome(remark)
                except UnusableAnswer as why:
                    outcome = f"{'asked again' if attempt + 1 < _ATTEMPTS else 'dropped'}: {why}"
                    repairs[at] = question.form.repair_messages(messages, answer, str(why))
                tokens = estimate_tokens(messages), estimate_tokens(answer)
                about = question.task, question.member, attempt, messages, answer
                calls[at, attempt] = Call(*about, *tokens, seconds, outcome)
            chats = repairs
        self._calls += [calls[key] for key in sorted(calls)]
        return found
