"""KV cache for generation: its rows grow, shrink and are reused independently, without being copied.

Column c of a row holds the keys and values of the token at position c, so a row can be cut back to any length, or
continue the beginning of another. Each token has a mask of its own of the columns that it sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

_ALIGN = 64


class BatchKVCache(Cache):  # type: ignore[misc]
    """Cache of Transformers whose rows are written at columns of their own.

    `prepare` has to be called before each forward pass: it says which rows and columns the pass is about.
    """

    def __init__(self, max_rows: int) -> None:
        super().__init__(layers=[])
        self._max_rows = max_rows
        self._rows = self._width = 0
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._slice = slice(0, 0)
        self._columns = self._index = torch.zeros(0)
        self._seen = 0

    def prepare(self, first: int, positions: torch.Tensor, real: torch.Tensor, seen: int) -> None:
        """Prepares a forward pass.

        Args:
            first: the first of the r neighbouring rows of the pass.
            positions: positions [r, t] of the tokens.
            real: mask [r, t] of tokens that are no padding.
            seen: number of columns that the tokens can see, their own included.
        """
        self._slice = slice(first, first + len(positions))
        self._grow(self._slice.stop, seen + 1)
        # padding is written to a column that nobody sees
        self._columns = torch.where(real, positions, self._width - 1)
        self._index = torch.arange(len(positions), device=positions.device)[:, None]
        self._seen = seen

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes keys and values [r, heads, t, d] of a layer; returns those of all columns seen in this pass."""
        if layer_idx == len(self._buffers):
            self._buffers.append((self._empty(key_states), self._empty(value_states)))
        seen = []
        for buffer, states in zip(self._buffers[layer_idx], (key_states, value_states), strict=True):
            rows = buffer[self._slice]
            rows[self._index, :, self._columns] = states.transpose(1, 2)
            seen.append(rows[:, :, : self._seen])
        return seen[0], seen[1]

    def copy_rows(self, moves: Sequence[tuple[int, int]], length: int) -> None:
        """Copies the first columns of rows to other rows, all at once; moves are (from, to)."""
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
        """Returns the number of columns seen; nothing depends on it, since masks and positions are given."""
        return self._seen

    def _empty(self, states: torch.Tensor) -> torch.Tensor:
        return states.new_zeros((self._rows, states.shape[1], self._width, states.shape[3]))

    def _grow(self, rows: int, width: int) -> None:
        """Makes room for rows and columns, with some to spare."""
        if rows <= self._rows and width <= self._width:
            return
        if rows > self._rows:
            self._rows = min(self._max_rows, max(rows, 2 * self._rows))
        if width > self._width:
            self._width = -(-max(width, self._width * 5 // 4) // _ALIGN) * _ALIGN
        for layer, buffers in enumerate(self._buffers):
            larger = self._empty(buffers[0]), self._empty(buffers[1])
            for new, old in zip(larger, buffers, strict=True):
                new[: old.shape[0], :, : old.shape[2]] = old
            self._buffers[layer] = larger
