"""Student's t distribution, by which intervals of means are as wide as few observations ask for."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4096)
def student(degrees: float, share: float = 0.95) -> float:
    """Returns t with a share of Student's distribution between -t and t, for 1 degree of freedom and more."""
    angle = np.linspace(0.0, np.pi / 2, 20_001)  # t = sqrt(ν) tan θ, with density cos^(ν-1) θ
    density = np.cos(angle) ** (degrees - 1.0)
    mass = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    return math.sqrt(degrees) * math.tan(float(np.interp(share, mass / mass[-1], angle)))
