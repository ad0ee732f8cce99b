"""Confidence intervals at 95 % for rates, means and differences, and McNemar's test.

Over tasks: Wilson's interval of a success rate, and a percentile bootstrap. Over seeds: Student's t, paired by seed
where both sides have the same seeds and Welch's otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from d2skill.utils.rng import generator

Interval = tuple[float, float]
"""Lower and upper end."""

BandKind = Literal["interval", "range", "none"]

_Z = 1.959963984540054
_RESAMPLES = 10_000
_EQUAL = 1e-12  # rounding of rates that are the same
_BLOCK = 1 << 22  # numbers that are drawn at a time


def wilson(successes: int, n: int) -> Interval:
    """Returns Wilson's score interval of a success rate; (0, 1) without a trial.

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
    """Returns the mean of one value per task, from 0 to 1, and its percentile bootstrap interval over the tasks.

    The value of a task that was played several times is the mean of those: episodes of one task are alike and count as
    one. The resampling seed is fixed. If all values are equal, the interval is `_of_equal`. Without tasks the result is
    (0, (0, 0)).
    """
    return _bootstrap("bootstrap", np.asarray(values, dtype=float), 0.0)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, Interval]:
    """Returns the mean of `first − second` over pairs and its percentile bootstrap interval over the pairs.

    Both are from 0 to 1. The resampling seed is fixed, so the same outcomes give the same interval. If all differences
    are equal, resampling would give an interval of no width, as if there were no doubt; then it is `_of_equal`, for
    outcomes of 0 and 1 the score interval of Tango (1998), Equivalence test and confidence interval for the difference
    in proportions for the paired-sample design. Without pairs the result is (0, (0, 0)).
    """
    return _bootstrap("paired-bootstrap", np.asarray(first, dtype=float) - np.asarray(second, dtype=float), -1.0)


def mcnemar(wins: int, losses: int) -> float:
    """Returns the two-sided p of McNemar's exact test: how often a fair coin splits the discordant pairs as unevenly.

    Source: McNemar (1947), Note on the sampling error of the difference between correlated proportions or percentages.
    """
    n = wins + losses
    as_uneven: int = 2 * sum(comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, as_uneven / (1 << n))


def _of_equal(value: float, n: int, lowest: float) -> Interval:
    """Returns the interval of a mean of n equal values that could have been from `lowest` to 1.

    Wilson's interval of none in n says how large a share of other values may be; these may all be at either end.
    """
    others = wilson(0, n)[1]
    return value - others * (value - lowest), value + others * (1.0 - value)


def _bootstrap(purpose: str, values: npt.NDArray[np.float64], lowest: float) -> tuple[float, Interval]:
    """Returns the mean of values [n] and its percentile bootstrap interval.

    `purpose` selects the random stream; no value could be below `lowest`, or above 1.
    """
    n = len(values)
    if n == 0:
        return 0.0, (0.0, 0.0)
    if np.ptp(values) < _EQUAL:
        return float(values[0]), _of_equal(float(values[0]), n, lowest)
    rng, rows = generator(purpose, n), max(1, _BLOCK // n)
    means = [
        values[rng.integers(n, size=(min(rows, _RESAMPLES - done), n))].mean(axis=1)
        for done in range(0, _RESAMPLES, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(values.mean()), (float(low), float(high))


@lru_cache(maxsize=4096)
def t_critical(degrees: float, mass: float = 0.95) -> float:
    """Returns the two-sided critical value t of Student's distribution: a share `mass` of it lies between −t and t.

    Takes 1 degree of freedom or more, also fractions.
    """
    angle = np.linspace(0.0, np.pi / 2, 20_001)  # t = sqrt(ν) tan θ, with density cos^(ν-1) θ
    density = np.cos(angle) ** (degrees - 1.0)
    below = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    return math.sqrt(degrees) * math.tan(float(np.interp(mass, below / below[-1], angle)))


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean over `n` seeds and its interval.

    The interval is None for one seed, or if all seeds gave the same: they do not show how far runs differ.

    `paired` is set for a difference only: True if it was taken seed by seed.
    """

    mean: float
    ci95: Interval | None
    n: int
    paired: bool | None = None

    def record(self) -> dict[str, Any]:
        """Returns the estimate as plain data for a report."""
        known = {"mean": self.mean, "ci95": list(self.ci95) if self.ci95 else None, "n": self.n}
        return known if self.paired is None else known | {"paired": self.paired}


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Returns the mean of one value per seed, with Student's interval. Raises `ValueError` without a value."""
    if not values:
        raise ValueError("there is no mean of no values")
    mean, n = fmean(values), len(values)
    if max(values) - min(values) < _EQUAL:
        return Estimate(mean, None, n)
    half = t_critical(n - 1) * stdev(values) / math.sqrt(n)
    return Estimate(mean, (mean - half, mean + half), n)


def paired_over_seeds(values: Mapping[int, float], base: Mapping[int, float]) -> Estimate | None:
    """Returns the mean of `values − base` over the seeds that both have, None if there is none."""
    common = sorted(values.keys() & base.keys())
    if not common:
        return None
    estimate = mean_over_seeds([values[seed] - base[seed] for seed in common])
    return Estimate(estimate.mean, estimate.ci95, estimate.n, paired=True)


def difference_over_seeds(values: Mapping[int, float], base: Mapping[int, float]) -> Estimate:
    """Returns the mean of `values − base`, by seed: paired if both have the same seeds, else Welch's.

    `n` is the number of seeds of the smaller side. Source of the latter: Welch (1947), The generalization of
    Student's problem when several different population variances are involved.
    """
    if values.keys() == base.keys() and (same := paired_over_seeds(values, base)):
        return same
    sides = [list(values.values()), list(base.values())]
    mean, n = fmean(sides[0]) - fmean(sides[1]), min(map(len, sides))
    if n < 2:
        return Estimate(mean, None, n, paired=False)
    shares = [stdev(side) ** 2 / len(side) for side in sides]
    variance = sum(shares)
    if variance < _EQUAL**2:
        return Estimate(mean, None, n, paired=False)
    degrees = variance**2 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, sides, strict=True))
    half = t_critical(degrees) * math.sqrt(variance)
    return Estimate(mean, (mean - half, mean + half), n, paired=False)


def band_over_seeds(values: npt.NDArray[np.float64]) -> tuple[BandKind, list[float], list[float]]:
    """Returns the kind, lower edge and upper edge [points] of a band around the mean of curves [seeds, points].

    From three seeds on it is the interval of each mean, for two the range from one to the other, for one nothing.
    """
    if len(values) < 3:
        return ("range" if len(values) == 2 else "none"), values.min(axis=0).tolist(), values.max(axis=0).tolist()
    means = values.mean(axis=0)
    half = t_critical(len(values) - 1) * values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return "interval", (means - half).tolist(), (means + half).tolist()
