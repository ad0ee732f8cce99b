"""Consolidation: the bank's side of knowledge that is kept and counted (docs/method.md).

A piece of evidence about a skill that the bank has is a support or a refutation of it; about any other it is a new
skill. What retrieval shows is looked up exactly, by pattern or by thing and start, and ranked by evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import NamedTuple

from d2skill.bank.alternatives import Alternatives, Identity, identity
from d2skill.bank.duplicates import is_whole
from d2skill.bank.journal import Change, Insert, Origin, Refute, Revise, Support, source_task
from d2skill.bank.ledger import Ledger
from d2skill.bank.safety import clean, suspicion
from d2skill.config import BankConfig, RetrievalConfig
from d2skill.knowledge.evidence import Evidence, standing_of
from d2skill.knowledge.patterns import bindings, example, filled, near_bindings
from d2skill.knowledge.procedures import acts_in, is_part
from d2skill.types import Granularity, Retrieved, Skill, SkillText
from d2skill.utils.text import storable

Advised = tuple[tuple[Retrieved, ...], tuple[Retrieved, ...]]
"""The procedure for a task, and the situations of its things, best alternative of each thing first"""


class Consolidated(NamedTuple):
    """Changes by evidence, as counts: skills added, supported, refuted, merged into a shorter one, and held."""

    added: int = 0
    supported: int = 0
    refuted: int = 0
    merged: int = 0
    held: int = 0

    def __add__(self, other: Consolidated) -> Consolidated:  # type: ignore[override]
        """Returns the changes of both."""
        return Consolidated(*(one + two for one, two in zip(self, other, strict=True)))


class Consolidation:
    """Evidence into events, and advice out of skills.

    Args:
        ledger: Applies and records events.
        settings: Settings of the bank.
        retrieval: Numbers of skills to show.
        check: Returns the skill of a row; raises `BankError` if its text is not one that a bank takes.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: BankConfig,
        retrieval: RetrievalConfig,
        check: Callable[[int], Skill],
    ) -> None:
        self._state = ledger.state
        self._change = ledger.change
        self._do = ledger.do
        self._settings = settings
        self._retrieval = retrieval
        self._check = check
        self.known = Alternatives(ledger.state)

    def advise(self, task_text: str, start: str, *, trial: bool = False) -> Advised:
        """Returns the advice for a task and a first observation."""
        procedures = self.known.procedures(task_text, trial=trial)[: min(1, self._retrieval.k_task)]
        things = self.known.sought(task_text, start, trial=trial)[: self._retrieval.k_step]
        situations = [skill for ranked in things for skill in ranked[: self._retrieval.candidates]]
        for skill in (*procedures, *situations):
            self._check(self._state.row(skill.id))
        shown = [fill(skill, task_text) for skill in procedures]
        return tuple(map(as_retrieved, shown)), tuple(map(as_retrieved, situations))

    def consolidate(self, evidence: Sequence[Evidence], iteration: int, origin: Origin | None = None) -> Consolidated:
        """Records evidence: new skills, supports and refutations, and procedures that say the same with a detour."""
        with self._change(iteration):
            return self._consolidate(evidence, iteration, dict(origin or {}))

    def _consolidate(self, evidence: Sequence[Evidence], iteration: int, origin: Origin) -> Consolidated:
        supports: dict[str, set[str]] = {}
        refutes: dict[str, set[str]] = {}
        new, held = self._new_skills(evidence, iteration)
        if new:
            self._do(Insert(tuple(new), iteration, origin))
        for why, ids in held.items():
            self._do(Change("held", tuple(ids), iteration, why))
        if self._settings.trial and (on_trial := [one.id for one in new if one.id not in self._state.marks]):
            self._do(Change("trial", tuple(on_trial), iteration))
        for one in evidence:
            row = self.known.find(one.granularity, *_stored(one))
            if row is not None:
                skill_id = self._state.skill(row).id
                if one.supports:
                    supports.setdefault(skill_id, set()).update(map(storable, one.supports))
                if one.refutes:
                    refutes.setdefault(skill_id, set()).update(map(storable, one.refutes))
        if supports:
            self._do(Support(_sorted(supports), iteration, origin))
        if refutes:
            self._do(Refute(_sorted(refutes), iteration, origin))
        marks = self._state.marks
        if back := [one for one in supports if one in marks and marks[one].status == "evicted"]:
            self._do(Change("active", tuple(back), iteration, "seen again"))
        merged = self._merge_detours({*supports, *refutes}, iteration)
        self._retire_refuted(refutes, iteration)
        return Consolidated(
            len(new) - sum(map(len, held.values())), len(supports), len(refutes), merged, sum(map(len, held.values()))
        )

    def revise(self, texts: Mapping[str, SkillText], iteration: int, origin: Origin | None = None) -> None:
        """Gives skills other texts; with bank.suspicion hold, one that does not look like advice is held."""
        cleaned = {skill_id: clean(text) for skill_id, text in texts.items()}
        with self._change(iteration):
            self._do(Revise(cleaned, iteration, dict(origin or {})))
            for skill_id, text in cleaned.items():
                if self._settings.suspicion == "hold" and (why := suspicion(text)):
                    self._do(Change("held", (skill_id,), iteration, why))

    def _new_skills(self, evidence: Sequence[Evidence], iteration: int) -> tuple[list[Skill], dict[str, list[str]]]:
        """Returns the skills that are not in the bank yet, and the ids of those to be held by the reason."""
        kinds: tuple[Granularity, ...] = ("task", "step")
        numbers = {granularity: count(self._state.next_number(granularity)) for granularity in kinds}
        new: list[Skill] = []
        held: dict[str, list[str]] = {}
        taken: set[Identity] = set()
        for one in evidence:
            text, task_text, observation = _stored(one)
            same = identity(one.granularity, text, task_text, observation)
            known = same in taken or self.known.find(one.granularity, text, task_text, observation) is not None
            if known or not one.supports or not is_whole(text):
                continue
            taken.add(same)
            skill_id = f"{one.granularity[0]}{next(numbers[one.granularity])}"
            source = storable(source_task(min(one.supports)))
            new.append(
                Skill(skill_id, one.granularity, text, task_text, observation, created=iteration, source_task=source)
            )
            if self._settings.suspicion == "hold" and (why := suspicion(text)):
                held.setdefault(why, []).append(skill_id)
        return new, held

    def _retire_refuted(self, ids: Iterable[str], iteration: int) -> None:
        """Retires procedures that were refuted, where another one for all of their tasks stands much higher."""
        for skill_id in sorted(ids):
            skill = self._state.skill(self._state.row(skill_id))
            if skill.granularity == "step" or skill_id in self._state.marks:
                continue
            best = self.known.procedures(example(skill.task_text))[0]
            if standing_of(skill) < _RIVAL * standing_of(best) and best.supports >= skill.supports:
                self._do(Change("retired", (skill_id,), iteration, f"contradicted more often than {best.id}"))

    def _merge_detours(self, ids: set[str], iteration: int) -> int:
        """Merges procedures into one with fewer of the same acts and no worse standing; returns their number."""
        merged = 0
        changed = [self._state.skill(self._state.row(skill_id)) for skill_id in sorted(ids) if skill_id[0] == "t"]
        for pattern in sorted({skill.task_text for skill in changed}):
            alternatives = [one for one in self.known.of_pattern(pattern) if one.id not in self._state.marks]
            for long in alternatives:
                acts = acts_in(long.text.principle)
                for short in alternatives:
                    if (
                        short is long
                        or short.id in self._state.marks
                        or len(short.text.principle) >= len(long.text.principle)
                    ):
                        continue
                    no_worse = standing_of(short) >= standing_of(long)
                    fewer = acts_in(short.text.principle)
                    if no_worse and fewer and is_part(fewer, acts):
                        self._do(Change("merged", (long.id,), iteration, "the same with a detour", short.id))
                        merged += 1
                        break
        return merged


_RIVAL = 0.6
"""Least share of the best standing that a procedure needs, once it was refuted, to stay beside it"""


@lru_cache(maxsize=2**14)
def fill(skill: Skill, task_text: str) -> Skill:
    """Returns a skill with the words of a task in the slots of its text, if its pattern fits the task."""
    words = bindings(skill.task_text, task_text) or near_bindings(skill.task_text, task_text)
    if not words:
        return skill
    return replace(skill, text=skill.text.changed(lambda field: filled(field, words)))


def _stored(one: Evidence) -> tuple[SkillText, str, str]:
    """Returns text and key of evidence as a bank stores them."""
    observation = storable(one.observation) if one.granularity == "step" else ""
    return clean(one.text), storable(one.task_text), observation


def _sorted(sources: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {skill_id: tuple(sorted(own)) for skill_id, own in sources.items()}


def as_retrieved(skill: Skill) -> Retrieved:
    """Returns a skill that was looked up, with its standing as score."""
    return Retrieved(skill, 1.0, standing_of(skill))
