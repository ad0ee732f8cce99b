"""The numbers of BM25 in Lucene's precision: single where it has single, so that equal scores are equal here too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

K1 = np.float32(0.9)
"""How fast the worth of a term's repetitions shrinks: Anserini's choice."""
B = np.float32(0.4)
"""How much a document's length counts: Anserini's choice."""

_EXACT = 24  # lengths below are kept as they are
_BITS = 4  # of what is above, that are kept
_AT_ONCE = 1 << 22
_PLACES = 1e4
_TIE = float(np.float32(1e-4))
_STEP = np.float32(1e-6)


def kept(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """What Lucene's byte (SmallFloat.intToByte4) keeps of lengths: 24 and the first four bits of the rest."""
    above = np.maximum(lengths - _EXACT, 0)
    cut = np.maximum(np.frexp(above.astype(np.float64))[1] - _BITS, 0)
    return np.where(lengths < _EXACT, lengths, _EXACT + (above >> cut << cut))


def rarity(having: int, counted: int) -> np.float32:
    """The inverse document frequency of a term that `having` of `counted` documents have."""
    return np.float32(math.log(1 + (counted - having + 0.5) / (having + 0.5)))


def growths(counts: NDArray[Any], rows: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """One plus count / norm for each posting; the higher, the nearer a term's part comes to its weight."""
    average = np.float32(int(lengths.sum()) / max(1, int(np.count_nonzero(lengths))))
    inverses = 1 / (K1 * ((1 - B) + B * kept(lengths).astype(np.float32) / max(average, np.float32(1))))
    found = np.empty(len(counts), np.float32)
    for first in range(0, len(counts), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        found[some] = 1 + counts[some].astype(np.float32) * inverses[rows[some]]
    return found


def shown(scores: NDArray[np.float32]) -> list[float]:
    """Falling scores as Anserini gives them out: four places, less a millionth for each one above that was the same.

    Scores that differ by no more than 0.0001 are the same to it, after the one above has been lowered.
    """
    rounded = (np.floor(scores.astype(np.float64) * _PLACES + 0.5) / _PLACES).astype(np.float32)
    found: list[float] = []
    same = 0
    for score in rounded.tolist():
        same = same + 1 if found and found[-1] - score <= _TIE else 0
        found.append(float(np.float32(score) - _STEP * np.float32(same)) if same else score)
    return found
