"""Counts terms in documents: a stream of texts becomes, for each term, the documents that have it and how often."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2skill.envs.text_search.analyzer import term
from d2skill.envs.text_search.tokenizer import tokens

_BATCH = 1 << 22  # words that are counted at once
_REMEMBERED = 1 << 20  # words whose term is remembered


@dataclass(frozen=True)
class Postings:
    """The terms in the order of their UTF-8 bytes; term t is in `rows[ends[t] : ends[t + 1]]`, which rise."""

    terms: list[str]
    ends: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.unsignedinteger[Any]]
    lengths: NDArray[np.int64]
    """How many terms a document has."""


def count(texts: Iterable[str]) -> Postings:
    """Counts the terms of texts, which are read once, one after the other."""
    numbers = _Numbers()
    lengths = array("q")
    batches = list(_batches(texts, numbers, lengths))
    terms = sorted(numbers.terms)
    rank = np.empty(len(terms), np.int32)
    rank[[numbers.terms[term] for term in terms]] = np.arange(len(terms), dtype=np.int32)
    numbers.clear()
    ends = np.zeros(len(terms) + 1, np.int64)
    for batch in batches:
        np.add.at(ends, rank[batch.terms] + 1, np.diff(batch.ends))
    np.cumsum(ends, out=ends)
    rows = np.empty(ends[-1], np.int32)
    counts = np.empty(ends[-1], max((batch.counts.dtype for batch in batches), default=np.dtype(np.uint8)))
    filled = ends[:-1].copy()
    batches.reverse()
    while batches:
        batch = batches.pop()
        sizes, processes = np.diff(batch.ends), rank[batch.terms]
        places = np.arange(len(batch.rows)) + np.repeat(filled[processes] - batch.ends[:-1], sizes)
        rows[places], counts[places] = batch.rows, batch.counts
        filled[processes] += sizes
    return Postings(terms, ends, rows, counts, np.frombuffer(lengths, np.int64) if lengths else np.zeros(0, np.int64))


@dataclass(frozen=True)
class _Batch:
    """As `Postings`, of some documents on end, with numbers for terms."""

    terms: NDArray[np.int32]
    ends: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.unsignedinteger[Any]]


class _Numbers(dict[str, int]):
    """The number of a word's term, -1 for a stop word; terms are numbered as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.terms: dict[str, int] = {}

    def __missing__(self, token: str) -> int:
        if len(self) >= _REMEMBERED:
            self.clear()
        found = term(token)
        number = self.terms.setdefault(found, len(self.terms)) if found else -1
        self[token] = number
        return number


def _batches(texts: Iterable[str], numbers: _Numbers, lengths: array[int]) -> Iterator[_Batch]:
    """Counts some documents at a time; appends to `lengths` what each has."""
    found, words, first = array("i"), array("q"), 0
    for text in texts:
        before = len(found)
        found.extend([number for token in tokens(text) if (number := numbers[token]) >= 0])
        words.append(len(found) - before)
        if len(found) >= _BATCH:
            yield _batch(found, words, first)
            lengths.extend(words)
            found, words, first = array("i"), array("q"), len(lengths)
    if words:
        yield _batch(found, words, first)
        lengths.extend(words)


def _batch(found: array[int], words: array[int], first: int) -> _Batch:
    """Counts the terms of documents from row `first` on."""
    documents = np.repeat(np.arange(len(words)), np.frombuffer(words, np.int64))
    keys, counts = np.unique(np.array(found, np.int64) * len(words) + documents, return_counts=True)
    terms, rows = np.divmod(keys, len(words))
    starts = np.flatnonzero(np.diff(terms, prepend=-1))
    return _Batch(
        terms[starts].astype(np.int32),
        np.append(starts, len(terms)),
        (rows + first).astype(np.int32),
        counts.astype(np.min_scalar_type(counts.max(initial=0))),
    )
