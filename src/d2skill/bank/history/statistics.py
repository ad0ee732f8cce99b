"""A bank in numbers, and its journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from d2skill.bank.journal import BankState, Credit, Journal, Mark, Rewind, sqlite_file
from d2skill.bank.journal.view import View
from d2skill.bank.safety import objection
from d2skill.types import Granularity, Skill

Quantiles = tuple[float, float, float, float, float]
"""Lowest, lower quartile, median, upper quartile, highest."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """One pool in numbers: how many skills have which status, and quantiles of the active ones."""

    statuses: Mapping[str, int] = field(default_factory=dict)
    utility: Quantiles | None = None
    credits: Quantiles | None = None
    retrievals: Quantiles | None = None
    age: Quantiles | None = None
    above: int = 0
    below: int = 0
    never_shown: int = 0
    never_credited: int = 0

    @property
    def active(self) -> int:
        """Number of active skills."""
        return self.statuses.get("active", 0)


@dataclass(frozen=True, slots=True)
class Statistics:
    """A bank in numbers; `evidence` are the tasks that most of its active skills were written from."""

    pools: Mapping[Granularity, PoolStatistics]
    evidence: tuple[tuple[str, int], ...]
    tasks: int


def statistics(state: BankState, iteration: int, *, tasks: int = 5) -> Statistics:
    """Returns a bank in numbers, as it is after an iteration."""
    skills = state.skills()
    evidence = Counter(skill.evidence for skill in skills if skill.id not in state.marks and skill.evidence)
    pools: dict[Granularity, PoolStatistics] = {
        kind: _pool([skill for skill in skills if skill.granularity == kind], state.marks, iteration)
        for kind in ("task", "step")
    }
    return Statistics(pools, tuple(evidence.most_common(tasks)), len(evidence))


def _pool(skills: Sequence[Skill], marks: Mapping[str, Mark], iteration: int) -> PoolStatistics:
    active = [skill for skill in skills if skill.id not in marks]
    statuses: Counter[str] = Counter(marks[skill.id].status if skill.id in marks else "active" for skill in skills)
    if not active:
        return PoolStatistics(statuses)
    return PoolStatistics(
        statuses=statuses,
        utility=_quantiles([skill.utility for skill in active]),
        credits=_quantiles([skill.credits for skill in active]),
        retrievals=_quantiles([skill.retrievals for skill in active]),
        age=_quantiles([iteration - skill.created for skill in active]),
        above=sum(skill.utility > 0 for skill in active),
        below=sum(skill.utility < 0 for skill in active),
        never_shown=sum(not skill.retrievals for skill in active),
        never_credited=sum(not skill.credits for skill in active),
    )


def _quantiles(values: Sequence[float]) -> Quantiles:
    low, lower, median, upper, high = np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0)).tolist()
    return low, lower, median, upper, high


def undone(journal: Journal, to: int) -> tuple[int, int]:
    """Returns how many events would no longer count if the journal went back to event `to`, and how many again.

    Raises `BankError` if there is no such event.
    """
    after = {number for number, _ in journal.events(seq=to)}
    before = {number for number, _ in journal.events()}
    return len(before - after), len(after - before)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A journal as a file: its events, those of them that do not count for a rewind, and its size."""

    events: int
    undone: int
    rewinds: int
    snapshots: int
    bytes: int


def recorded(journal: Journal) -> Recorded:
    """Returns what a journal consists of."""
    end = journal.head().seq
    counted = sum(1 for _ in journal.events(seq=end))
    rewinds = sum(isinstance(event, Rewind) for number, event in journal.events(rewound=True) if number <= end)
    with sqlite_file.explained(journal.path), closing(sqlite_file.connect_to_read(journal.path)) as connection:
        snapshots = len(View(journal.path, connection).snapshots(BankState.name))
    size = sum(
        path.stat().st_size for path in (journal.path, sqlite_file.beside(journal.path, "-wal")) if path.exists()
    )
    return Recorded(end, end - counted - rewinds, rewinds, snapshots, size)


@dataclass(frozen=True, slots=True)
class Audit:
    """Tasks with the ids of the skills that were written from failures in them, and that got signals there.

    Of skills that came from another bank, the tasks of their signals are on record, but not which skill got which.
    """

    written: Mapping[str, tuple[str, ...]]
    credited: Mapping[str, tuple[str, ...]]

    def seen(self, panel: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Returns those of some tasks that skills were written from or credited in, with the skills, by id."""
        tasks = sorted((self.written.keys() | self.credited.keys()) & {*panel})
        return {task: _both(self.written.get(task, ()), self.credited.get(task, ())) for task in tasks}


def audit(journal: Journal) -> Audit:
    """Returns which tasks the skills of a journal have seen, whatever became of the skills."""
    end = journal.head().seq
    state = journal.replay(BankState(), seq=end)
    written: dict[str, dict[str, None]] = {}
    credited: dict[str, dict[str, None]] = {task: {} for task in sorted(state.seen)}
    for skill in state.skills():
        for task in filter(None, (skill.evidence, *state.again.get(skill.id, ()))):
            written.setdefault(task, {})[skill.id] = None
    for _, event in journal.events(seq=end):
        if isinstance(event, Credit):
            tasks = [source.rpartition("#")[0] or source for source in event.sources]
            for skill_id, places in event.by.items():
                for place in places:
                    credited.setdefault(tasks[place], {})[skill_id] = None
    return Audit(*({task: tuple(ids) for task, ids in found.items()} for found in (written, credited)))


def objections(state: BankState) -> list[tuple[Skill, str]]:
    """Returns the skills whose text no bank takes, and why; those that are held back need none, as nobody sees them.

    For a skill that somebody admitted although it was held back, it is enough that its text is clean.
    """
    found = []
    for skill in state.skills():
        mark = state.marks.get(skill.id)
        if mark and mark.status == "held":
            continue
        if why := objection(skill.text, vouched=skill.id in state.vouched):
            found.append((skill, why))
    return found


def _both(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
