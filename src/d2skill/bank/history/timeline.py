"""The story of a skill: what each event of a journal was to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from d2skill.bank.journal import (
    GONE,
    Again,
    Change,
    Credit,
    Event,
    Insert,
    Journal,
    Mark,
    Note,
    Probe,
    Retrieve,
    Rewind,
)
from d2skill.bank.ranking import credited_utility
from d2skill.bank.worth import Worth
from d2skill.errors import BankError
from d2skill.types import Skill


@dataclass(frozen=True, slots=True)
class Written:
    """The skill entered the bank, as it is here.

    `failure` and `success` are the members of its task's group that it was written from. One from another bank may
    bring `evidence` along, and a `mark` that tells why it is not active.
    """

    skill: Skill
    origin: Mapping[str, str]
    failure: int | None = None
    success: int | None = None
    evidence: Worth | None = None
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class Repeated:
    """Drafts from failures in these tasks said the same."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """The skill was put before the policy so many times."""

    times: int


@dataclass(frozen=True, slots=True)
class Credited:
    """The skill's utility was moved by signals (Eq. 3); `sources` are where they are from, if that is on record."""

    signals: tuple[float, ...]
    before: float
    after: float
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probed:
    """The skill was left out of so many prompts, and in `changes` of them the greedy action was another one."""

    decisions: int
    changes: int


@dataclass(frozen=True, slots=True)
class Moved:
    """The skill got another status."""

    status: str
    reason: str
    into: str


@dataclass(frozen=True, slots=True)
class Joined:
    """Other skills were merged into this one."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parted:
    """Skills that had been merged into this one are no longer."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """Somebody noted something about the skill."""

    text: str


@dataclass(frozen=True, slots=True)
class Undid:
    """What happened after event `to` was undone, or counts again if that was itself undone."""

    to: int


What = Written | Repeated | Shown | Credited | Probed | Moved | Joined | Parted | Said | Undid


@dataclass(frozen=True, slots=True)
class Entry:
    """What event `number` was to one skill; `undone` says that it no longer counts."""

    number: int
    iteration: int
    what: What
    undone: bool = False


class Signal(NamedTuple):
    """A signal of a skill: its iteration and value, and the task and member it is from, as far as they are on record.

    Without a member it is from the whole group of the task.
    """

    iteration: int
    value: float
    task: str = ""
    member: int | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """All that happened to a skill, oldest first, and the skill as it is after that."""

    skill: Skill
    entries: tuple[Entry, ...]

    def utilities(self) -> list[tuple[int, float]]:
        """Returns the utility after each credit that counts, with its iteration."""
        return [(e.iteration, e.what.after) for e in self.entries if isinstance(e.what, Credited) and not e.undone]

    def shown(self) -> list[int]:
        """Returns the iterations in which it was put before the policy, as far as they count, in order."""
        return sorted({e.iteration for e in self.entries if isinstance(e.what, Shown) and not e.undone})

    def signals(self) -> list[float]:
        """Returns all signals that count, in order."""
        return [signal.value for signal in self.traced()]

    def traced(self) -> list[Signal]:
        """Returns all signals that count, in order, with where they are from."""
        return [
            Signal(entry.iteration, value, *_place(source))
            for entry in self.entries
            if isinstance(entry.what, Credited) and not entry.undone
            for value, source in zip(
                entry.what.signals, entry.what.sources or ("",) * len(entry.what.signals), strict=False
            )
        ]

    def moved(self) -> Entry | None:
        """Returns the last change of status that counts."""
        return next((e for e in reversed(self.entries) if isinstance(e.what, Moved) and not e.undone), None)


class _Known(NamedTuple):
    """A skill at one moment, and the ids of those that are merged into it then."""

    skill: Skill
    within: frozenset[str] = frozenset()


def story(journal: Journal, skill_id: str, *, at: int | None = None, rewound: bool = False) -> Story:
    """Returns what happened to a skill, up to iteration `at`; `rewound` adds what a rewind undid.

    Raises `BankError` if it is not in the bank, and with `rewound` if it never was.
    """
    end = journal.head().seq
    if not rewound:
        states, entries = _follow(journal.events(seq=end, at=at), skill_id)
    else:
        live = {number for number, _ in journal.events(seq=end)}
        past = ((n, event) for n, event in journal.events(rewound=True) if n <= end)
        states, entries = _follow(past, skill_id)
        entries = [replace(e, undone=not (isinstance(e.what, Undid) or e.number in live)) for e in entries]
    known = next((known for _, known in reversed(states) if known), None)
    if known is None:
        way_out = (
            "" if rewound else ": `d2skill bank list --status all` lists all, --rewound finds what was undone as well"
        )
        raise BankError(f"there is no skill {skill_id!r} in {journal.path}{way_out}")
    return Story(known.skill, tuple(entries))


def _follow(past: Iterable[tuple[int, Event]], skill_id: str) -> tuple[list[tuple[int, _Known | None]], list[Entry]]:
    """Returns the states of a skill after each event that is about it, and these events."""
    states: list[tuple[int, _Known | None]] = [(0, None)]
    entries: list[Entry] = []
    for number, event in past:
        known = states[-1][1]
        if isinstance(event, Rewind):
            if any(entry.number > event.to for entry in entries):
                states.append((number, next(known for n, known in reversed(states) if n <= event.to)))
                entries.append(Entry(number, event.iteration, Undid(event.to)))
        elif isinstance(event, Insert):
            if written := _written(event, skill_id):
                within = frozenset(id for id, mark in event.marks.items() if mark.into == skill_id)
                states.append((number, _Known(written.skill, within)))
                entries.append(Entry(number, event.iteration, written))
        elif known is not None:
            for what, after in _happened(event, known):
                states.append((number, after))
                entries.append(Entry(number, event.iteration, what))
    return states, entries


def _written(event: Insert, skill_id: str) -> Written | None:
    skill = next((skill for skill in event.skills if skill.id == skill_id), None)
    if skill is None:
        return None
    failure, success = (_member(event.origin, key, skill) for key in ("trajectories", "successes"))
    return Written(skill, event.origin, failure, success, event.evidence.get(skill_id), event.marks.get(skill_id))


def _happened(event: Event, known: _Known) -> Iterable[tuple[What, _Known]]:
    """Yields what an event was to a skill, with the skill after that."""
    skill, within = known
    match event:
        case Again(tasks) if again := tasks.get(skill.id):
            yield Repeated(tuple(again)), known
        case Retrieve(counts) if times := counts.get(skill.id):
            yield Shown(times), _Known(replace(skill, retrievals=skill.retrievals + times), within)
        case Credit(signals, beta) if own := signals.get(skill.id):
            utility = credited_utility(skill.utility, own, beta[skill.granularity])
            sources = tuple(event.sources[n] for n in event.by.get(skill.id, ()))
            credited = replace(skill, utility=utility, credits=skill.credits + len(own))
            yield Credited(tuple(own), skill.utility, utility, sources), _Known(credited, within)
        case Probe(effects) if pairs := effects.get(skill.id):
            yield Probed(len(pairs), sum(changed for _, changed in pairs)), known
        case Change():
            yield from _changed(event, known)
        case Note(noted, text) if noted == skill.id:
            yield Said(text), known


def _changed(event: Change, known: _Known) -> Iterable[tuple[What, _Known]]:
    """Yields what a change of status was to a skill: to itself, or to those that are merged into it."""
    skill, within = known
    if skill.id in event.ids:
        skill = replace(skill, evicted=event.iteration if event.status in GONE else None)
        yield Moved(event.status, event.reason, event.into), _Known(skill, within)
    elif event.into == skill.id:
        yield Joined(event.ids), _Known(skill, within | {*event.ids})
    elif gone := tuple(id for id in event.ids if id in within):
        yield Parted(gone), _Known(skill, within - {*gone})


def _member(origin: Mapping[str, str], key: str, skill: Skill) -> int | None:
    """Returns the member of the skill's task that an origin names, as in "train/0012#3"."""
    found = re.search(rf"(?:^| ){re.escape(skill.evidence)}#(\d+)(?= |$)", origin.get(key, ""))
    return int(found[1]) if found else None


def _place(source: str) -> tuple[str, int | None]:
    """Returns task and member of a source such as "train/0012#3", the task alone of "train/0012#" for a group."""
    task, mark, member = source.rpartition("#")
    if not mark:
        return source, None
    return task, int(member) if member.isdecimal() else None
