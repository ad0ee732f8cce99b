"""Sequences that keep a number for each item and make the item when it is asked for, and the order of the numbers."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int32]
T = TypeVar("T")


class Made(Sequence[T]):
    """What `make` returns for each of some numbers, made anew each time. It equals sequences of the same items."""

    def __init__(self, numbers: Numbers, make: Callable[[int], T]) -> None:
        self._numbers = numbers
        self._make = make

    @property
    def numbers(self) -> Numbers:
        """What the items are made of."""
        return self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> Made[T]: ...

    def __getitem__(self, at: int | slice) -> T | Made[T]:
        if isinstance(at, slice):
            return Made(self._numbers[at], self._make)
        return self._make(int(self._numbers[at]))

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
