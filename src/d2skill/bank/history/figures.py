"""A bank in numbers, and its journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from d2skill.bank.journal import BankState, Journal, Mark, Rewind, file
from d2skill.bank.journal.view import View
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
    with file.explained(journal.path), closing(file.connect_to_read(journal.path)) as connection:
        snapshots = len(View(journal.path, connection).snapshots(BankState.name))
    size = sum(path.stat().st_size for path in (journal.path, file.beside(journal.path, "-wal")) if path.exists())
    return Recorded(end, end - counted - rewinds, rewinds, snapshots, size)
