"""Postings: for each term, the documents that have it and how often, counted from a stream of texts."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2skill.envs.text_search.analyzer import normalize
from d2skill.envs.text_search.tokenizer import tokenize

_BATCH = 1 << 22  # terms that are counted at once
_TOKEN_CACHE = 1 << 20  # tokens whose term is remembered


@dataclass(frozen=True)
class Postings:
    """Inverted lists of all terms. Those of term t are `offsets[t] : offsets[t + 1]`, by ascending document."""

    terms: list[str]
    """In the order of their UTF-8 bytes."""
    offsets: NDArray[np.int64]
    documents: NDArray[np.int32]
    """The document of each posting, by its place in the stream."""
    frequencies: NDArray[np.unsignedinteger[Any]]
    """The term frequency of each posting: how often the document has the term."""
    lengths: NDArray[np.int64]
    """The number of terms of each document."""


class _Batch(NamedTuple):
    """Postings of some consecutive documents, with numbers in place of terms."""

    terms: NDArray[np.int32]
    offsets: NDArray[np.int64]
    documents: NDArray[np.int32]
    frequencies: NDArray[np.unsignedinteger[Any]]


def build_postings(texts: Iterable[str]) -> Postings:
    """Counts the terms of documents, which are read once, one after the other."""
    numbers: dict[str, int] = {}
    lengths = array("q")
    batches = list(_batches(texts, numbers, lengths))
    terms = sorted(numbers)
    rank = np.empty(len(terms), np.int32)
    rank[[numbers[term] for term in terms]] = np.arange(len(terms), dtype=np.int32)
    offsets = np.zeros(len(terms) + 1, np.int64)
    for batch in batches:
        np.add.at(offsets, rank[batch.terms] + 1, np.diff(batch.offsets))
    np.cumsum(offsets, out=offsets)
    documents = np.empty(offsets[-1], np.int32)
    dtype = max((batch.frequencies.dtype for batch in batches), default=np.dtype(np.uint8))
    frequencies = np.empty(offsets[-1], dtype)
    filled = offsets[:-1].copy()
    batches.reverse()
    while batches:  # each is freed when it is copied
        batch = batches.pop()
        sizes, ranks = np.diff(batch.offsets), rank[batch.terms]
        targets = np.arange(len(batch.documents)) + np.repeat(filled[ranks] - batch.offsets[:-1], sizes)
        documents[targets], frequencies[targets] = batch.documents, batch.frequencies
        filled[ranks] += sizes
    return Postings(terms, offsets, documents, frequencies, np.array(lengths, np.int64))


def _batches(texts: Iterable[str], numbers: dict[str, int], lengths: array[int]) -> Iterator[_Batch]:
    """Yields the postings of some documents at a time; fills the terms' numbers and the documents' lengths."""

    @lru_cache(_TOKEN_CACHE)
    def number_of(token: str) -> int:
        """Returns the number of a token's term, in the order of first occurrence; -1 for a stop word."""
        term = normalize(token)
        return numbers.setdefault(term, len(numbers)) if term else -1

    terms, first = array("i"), 0
    for text in texts:
        before = len(terms)
        terms.extend([number for token in tokenize(text) if (number := number_of(token)) >= 0])
        lengths.append(len(terms) - before)
        if len(terms) >= _BATCH:
            yield _count(terms, lengths[first:], first)
            terms, first = array("i"), len(lengths)
    if len(lengths) > first:
        yield _count(terms, lengths[first:], first)


def _count(terms: array[int], lengths: array[int], first: int) -> _Batch:
    """Counts the terms of documents from number `first` on, whose terms stand one after the other."""
    documents = np.repeat(np.arange(len(lengths)), np.frombuffer(lengths, np.int64))
    keys, frequencies = np.unique(np.array(terms, np.int64) * len(lengths) + documents, return_counts=True)
    numbers, rows = np.divmod(keys, len(lengths))
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return _Batch(
        numbers[starts].astype(np.int32),
        np.append(starts, len(numbers)),
        (rows + first).astype(np.int32),
        frequencies.astype(np.min_scalar_type(frequencies.max(initial=0))),
    )
