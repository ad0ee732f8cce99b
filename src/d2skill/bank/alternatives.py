"""Alternatives: the consolidated skills of a bank by what they are about, ranked by their evidence.

Procedures are looked up by pattern, situations by thing and first observation, all of them exactly. Skills of the same
key are alternatives of each other: the one that most evidence speaks for comes first, of equals one for this very start
and the shorter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from d2skill.bank.journal import BankState, Status
from d2skill.bank.ranking import Floats, Integers
from d2skill.knowledge.evidence import by_evidence, standing
from d2skill.knowledge.patterns import REST, bindings, near_bindings
from d2skill.knowledge.procedures import acts_in
from d2skill.knowledge.situations import place_key
from d2skill.types import Granularity, Skill, SkillText
from d2skill.utils.text import tokens

Identity = tuple[Granularity, str, str, str]


class Alternatives:
    """Lookup of the skills in a state, which follows its events; implements `KnownSkills` for active skills."""

    def __init__(self, state: BankState) -> None:
        self._state = state
        self._rows: dict[Identity, int] = {}
        self._patterns: dict[str, list[int]] = {}
        self._starts: dict[str, dict[str, list[int]]] = {}
        self._known = 0
        self._fitting: dict[str, list[str]] = {}

    def find(self, granularity: Granularity, text: SkillText, task_text: str, observation: str) -> int | None:
        """Returns the row of the skill that says this about the same, whatever its status; None if there is none.

        Args:
            granularity: Task or step.
            text: What the skill says.
            task_text: Its pattern, or the thing that is sought.
            observation: The first observation, "" for any.
        """
        self._read_new()
        return self._rows.get(identity(granularity, text, task_text, observation))

    def procedures(self, task_text: str, *, trial: bool = False) -> list[Skill]:
        """Returns the procedures whose pattern fits a task, or else is like it, best first; their texts have slots."""
        self._read_new()
        if task_text not in self._fitting:
            fitting = [one for one in self._patterns if bindings(one, task_text) is not None]
            near = [] if fitting else [one for one in self._patterns if near_bindings(one, task_text) is not None]
            self._fitting[task_text] = fitting or near
        return self._ranked((row for one in self._fitting[task_text] for row in self._patterns[one]), trial)

    def of_pattern(self, pattern: str) -> list[Skill]:
        """Returns the procedures of a pattern that are active, best first."""
        self._read_new()
        return self._ranked(self._patterns.get(pattern, ()), False)

    def situations(self, observation: str, *, trial: bool = False) -> list[Skill]:
        """Returns the step skills of all things for a first observation.

        A note whose key is a whole task, as `reflect` writes it, says where no thing is: it cannot be counted.
        """
        self._read_new()
        things = {thing: rows for thing, rows in self._starts.get(observation, {}).items() if len(tokens(thing)) == 1}
        return self._ranked((row for rows in things.values() for row in rows), trial)

    def sought(self, task_text: str, observation: str, *, trial: bool = False) -> list[list[Skill]]:
        """Returns the step skills for each thing that a task names, best first, in the order of its text.

        They are those for this start and those for any.
        """
        self._read_new()
        here, anywhere = self._starts.get(observation, {}), self._starts.get("", {})
        named = dict.fromkeys(word for word in (*tokens(task_text), task_text) if word in here or word in anywhere)
        rows = ([*here.get(word, ()), *anywhere.get(word, ())] for word in named)
        return [ranked for one in rows if (ranked := self._ranked(one, trial))]

    def verbs(self) -> Collection[str]:
        """Returns the verbs that active procedures use."""
        self._read_new()
        rows = [row for rows in self._patterns.values() for row in rows]
        return {act.verb for skill in self._ranked(rows, False) for act in acts_in(skill.text.principle)}

    def standings(self, rows: Integers) -> Floats:
        """Returns the standings of some rows [S]."""
        values = np.full(len(self._state), standing(0, 0))
        for skill_id, tally in self._state.tallies.items():
            values[self._state.row(skill_id)] = standing(len(tally.supports), len(tally.refutes))
        return np.asarray(values[rows])

    def _ranked(self, rows: Iterable[int], trial: bool) -> list[Skill]:
        allowed: tuple[Status | None, ...] = (None, "trial") if trial else (None,)
        marks = self._state.marks
        skills = [self._state.skill(row) for row in rows]
        shown = [one for one in skills if (marks[one.id].status if one.id in marks else None) in allowed]
        return sorted(shown, key=_order)

    def _read_new(self) -> None:
        """Adds the skills that came to the state since the last time."""
        if self._known == len(self._state):
            return
        for row in range(self._known, len(self._state)):
            skill = self._state.skill(row)
            self._rows.setdefault(identity(skill.granularity, skill.text, skill.task_text, skill.observation), row)
            if skill.granularity == "task":
                self._patterns.setdefault(skill.task_text, []).append(row)
            else:
                self._starts.setdefault(skill.observation, {}).setdefault(skill.task_text, []).append(row)
        self._known = len(self._state)
        self._fitting.clear()


def identity(granularity: Granularity, text: SkillText, task_text: str, observation: str) -> Identity:
    """Returns the key that tells pieces of knowledge apart: of a procedure its acts, of a situation `place_key`.

    Args:
        granularity: Task or step.
        text: What the skill says.
        task_text: Its pattern, or the thing that is sought.
        observation: The first observation, "" for any.
    """
    return granularity, task_text, observation, text.principle if granularity == "task" else place_key(text)


def _order(skill: Skill) -> tuple[int, float, int, bool, int]:
    """Returns a sort key: the pattern that says most first, then the skill that most evidence speaks for."""
    return -skill.task_text.count(REST), *by_evidence(skill), not skill.observation, len(skill.text.principle)
