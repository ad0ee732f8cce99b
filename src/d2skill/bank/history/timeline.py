"""Timeline of a skill: what each event of a journal changed for it, and the episodes in which it was shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from d2skill.bank.journal import (
    GONE,
    Change,
    Credit,
    Event,
    Insert,
    Journal,
    Mark,
    Note,
    Probe,
    Refute,
    Repeat,
    Retrieve,
    Revise,
    Rewind,
    Support,
    Tally,
)
from d2skill.bank.worth import Worth
from d2skill.credit import credited_utilities
from d2skill.errors import BankError
from d2skill.runs.trajectories import Saved
from d2skill.types import Skill, SkillText


@dataclass(frozen=True, slots=True)
class Inserted:
    """The skill entered the bank with these values.

    `failure` and `success` are the members of its task's group that it was written from. A skill from another bank may
    bring its `worth` and its evidence along, and if it is not active a `mark`.
    """

    skill: Skill
    origin: Mapping[str, str]
    failure: int | None = None
    success: int | None = None
    worth: Worth | None = None
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class Supported:
    """Trajectories of these tasks showed that the skill is right."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refuted:
    """Trajectories of these tasks contradicted the skill."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Revised:
    """The skill got another text."""

    before: SkillText
    after: SkillText


@dataclass(frozen=True, slots=True)
class Repeated:
    """Drafts from failures in these tasks said the same as the skill."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """The skill was shown in so many prompts that the policy acted on."""

    times: int


@dataclass(frozen=True, slots=True)
class Credited:
    """Signals moved the skill's utility (Eq. 3); `sources` are where they came from, if the journal has it."""

    signals: tuple[float, ...]
    before: float
    after: float
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probed:
    """The skill was left out of `decisions` prompts, and in `changes` of them the greedy action was another one."""

    decisions: int
    changes: int


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The skill got another status; `into` is the skill that it was merged into."""

    status: str
    reason: str
    into: str


@dataclass(frozen=True, slots=True)
class MergedIn:
    """Other skills were merged into this one."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MergeUndone:
    """Skills that had been merged into this one got another status."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Noted:
    """A person put a note about the skill on record."""

    text: str


@dataclass(frozen=True, slots=True)
class Rewound:
    """The events after event `to` were undone, or count again if an earlier undo was itself undone."""

    to: int


_Evidence = Supported | Refuted | Revised
_Status = StatusChanged | MergedIn | MergeUndone
SkillChange = Inserted | _Evidence | Repeated | Shown | Credited | Probed | _Status | Noted | Rewound
_C = TypeVar("_C", bound=SkillChange)
_E = TypeVar("_E")


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """The change that event `number` made to one skill; `undone` is True if it no longer counts."""

    number: int
    iteration: int
    change: SkillChange
    undone: bool = False


class TracedSignal(NamedTuple):
    """A signal of a skill with its iteration, and its task and member, as far as the journal has them.

    A signal without a member is from the whole group of the task.
    """

    iteration: int
    value: float
    task: str = ""
    member: int | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """All changes of a skill, oldest first, and the skill after them."""

    skill: Skill
    entries: tuple[TimelineEntry, ...]

    def changes(self, kind: type[_C]) -> list[tuple[int, _C]]:
        """Returns the changes of a kind that count, in order, each with its iteration."""
        return [(e.iteration, e.change) for e in self.entries if isinstance(e.change, kind) and not e.undone]

    def signals(self) -> list[TracedSignal]:
        """Returns all signals that count, in order."""
        return [
            TracedSignal(iteration, value, *_task_and_member(source))
            for iteration, credited in self.changes(Credited)
            for value, source in zip(credited.signals, credited.sources or [""] * len(credited.signals), strict=False)
        ]


class _SkillState(NamedTuple):
    """A skill after an event, the ids of the skills that are merged into it then, and the sources of its evidence."""

    skill: Skill
    merged: frozenset[str] = frozenset()
    supports: frozenset[str] = frozenset()
    refutes: frozenset[str] = frozenset()


def skill_timeline(journal: Journal, skill_id: str, *, at: int | None = None, rewound: bool = False) -> Timeline:
    """Returns the timeline of a skill.

    Args:
        journal: Journal of the bank.
        skill_id: Id of the skill.
        at: Last iteration; without it, all. It has no effect with `rewound`.
        rewound: Adds the changes that a rewind undid.

    Raises:
        BankError: If the skill is not in the bank, and with `rewound` if it never was.
    """
    end = journal.head().seq
    if not rewound:
        states, entries = _follow(journal.events(seq=end, at=at), skill_id)
    else:
        live = {number for number, _ in journal.events(seq=end)}
        past = ((number, event) for number, event in journal.events(rewound=True) if number <= end)
        states, entries = _follow(past, skill_id)
        entries = [replace(e, undone=not (isinstance(e.change, Rewound) or e.number in live)) for e in entries]
    last = next((state for _, state in reversed(states) if state), None)
    if last is None:
        hint = "" if rewound else ": `d2skill bank list --status all` lists all, --rewound finds undone ones as well"
        raise BankError(f"there is no skill {skill_id!r} in {journal.path}{hint}")
    return Timeline(last.skill, tuple(entries))


def _follow(
    past: Iterable[tuple[int, Event]], skill_id: str
) -> tuple[list[tuple[int, _SkillState | None]], list[TimelineEntry]]:
    """Returns the states of a skill after each event that changed it, with the event's number, and the changes."""
    states: list[tuple[int, _SkillState | None]] = [(0, None)]
    entries: list[TimelineEntry] = []
    for number, event in past:
        state = states[-1][1]
        change: SkillChange | None = None
        if isinstance(event, Rewind):
            if any(entry.number > event.to for entry in entries):
                change, state = Rewound(event.to), next(state for n, state in reversed(states) if n <= event.to)
        elif isinstance(event, Insert):
            for skill in (skill for skill in event.skills if skill.id == skill_id):
                merged = frozenset(id for id, mark in event.marks.items() if mark.into == skill_id)
                tally = event.tallies.get(skill_id, Tally())
                sources = frozenset(tally.supports), frozenset(tally.refutes)
                change, state = _inserted(event, skill), _SkillState(skill, merged, *sources)
        elif state is not None:
            change, state = _change(event, state)
        if change is not None:
            states.append((number, state))
            entries.append(TimelineEntry(number, event.iteration, change))
    return states, entries


def _inserted(event: Insert, skill: Skill) -> Inserted:
    """Returns the insertion of a skill, with the members of its task's group that the event's origin names."""
    failure, success = (_member(event.origin, key, skill) for key in ("trajectories", "successes"))
    return Inserted(skill, event.origin, failure, success, event.worth.get(skill.id), event.marks.get(skill.id))


def _change(event: Event, state: _SkillState) -> tuple[SkillChange | None, _SkillState]:
    """Returns the change that an event made to a skill, None for none, and the skill's state after that."""
    skill, merged = state[:2]
    match event:
        case Support(sources) if tasks := sources.get(skill.id):
            supports = state.supports.union(tasks)
            counted = replace(skill, supports=len(supports))
            return Supported(tuple(tasks)), state._replace(skill=counted, supports=supports)
        case Refute(sources) if tasks := sources.get(skill.id):
            refutes = state.refutes.union(tasks)
            counted = replace(skill, refutes=len(refutes))
            return Refuted(tuple(tasks)), state._replace(skill=counted, refutes=refutes)
        case Revise(texts) if text := texts.get(skill.id):
            return Revised(skill.text, text), state._replace(skill=replace(skill, text=text))
        case Repeat(repeats) if tasks := repeats.get(skill.id):
            return Repeated(tuple(tasks)), state
        case Retrieve(counts) if times := counts.get(skill.id):
            return Shown(times), state._replace(skill=replace(skill, retrievals=skill.retrievals + times))
        case Credit(signals, beta) if values := signals.get(skill.id):
            utility = credited_utilities(np.array([skill.utility]), [values], [beta[skill.granularity]]).item()
            origins = tuple(event.sources[n] for n in event.by.get(skill.id, ()))
            credited = replace(skill, utility=utility, credits=skill.credits + len(values))
            return Credited(tuple(values), skill.utility, utility, origins), state._replace(skill=credited)
        case Probe(effects) if pairs := effects.get(skill.id):
            return Probed(len(pairs), sum(changed for _, changed in pairs)), state
        case Change(status, ids) if skill.id in ids:
            skill = replace(skill, evicted=event.iteration if status in GONE else None)
            return StatusChanged(status, event.reason, event.into), state._replace(skill=skill)
        case Change(_, ids) if event.into == skill.id:
            return MergedIn(ids), state._replace(merged=merged | {*ids})
        case Change(_, ids) if undone := tuple(id for id in ids if id in merged):
            return MergeUndone(undone), state._replace(merged=merged - {*undone})
        case Note(noted, text) if noted == skill.id:
            return Noted(text), state
    return None, state


def _member(origin: Mapping[str, str], key: str, skill: Skill) -> int | None:
    """Returns the member of the skill's task that an origin names, as in "train/0012#3"."""
    match = re.search(rf"(?:^| ){re.escape(skill.source_task)}#(\d+)(?= |$)", origin.get(key, ""))
    return int(match[1]) if match else None


def _task_and_member(source: str) -> tuple[str, int | None]:
    """Returns task and member of a source such as "train/0012#3", the task alone of "train/0012#" for a group."""
    task, mark, member = source.rpartition("#")
    if not mark:
        return source, None
    return task, int(member) if member.isdecimal() else None


class EpisodeId(NamedTuple):
    """A training episode: iteration, task id, and member of the group."""

    iteration: int
    task: str
    member: int


@dataclass(frozen=True, slots=True)
class SkillUse(Generic[_E]):
    """Episodes in which a skill was shown, and the result of the same tasks without skills.

    `baseline` is the number of episodes without skills that were won, and of all that were played.
    """

    won: tuple[_E, ...]
    lost: tuple[_E, ...]
    baseline: tuple[int, int]


def skill_use(saved: Sequence[Saved], skill_id: str) -> SkillUse[int]:
    """Returns the numbers, from 1, of the trajectories that were shown a skill, won and lost."""
    shown = [n for n, one in enumerate(saved, start=1) if any(skill_id in turn.skills for turn in one.turns)]
    tasks = {saved[n - 1].task.id for n in shown}
    without = [one.success for one in saved if one.arm == "none" and one.task.id in tasks]
    won, lost = (tuple(n for n in shown if saved[n - 1].success == success) for success in (True, False))
    return SkillUse(won, lost, (sum(without), len(without)))


def training_use(played: Iterable[tuple[int, Sequence[Saved]]], skill_id: str) -> SkillUse[EpisodeId]:
    """Returns the training episodes that were shown a skill, latest first, of iterations and their trajectories."""
    won: list[EpisodeId] = []
    lost: list[EpisodeId] = []
    wins = without = 0
    for iteration, saved in played:
        use = skill_use(saved, skill_id)
        for episodes, numbers in ((won, use.won), (lost, use.lost)):
            episodes += [EpisodeId(iteration, saved[n - 1].task.id, saved[n - 1].index) for n in numbers]
        wins, without = wins + use.baseline[0], without + use.baseline[1]
    for episodes in (won, lost):
        episodes.sort(key=lambda episode: -episode.iteration)
    return SkillUse(tuple(won), tuple(lost), (wins, without))
