"""Arms of an evaluation with consolidated skills: other advice in place of the right one, as views of one bank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from d2skill.bank import SkillBank
from d2skill.bank.consolidation import Advised, as_retrieved, fill
from d2skill.config import RetrievalConfig
from d2skill.knowledge.evidence import by_evidence
from d2skill.knowledge.patterns import bindings, filled
from d2skill.knowledge.situations import Way, exchanged
from d2skill.types import Retrieved, Skill
from d2skill.utils.rng import generator
from d2skill.utils.text import tokens


class Placebo:
    """Other advice of the bank in place of the right one, about the things of the task at hand.

    A procedure is exchanged for one whose pattern does not fit the task, with the task's words in its slots as far as
    the right one has them. A situation is exchanged for another of the same start, at a place where its thing is not
    known to be, and with its thing in place of the other one. Where there is no other, nothing is shown.
    """

    def __init__(self, bank: SkillBank, seed: int) -> None:
        self._bank = bank
        self._seed = seed
        patterns = sorted({skill.task_text for skill in bank.skills("task")})
        mixed = [patterns[i] for i in generator(seed, "shuffled", "task").permutation(len(patterns))]
        self._patterns = {pattern: mixed[at + 1 :] + mixed[:at] for at, pattern in enumerate(mixed)}
        self._starts: dict[str, list[Skill]] = {}
        for skill in bank.skills("step"):
            self._starts.setdefault(skill.observation, []).append(skill)

    def advise(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> list[Advised]:
        """See SkillSource."""
        advised = self._bank.advise(pairs, trial=trial)
        return [
            (
                tuple(other for one in procedures for other in self._other_procedure(one, task)),
                tuple(self._other_situations(situations)),
            )
            for (task, _), (procedures, situations) in zip(pairs, advised, strict=True)
        ]

    def _other_procedure(self, right: Retrieved, task_text: str) -> Iterator[Retrieved]:
        pattern = right.skill.task_text
        for other in self._patterns.get(pattern, ()):
            if bindings(other, task_text) is None:
                best = self._bank.knowledge.known.of_pattern(other)[0]
                words = bindings(pattern, task_text) or {}
                yield replace(right, skill=replace(best, text=best.text.changed(partial(filled, words=words))))
                return

    def _other_situations(self, right: Sequence[Retrieved]) -> Iterator[Retrieved]:
        """Yields as many others as there are right ones for each thing and start, in their place."""
        left: dict[tuple[str, str], list[Skill]] = {}
        for one in right:
            key = one.skill.task_text, one.skill.observation
            if key not in left:
                left[key] = self._elsewhere(one.skill)
            if left[key]:
                yield replace(one, skill=left[key].pop())

    def _elsewhere(self, right: Skill) -> list[Skill]:
        """Returns a right skill's thing at the places of other things, in random order, each place once."""
        thing, way = right.task_text, Way.of(right)
        rng = generator(self._seed, "shuffled", "step", right.observation, thing)
        others = self._starts[right.observation]
        places = {_place(one) for one in others if one.task_text == thing}
        found: list[Skill] = []
        for other in (others[i] for i in rng.permutation(len(others))):
            there = Way.of(other)
            if way and there and there.act.verb == way.act.verb and _place(other) not in places:
                places.add(_place(other))
                found.append(_about(other, thing))
        return found


class BestSupported:
    """The advice that most evidence speaks for, whatever the kind of task and the start.

    The procedure is the same for all tasks, in the task's words if it fits. Situations are the best ones of the task's
    things, wherever they were seen.
    """

    def __init__(self, bank: SkillBank, retrieval: RetrievalConfig) -> None:
        self._bank = bank
        self._retrieval = retrieval
        self._procedures = sorted(bank.skills("task"), key=by_evidence)[: min(1, retrieval.k_task)]
        self._situations: dict[str, list[Skill]] = {}
        for skill in sorted(bank.skills("step"), key=by_evidence):
            self._situations.setdefault(skill.task_text, []).append(skill)

    def advise(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> list[Advised]:
        """See SkillSource."""
        return [(self._procedure(task), self._places(task)) for task, _ in pairs]

    def _procedure(self, task_text: str) -> tuple[Retrieved, ...]:
        return tuple(as_retrieved(fill(skill, task_text)) for skill in self._procedures)

    def _places(self, task_text: str) -> tuple[Retrieved, ...]:
        things = [word for word in dict.fromkeys((*tokens(task_text), task_text)) if word in self._situations]
        shown = [self._situations[thing][: self._retrieval.candidates] for thing in things[: self._retrieval.k_step]]
        return tuple(as_retrieved(skill) for one in shown for skill in one)


def _place(skill: Skill) -> str:
    """Returns where the title of a step skill says that its thing is."""
    return skill.text.title.partition(": ")[2]


def _about(skill: Skill, thing: str) -> Skill:
    """Returns a step skill with another thing in place of its own."""
    return replace(skill, text=exchanged(skill.text, skill.task_text, thing), task_text=thing)
