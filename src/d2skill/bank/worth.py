"""Statistics of a skill's signals: their mean, its credible interval, and the effective sample size.

A signal is success with the skill minus what the half without skills achieved on the same task (credit, Eq. 2). The
signals of one iteration share tasks and policy, so an iteration counts as one observation, weighted by its signals;
the effective sample size is Kish's, (Σm)² / Σm² (Survey Sampling, 1965). The posterior is that of a normal mean with
unknown variance under the conjugate prior (Gelman et al., Bayesian Data Analysis, 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from d2skill.utils.statistics import t_critical

_PRIOR_SIZE = 1.0  # κ₀, weight of the prior mean in iterations
_PRIOR_DEGREES = 2.0  # ν₀, weight of the prior deviation in iterations
_PRIOR_DEVIATION = 0.5  # of the means of iterations, which lie in [-1, 1]


class Posterior(NamedTuple):
    """Posterior mean of a skill's worth, and its credible interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Worth:
    """Sums over a skill's signals, from which mean, sample size and interval follow.

    With m signals of mean s in an iteration, `signals` is Σm, `squares` Σm², `total` Σms, and `spread` Σms², over all
    iterations. `last` is the iteration of the last signal, -1 before the first.
    """

    signals: int = 0
    squares: int = 0
    total: float = 0.0
    spread: float = 0.0
    last: int = -1

    def __add__(self, other: Worth) -> Worth:
        """Returns the sums of two skills together; an iteration in which both had signals counts twice."""
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
        """Returns the posterior under a prior mean; the interval holds the worth with probability `mass`."""
        n = self.size
        size, degrees = _PRIOR_SIZE + n, _PRIOR_DEGREES + n
        mean = (_PRIOR_SIZE * prior + n * self.mean) / size
        between = max(0.0, self.spread / self.signals - self.mean**2) * n if self.signals else 0.0
        prior_shift = _PRIOR_SIZE * n / size * (self.mean - prior) ** 2
        variance = (_PRIOR_DEGREES * _PRIOR_DEVIATION**2 + between + prior_shift) / degrees
        half_width = t_critical(round(degrees, 2), mass) * math.sqrt(variance / size)
        return Posterior(mean, mean - half_width, mean + half_width)


@dataclass(frozen=True, slots=True)
class Influence:
    """Sums over the probes of a skill, each of which leaves it out of a single prompt.

    `decisions` is the number of probes, `changes` the number of those in which the greedy action changed, and
    `log_prob` the sum of how much more log-probability (nats) the chosen answer has with the skill.
    """

    decisions: int = 0
    changes: int = 0
    log_prob: float = 0.0

    def add(self, effects: Sequence[tuple[float, bool]]) -> Influence:
        """Returns the sums with more probes added: log-probability gained, and if the greedy action changed."""
        return Influence(
            self.decisions + len(effects),
            self.changes + sum(changes for _, changes in effects),
            math.fsum((self.log_prob, *(log_prob for log_prob, _ in effects))),
        )
