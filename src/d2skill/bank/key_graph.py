"""Approximate search among many keys, by a graph (HNSW) of usearch: a query is compared with some thousands of them.

Equal keys are one node, named by the digest of its texts, so the graph does not depend on rows: it is right after
insertions, evictions and rewinds once the keys that it lacks have been added. It is of 8-bit numbers and only proposes
keys; `ranking.rank` compares these exactly. Nodes of skills that have left are passed over, and removed when they are
many.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from d2skill.bank import kept_keys
from d2skill.bank.ranking import Integers, Vectors
from d2skill.errors import ConfigError
from d2skill.utils import array_file

Digests = npt.NDArray[np.uint64]

GRAPH_FROM = 100_000
"""Skills of a granularity from which on the graph is used; with fewer it takes longer than to compare all keys."""
_SEARCHED = 128  # nodes that a search keeps in view
_ONE_BY_ONE = 4096  # nodes that are added by one thread: in a small graph several lose links, and the order varies


class DigestOrder(NamedTuple):
    """Digests of keys in ascending order [n], and their places in a pool [n], of equal ones the lowest first."""

    digests: Digests
    places: Integers

    @classmethod
    def of(cls, digests: Digests, places: Integers) -> DigestOrder:
        """Returns the order of some places [n], given in ascending order, of a pool whose keys have these digests."""
        order = np.argsort(digests[places], kind="stable")
        return cls(digests[places][order], places[order])


class KeyGraph:
    """Graph of the distinct keys of one granularity; its file is `bank.db-task-graph` or `bank.db-step-graph`.

    Args:
        file: File in which it may be; None for none.
        embedder: Fingerprint of the embedder.
        dimension: Length of a key.
    """

    def __init__(self, file: Path | None, embedder: str, dimension: int) -> None:
        usearch = import_usearch()
        self._index_class = usearch.index.Index
        self._kind = f"graph of {embedder}, usearch {usearch.__version__.split('.')[0]}"
        self._index = self._index_class(ndim=dimension, metric="ip", dtype="i8")
        self._mapped: npt.NDArray[np.uint8] | None = None
        self._new = 0
        if file and (kept := array_file.read(file, self._kind)):
            self._mapped = kept.arrays["graph"]
            self._index = self._index_class.restore(self._mapped, view=True)
        self._index.expansion_search = _SEARCHED

    def update(self, digests: Digests, keys: Vectors) -> None:
        """Adds the keys of a pool [S, d] that are missing by their digests [S], and removes others if they are many."""
        distinct, first = np.unique(digests, return_index=True)
        new = first[~self._index.contains(distinct)]
        stale = len(self._index) + len(new) - len(first)
        many = stale > len(first) // 2
        if not (many or len(new)):
            return
        if self._mapped is not None:
            self._index, self._mapped = self._index_class.restore(self._mapped), None
            self._index.expansion_search = _SEARCHED
        if many:
            self._index.remove(np.setdiff1d(self._index.keys[:], distinct))
        for part, threads in ((new[:_ONE_BY_ONE], 1), (new[_ONE_BY_ONE:], 0)):
            self._index.add(digests[part], keys[part], threads=threads)
        self._new += len(new)

    def write(self, file: Path) -> None:
        """Writes the file if many keys are new."""
        if kept_keys.are_many(self._new, len(self._index)):
            array_file.write(file, self._kind, {}, {"graph": np.frombuffer(self._index.save(), np.uint8)})
            self._new = 0

    def near(self, queries: Vectors, order: DigestOrder, count: int) -> Integers:
        """Returns places that may be the `count` most similar to each query, and more, with -1 for none [Q, n].

        Of equal keys these are the lowest places, as in the exact order. Fewer than `count` come if most of the
        nodes that were found are of skills that are not in `order`.
        """
        matches = self._index.search(queries, 2 * count)
        found = np.asarray(matches.keys, np.uint64).reshape(len(queries), -1)
        counts = np.reshape(getattr(matches, "counts", found.shape[1]), (-1, 1))  # a single query has as many as came
        first = np.searchsorted(order.digests, found)
        sizes = np.minimum(np.searchsorted(order.digests, found, side="right") - first, count)
        sizes[np.arange(found.shape[1]) >= counts] = 0
        before = np.cumsum(sizes, axis=1) - sizes
        sizes = np.where(before < 2 * count, sizes, 0)
        totals = sizes.sum(axis=1, keepdims=True)
        near = np.full((len(queries), max(count, int(totals.max()))), -1)
        flat = sizes.ravel()
        steps = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
        near[np.arange(near.shape[1]) < totals] = order.places[np.repeat(first.ravel(), flat) + steps]
        return near


def import_usearch() -> Any:
    """Returns the package usearch. Raises `ConfigError` that says how to install it."""
    try:
        import usearch.index
    except ImportError:
        raise ConfigError(
            'retrieval.index = "ann" needs the package usearch: pip install "d2skill[ann]", or set it to "exact"'
        ) from None
    return usearch
