"""Keys and values of rows that go on independently of each other, in place.

Column c of a row holds what its token at position c left. So a row can be cut back to any length, can go on from
another's beginning, and grows without anything being copied; and what a token may look at is a mask of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

_ALIGN = 64


class RowCache(Cache):  # type: ignore[misc]
    """A cache of Transformers whose rows are written at columns of their own.

    `window` says which rows a forward pass is about and where its tokens are, before each pass.

    Args:
        rows: how many rows there will be, at most.
    """

    def __init__(self, rows: int) -> None:
        super().__init__(layers=[])
        self._most = rows
        self._rows = self._width = 0
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._slice = slice(0, 0)
        self._columns = self._index = torch.zeros(0)
        self._seen = 0

    def window(self, first: int, positions: torch.Tensor, real: torch.Tensor, seen: int) -> None:
        """Announces a pass over rows from `first` on, with tokens at positions [r, t] and what is no padding.

        `seen` columns of these rows are looked at, those of the tokens included.
        """
        self._slice = slice(first, first + len(positions))
        self._grow(self._slice.stop, seen + 1)
        # padding is written where nobody looks
        self._columns = torch.where(real, positions, self._width - 1)
        self._index = torch.arange(len(positions), device=positions.device)[:, None]
        self._seen = seen

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **given: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes keys and values [r, heads, t, d] of a layer; returns all that the rows of this pass look at."""
        if layer_idx == len(self._buffers):
            self._buffers.append((self._empty(key_states), self._empty(value_states)))
        found = []
        for buffer, states in zip(self._buffers[layer_idx], (key_states, value_states), strict=True):
            rows = buffer[self._slice]
            rows[self._index, :, self._columns] = states.transpose(1, 2)
            found.append(rows[:, :, : self._seen])
        return found[0], found[1]

    def copy(self, moves: Sequence[tuple[int, int]], length: int) -> None:
        """Gives rows the first columns of others, all at once; moves are (from, to)."""
        if not moves or not self._buffers:
            return
        sources, targets = np.array(moves).T
        self._grow(int(targets.max()) + 1, 0)
        device = self._buffers[0][0].device
        source, target = torch.from_numpy(sources).to(device), torch.from_numpy(targets).to(device)
        for buffers in self._buffers:
            for buffer in buffers:
                buffer[target, :, :length] = buffer[source, :, :length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Returns the columns that are looked at; masks and positions are given, so nothing hangs on it."""
        return self._seen

    def _empty(self, states: torch.Tensor) -> torch.Tensor:
        return states.new_zeros((self._rows, states.shape[1], self._width, states.shape[3]))

    def _grow(self, rows: int, width: int) -> None:
        """Makes room for rows and columns, with some to spare."""
        if rows <= self._rows and width <= self._width:
            return
        if rows > self._rows:
            self._rows = min(self._most, max(rows, 2 * self._rows))
        if width > self._width:
            self._width = -(-max(width, self._width * 5 // 4) // _ALIGN) * _ALIGN
        for layer, buffers in enumerate(self._buffers):
            keys, values = (self._larger(buffer) for buffer in buffers)
            self._buffers[layer] = keys, values

    def _larger(self, buffer: torch.Tensor) -> torch.Tensor:
        rows, _, width, _ = buffer.shape
        larger = buffer.new_zeros((self._rows, buffer.shape[1], self._width, buffer.shape[3]))
        larger[:rows, :, :width] = buffer
        return larger
