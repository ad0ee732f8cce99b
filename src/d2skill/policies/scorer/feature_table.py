"""Feature table of the scorer: each block of features once, and the features of actions as rows of the table.

Blocks recur: an action has the same features of one block in all prompts that agree on what this block is about. So
the table stores the buckets of a block once, and sums of weights and gradients are computed by row before they are
spread over actions. To learn, rows are sorted by their keys, so that sums do not depend on the order in which a process
came to see them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from d2skill.policies.scorer.hashes import Hashes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Buckets = npt.NDArray[np.int32]
_FREE = -1
"""In place of a row in a free slot"""


class FeatureTable:
    """Rows of bucket numbers, each stored under a key of 64 random bits; row 0 is empty and has the key 0.

    Rows are found by hashing with linear probing, for many keys at once.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        """Begins with the empty row; `widths` are the numbers of features of each block of an action."""
        self.size = 1
        self.widths = widths
        self._buckets: Buckets = np.zeros((1, max(widths)), dtype=np.int32)
        self._keys: Hashes = np.zeros(1, dtype=np.uint64)
        self._grow(1024)

    @property
    def buckets(self) -> Buckets:
        """Bucket numbers of all rows, shape [size, widest block], 0 for no feature."""
        return self._buckets[: self.size]

    @property
    def keys(self) -> Hashes:
        """Keys of all rows, shape [size]."""
        return self._keys[: self.size]

    def find(self, keys: Hashes) -> Ints:
        """Returns the row of each key, in the shape of `keys`; -1 where there is none."""
        shape, keys = keys.shape, keys.ravel()
        slots = (keys & np.uint64(len(self._slots) - 1)).view(np.int64)
        rows = self._slots.take(slots)
        others = np.flatnonzero(self._keys.take(rows) != keys)
        while len(others := others[rows[others] != _FREE]):
            slots[others] = slots[others] + 1 & len(self._slots) - 1
            rows[others] = self._slots[slots[others]]
            others = others[self._keys[rows[others]] != keys[others]]
        return rows.reshape(shape)

    def add(self, keys: Hashes, buckets: npt.NDArray[np.integer]) -> None:
        """Adds rows.

        Args:
            keys: New keys, none twice, shape [n].
            buckets: Bucket numbers, shape [n, features].
        """
        end = self.size + len(keys)
        if end > len(self._keys):
            self._grow(max(end, 2 * len(self._keys)))
        self._buckets[self.size : end, : buckets.shape[1]] = buckets
        self._keys[self.size : end] = keys
        self._enter(np.arange(self.size, end))
        self.size = end

    def _grow(self, rows: int) -> None:
        """Makes room for a number of rows."""
        room = rows - len(self._keys)
        self._buckets = np.concatenate([self._buckets, np.zeros((room, self._buckets.shape[1]), dtype=np.int32)])
        self._keys = np.concatenate([self._keys, np.zeros(room, dtype=np.uint64)])
        self._slots: Ints = np.full(1 << (2 * rows).bit_length(), _FREE)
        self._enter(np.arange(self.size))

    def _enter(self, rows: Ints) -> None:
        """Gives each row the first free slot from its key's on."""
        slots = (self._keys[rows] & np.uint64(len(self._slots) - 1)).view(np.int64)
        while len(rows):
            free = self._slots[slots] == _FREE
            self._slots[slots[free]] = rows[free]
            left = self._slots[slots] != rows
            rows, slots = rows[left], slots[left] + 1 & len(self._slots) - 1


class FeatureBatch:
    """Features of the actions of some prompts, as rows of a table.

    `rows` has the shape [actions, blocks], 0 for an absent block. `starts` is the first action of each prompt, shape
    [prompts].
    """

    def __init__(self, table: FeatureTable, rows: Ints, starts: Ints) -> None:
        self.table = table
        self.rows = rows
        self.starts = starts

    def counts(self) -> Ints:
        """Returns the number of actions of each prompt."""
        return np.diff(np.append(self.starts, len(self.rows)))

    @property
    def index(self) -> Buckets:
        """Bucket numbers of all features of each action, shape [actions, features], 0 for no feature.

        The last two blocks are left out if no action has any of their features.
        """
        blocks = [self.table.buckets[rows, :width] for rows, width in zip(self.rows.T, self.table.widths, strict=True)]
        present = [len(blocks) - at > 2 or bool(self.rows[:, at].any()) for at in range(len(blocks))]
        return np.concatenate([block for block, keep in zip(blocks, present, strict=True) if keep], axis=1)

    def packed(self) -> PackedFeatures:
        """Returns the same features with the rows that they use alone, sorted by key."""
        used, places = _distinct(self.rows, self.table.size)
        order = np.argsort(self.table.keys[used])
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return PackedFeatures(self.table.buckets[used[order]], rank[places], self.starts)


class PackedFeatures(NamedTuple):
    """Features to learn from, which do not depend on what else a table holds.

    Bucket numbers of `rows`, shape [rows, features], the rows of each action, shape [actions, blocks], and the first
    action of each prompt, shape [prompts].
    """

    buckets: Buckets
    rows: Ints
    starts: Ints

    def counts(self) -> Ints:
        """Returns the number of actions of each prompt."""
        return np.diff(np.append(self.starts, len(self.rows)))

    def select(self, prompts: Ints) -> PackedFeatures:
        """Returns the features of some of the prompts, by their numbers."""
        counts = self.counts()[prompts]
        starts = np.cumsum(counts) - counts
        rows = self.rows.take(np.repeat(self.starts[prompts] - starts, counts) + np.arange(counts.sum()), axis=0)
        used, places = _distinct(rows, len(self.buckets))
        return PackedFeatures(self.buckets[used], places, starts)

    def scores(self, weights: Floats) -> Floats:
        """Returns the sum of the weights of each action's features, shape [actions]."""
        scores: Floats = weights.take(self.buckets).sum(axis=1).take(self.rows).sum(axis=1)
        return scores

    def gradient(self, by_action: Floats, size: int) -> Floats:
        """Returns the gradient of the weights, shape [size], given that of each action's score."""
        by_row = np.bincount(self.rows.ravel(), np.repeat(by_action, self.rows.shape[1]), len(self.buckets))
        spread: Floats = np.repeat(by_row, self.buckets.shape[1])
        return np.bincount(self.buckets.ravel(), spread, size).astype(np.float64, copy=False)


def _distinct(rows: Ints, size: int) -> tuple[Ints, Ints]:
    """Returns the distinct rows out of `size`, in order, and the place of each of `rows` among them."""
    places = np.zeros(size, dtype=np.int64)
    places[rows.ravel()] = 1
    used = np.flatnonzero(places)
    places[used] = np.arange(len(used))
    return used, places.take(rows)


class RowSums:
    """Sums of weights by row of a table, computed when they are first asked for."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drops all sums, after weights have changed in place."""
        self._table: FeatureTable | None = None
        self._weights: Floats | None = None
        self._sums: Floats = np.zeros(0)

    def scores(self, batch: FeatureBatch, weights: Floats) -> Floats:
        """Returns the sum of the weights of each action's features, shape [actions]."""
        if batch.table is not self._table or weights is not self._weights:
            self._table, self._weights, self._sums = batch.table, weights, np.zeros(0)
        if (size := batch.table.size) > len(self._sums):
            self._sums = np.append(self._sums, np.full(2 * size - len(self._sums), np.nan))
        sums = self._sums.take(batch.rows)
        if len(missing := np.unique(batch.rows[np.isnan(sums)])):
            self._sums[missing] = weights.take(batch.table.buckets[missing]).sum(axis=1)
            sums = self._sums.take(batch.rows)
        scores: Floats = sums.sum(axis=1)
        return scores
