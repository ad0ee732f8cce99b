"""Packing: several sequences in each row of a batch, so that little of a forward pass is padding.

The sequences of a row attend only to themselves and to their part of the shared prefix (see prefix_sharing). Rows are
as wide as the fullest, so they are filled evenly. Fewer and wider rows have less padding, but all their tokens attend
over more columns, masked ones among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace

import numpy as np
import numpy.typing as npt

from d2skill.policies.causal_lm.prefix_sharing import Tokens

_SEQUENCES_PER_ROW = (1, 2, 3, 4, 6, 8, 12, 16)
"""Average numbers of sequences in a row that are tried."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PackedBatch:
    """Sequences packed into rows: tokens, their positions and the prefix length of each one's sequence, all [B, W].

    `owner` [B, W] is the index of a token's sequence, -1 in padding; `starts` [sequences] are the columns at which
    sequences begin, counted over all rows laid end to end.
    """

    tokens: Numbers
    positions: Numbers
    prefix_lengths: Numbers
    owner: Numbers
    starts: Numbers


def pack_sequences(
    sequences: Sequence[Tokens], prefix_lengths: Sequence[int], rows: Sequence[Sequence[int]]
) -> PackedBatch:
    """Returns sequences packed into rows, each of which is given by the indices of its sequences."""
    width = max(sum(len(sequences[i]) for i in row) for row in rows)
    tokens, positions, lengths = (np.zeros((len(rows), width), dtype=np.int64) for _ in range(3))
    owner, starts = np.full_like(tokens, -1), np.zeros(len(sequences), dtype=np.int64)
    for number, row in enumerate(rows):
        end = 0
        for i in row:
            columns = slice(end, end + len(sequences[i]))
            starts[i], end = number * width + end, columns.stop
            tokens[number, columns] = sequences[i]
            positions[number, columns] = np.arange(prefix_lengths[i], prefix_lengths[i] + len(sequences[i]))
            lengths[number, columns] = prefix_lengths[i]
            owner[number, columns] = i
    return PackedBatch(tokens, positions, lengths, owner, starts)


def assign_rows(lengths: Sequence[int], prefix: int, attention_columns: float) -> list[list[int]]:
    """Returns the cheapest assignment of sequences to rows, as their indices, row by row.

    `lengths` are those of the sequences, all of which can attend to `prefix` columns more. Attention over
    `attention_columns` columns takes as long as all else that is done for a token. The tokens computed are never more
    than with one sequence in each row.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    best: tuple[float, list[list[int]]] | None = None
    for count in sorted({-(-len(lengths) // each) for each in _SEQUENCES_PER_ROW}, reverse=True):
        rows, width = _fill_rows(order, lengths, count)
        cost = count * width * (1 + (prefix + width) / attention_columns)
        if best is None or cost < best[0]:
            best = cost, rows
    return best[1] if best else []


def _fill_rows(order: Sequence[int], lengths: Sequence[int], count: int) -> tuple[list[list[int]], int]:
    """Puts each sequence into the row with the fewest tokens; returns the rows and the most tokens of one."""
    rows: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, row) for row in range(count)]
    heapify(filled)
    for i in order:
        tokens, row = filled[0]
        rows[row].append(i)
        heapreplace(filled, (tokens + lengths[i], row))
    return rows, max(tokens for tokens, _ in filled)
