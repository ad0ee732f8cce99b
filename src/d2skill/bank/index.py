"""Index of a bank's key vectors, for retrieval and for the search of duplicates.

A step key has two parts, and its vector is the normalised sum of their unit vectors: in one concatenated
text a room listing of 60 words would drown a task of 8. With the parts weighed equally, on ALFWorld, keys of
the same room are 0.55 alike for different objects and 0.70 for the same (medians, benchmarks/gate.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from d2skill.bank import key_graph, ranking
from d2skill.bank.draft import Draft
from d2skill.bank.duplicates import IN_BANK, DraftComparison, Pool
from d2skill.bank.journal import BankState, Change, Event, Insert, Revise, Status
from d2skill.bank.kept_keys import KeptKeys, digests_of
from d2skill.bank.key_graph import DigestOrder, Digests, KeyGraph
from d2skill.bank.ranking import Floats, Integers, Vectors
from d2skill.protocols import Embedder
from d2skill.types import Granularity

_CACHED_TEXTS = 1 << 14  # 32 MB at 512 dimensions
_PORTION = 4096  # skills whose keys are made at a time


@dataclass(slots=True)
class SearchSet:
    """Skills that retrieval chooses from: rows [S], keys [S, d], and values of Eq. 8 and 9 [S], None if outdated.

    In a large set `shown` tells which ones count; None for all. `order` is for an approximate search. `exact` are the
    keys of a small set in float64.
    """

    rows: Integers
    keys: Vectors
    shown: npt.NDArray[np.bool_] | None = None
    order: DigestOrder | None = None
    exact: Floats | None = None
    values: Floats | None = None


class KeyIndex:
    """Key vectors of a bank's skills, computed when they are first needed and kept up to date with its events.

    Args:
        state: State of the bank.
        embedder: Makes the vectors.
        kept: Files with those that were computed before.
        approximate: Search large pools by a graph.
    """

    def __init__(
        self, state: BankState, embedder: Embedder, kept: KeptKeys | None = None, *, approximate: bool = False
    ) -> None:
        self.kept = kept
        self._state = state
        self._embedder = embedder
        self._approximate = approximate
        self._graphs: dict[Granularity, KeyGraph] = {}
        self._digests = np.empty(0, np.uint64)  # by row; 0 where it is not known yet
        self._new: dict[Granularity, int] = {}  # keys that are not in the files
        self._pools: dict[Granularity, Pool] = {}
        self._search_sets: dict[tuple[Granularity, bool], SearchSet] = {}
        self._vectors: dict[str, Vectors] = {}

    def renewed(self) -> KeyIndex:
        """Returns a new index of the same state, with the vectors of texts that this one has made."""
        index = KeyIndex(self._state, self._embedder, self.kept, approximate=self._approximate)
        index._vectors = self._vectors
        return index

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
            shown = self._state.has_status(pool.rows, *statuses)
            if len(shown) < ranking.LARGE and not shown.all():
                made = SearchSet(pool.rows[shown], pool.keys[shown])
            else:
                made = SearchSet(pool.rows, pool.keys, None if shown.all() else shown)
            if self._approximate and len(shown) >= key_graph.GRAPH_FROM:
                digests = self._digests_of(made.rows)
                self._graph(granularity).update(digests, made.keys)
                places = np.arange(len(made.rows)) if made.shown is None else np.flatnonzero(shown)
                made.order = DigestOrder.of(digests, places)
                self.keep()
            if len(made.rows) <= ranking.WHOLE:
                made.exact = made.keys.astype(np.float64)
            self._search_sets[granularity, trial] = made
        return self._search_sets[granularity, trial]

    def near(
        self, granularity: Granularity, candidates: SearchSet, queries: Vectors, count: int, gate: float
    ) -> Integers | None:
        """Returns places [Q, n] among which the most similar ones are, as far as the graph finds them; -1 for none.

        Queries for which it finds too few are compared with all keys. Returns None where no graph is used.

        Args:
            granularity: Granularity of the candidates.
            candidates: The skills to choose from.
            queries: Vectors [Q, d].
            count: Number of most similar ones that are wanted.
            gate: Least cosine of an exact comparison.
        """
        if candidates.order is None:
            return None
        near = self._graph(granularity).near(queries, candidates.order, count)
        few = np.flatnonzero((near >= 0).sum(axis=1) < min(count, len(candidates.order.places)))
        if len(few):
            near[few, :count] = ranking.nearest(queries[few], candidates.keys, gate, count, candidates.shown)
        return near

    def recall(self, granularity: Granularity, count: int, gate: float, sample: int) -> float | None:
        """Returns the share of the most similar skills that the graph finds; None where no graph is used.

        Args:
            granularity: Granularity of the skills.
            count: Number of most similar ones that are wanted.
            gate: Least cosine of those that are wanted.
            sample: Number of skills whose keys are the queries; each is left out of its own answer.
        """
        candidates = self.search_set(granularity)
        if candidates.order is None:
            return None
        places = candidates.order.places
        queries = candidates.keys[places[np.linspace(0, len(places) - 1, sample).astype(int)]]
        near = self.near(granularity, candidates, queries, count + 1, gate)
        assert near is not None
        return ranking.recall(queries, candidates.keys, near, gate=gate, candidates=count + 1, shown=candidates.shown)

    def take_over(self, other: KeyIndex, rows: Integers) -> None:
        """Takes the keys of another index: of its state's active rows, which are the rows of this one, in order."""
        for granularity in get_args(Granularity):
            found = other.search_set(granularity)
            shown = slice(None) if found.shown is None else found.shown
            own = np.searchsorted(rows, found.rows[shown])
            self._pools[granularity] = Pool(self._state, own, found.keys[shown], self.embed)
            self._new[granularity] = len(own)

    def _graph(self, granularity: Granularity) -> KeyGraph:
        if granularity not in self._graphs:
            file = self.kept.file(granularity, "graph") if self.kept else None
            self._graphs[granularity] = KeyGraph(file, self._embedder.fingerprint, self._embedder.dimension)
        return self._graphs[granularity]

    def _digests_of(self, rows: Integers) -> Digests:
        """Returns the digests of the keys of some rows."""
        self._digests = np.concatenate([self._digests, np.zeros(len(self._state) - len(self._digests), np.uint64)])
        new = rows[self._digests[rows] == 0]
        self._digests[new] = digests_of(self._state.keys(new))
        return self._digests[rows]

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
            self._pools[granularity] = Pool(self._state, *self._rows_and_keys(granularity), self.embed)
            self.keep()
        return self._pools[granularity]

    def keep(self) -> None:
        """Writes keys and graphs to the files, if many are new."""
        for granularity, pool in self._pools.items():
            if self.kept and self.kept.write(granularity, self._state, pool.rows, pool.keys, self._new[granularity]):
                self._new[granularity] = 0
        for granularity, graph in self._graphs.items():
            if self.kept and self.kept.head:
                graph.write(self.kept.file(granularity, "graph"))

    def _rows_and_keys(self, granularity: Granularity) -> tuple[Integers, Vectors]:
        """Returns the rows [S] and keys [S, d] of the skills in the bank; only keys that are not kept are made."""
        rows = self._state.rows(granularity, *IN_BANK)
        known_rows, known_keys = np.empty(0, np.int64), np.empty((0, self._embedder.dimension), np.float32)
        if self.kept and (kept := self.kept.read(granularity, self._state)):
            known_rows, known_keys = kept
        known = np.isin(rows, known_rows)
        self._new[granularity] = int((~known).sum())
        if known.all() and (len(known_rows) == len(rows) or ranking.LARGE <= len(known_rows) < 4 / 3 * len(rows)):
            return known_rows, known_keys
        keys = np.empty((len(rows), known_keys.shape[1]), np.float32)
        for start in range(0, len(rows), _PORTION):
            part = slice(start, start + _PORTION)
            here, new = known[part], rows[part][~known[part]]
            keys[part][here] = known_keys[np.searchsorted(known_rows, rows[part][here])]
            if len(new):
                keys[part][~here] = self.keys(granularity, self._state.keys(new))
        return rows, keys

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

        A change of status drops the skills that left the bank; if one comes back, its pool is built anew.
        """
        if isinstance(event, Revise):
            for pool in self._pools.values():
                pool.forget_contents()
        if not isinstance(event, (Change, Insert)):
            for search_set in self._search_sets.values():
                search_set.values = None
            return
        self._search_sets.clear()
        if isinstance(event, Insert):
            for granularity in self._pools:
                self._new[granularity] += sum(skill.granularity == granularity for skill in event.skills)
        else:
            for granularity, pool in list(self._pools.items()):
                if len(self._state.rows(granularity, *IN_BANK)) > int(pool.in_bank().sum()):
                    del self._pools[granularity]
                else:
                    pool.drop_gone()

    def add_missing(self) -> None:
        """Adds the skills that the state has from another bank's events, and that never were drafts here."""
        for granularity, pool in self._pools.items():
            last = int(pool.rows[-1]) if len(pool.rows) else -1
            rows = self._state.rows(granularity, *IN_BANK)
            new = rows[rows > last]
            for row, key in zip(new.tolist(), self.keys(granularity, self._state.keys(new)), strict=True):
                pool.add(row, key)
