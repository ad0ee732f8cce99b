"""Formulas of BM25 in Lucene's precision: single where Lucene has single, so that equal scores are equal here too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

K1 = np.float32(0.9)
"""Saturation of the term frequency; Anserini's choice."""
B = np.float32(0.4)
"""Strength of length normalisation; Anserini's choice."""

_EXACT_LENGTHS = 24  # lengths below are encoded exactly
_MANTISSA_BITS = 4  # of a longer length's excess over 24
_CHUNK = 1 << 22  # postings that are computed at once
_DECIMALS = 1e4
_TIE = float(np.float32(1e-4))
_TIE_STEP = np.float32(1e-6)


def encoded_lengths(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns document lengths as Lucene's byte decodes them (SmallFloat.intToByte4): 24 and four bits of the rest."""
    excess = np.maximum(lengths - _EXACT_LENGTHS, 0)
    dropped = np.maximum(np.frexp(excess.astype(np.float64))[1] - _MANTISSA_BITS, 0)
    return np.where(lengths < _EXACT_LENGTHS, lengths, _EXACT_LENGTHS + (excess >> dropped << dropped))


def idf(document_frequency: int, documents: int) -> np.float32:
    """Returns the inverse document frequency of a term."""
    return np.float32(math.log(1 + (documents - document_frequency + 0.5) / (document_frequency + 0.5)))


def fill_tf_factors(
    factors: NDArray[np.float32], frequencies: NDArray[Any], documents: NDArray[np.int32], lengths: NDArray[np.int64]
) -> None:
    """Sets 1 + tf / norm for each posting.

    Args:
        factors: The array to fill.
        frequencies: The term frequency of each posting.
        documents: The document of each posting.
        lengths: The number of terms of each document.
    """
    average = np.float32(int(lengths.sum()) / max(1, int(np.count_nonzero(lengths))))
    norms = K1 * ((1 - B) + B * encoded_lengths(lengths).astype(np.float32) / max(average, np.float32(1)))
    inverse_norms = 1 / norms
    for start in range(0, len(frequencies), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        factors[chunk] = 1 + frequencies[chunk].astype(np.float32) * inverse_norms[documents[chunk]]


def rounded_scores(scores: NDArray[np.float32]) -> list[float]:
    """Returns falling scores as Anserini reports them: four decimals, with ties broken.

    A score at most 0.0001 below the reported one above is a tie, and is lowered by 0.000001 for each of the ties
    before it.
    """
    rounded = (np.floor(scores.astype(np.float64) * _DECIMALS + 0.5) / _DECIMALS).astype(np.float32)
    reported: list[float] = []
    ties = 0
    for score in rounded.tolist():
        ties = ties + 1 if reported and reported[-1] - score <= _TIE else 0
        reported.append(float(np.float32(score) - _TIE_STEP * np.float32(ties)) if ties else score)
    return reported
