"""Means over seeds, with intervals at 95 %: a run counts once, however many episodes it was measured by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np

from d2skill.student import student

Interval = tuple[float, float]
Bounds = Literal["interval", "range", "none"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` seeds and its interval, None for one seed: a single run says nothing of how far runs differ.

    `paired` tells of a difference whether it was taken seed by seed.
    """

    mean: float
    ci95: Interval | None
    n: int
    paired: bool | None = None

    def record(self) -> dict[str, Any]:
        """Returns what a report holds of it."""
        known = {"mean": self.mean, "ci95": list(self.ci95) if self.ci95 else None, "n": self.n}
        return known if self.paired is None else known | {"paired": self.paired}


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Returns the mean of one value a seed, with Student's interval. Raises `ValueError` without a value."""
    if not values:
        raise ValueError("there is no mean of nothing")
    mean, n = fmean(values), len(values)
    if n == 1:
        return Estimate(mean, None, 1)
    reach = student(n - 1) * stdev(values) / math.sqrt(n)
    return Estimate(mean, (mean - reach, mean + reach), n)


def paired(values: Mapping[int, float], base: Mapping[int, float]) -> Estimate | None:
    """Returns the mean of `values − base` over the seeds that both have, None if there is none."""
    common = sorted(values.keys() & base.keys())
    if not common:
        return None
    found = mean_over_seeds([values[seed] - base[seed] for seed in common])
    return Estimate(found.mean, found.ci95, found.n, paired=True)


def difference(values: Mapping[int, float], base: Mapping[int, float]) -> Estimate:
    """Returns the mean of `values − base`, by seed: paired if both have the same seeds, else Welch's.

    `n` is the number of seeds of the smaller side. Source of the latter: Welch (1947), The generalization of
    Student's problem when several different population variances are involved.
    """
    if values.keys() == base.keys() and (same := paired(values, base)):
        return same
    sides = [list(values.values()), list(base.values())]
    mean, n = fmean(sides[0]) - fmean(sides[1]), min(map(len, sides))
    if n < 2:
        return Estimate(mean, None, n, paired=False)
    shares = [stdev(side) ** 2 / len(side) for side in sides]
    variance = sum(shares)
    if variance == 0.0:
        return Estimate(mean, (mean, mean), n, paired=False)
    degrees = variance**2 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, sides, strict=True))
    reach = student(degrees) * math.sqrt(variance)
    return Estimate(mean, (mean - reach, mean + reach), n, paired=False)


def bounds(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[Bounds, list[float], list[float]]:
    """Returns what a band around the means of [seeds, points] shows, and its lower and upper edge.

    From three seeds on that is the interval of each mean, for two the range from one to the other, for one nothing.
    """
    if len(values) < 3:
        return ("range" if len(values) == 2 else "none"), values.min(axis=0).tolist(), values.max(axis=0).tolist()
    means = values.mean(axis=0)
    reach = student(len(values) - 1) * values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return "interval", (means - reach).tolist(), (means + reach).tolist()
