"""What is known of a skill's worth beside its utility: the mean of its signals, how sure it is, and what it rests on.

A signal is success with the skill minus what the half without skills achieved on the same task (credit, Eq. 2). The
signals of one iteration share tasks and policy, so an iteration counts as one observation, weighted by its signals;
the effective sample size is Kish's, (Σm)² / Σm² (Survey Sampling, 1965). The posterior is that of a normal mean with
unknown variance under the conjugate prior (Gelman et al., Bayesian Data Analysis, 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from d2skill.utils.statistics import student

_PRIOR_SIZE = 1.0  # κ₀, iterations that the prior mean is worth
_PRIOR_DEGREES = 2.0  # ν₀, and those that the prior deviation is worth
_PRIOR_DEVIATION = 0.5  # of the means of iterations, which lie in [-1, 1]


@dataclass(frozen=True, slots=True)
class Posterior:
    """Mean of a skill's worth, and the interval that probably holds it."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Worth:
    """The signals of a skill, summed up: so much that no order within an iteration matters.

    With m signals of mean s in an iteration, `squares` is Σm², `total` Σms, and `spread` Σms². `last` is the iteration
    of the last signal, -1 before the first.
    """

    signals: int = 0
    squares: int = 0
    total: float = 0.0
    spread: float = 0.0
    last: int = -1

    def add(self, signals: Sequence[float], iteration: int) -> Worth:
        """Returns the evidence with the signals of an iteration added."""
        count = len(signals)
        if not count:
            return self
        total = math.fsum(signals)
        return Worth(
            self.signals + count,
            self.squares + count * count,
            self.total + total,
            self.spread + total * total / count,
            iteration,
        )

    def joined(self, other: Worth) -> Worth:
        """Returns the evidence of two skills as if they were one; an iteration of both counts twice."""
        return Worth(
            self.signals + other.signals,
            self.squares + other.squares,
            self.total + other.total,
            self.spread + other.spread,
            max(self.last, other.last),
        )

    @property
    def size(self) -> float:
        """The effective sample size, in iterations."""
        return self.signals**2 / self.squares if self.squares else 0.0

    @property
    def mean(self) -> float:
        """The mean of all signals, 0 without any."""
        return self.total / self.signals if self.signals else 0.0

    def posterior(self, prior: float = 0.0, mass: float = 0.95) -> Posterior:
        """Returns what the signals make of a prior mean; the interval holds the worth with probability `mass`."""
        n = self.size
        size, degrees = _PRIOR_SIZE + n, _PRIOR_DEGREES + n
        mean = (_PRIOR_SIZE * prior + n * self.mean) / size
        between = max(0.0, self.spread / self.signals - self.mean**2) * n if self.signals else 0.0
        surprise = _PRIOR_SIZE * n / size * (self.mean - prior) ** 2
        variance = (_PRIOR_DEGREES * _PRIOR_DEVIATION**2 + between + surprise) / degrees
        reach = student(round(degrees, 2), mass) * math.sqrt(variance / size)
        return Posterior(mean, mean - reach, mean + reach)


@dataclass(frozen=True, slots=True)
class Influence:
    """What leaving a skill out of single prompts did: in how many decisions, and in how many the greedy action changed.

    `log_prob` is the sum, over the decisions, of how much more log-probability the chosen answer has with the skill.
    """

    decisions: int = 0
    changes: int = 0
    log_prob: float = 0.0

    def add(self, effects: Sequence[tuple[float, bool]]) -> Influence:
        """Returns the influence with the effects in other decisions added."""
        return Influence(
            self.decisions + len(effects),
            self.changes + sum(changes for _, changes in effects),
            math.fsum((self.log_prob, *(log_prob for log_prob, _ in effects))),
        )
