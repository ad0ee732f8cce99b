"""Intervals for success rates, means and paired differences, all at 95 %, and a test of a difference."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
import numpy.typing as npt

from d2skill.rng import generator

Interval = tuple[float, float]

_Z = 1.959963984540054
_RESAMPLES = 10_000
_BLOCK = 1 << 22  # numbers that are drawn at a time


def wilson(successes: int, n: int) -> Interval:
    """Returns Wilson's score interval of a success rate; (0, 1) when nothing was tried.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    centre = rate + _Z**2 / (2 * n)
    spread = _Z * np.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, float((centre - spread) / scale)), min(1.0, float((centre + spread) / scale))


def mean_with_interval(values: Sequence[float]) -> tuple[float, Interval]:
    """Returns the mean of one value a task and its percentile bootstrap interval over the tasks.

    Where a task was played several times its value is the mean of those, so that episodes of one task, which are alike,
    count as one. The resampling seed is fixed. Without tasks, (0, (0, 0)).
    """
    return _bootstrap("bootstrap", np.asarray(values, dtype=float))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, Interval]:
    """Returns the mean of `first − second` over pairs and its percentile bootstrap interval over the pairs.

    The resampling seed is fixed, so the same outcomes give the same interval. Without pairs, (0, (0, 0)).
    """
    return _bootstrap("paired-bootstrap", np.asarray(first, dtype=float) - np.asarray(second, dtype=float))


def mcnemar(wins: int, losses: int) -> float:
    """Returns the two-sided p of McNemar's exact test: how often a fair coin splits the discordant pairs as unevenly.

    Source: McNemar (1947), Note on the sampling error of the difference between correlated proportions or percentages.
    """
    n = wins + losses
    as_uneven: int = 2 * sum(comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, as_uneven / (1 << n))


def _bootstrap(purpose: str, values: npt.NDArray[np.float64]) -> tuple[float, Interval]:
    n = len(values)
    if n == 0:
        return 0.0, (0.0, 0.0)
    rng, rows = generator(purpose, n), max(1, _BLOCK // n)
    means = [
        values[rng.integers(n, size=(min(rows, _RESAMPLES - done), n))].mean(axis=1)
        for done in range(0, _RESAMPLES, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(values.mean()), (float(low), float(high))
