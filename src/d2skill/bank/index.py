"""What a bank is searched by: vectors of texts, the keys of its skills, and what retrieval chooses from.

A step key has two parts, and its vector is the normalised sum of their unit vectors: in one concatenated
text a room listing of 60 words would drown a task of 8. With the parts weighed equally, on ALFWorld, keys of
the same room are 0.55 alike for different objects and 0.70 for the same (medians, benchmarks/gate.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, repeat

import numpy as np

from d2skill.bank.draft import Draft
from d2skill.bank.duplicates import Newcomers, Pool
from d2skill.bank.journal import GONE, BankState, Change, Event, Insert, Status
from d2skill.bank.ranking import Floats, Integers, Vectors
from d2skill.protocols import Embedder
from d2skill.types import Granularity

_CACHED_TEXTS = 1 << 14  # 32 MB at 512 dimensions


@dataclass(slots=True)
class Choice:
    """What retrieval chooses from: rows of the bank [S], their keys [S, d] and their values of Eq. 8 and 9 [S]."""

    rows: Integers
    keys: Vectors
    values: Floats | None = None


class Index:
    """The keys of a bank's skills, made when they are first asked for and kept up with its events."""

    def __init__(self, state: BankState, embedder: Embedder) -> None:
        self._state = state
        self._embedder = embedder
        self._pools: dict[Granularity, Pool] = {}
        self._choices: dict[tuple[Granularity, bool], Choice] = {}
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

    def choice(self, granularity: Granularity, trial: bool = False) -> Choice:
        """Returns what is retrieved from: the active skills, for a trial those on trial as well."""
        if (granularity, trial) not in self._choices:
            pool = self.pool(granularity)
            wanted: tuple[Status, ...] = ("active", "trial") if trial else ("active",)
            rows = self._state.rows(granularity, *wanted)
            places = np.flatnonzero(np.isin(pool.rows, rows))
            keys = pool.keys if len(places) == len(pool.rows) else pool.keys[places]
            self._choices[granularity, trial] = Choice(rows, keys)
        return self._choices[granularity, trial]

    def newcomers(self, drafts: Sequence[Draft], least: float) -> Iterator[tuple[Newcomers, int, Vectors]]:
        """Yields, for each of some drafts, what holds it against others, its place there, and its key."""
        places: dict[Granularity, Iterator[tuple[Newcomers, int, Vectors]]] = {}
        for granularity in dict.fromkeys(draft.granularity for draft in drafts):
            own = [draft for draft in drafts if draft.granularity == granularity]
            keys = self.keys(granularity, [(draft.task_text, draft.observation) for draft in own])
            among = Newcomers(self.pool(granularity), own, np.stack(keys), least)
            places[granularity] = zip(repeat(among), count(), keys, strict=False)
        for draft in drafts:
            yield next(places[draft.granularity])

    def pool(self, granularity: Granularity) -> Pool:
        """Returns the skills of a granularity that are in the bank, those in quarantine among them."""
        if granularity not in self._pools:
            rows = self._state.rows(granularity, "active", "trial", "held")
            keys = np.array(self.keys(granularity, self._state.keys(rows)), dtype=np.float32)
            self._pools[granularity] = Pool(rows, keys, self._state.skill, self.embed)
        return self._pools[granularity]

    def keys(self, granularity: Granularity, texts: Sequence[tuple[str, str]]) -> list[Vectors]:
        """Returns the vectors of keys, embedding all texts at once."""
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

    def follow(self, event: Event) -> None:
        """Keeps up with an event that the state has taken in."""
        if isinstance(event, Change):
            self._move(event)
        elif isinstance(event, Insert):
            self._choices.clear()
        else:
            for choice in self._choices.values():
                choice.values = None

    def catch_up(self) -> None:
        """Takes in the skills that came by an event alone and not as newcomers."""
        for granularity, pool in self._pools.items():
            last = int(pool.rows[-1]) if len(pool.rows) else -1
            rows = self._state.rows(granularity, "active", "trial", "held")
            new = rows[rows > last]
            for row, key in zip(new.tolist(), self.keys(granularity, self._state.keys(new)), strict=True):
                pool.add(row, key, self._state.skill(row))

    def _move(self, change: Change) -> None:
        """Brings the pools up to date with a change of status; one that somebody comes back to is made anew."""
        self._choices.clear()
        rows = [self._state.row(skill_id) for skill_id in change.ids]
        if change.status in GONE:
            for pool in self._pools.values():
                pool.drop(rows)
        elif not {*rows} <= {row for pool in self._pools.values() for row in pool.rows.tolist()}:
            self._pools.clear()
