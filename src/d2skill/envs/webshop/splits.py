"""Which goals are for training and which for measuring."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from d2skill.envs.webshop.lazy_sequence import Made, Numbers, shuffled
from d2skill.errors import ConfigError

PUBLISHED: Mapping[str, slice] = {
    "published-test": slice(0, 500),
    "published-eval": slice(500, 1500),
    "published-train": slice(1500, None),
}
"""The original's slices of the goals in their order. Its published figures are those of the 500 test goals."""

SHARES: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}

Shuffle = Callable[[int, int], Numbers]
"""What `shuffled` does, or what remembers it."""


def split_goals(
    count: int, seed: int = 0, shares: Mapping[str, float] = SHARES, shuffle: Shuffle = shuffled
) -> dict[str, Made[int]]:
    """Returns the numbers of the goals of each split, each goal in one of them: one permutation by one seed, cut up.

    The splits follow each other in the order of `shares`, whose rounded sums are where the permutation is cut. Raises
    `ConfigError` for shares that do not add up to 1.
    """
    if any(share < 0 for share in shares.values()) or not 0.999 < sum(shares.values()) < 1.001:
        raise ConfigError(f"the shares of the splits must add up to 1, not {dict(shares)}")
    order = shuffle(count, seed)
    splits, begin, share = {}, 0, 0.0
    for name, part in shares.items():
        share += part
        end = round(share * count)
        splits[name] = Made(order[begin:end], int)
        begin = end
    return splits


def panel(name: str, count: int, seed: int = 0, shuffle: Shuffle = shuffled) -> Made[int]:
    """Returns the numbers of the goals of a split by its name: ours, or one of the original's.

    Raises `ConfigError` for an unknown name, or an original split of a data set that has too few goals for it.
    """
    if (published := PUBLISHED.get(name)) is not None:
        numbers = range(count)[published]
        if not numbers:
            raise ConfigError(f"{name} is empty: there are only {count} goals")
        return Made(np.arange(numbers.start, numbers.stop, dtype=np.int32), int)
    if name not in SHARES:
        raise ConfigError(f"there are no goals called {name!r}; there are: {', '.join([*SHARES, *PUBLISHED])}")
    return split_goals(count, seed, shuffle=shuffle)[name]
