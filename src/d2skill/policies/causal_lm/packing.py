"""Rows of a batch filled with several sequences each, so that little of a forward pass is padding.

The sequences of a row look back only at themselves, and at what was read before them: their share of a trunk (see
prefixes). Rows are as wide as the fullest, so they are filled evenly. Fewer and wider rows have less padding, but all
their tokens attend over more columns, masked ones among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace

import numpy as np
import numpy.typing as npt

from d2skill.policies.causal_lm.prefix_sharing import Tokens

_TO_A_ROW = (1, 2, 3, 4, 6, 8, 12, 16)
"""Sequences in a row, on average, that are tried."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Packed:
    """Sequences in rows: tokens, their positions in the text, the share of a trunk that each sees, all [B, W].

    `owner` is the number of a token's sequence, and -1 in padding; `starts` are the columns at which sequences begin,
    of all rows laid end to end.
    """

    tokens: Numbers
    positions: Numbers
    shares: Numbers
    owner: Numbers
    starts: Numbers


def packed(sequences: Sequence[Tokens], shares: Sequence[int], rows: Sequence[Sequence[int]]) -> Packed:
    """Lays sequences into rows, given by their numbers, one behind the other; each goes on after a share of a trunk."""
    width = max(sum(len(sequences[i]) for i in row) for row in rows)
    tokens, positions, seen = (np.zeros((len(rows), width), dtype=np.int64) for _ in range(3))
    owner, starts = np.full_like(tokens, -1), np.zeros(len(sequences), dtype=np.int64)
    for number, row in enumerate(rows):
        end = 0
        for i in row:
            place = slice(end, end + len(sequences[i]))
            starts[i], end = number * width + end, place.stop
            tokens[number, place] = sequences[i]
            positions[number, place] = np.arange(shares[i], shares[i] + len(sequences[i]))
            seen[number, place] = shares[i]
            owner[number, place] = i
    return Packed(tokens, positions, seen, owner, starts)


def even_rows(lengths: Sequence[int], trunk: int, keys: float) -> list[list[int]]:
    """Distributes sequences over rows so that they are cheap to read; returns their numbers, row by row.

    All of them can look at `trunk` columns more. `keys` is the number of columns over which to attend takes as long as
    all else that is done for a token. The tokens computed are never more than with one sequence in each row.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    best: tuple[float, list[list[int]]] | None = None
    for count in sorted({-(-len(lengths) // each) for each in _TO_A_ROW}, reverse=True):
        rows, width = _fill(order, lengths, count)
        cost = count * width * (1 + (trunk + width) / keys)
        if best is None or cost < best[0]:
            best = cost, rows
    return best[1] if best else []


def _fill(order: Sequence[int], lengths: Sequence[int], count: int) -> tuple[list[list[int]], int]:
    """Puts one after the other into the row with the least in it; returns the rows and the most in one."""
    rows: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, row) for row in range(count)]
    heapify(filled)
    for i in order:
        tokens, row = filled[0]
        rows[row].append(i)
        heapreplace(filled, (tokens + lengths[i], row))
    return rows, max(tokens for tokens, _ in filled)
