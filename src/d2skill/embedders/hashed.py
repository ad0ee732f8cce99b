"""Hashed bag of words and word pairs: an embedder without a model, the same on every machine.

The gates best separate related keys from unrelated ones. Shares of pairs above them, over 1,200 ALFWorld training games
(`benchmarks/gate.py` prints them, and those of the houses, which are similar):

    step keys, gate 0.61             above      task keys, gate 0.27      above
    same room, same object            99 %      same goal                 100 %
    same room, other object           23 %      same object, other goal    81 %
    other room, same object           16 %      other object                4 %
    other room, other object           0 %

A step key of the same room and nothing else in common scores 0.5, so the gate asks for something of the task as well.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_CLAUSE = re.compile(r"[.,:;!?()\[\]\n]+")
_TOKEN = re.compile(r"[^\W_]+")
_PAIR_WEIGHT = 0.5
_COMMON_WEIGHT = 0.3
_COMMON = frozenset("find get clean heat cool hot cold look examine two three one new".split())
_IDENTITY_SHARE = 0.35
_IDENTITY_FEATURES = 8
_STOP_WORDS = frozenset(
    "a all an and any are as at be been but by can do does for from had has have i if in into is it its me my no nor "
    "of off on or our out please put see seen so some such task than that the their them then there these they this "
    "those to too up us was we were what when where which while who will with would you your".split()
)


class HashedEmbedder:
    """Signed feature hashing of lower-cased words and word pairs, with sublinear counts (1 + log count).

    A pair weighs half a word, as it repeats its words. A number stands only with the noun before it:
    "drawer 4" shares `drawer` with "drawer 3" and nothing more. Pairs reach over stop words, not over
    punctuation: "apple in the fridge" holds `apple fridge`. A text of stop words alone has the zero
    vector, similar to nothing.

    The whole text is a feature too, with a share of 0.35: the same text has similarity 1, any other at most 0.65 times
    that of the words. Rooms of a kind list the same furniture but for a number, and places learnt in one are wrong in
    the next.
    """

    task_gate = 0.27
    step_gate = 0.61

    def __init__(self, dimension: int, task_gate: float | None = None, step_gate: float | None = None) -> None:
        """Sets up an embedder of vectors of length `dimension`; a gate that is given replaces the default one."""
        self.task_gate = type(self).task_gate if task_gate is None else task_gate
        self.step_gate = type(self).step_gate if step_gate is None else step_gate
        self.dimension = dimension
        self.fingerprint = f"hashed-v2/{dimension}"

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns vectors of length 1 (0 for a text without words), shape [len(texts), dimension]."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            counts = Counter(_features(text))
            if not counts:
                continue
            hashes = np.fromiter(map(_hash, counts), dtype=np.uint64, count=len(counts))
            weights = 1.0 + np.log(np.fromiter(counts.values(), dtype=np.float64, count=len(counts)))
            weights *= np.fromiter(map(_weight, counts), dtype=np.float64, count=len(counts))
            words = self._unit_vector(hashes, weights)
            whole = " ".join(sorted(counts))
            marks = np.array([_hash(f"{i}\x1f{whole}") for i in range(_IDENTITY_FEATURES)], dtype=np.uint64)
            identity = self._unit_vector(marks, np.ones(_IDENTITY_FEATURES))
            both = np.sqrt(1 - _IDENTITY_SHARE) * words + np.sqrt(_IDENTITY_SHARE) * identity
            norm = float(np.sqrt(both @ both))
            if norm > 0.0:
                vectors[row] = both / norm
        return vectors

    def _unit_vector(self, hashes: npt.NDArray[np.uint64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Returns the unit vector of hashed features, 0 if they cancel out."""
        signed = np.where(hashes >> np.uint64(63), weights, -weights)
        buckets = (hashes % np.uint64(self.dimension)).astype(np.int64)
        vector = np.bincount(buckets, signed, self.dimension)
        norm = float(np.sqrt(vector @ vector))
        return np.asarray(vector / norm if norm > 0.0 else vector, dtype=np.float64)


def _features(text: str) -> Iterator[str]:
    """Yields the words and word pairs of a text, as often as they occur."""
    for clause in _CLAUSE.split(text.lower()):
        previous = ""
        for word in _TOKEN.findall(clause):
            if word in _STOP_WORDS:
                continue
            if previous:
                yield f"{previous} {word}"
            if word.isdecimal():
                previous = ""
            else:
                yield word
                previous = word


@lru_cache(maxsize=1 << 16)
def _weight(feature: str) -> float:
    """Returns the weight of a feature: less for words of tasks that name no thing, half for pairs."""
    first, _, second = feature.partition(" ")
    weight = _COMMON_WEIGHT if first in _COMMON or second in _COMMON else 1.0
    return weight * _PAIR_WEIGHT if second else weight


@lru_cache(maxsize=1 << 16)
def _hash(feature: str) -> int:
    """Returns 64 hash bits of a feature: the top one gives its sign, the value modulo the dimension its bucket."""
    return int.from_bytes(hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest(), "big")
