"""Postings: for each term, the documents that have it and how often, counted from a stream of texts.

Texts are counted in blocks, whose terms are sorted, so that blocks are merged range of terms by range of terms. With a
scratch folder, blocks and results lie in unnamed files there that are mapped, and memory holds the vocabulary, a few
bytes for each document and one block: of a collection larger than memory, too.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from d2skill.envs.text_search.analyzer import normalize
from d2skill.envs.text_search.tokenizer import tokenize

_BATCH = 1 << 22  # terms that are counted at once
_MERGED = 1 << 24  # postings that are merged at once, about
_TOKEN_CACHE = 1 << 20  # tokens whose term is remembered
_ALIGNED = 8


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


class _Block(NamedTuple):
    """Postings of some consecutive documents, with numbers in place of terms, in the order of the terms."""

    terms: NDArray[np.int32]
    offsets: NDArray[np.int64]
    documents: NDArray[np.int32]
    frequencies: NDArray[np.unsignedinteger[Any]]


class _Spill:
    """Arrays that are written one after the other, and then read: in a file, or in memory without a folder."""

    def __init__(self, scratch: Path | None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=scratch) if scratch else BytesIO()  # noqa: SIM115
        self._places: list[tuple[np.dtype[Any], int, int]] = []

    def add(self, arrays: Iterable[NDArray[Any]]) -> None:
        """Writes arrays."""
        for each in arrays:
            self._file.write(bytes(-self._file.tell() % _ALIGNED))
            self._places.append((each.dtype, len(each), self._file.tell()))
            self._file.write(np.ascontiguousarray(each).data)

    def read(self) -> list[NDArray[Any]]:
        """Returns all arrays, and no more can be added."""
        if not self._places:
            return []
        self._file.write(bytes(_ALIGNED))  # so that an empty last array has its place in the file
        self._file.flush()
        memory = isinstance(self._file, BytesIO)
        content = self._file.getbuffer() if memory else mmap(self._file.fileno(), 0, access=ACCESS_READ)  # type: ignore[attr-defined]
        return [np.frombuffer(content, *place) for place in self._places]


def scratch_array(count: int, dtype: DTypeLike, scratch: Path | None) -> NDArray[Any]:
    """Returns an array to fill: in a file without a name, or in memory without a folder."""
    if scratch is None or count == 0:
        return np.empty(count, dtype)
    with tempfile.TemporaryFile(dir=scratch) as file:
        return np.memmap(file, dtype, "w+", shape=count)


def build_postings(texts: Iterable[str], scratch: Path | None = None) -> Postings:
    """Counts the terms of documents, which are read once, one after the other; in files of a folder if it is given."""
    numbers: dict[str, int] = {}
    lengths = array("q")
    spill = _Spill(scratch)
    for block in _blocks(texts, numbers, lengths):
        spill.add(block)
    arrays = spill.read()
    blocks = [_Block(*arrays[first : first + 4]) for first in range(0, len(arrays), 4)]
    terms = sorted(numbers)
    rank = np.empty(len(terms), np.int32)
    rank[np.fromiter(map(numbers.__getitem__, terms), np.int64, len(terms))] = np.arange(len(terms), dtype=np.int32)
    del numbers
    spill = _Spill(scratch)
    offsets = np.zeros(len(terms) + 1, np.int64)
    for block in blocks:
        ranks = rank[block.terms]
        offsets[ranks + 1] += np.diff(block.offsets)
        spill.add([ranks])
    np.cumsum(offsets, out=offsets)
    documents, frequencies = _merge(blocks, spill.read(), offsets, scratch)
    return Postings(terms, offsets, documents, frequencies, np.array(lengths, np.int64))


def _merge(
    blocks: list[_Block], ranks: list[NDArray[Any]], offsets: NDArray[np.int64], scratch: Path | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns documents and frequencies of all postings, term by term; `ranks` are the places of a block's terms."""
    count = int(offsets[-1])
    dtype = max((block.frequencies.dtype for block in blocks), default=np.dtype(np.uint8))
    documents, frequencies = scratch_array(count, np.int32, scratch), scratch_array(count, dtype, scratch)
    bounds = np.unique([*np.searchsorted(offsets, np.arange(0, count, _MERGED)), len(offsets) - 1])
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        filled = offsets[first:last].copy()
        for block, places in zip(blocks, ranks, strict=True):
            start, end = np.searchsorted(places, (first, last)).tolist()
            starts, own = block.offsets[start : end + 1], places[start:end] - first
            sizes, part = np.diff(starts), slice(starts[0], starts[-1])
            targets = np.arange(part.start, part.stop) + np.repeat(filled[own] - starts[:-1], sizes)
            documents[targets], frequencies[targets] = block.documents[part], block.frequencies[part]
            filled[own] += sizes
    return documents, frequencies


def _blocks(texts: Iterable[str], numbers: dict[str, int], lengths: array[int]) -> Iterable[_Block]:
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
            yield _count(terms, lengths[first:], first, list(numbers))
            terms, first = array("i"), len(lengths)
    if len(lengths) > first:
        yield _count(terms, lengths[first:], first, list(numbers))


def _count(terms: array[int], lengths: array[int], first: int, names: list[str]) -> _Block:
    """Counts the terms of documents from number `first` on, whose terms stand one after the other."""
    found, places = np.unique(np.array(terms, np.int32), return_inverse=True)
    order = sorted(range(len(found)), key=list(map(names.__getitem__, found.tolist())).__getitem__)
    rank = np.empty(len(found), np.int64)
    rank[order] = np.arange(len(found))
    documents = np.repeat(np.arange(len(lengths)), np.frombuffer(lengths, np.int64))
    keys, frequencies = np.unique(rank[places] * len(lengths) + documents, return_counts=True)
    numbers, rows = np.divmod(keys, len(lengths))
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return _Block(
        found[order].astype(np.int32),
        np.append(starts, len(numbers)),
        (rows + first).astype(np.int32),
        frequencies.astype(np.min_scalar_type(frequencies.max(initial=0))),
    )
