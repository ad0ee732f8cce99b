"""Statistics of a bank and its journal, the tasks that its skills were learned from, and the check of its texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from d2skill.bank.journal import BankState, Credit, Journal, Mark, Rewind, source_task, sqlite_file
from d2skill.bank.journal.view import View
from d2skill.bank.safety import objection
from d2skill.types import Granularity, Skill

Quantiles = tuple[float, float, float, float, float]
"""Lowest, lower quartile, median, upper quartile, highest."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """Statistics of one pool: the number of skills of each status, and quantiles and counts of the active ones."""

    statuses: Mapping[str, int] = field(default_factory=dict)
    utility: Quantiles | None = None
    credits: Quantiles | None = None
    retrievals: Quantiles | None = None
    age: Quantiles | None = None
    above: int = 0
    below: int = 0
    never_shown: int = 0
    never_credited: int = 0
    with_evidence: int = 0

    @property
    def active(self) -> int:
        """Number of active skills."""
        return self.statuses.get("active", 0)


@dataclass(frozen=True, slots=True)
class BankStatistics:
    """Statistics of a bank; `source_tasks` are the most frequent source tasks of active skills, with their counts."""

    pools: Mapping[Granularity, PoolStatistics]
    source_tasks: tuple[tuple[str, int], ...]
    tasks: int


def bank_statistics(state: BankState, iteration: int, *, tasks: int = 5) -> BankStatistics:
    """Returns the statistics of a bank as it is after an iteration, with so many source tasks."""
    skills = state.skills()
    sources = Counter(skill.source_task for skill in skills if skill.id not in state.marks and skill.source_task)
    pools: dict[Granularity, PoolStatistics] = {
        kind: _pool([skill for skill in skills if skill.granularity == kind], state.marks, iteration)
        for kind in ("task", "step")
    }
    return BankStatistics(pools, tuple(sources.most_common(tasks)), len(sources))


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
        with_evidence=sum(skill.supports + skill.refutes > 0 for skill in active),
    )


def _quantiles(values: Sequence[float]) -> Quantiles:
    low, lower, median, upper, high = np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0)).tolist()
    return low, lower, median, upper, high


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """Numbers of events, of those that a rewind undid, of rewinds and of snapshots, and the size in bytes."""

    events: int
    undone: int
    rewinds: int
    snapshots: int
    bytes: int


def journal_statistics(journal: Journal) -> JournalStatistics:
    """Returns the statistics of a journal's file."""
    end = journal.head().seq
    counted = sum(1 for _ in journal.events(seq=end))
    rewinds = sum(isinstance(event, Rewind) for number, event in journal.events(rewound=True) if number <= end)
    with sqlite_file.explain_errors(journal.path), closing(sqlite_file.connect_to_read(journal.path)) as connection:
        snapshots = len(View(journal.path, connection).snapshots(BankState.name))
    files = journal.path, sqlite_file.beside(journal.path, "-wal")
    size = sum(file.stat().st_size for file in files if file.exists())
    return JournalStatistics(end, end - counted - rewinds, rewinds, snapshots, size)


def count_undone(journal: Journal, to: int) -> tuple[int, int]:
    """Returns how many events would no longer count if the journal went back to event `to`, and how many again.

    Raises `BankError` if there is no such event.
    """
    after = {number for number, _ in journal.events(seq=to)}
    before = {number for number, _ in journal.events()}
    return len(before - after), len(after - before)


@dataclass(frozen=True, slots=True)
class SeenTasks:
    """The ids of skills by the tasks that they were written from, by those of their signals, and of their evidence.

    A skill from another bank brings the tasks of its signals along, but not which skill got which.
    """

    written: Mapping[str, tuple[str, ...]]
    credited: Mapping[str, tuple[str, ...]]
    counted: Mapping[str, tuple[str, ...]]

    def among(self, panel: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Returns those of some tasks that skills have seen, by id, with the ids of the skills."""
        parts = (self.written, self.credited, self.counted)
        seen = sorted({task for part in parts for task in part}.intersection(panel))
        return {task: tuple(dict.fromkeys(id for part in parts for id in part.get(task, ()))) for task in seen}


def seen_tasks(journal: Journal) -> SeenTasks:
    """Returns the tasks that the skills of a journal have seen, of skills of any status."""
    end = journal.head().seq
    state = journal.replay(seq=end)
    written: dict[str, dict[str, None]] = {}
    credited: dict[str, dict[str, None]] = {task: {} for task in sorted(state.credited_tasks)}
    counted: dict[str, dict[str, None]] = {}
    for skill_id, tally in state.tallies.items():
        for task in map(source_task, (*tally.supports, *tally.refutes)):
            counted.setdefault(task, {})[skill_id] = None
    for skill in state.skills():
        for task in filter(None, (skill.source_task, *state.repeats.get(skill.id, ()))):
            written.setdefault(task, {})[skill.id] = None
    for _, event in journal.events(seq=end):
        if isinstance(event, Credit):
            tasks = [source_task(source) for source in event.sources]
            for skill_id, places in event.by.items():
                for place in places:
                    credited.setdefault(tasks[place], {})[skill_id] = None
    return SeenTasks(*({task: tuple(ids) for task, ids in skills.items()} for skills in (written, credited, counted)))


def rejected_texts(state: BankState) -> list[tuple[Skill, str]]:
    """Returns the skills whose text no bank would store, with the reason.

    Held skills are left out, as no policy sees them.
    """
    rejected = []
    for skill in state.skills():
        mark = state.marks.get(skill.id)
        if mark and mark.status == "held":
            continue
        if reason := objection(skill.text):
            rejected.append((skill, reason))
    return rejected
