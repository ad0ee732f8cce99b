"""Many strings in two arrays, which open as fast as files do: their UTF-8 bytes on end, and where each ends."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def encoded(strings: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns bytes and ends: string i is `bytes[ends[i] : ends[i + 1]]`."""
    parts = [string.encode("utf-8", "surrogatepass") for string in strings]
    ends = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=ends[1:])
    return np.frombuffer(b"".join(parts), np.uint8), ends


class Strings:
    """Strings by their place."""

    def __init__(self, content: NDArray[Any], ends: NDArray[Any]) -> None:
        self._content = content.data
        self._ends = ends.data
        self._places = range(len(ends) - 1)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> str:
        return str(self._bytes(place), "utf-8", "surrogatepass")

    def find(self, string: str) -> int | None:
        """The place of a string among sorted ones."""
        wanted = string.encode("utf-8", "surrogatepass")
        place = bisect_left(self._places, wanted, key=self._bytes)
        return place if place < len(self) and self._bytes(place) == wanted else None

    def _bytes(self, place: int) -> bytes:
        return bytes(self._content[self._ends[place] : self._ends[place + 1]])
