"""The bank's numbers, as pure functions of arrays: utilities (Eq. 3), retrieval (Eq. 8), eviction (Eq. 9).

A pool is the active skills of one granularity; S is its size, Q the number of queries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def credited_utility(utility: float, signals: Sequence[float], beta: float) -> float:
    """Returns the utility after all signals of one iteration: (1−β)^m u + (1 − (1−β)^m) · mean(signals).

    That is Eq. 3, u ← (1−β)u + β·signal, for one signal. For m of them it is the mean of Eq. 3 applied m
    times over all orders of the signals, so that nothing depends on which episode finishes first: the same
    to the last bit in any order. No signals leave the utility as it is.
    """
    if not signals:
        return utility
    kept = (1.0 - beta) ** len(signals)
    return kept * utility + (1.0 - kept) * (math.fsum(signals) / len(signals))


def utility_bonus(utility: Floats, retrievals: npt.NDArray[np.integer], eta: float) -> Floats:
    """Returns the value of each skill: u + η·sqrt(log(1 + N_r) / (1 + n)), N_r = Σn over the pool (Eq. 8, 9).

    Both arguments are [S], of the whole pool. The bonus favours skills that the policy has rarely seen.
    """
    bonus = eta * np.sqrt(np.log1p(float(retrievals.sum())) / (1.0 + retrievals))
    return np.asarray(utility + bonus, dtype=np.float64)


def rank(
    similarities: Floats, values: Floats, *, gate: float, candidates: int, k: int, alpha: float
) -> tuple[Integers, Floats]:
    """Returns the rows to retrieve for each query and their scores, both [Q, k], best first (Eq. 8).

    The gate comes first: only rows with similarity ≥ `gate` count. Of those the `candidates` most similar
    are scored by α·ŝ + (1−α)·value, ŝ = (1 + cosine)/2 in [0, 1], and the best `k` stay. Ties go to the
    lower row. Slots left over hold row −1 and score −inf: retrieving nothing is a valid answer.

    Takes cosines [Q, S] and values [S] from `utility_bonus`.
    """
    queries, size = similarities.shape
    rows = np.full((queries, k), -1, dtype=np.int64)
    scores = np.full((queries, k), -np.inf)
    if size == 0 or k == 0:
        return rows, scores
    query, row = np.nonzero(_most_similar(similarities, gate, candidates))
    score = alpha * (1.0 + similarities[query, row]) / 2.0 + (1.0 - alpha) * values[row]
    order = np.lexsort((row, -score, query))
    query, row, score = query[order], row[order], score[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    shown = place < k
    rows[query[shown], place[shown]] = row[shown]
    scores[query[shown], place[shown]] = score[shown]
    return rows, scores


def _most_similar(similarities: Floats, gate: float, count: int) -> npt.NDArray[np.bool_]:
    """Returns a mask [Q, S] of the at most `count` most similar rows of each query that pass the gate."""
    passing = similarities >= gate
    size = similarities.shape[1]
    if count >= size:
        return passing
    least = np.partition(similarities, size - count, axis=1)[:, size - count, None]
    above = similarities > least
    tied = similarities == least
    free = count - above.sum(axis=1, keepdims=True)
    first_tied = tied & (np.cumsum(tied, axis=1) <= free)
    return np.asarray(passing & (above | first_tied), dtype=np.bool_)


def evict(
    values: Floats,
    created: npt.NDArray[np.integer],
    *,
    iteration: int,
    capacity: int,
    protect: int,
) -> Integers:
    """Returns the rows to drop, in ascending order (Eq. 9).

    A pool over `capacity` drops its lowest values, the older skill first where they tie, until it fits.
    Skills with iteration − created < `protect` are exempt, so a young pool may stay over its capacity. The
    values are those of the whole pool beforehand: dropping one skill does not change the bonus of the next.
    """
    over = len(values) - capacity
    if over <= 0:
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((created, values))
    exposed = order[iteration - created[order] >= protect]
    return np.sort(exposed[:over]).astype(np.int64)
