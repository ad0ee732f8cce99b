"""Reflection by the policy itself: it is asked about its own failures, as another model would be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from time import perf_counter
from typing import Any

from d2skill.config import ReflectConfig
from d2skill.endpoints import estimate
from d2skill.errors import ReflectionFault
from d2skill.protocols import SupportsChat
from d2skill.reflectors.answer import Unusable, read
from d2skill.reflectors.llm import Call, Pair, tally, used
from d2skill.reflectors.prompt import FINGERPRINT, question, repair
from d2skill.types import Reflection, Trajectory

_ATTEMPTS = 2


class PolicyReflector:
    """Implements `Reflector`, `BatchReflector`, `BudgetedReflector` and `HasOrigin` by a policy that writes.

    It is asked after its update, all failures in one batch, and once more about answers that cannot be used. Nothing is
    paid for, so there is no budget.
    """

    runs_beside_update = False

    def __init__(self, settings: ReflectConfig, policy: SupportsChat) -> None:
        self._settings = settings
        self._policy = policy
        self._calls: list[Call] = []

    @property
    def origin(self) -> Mapping[str, str]:
        """That it is the policy itself, and a hash of the prompt's template."""
        return {"model": "the policy itself", "prompt": FINGERPRINT}

    def check(self) -> None:
        """Does nothing: the policy is here."""

    def reflect(self, failure: Trajectory, success: Trajectory | None) -> Reflection:
        """Asks about one failure; raises `ReflectionFault` when no usable answer comes."""
        (reflection,) = self.reflect_batch([(failure, success)])
        if reflection is None:
            raise ReflectionFault(self._calls[-1].outcome)
        return reflection

    def reflect_batch(self, pairs: Sequence[Pair]) -> list[Reflection | None]:
        """Asks about all failures at once; None where no usable answer came."""
        found: list[Reflection | None] = [None] * len(pairs)
        chats = {at: question(*pair, self._settings.prompt_tokens) for at, pair in enumerate(pairs)}
        calls: dict[tuple[int, int], Call] = {}
        for attempt in range(_ATTEMPTS):
            started = perf_counter()
            answers = self._policy.generate_chat(list(chats.values()), self._settings.answer_tokens) if chats else []
            seconds = (perf_counter() - started) / max(1, len(chats))
            again = {}
            for (at, messages), answer in zip(chats.items(), answers, strict=True):
                failure = pairs[at][0]
                try:
                    found[at], left_out = read(answer, failure)
                    outcome = used(left_out)
                except Unusable as why:
                    outcome = f"{'asked again' if attempt + 1 < _ATTEMPTS else 'dropped'}: {why}"
                    again[at] = repair(messages, answer, str(why))
                tokens = estimate(messages), estimate(answer)
                own = failure.task.id, failure.index, attempt, messages, answer
                calls[at, attempt] = Call(*own, *tokens, seconds, outcome)
            chats = again
        self._calls += [calls[key] for key in sorted(calls)]
        return found

    def drain_calls(self) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Returns the calls since the last account, by pair and attempt, and what they come to."""
        calls, self._calls = self._calls, []
        return [asdict(call) for call in calls], tally(calls)

    def restore_usage(self, calls: Iterable[Mapping[str, Any]]) -> None:
        """Does nothing: there is no budget."""

    def stop(self) -> None:
        """Does nothing: there is no connection."""
