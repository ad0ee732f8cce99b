"""Intervals for success rates and for paired differences, all at 95 %."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2skill.rng import generator

Interval = tuple[float, float]

_Z = 1.959963984540054
_RESAMPLES = 10_000


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


def paired_difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, Interval]:
    """Returns the mean of `first − second` over pairs and its percentile bootstrap interval over the pairs.

    The resampling seed is fixed, so the same outcomes give the same interval. Without pairs, (0, (0, 0)).
    """
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    n = len(differences)
    if n == 0:
        return 0.0, (0.0, 0.0)
    draws = generator("paired-bootstrap", n).integers(n, size=(_RESAMPLES, n))
    low, high = np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])
    return float(differences.mean()), (float(low), float(high))
