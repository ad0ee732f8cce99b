"""Retrieval (Eq. 8) and eviction (Eq. 9) as pure functions of arrays.

A pool is the active skills of one granularity. S is its size, Q the number of queries, d the dimension of vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
_Numbers = npt.NDArray[np.floating]

_MILLION = 1e6
_BLOCK = 8192  # keys; with 128 queries their products are 4 MB and stay in the cache
WHOLE = 1 << 12
"""Keys up to which all products are taken in float64; beyond, those of the most similar rows"""
LARGE = 1 << 16
"""Keys from which on hidden ones are passed over rather than left out, as a copy of the others takes long."""
_SPARE = 16  # rows that are looked at beyond the candidates, as float32 may have ordered them otherwise
_NOWHERE = np.iinfo(np.int64).max


def utility_bonus(utility: Floats, retrievals: npt.NDArray[np.integer], eta: float) -> Floats:
    """Returns the value of each skill: u + η·sqrt(log(1 + N_r) / (1 + n)), N_r = Σn over the pool (Eq. 8, 9).

    Both arguments are [S], of the whole pool. The bonus favours skills that the policy has rarely seen.
    """
    bonus = eta * np.sqrt(np.log1p(float(retrievals.sum())) / (1.0 + retrievals))
    return np.asarray(utility + bonus, dtype=np.float64)


class RankedSkills(NamedTuple):
    """The rows to retrieve for each query, best first, all [Q, k]; an empty slot holds row −1 and score −inf."""

    rows: Integers
    similarities: Floats
    scores: Floats


def cosines(queries: Vectors, keys: Vectors) -> Floats:
    """Returns the cosines of unit vectors, queries [Q, d] or [d] with keys [S, d] or [d], to 6 decimals.

    The last bits of a product depend on what else is multiplied with it, and equal keys must tie whatever that is.
    """
    return np.asarray(_millionths(_products(queries, keys)) / _MILLION, dtype=np.float64)


def rank(
    queries: Vectors,
    keys: _Numbers,
    values: Floats,
    *,
    gate: float,
    candidates: int,
    k: int,
    alpha: float,
    shown: npt.NDArray[np.bool_] | None = None,
    near: Integers | None = None,
) -> RankedSkills:
    """Returns the rows to retrieve for each query (Eq. 8).

    The gate comes first: only rows with at least that similarity count. Of those, the most similar ones are scored by
    α·ŝ + (1−α)·value, ŝ = (1 + cosine)/2 in [0, 1], and the best stay. Ties go to the lower row. Slots may stay empty:
    retrieving nothing is a valid answer. What a query gets does not depend on the other queries.

    Args:
        queries: Unit vectors or 0 [Q, d].
        keys: Unit vectors or 0 [S, d], one for each row; up to `WHOLE` are turned into float64, if they are not yet.
        values: Values of the rows [S], as `utility_bonus` returns them.
        gate: Least cosine, as `cosines` returns it, in [-1, 1].
        candidates: Number of the most similar rows that are scored.
        k: Number of slots for each query.
        alpha: Weight of the similarity, in [0, 1].
        shown: Whether a row counts [S]; None for all.
        near: Rows to choose from [Q, n], -1 for none, from an approximate index; None for all.
    """
    ranked = RankedSkills(
        np.full((len(queries), k), -1, dtype=np.int64),
        np.full((len(queries), k), -np.inf),
        np.full((len(queries), k), -np.inf),
    )
    size = len(keys)
    if size == 0 or k == 0:
        return ranked
    if near is not None:
        places = _recomputed(queries, keys, near, candidates)
    elif size <= WHOLE:
        exact = queries.astype(np.float64), keys.astype(np.float64, copy=False)
        places = _most_similar(*exact, gate, min(candidates, size), shown)
    else:
        near = nearest(queries, keys, gate, candidates + _SPARE, shown)
        places = _recomputed(queries, keys, near, candidates)
    opposite, rows = np.divmod(places, size)
    similarities = -opposite / _MILLION
    passing = (places != _NOWHERE) & (similarities >= gate)
    scores = np.where(passing, alpha * (1.0 + similarities) / 2.0 + (1.0 - alpha) * values[rows], -np.inf)
    best = np.lexsort((rows, -scores), axis=-1)[:, :k]
    shown = np.take_along_axis(passing, best, axis=1)
    for slots, chosen in zip(ranked, (rows, similarities, scores), strict=True):
        np.copyto(slots[:, : best.shape[1]], np.take_along_axis(chosen, best, axis=1), where=shown)
    return ranked


def neighbours(queries: Vectors, keys: Vectors, least: float) -> list[Integers]:
    """Returns for each query [Q, d] the rows of the keys [S, d] with a cosine of `least` or more, in order."""
    found: list[list[Integers]] = [[] for _ in queries]
    for start in range(0, len(keys), _BLOCK):
        products = _products(queries, keys[start : start + _BLOCK])
        at = np.flatnonzero(products >= np.float32(least - 1 / _MILLION))
        at = at[_millionths(products.ravel()[at]) / _MILLION >= least]
        query, row = np.divmod(at, products.shape[1])
        row += start
        ends = np.searchsorted(query, np.arange(len(queries) + 1)).tolist()
        for each in np.unique(query).tolist():
            found[each].append(row[ends[each] : ends[each + 1]])
    nothing = np.empty(0, dtype=np.int64)
    return [np.concatenate(rows) if rows else nothing for rows in found]


def nearest(
    queries: Vectors, keys: _Numbers, gate: float, count: int, shown: npt.NDArray[np.bool_] | None = None
) -> Integers:
    """Returns the rows most similar to each query, in any order, with -1 for none [Q, count].

    Args:
        queries: Unit vectors or 0 [Q, d].
        keys: Unit vectors or 0 [S, d].
        gate: Least cosine; all rows that pass it come, up to `count`, and maybe others.
        count: Number of rows for each query.
        shown: Whether a row counts [S]; None for all.
    """
    places = _most_similar(queries, keys, gate, min(count, len(keys)), shown)
    rows = np.where(places == _NOWHERE, -1, places % len(keys))
    return np.pad(rows, [(0, 0), (0, count - rows.shape[1])], constant_values=-1)


def recall(
    queries: Vectors,
    keys: _Numbers,
    near: Integers,
    *,
    gate: float,
    candidates: int,
    shown: npt.NDArray[np.bool_] | None = None,
) -> float:
    """Returns the share of the most similar rows of some keys, themselves left out, that an approximate search found.

    A row that is as similar as one of these counts too.

    Args:
        queries: Some of the keys [Q, d].
        keys: Unit vectors or 0 [S, d].
        near: Rows that were found for each query [Q, n], -1 for none.
        gate: Least cosine of rows that are wanted.
        candidates: Most rows that are wanted for a query, itself among them.
        shown: Whether a row counts [S]; None for all.
    """
    all_near = nearest(queries, keys, gate, candidates + _SPARE, shown)
    places = (_recomputed(queries, keys, rows, candidates) for rows in (all_near, near))
    exact, found = (np.where(own == _NOWHERE, -2 * _MILLION, -(own // len(keys))) / _MILLION for own in places)
    wanted = (exact >= gate).sum(axis=1)
    least = np.where(exact >= gate, exact, 1.0).min(axis=1, keepdims=True)
    hits = np.minimum((found >= least).sum(axis=1), wanted)
    others = int(np.maximum(wanted - 1, 0).sum())
    return float(np.maximum(hits - 1, 0).sum()) / others if others else 1.0


def _most_similar(
    queries: _Numbers, keys: _Numbers, gate: float, count: int, shown: npt.NDArray[np.bool_] | None
) -> Integers:
    """Returns the places [Q, count] of the rows most similar to each query, in any order.

    A place is row − S · (cosine in millionths): one number that sorts the most similar row first, and of equal ones
    the lower row. All rows that pass the gate are among them, up to `count`; the rest are other rows or `_NOWHERE`.

    The products are taken for a block of keys at a time; only those that may exceed the gate and the
    last of the best so far are looked at again. The bounds leave room for rounding, so that no row is lost.
    """
    size = len(keys)
    best = np.full((len(queries), count), _NOWHERE)
    at_least = np.full((len(queries), 1), gate - 1 / _MILLION, dtype=np.float32)
    for start in range(0, size, _BLOCK):
        products = _products(queries, keys[start : start + _BLOCK])
        if shown is not None:
            products[:, ~shown[start : start + _BLOCK]] = -2.0
        near = np.flatnonzero(products >= at_least)
        if len(near) > 4 * best.size:
            kth = products.shape[1] - count
            kth_best = np.partition(products, kth, axis=1)[:, kth, None] - np.float32(1.5 / _MILLION)
            near = np.flatnonzero(products >= np.maximum(kth_best, at_least))
        if len(near):
            query, row = np.divmod(near, products.shape[1])
            best = _merged(best, query, row + start - size * _millionths(products.ravel()[near]))
            last = best.max(axis=1, keepdims=True)
            beyond = (0.25 - last // size) / _MILLION  # a later row has to be more similar: ties go to the lower row
            at_least = np.where(last == _NOWHERE, at_least, np.maximum(at_least, beyond)).astype(np.float32)
    return best


def _recomputed(queries: Vectors, keys: _Numbers, rows: Integers, count: int) -> Integers:
    """Returns the places of the `count` most similar of some rows [Q, n], where -1 is no row, in any order.

    The products are taken in float64, so they do not depend on the other keys, as those of a large product may.
    """
    exact = np.matmul(keys[rows].astype(np.float64), queries.astype(np.float64)[:, :, None])[:, :, 0]
    places = np.where(rows < 0, _NOWHERE, rows - len(keys) * np.rint(exact * _MILLION).astype(np.int64))
    count = min(count, places.shape[1])
    return np.partition(places, count - 1, axis=1)[:, :count]


def _merged(best: Integers, query: Integers, places: Integers) -> Integers:
    """Returns the lowest places [Q, count] of each query, from `best` [Q, count] and from new places [n].

    `query` [n] is the query of each new place, in ascending order.
    """
    count = best.shape[1]
    new = np.bincount(query, minlength=len(best))
    first = np.cumsum(new) - new
    table = np.full((len(best), count + int(new.max())), _NOWHERE)
    table[:, :count] = best
    table[query, count + np.arange(len(query)) - first[query]] = places
    table.partition(count - 1, axis=1)
    return table[:, :count]


def _products(queries: _Numbers, keys: _Numbers) -> _Numbers:
    return queries @ keys.T


def _millionths(products: _Numbers) -> Integers:
    return np.rint(products.astype(np.float64) * _MILLION).astype(np.int64)


def evict(
    values: Floats,
    created: npt.NDArray[np.integer],
    *,
    iteration: int,
    capacity: int,
    protect: int,
) -> Integers:
    """Returns the rows to drop, in ascending order (Eq. 9).

    A pool over its capacity drops its lowest values, the older skill first where they tie, until it fits. Skills with
    iteration − created < `protect` are exempt, so a young pool may stay over its capacity. Dropping one skill does not
    change the bonus of the next.

    Args:
        values: Values of the whole pool [S], as `utility_bonus` returns them.
        created: Iterations in which the skills were written [S].
        iteration: The present iteration.
        capacity: Number of skills that the pool may keep.
        protect: Number of iterations for which a new skill cannot be dropped.
    """
    over = len(values) - capacity
    if over <= 0:
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((created, values))
    exposed = order[iteration - created[order] >= protect]
    return np.sort(exposed[:over]).astype(np.int64)
