"""Index of a bank's key vectors, for retrieval and for the search of duplicates.

A step key has two parts, and its vector is the normalised sum of their unit vectors: in one concatenated
text a room listing of 60 words would drown a task of 8. With the parts weighed equally, on ALFWorld, keys of
the same room are 0.55 alike for different objects and 0.70 for the same (medians, benchmarks/gate.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from d2skill.bank.draft import Draft
from d2skill.bank.duplicates import DraftComparison, Pool
from d2skill.bank.journal import GONE, BankState, Change, Event, Insert, Status
from d2skill.bank.ranking import Floats, Integers, Vectors
from d2skill.protocols import Embedder
from d2skill.types import Granularity

_CACHED_TEXTS = 1 << 14  # 32 MB at 512 dimensions


@dataclass(slots=True)
class SearchSet:
    """Skills that retrieval chooses from: rows [S], keys [S, d], and values of Eq. 8 and 9 [S], None if outdated."""

    rows: Integers
    keys: Vectors
    values: Floats | None = None


class KeyIndex:
    """Key vectors of a bank's skills, computed when they are first needed and kept up to date with its events."""

    def __init__(self, state: BankState, embedder: Embedder) -> None:
        self._state = state
        self._embedder = embedder
        self._pools: dict[Granularity, Pool] = {}
        self._search_sets: dict[tuple[Granularity, bool], SearchSet] = {}
        self._vectors: dict[str, Vectors] = {}

    def encode_task(self, text: str) -> Vectors:
        """Returns the vector [d] of a task text, as key of a task skill or as query."""
        vector = self._vectors.get(text)
        return self.embed([text])[0] if vector is None else vector

    def encode_step(self, task_text: str, observation: str) -> Vectors:
        """Returns the vector [d] of a task and an observation, weighed equally, as key or as query."""
        both = self.encode_task(task_text) + self.encode_task(observation)
        length = float(np.sqrt(both @ both))
        return both / np.float32(length) if length > 0.0 else both

    def search_set(self, granularity: Granularity, trial: bool = False) -> SearchSet:
        """Returns the skills that retrieval chooses from: the active ones, with `trial` those on trial as well."""
        if (granularity, trial) not in self._search_sets:
            pool = self.pool(granularity)
            statuses: tuple[Status, ...] = ("active", "trial") if trial else ("active",)
            rows = self._state.rows(granularity, *statuses)
            places = np.flatnonzero(np.isin(pool.rows, rows))
            keys = pool.keys if len(places) == len(pool.rows) else pool.keys[places]
            self._search_sets[granularity, trial] = SearchSet(rows, keys)
        return self._search_sets[granularity, trial]

    def compare(self, drafts: Sequence[Draft], least: float) -> list[tuple[DraftComparison, int]]:
        """Returns, for each draft, the comparison of its granularity and the draft's number in it."""
        parts: dict[Granularity, Iterator[tuple[DraftComparison, int]]] = {}
        for granularity in dict.fromkeys(draft.granularity for draft in drafts):
            part = [draft for draft in drafts if draft.granularity == granularity]
            keys = self.keys(granularity, [(draft.task_text, draft.observation) for draft in part])
            comparison = DraftComparison(self.pool(granularity), part, keys, least)
            parts[granularity] = iter([(comparison, number) for number in range(len(part))])
        return [next(parts[draft.granularity]) for draft in drafts]

    def pool(self, granularity: Granularity) -> Pool:
        """Returns the skills of a granularity that are in the bank, those on trial or held among them."""
        if granularity not in self._pools:
            rows = self._state.rows(granularity, "active", "trial", "held")
            keys = np.array(self.keys(granularity, self._state.keys(rows)), dtype=np.float32)
            self._pools[granularity] = Pool(rows, keys, self._state.skill, self.embed)
        return self._pools[granularity]

    def keys(self, granularity: Granularity, texts: Sequence[tuple[str, str]]) -> list[Vectors]:
        """Returns the vectors of keys (task, observation), embedding all texts at once."""
        if granularity == "task":
            return self.embed([task for task, _ in texts])
        self.embed([text for pair in texts for text in pair])
        return [self.encode_step(*pair) for pair in texts]

    def embed(self, texts: Sequence[str]) -> list[Vectors]:
        """Returns the vectors of texts, embedding new ones in one batch; the same observations recur many times."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if missing:
            if len(self._vectors) + len(missing) > _CACHED_TEXTS:
                self._vectors = {text: self._vectors[text] for text in texts if text in self._vectors}
            self._vectors.update(zip(missing, self._embedder.embed(missing), strict=True))
        return [self._vectors[text] for text in texts]

    def update(self, event: Event) -> None:
        """Updates the index after an event that the state has applied; new skills are already in their pools.

        A change of status drops the skills that left the bank; if one comes back, all pools are built anew.
        """
        if not isinstance(event, (Change, Insert)):
            for search_set in self._search_sets.values():
                search_set.values = None
            return
        self._search_sets.clear()
        if isinstance(event, Change):
            rows = self._state.find(event.ids).tolist()
            if event.status in GONE:
                for pool in self._pools.values():
                    pool.drop(rows)
            elif not {*rows} <= {row for pool in self._pools.values() for row in pool.rows.tolist()}:
                self._pools.clear()

    def add_missing(self) -> None:
        """Adds the skills that the state has from another bank's events, and that never were drafts here."""
        for granularity, pool in self._pools.items():
            last = int(pool.rows[-1]) if len(pool.rows) else -1
            rows = self._state.rows(granularity, "active", "trial", "held")
            new = rows[rows > last]
            for row, key in zip(new.tolist(), self.keys(granularity, self._state.keys(new)), strict=True):
                pool.add(row, key, self._state.skill(row))
