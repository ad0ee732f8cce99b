"""Hashes of 64 bits, the same in every process: of words, of texts, and of several hashes together."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


def word_hash(word: str) -> int:
    """Returns the hash of a word, as part of a feature."""
    data = word.encode()
    return zlib.crc32(data) | zlib.crc32(data, 0x9E3779B9) << 32


def digest(*parts: str) -> int:
    """Returns a hash that no others of a run share, as part of a key; the first part says what the others are."""
    text = "\x1f".join(parts)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def mix(first: Hashes, salt: int | npt.NDArray[np.int64], *others: Hashes | npt.NDArray[np.int64]) -> Hashes:
    """Returns hashes combined with numbers (`salt`) and with each other, element by element."""
    value = stir(first ^ np.multiply(np.asarray(salt).astype(np.uint64), np.uint64(0x9E3779B97F4A7C15)))
    for other in others:
        value = stir(value ^ other.astype(np.uint64, copy=False))
    return value


def stir(value: Hashes) -> Hashes:
    """Returns hashes with their bits spread: a multiply-xorshift step."""
    value = value * np.uint64(0xBF58476D1CE4E5B9)
    return value ^ value >> np.uint64(29)
