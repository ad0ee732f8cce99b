"""Columns of a bank's state, one row a skill: texts, and numbers in arrays that grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from d2skill.bank.ranking import Integers

Bytes = npt.NDArray[np.uint8]


class TextColumn:
    """Texts of rows: those of a file as one piece of UTF-8, decoded when they are asked for, then those added since.

    In the piece a line break follows each text; `ends` [n] has the place after it. Texts that were replaced since are
    kept apart until the column is packed.
    """

    def __init__(self, piece: Bytes | None = None, ends: Integers | None = None) -> None:
        self._piece = np.empty(0, np.uint8) if piece is None else piece
        self._ends = np.empty(0, np.int64) if ends is None else ends
        self._bytes = self._piece.data
        self._new: list[str] = []
        self._replaced: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._ends) + len(self._new)

    def __getitem__(self, row: int) -> str:
        if row in self._replaced:
            return self._replaced[row]
        if row >= len(self._ends):
            return self._new[row - len(self._ends)]
        start = int(self._ends[row - 1]) if row else 0
        return str(self._bytes[start : int(self._ends[row]) - 1], "utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        texts = str(self._bytes, "utf-8", "surrogatepass").split("\n")[:-1]
        if len(texts) != len(self._ends):  # a text has a line break
            texts = [self[row] for row in range(len(self._ends))]
        texts += self._new
        for row, text in self._replaced.items():
            texts[row] = text
        return iter(texts)

    def extend(self, texts: Iterable[str]) -> None:
        """Adds the texts of new rows."""
        self._new.extend(texts)

    def __setitem__(self, row: int, text: str) -> None:
        self._replaced[row] = text

    def cut(self, size: int) -> None:
        """Removes the last rows, which were added since the column was made, so that `size` rows are left."""
        del self._new[size - len(self._ends) :]
        self._replaced = {row: text for row, text in self._replaced.items() if row < size}

    def packed(self) -> tuple[Bytes, Integers]:
        """Returns all texts as one piece, and the place after each [n]."""
        if self._replaced:
            whole = TextColumn()
            whole.extend(self)
            return whole.packed()
        if not self._new:
            return self._piece, self._ends
        new = [text.encode("utf-8", "surrogatepass") + b"\n" for text in self._new]
        ends = len(self._piece) + np.cumsum([len(text) for text in new], dtype=np.int64)
        piece = np.concatenate([self._piece, np.frombuffer(b"".join(new), np.uint8)])
        return piece, np.concatenate([self._ends, ends])


class NumberColumns:
    """Arrays of equal length by name, with room for more rows."""

    def __init__(self, **arrays: npt.NDArray[Any]) -> None:
        self._arrays = arrays
        self._size = len(next(iter(arrays.values())))

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[name][: self._size]

    def cut(self, size: int) -> None:
        """Removes the last rows, so that `size` rows are left."""
        self._size = size

    def extend(self, **new: npt.NDArray[Any]) -> None:
        """Adds rows; all columns have to be named."""
        start, self._size = self._size, self._size + len(next(iter(new.values())))
        for name, values in new.items():
            if self._size > len(self._arrays[name]):
                self._arrays[name] = np.concatenate([self._arrays[name], np.zeros(self._size, values.dtype)])
            self._arrays[name][start : self._size] = values
