"""Lazy sequences: a number is kept for each item, and the item is made from it when it is asked for."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int32]
T = TypeVar("T")


class LazySequence(Sequence[T]):
    """The results of `make` for some numbers, made anew each time. It equals sequences of the same items."""

    def __init__(self, numbers: Numbers, make: Callable[[int], T]) -> None:
        self._numbers = numbers
        self._make = make

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return LazySequence(self._numbers[place], self._make)
        return self._make(int(self._numbers[place]))

    def __iter__(self) -> Iterator[T]:
        return map(self._make, map(int, self._numbers))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) or not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def shuffled(count: int, seed: int) -> Numbers:
    """Returns the numbers below `count` as Python's generator shuffles them with a seed."""
    order = array("i", range(count))
    Random(seed).shuffle(order)
    return np.array(order, np.int32)
