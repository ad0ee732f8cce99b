"""Evidence: what the groups of an iteration show, as drafts with the source tasks that support and refute them.

All trajectories count, of both halves, won or lost. A source task counts once, however many of its members agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from d2skill.knowledge.choices import acts_by_choices, choice_steps
from d2skill.knowledge.patterns import REST, bindings, filled
from d2skill.knowledge.procedures import (
    Procedure,
    acts_in,
    completed_at,
    is_part,
    procedure_of,
    sentence,
)
from d2skill.knowledge.situations import (
    Found,
    Sight,
    Way,
    exchanged,
    general_text,
    kind_of,
    leading_verbs,
    looked_at,
    place_key,
    sights,
    skill_text,
)
from d2skill.types import Granularity, Group, Skill, SkillText, Trajectory
from d2skill.utils.text import action_words, content


def standing(supports: int, refutes: int) -> float:
    """Returns how far evidence speaks for a skill, 0 to 1: the share of supports, with a prior of one in four."""
    return (supports + 0.5) / (supports + refutes + 2.0)


def standing_of(skill: Skill) -> float:
    """Returns the standing of a skill."""
    return standing(skill.supports, skill.refutes)


def by_evidence(skill: Skill) -> tuple[float, int]:
    """Returns a sort key that puts the skill first that most evidence speaks for."""
    return -standing_of(skill), -skill.supports


@dataclass(slots=True)
class Evidence:
    """A skill that trajectories speak for or against: its text and key, and the source tasks."""

    granularity: Granularity
    text: SkillText
    task_text: str
    observation: str = ""
    supports: set[str] = field(default_factory=set)
    refutes: set[str] = field(default_factory=set)


class KnownSkills(Protocol):
    """A source of the skills that a bank has about a task or a start."""

    def procedures(self, task_text: str) -> Sequence[Skill]:
        """Returns the procedures whose pattern fits a task; their texts have slots."""

    def situations(self, observation: str) -> Sequence[Skill]:
        """Returns the step skills of all things for a first observation."""

    def verbs(self) -> Collection[str]:
        """Returns the verbs that procedures use."""


def gather(groups: Sequence[Group], known: KnownSkills) -> list[Evidence]:
    """Returns the evidence of some groups, in an order that does not depend on theirs."""
    ordered = sorted(groups, key=lambda group: group.task.id)
    procedures = _Procedures(ordered, known)
    verbs = {*known.verbs(), *procedures.verbs()}
    return [*procedures.evidence(), *_situations(ordered, known, verbs)]


class _Procedures:
    """Procedures that successes of some groups show, counted in all groups."""

    def __init__(self, groups: Sequence[Group], known: KnownSkills) -> None:
        self._groups = groups
        self._known = known
        self._new: dict[tuple[str, str], Evidence] = {}
        for group in groups:
            if procedure := _shortest(group):
                self._add(group, procedure)

    def verbs(self) -> set[str]:
        """Returns the verbs of new procedures."""
        return {act.verb for one in self._new.values() for act in acts_in(one.text.principle)}

    def evidence(self) -> list[Evidence]:
        """Returns the procedures with the tasks that support and refute them."""
        found: dict[tuple[str, str], Evidence] = {}
        for group in self._groups:
            chosen = _chosen(group)
            for one in self._about(group.task.text):
                acts = acts_in(filled(one.text.principle, bindings(one.task_text, group.task.text) or {}))
                for success in () if acts else chosen.get((one.task_text, one.text.principle), ()):
                    one = found.setdefault((one.task_text, one.text.principle), one)
                    (one.supports if success else one.refutes).add(group.task.id)
                for trajectory in group.trajectories if acts else ():
                    at = completed_at(acts, trajectory)
                    if at is None:
                        continue
                    one = found.setdefault((one.task_text, one.text.principle), one)
                    right = trajectory.success and at == len(trajectory.turns) - 1
                    (one.supports if right else one.refutes).add(group.task.id)
        return [one for one in found.values() if one.supports or one.refutes]

    def _about(self, task_text: str) -> list[Evidence]:
        """Returns the procedures for a task, those of the bank first."""
        old = [Evidence("task", skill.text, skill.task_text) for skill in self._known.procedures(task_text)]
        keys = {(one.task_text, one.text.principle) for one in old}
        new = [one for key, one in self._new.items() if key not in keys and bindings(key[0], task_text) is not None]
        return old + new

    def _add(self, group: Group, procedure: Procedure) -> None:
        principle = sentence(procedure.steps)
        acts = acts_in(principle)
        for skill in self._known.procedures(group.task.text):
            better = standing_of(skill) >= _TRUSTED
            shorter = acts_in(skill.text.principle)
            if shorter and skill.task_text == procedure.pattern and better and is_part(shorter, acts):
                return
        title = procedure.pattern.replace(REST, "...")
        text = SkillText(title, principle, f"the task is to {title}")
        self._new.setdefault((procedure.pattern, principle), Evidence("task", text, procedure.pattern))


_TRUSTED = 0.5
"""Standing from which on a shorter procedure makes a longer one with the same acts needless"""


def _procedure_in(trajectory: Trajectory) -> Procedure | None:
    return procedure_of(trajectory) if trajectory.success and trajectory.turns else None


def _chosen(group: Group) -> dict[tuple[str, str], set[bool]]:
    """Returns the patterns and principles that trajectories of choices followed, and whether with success."""
    chosen: dict[tuple[str, str], set[bool]] = {}
    for trajectory in group.trajectories:
        if acts_by_choices(trajectory):
            pattern, steps = choice_steps(trajectory)
            chosen.setdefault((pattern, sentence(steps)), set()).add(trajectory.success)
    return chosen


def _shortest(group: Group) -> Procedure | None:
    """Returns the procedure of the success of a group that has the fewest steps."""
    found = [one for t in group.trajectories if (one := _procedure_in(t))]
    return min(found, key=lambda one: (len(one.steps), one.steps, one.pattern), default=None)


def _situations(groups: Sequence[Group], known: KnownSkills, verbs: Collection[str]) -> Iterable[Evidence]:
    """Returns the situations that some groups met, and those of the bank that they contradict."""
    collected = _Situations()
    for group in groups:
        started = [t for t in group.trajectories if t.turns]
        if not started or any(map(acts_by_choices, started)):
            continue
        start = started[0].turns[0].prompt.observation
        seen: dict[Found, Sight] = {}
        for trajectory in started:
            for found, sight in sights(trajectory, verbs).items():
                seen[found] = min(seen.get(found, sight), sight, key=lambda one: (len(one.way), one))
        for found, sight in sorted(seen.items()):
            collected.add(found.thing, start, skill_text(found, sight)).supports.add(group.task.id)
        skills = known.situations(start)
        looked = [_played_untouched(trajectory) for trajectory in started]
        for skill in skills:
            way = Way.of(skill)
            if way and any(way.is_refuted(played, seen, skill.task_text) for played in looked):
                collected.add(skill.task_text, start, skill.text).refutes.add(group.task.id)
        _general(group, started, seen, skills, known, collected)
    return collected.values()


def _general(
    group: Group,
    started: Sequence[Trajectory],
    seen: dict[Found, Sight],
    skills: Sequence[Skill],
    known: KnownSkills,
    collected: _Situations,
) -> None:
    """Counts types of places for the things that the task of a group names: each place that was looked at once."""
    steps = leading_verbs(seen.items(), skills)
    looked = sorted(set[str]().union(*(looked_at(trajectory, steps) for trajectory in started)))
    wanted = content(group.task.text)
    here = {(found.thing, found.place): (found, sight) for found, sight in seen.items() if found.thing in wanted}
    general = {skill.text.title: skill for skill in known.situations("") if skill.task_text in wanted}
    for (thing, _), (found, sight) in sorted(here.items()):
        collected.add(thing, "", general_text(found, sight)).supports.add(f"{group.task.id}#{found.place}")
    titles = {(one.task_text, one.text.title.rpartition(" ")[2]): one.text for one in general.values()}
    titles |= {(found.thing, kind_of(found.place)): general_text(found, sight) for found, sight in here.values()}
    for place in looked:
        for (thing, kind), text in titles.items():
            if kind == kind_of(place) and (thing, place) not in here:
                collected.add(thing, "", text).refutes.add(f"{group.task.id}#{place}")


class _Situations(dict[tuple[str, str, str], Evidence]):
    """Evidence for situations by thing, start, and title with the verb of the act."""

    def add(self, thing: str, start: str, text: SkillText) -> Evidence:
        """Returns the evidence for a situation, which may be new."""
        return self.setdefault((thing, start, place_key(text)), Evidence("step", text, thing, start))


def _played_untouched(trajectory: Trajectory) -> set[str]:
    """Returns the actions before the first act on two things: with a thing in hand, others cannot be taken."""
    played = set()
    for turn in trajectory.turns:
        if turn.admissible:
            if len(action_words(turn.decision.action).entities) > 1:
                break
            played.add(turn.decision.action.lower())
    return played


def evidence_of(success: Trajectory) -> list[Evidence]:
    """Returns the evidence of one successful trajectory."""
    return gather([Group(success.task, (success,))], NOTHING_KNOWN)


def misleading(success: Trajectory, other: Trajectory) -> list[Evidence]:
    """Returns the places that a success of another game shows, as if they were those of this game's things.

    They have more supports than what one trajectory shows by itself.
    """
    own, theirs = procedure_of(success), procedure_of(other)
    if own is None or theirs is None:
        return []
    words = dict(bindings(own.pattern, success.task.text) or {})
    renamed = {
        word: words[slot] for slot, word in (bindings(theirs.pattern, other.task.text) or {}).items() if slot in words
    }
    start = success.turns[0].prompt.observation
    wrong = []
    for one in evidence_of(other):
        if one.granularity == "step" and one.observation and one.task_text in renamed:
            thing, text = renamed[one.task_text], one.text
            sources = {f"{other.task.id}#{n}" for n in range(3)}
            wrong.append(Evidence("step", exchanged(text, one.task_text, thing), thing, start, supports=sources))
    return wrong


class _Nothing:
    """See `NOTHING_KNOWN`."""

    def procedures(self, task_text: str) -> Sequence[Skill]:
        return ()

    def situations(self, observation: str) -> Sequence[Skill]:
        return ()

    def verbs(self) -> Collection[str]:
        return ()


NOTHING_KNOWN = _Nothing()
"""A `KnownSkills` without skills"""
