"""Numbers of training that have to stay finite: what diverges is noticed where it arises, before anything is saved."""

from __future__ import annotations

import math

from d2skill.errors import RunError

UPDATE = "lower optim.learning_rate, optim.kl or the weights in reward"
IMITATION = "lower warm_start.learning_rate"


class Diverged(RunError):
    """A number of training is not finite any more."""


def require_finite(name: str, value: float, way_out: str) -> None:
    """Raises `Diverged` for a number that is infinite or none.

    >>> require_finite("the loss", float("nan"), IMITATION)
    Traceback (most recent call last):
    d2skill.utils.finite.Diverged: the loss is nan: lower warm_start.learning_rate
    """
    if not math.isfinite(value):
        raise Diverged(f"{name} is {value}: {way_out}")
