"""Ranks documents by BM25 as Lucene 8 computes it, and answers as Anserini's SimpleSearcher does.

The score of a document is the sum, over the distinct terms of the query, of w − w / (1 + n / norm), where

    w      how often the query has the term, times ln(1 + (N − d + 0.5) / (d + 0.5)): d of N documents have it
    n      how often the document has it
    norm   k1 · (1 − b + b · length / average length), with k1 = 0.9 and b = 0.4

Documents without any term count neither in N nor in the average, which is of exact lengths; in the norm a length is
what a byte keeps of it (`bm25.kept`). Parts are single precision, their sum is double and rounded once. Equal scores
are in the order of ids. What is given out is rounded and spread a little (`bm25.shown`). A query of more than 1,024
distinct terms, which Lucene refuses, is answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2skill.envs.text_search.analyzer import analyze
from d2skill.envs.text_search.bm25 import growths, rarity, shown
from d2skill.envs.text_search.index_files import read_arrays, write_arrays
from d2skill.envs.text_search.string_table import Strings, encoded
from d2skill.envs.text_search.term_counts import count

_ARRAYS = ("ids", "id_ends", "order", "counted", "terms", "term_ends", "ends", "rows", "growth", "peaks")
_FEW = 1 << 15  # documents that are summed without looking for shortcuts
_KNOWN = 1 << 16  # terms whose place is remembered
_SEARCHED = 16  # a document is looked up in a list that is this many times longer than the documents in question
_TRIED = 4  # times k documents are scored to the end first
_MANY = 128  # times k documents: where a term has fewer, that does not pay
_SLACK = 1 - 1e-6  # of a score: more than what rounding can hide

Rows = NDArray[np.int32]
Floats = NDArray[np.float32]


class _Wanted(NamedTuple):
    """A term of a query that documents have."""

    weight: float
    first: int
    last: int
    """Its postings are those from `first` to before `last`."""
    peak: float
    """The largest growth among them."""

    @property
    def most(self) -> float:
        """The most that the term adds to a score."""
        return float(np.float32(self.weight) - np.float32(self.weight) / np.float32(self.peak))


class Index:
    """Documents that can be searched. Nothing in it changes, so threads and forked processes can share it."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = dict(arrays)
        self._ids = Strings(arrays["ids"], arrays["id_ends"])
        self._find = lru_cache(_KNOWN)(Strings(arrays["terms"], arrays["term_ends"]).find)
        self._order: Rows = arrays["order"]
        self._ends = arrays["ends"].data
        self._rows: Rows = arrays["rows"]
        self._growth: Floats = arrays["growth"]
        self._peaks = arrays["peaks"].data
        self._counted = int(arrays["counted"][0])

    def __len__(self) -> int:
        """How many documents there are."""
        return len(self._ids)

    @classmethod
    def build(cls, ids: Sequence[str], texts: Iterable[str]) -> Index:
        """Indexes documents: their ids, and as many texts, which are read once."""
        postings = count(texts)
        if len(postings.lengths) != len(ids):
            raise ValueError(f"{len(ids)} ids for {len(postings.lengths)} texts")
        order = np.empty(len(ids), np.int32)
        order[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids), dtype=np.int32)
        counted = int(np.count_nonzero(postings.lengths))
        growth = growths(postings.counts, postings.rows, postings.lengths)
        encoded_ids, id_ends = encoded(ids)
        terms, term_ends = encoded(postings.terms)
        return cls(
            {
                "ids": encoded_ids,
                "id_ends": id_ends,
                "order": order,
                "counted": np.array([counted]),
                "terms": terms,
                "term_ends": term_ends,
                "ends": postings.ends,
                "rows": postings.rows,
                "growth": growth,
                "peaks": np.maximum.reduceat(growth, postings.ends[:-1]) if len(growth) else growth,
            }
        )

    def save(self, folder: Path) -> None:
        """Writes the index to a folder, which appears, or is replaced, when it is complete."""
        write_arrays(folder, self._arrays)

    @classmethod
    def open(cls, folder: Path) -> Index:
        """Opens what `save` wrote, in place; raises `DataError` if it is missing, damaged or of another format."""
        return cls(read_arrays(folder, _ARRAYS))

    def search(self, query: str, k: int = 50) -> list[tuple[str, float]]:
        """Returns the best `k` documents for a query, as ids and scores; none for a query without a known term."""
        wanted = sorted(self._wanted(query), reverse=True)
        if not wanted or k < 1:
            return []
        rows, scores = self._all(wanted) if len(self) <= _FEW else self._promising(wanted, k)
        if len(scores) > k:
            best = np.flatnonzero(scores >= _at(scores, k))
            rows, scores = rows[best], scores[best]
        best = np.lexsort((self._order[rows], -scores))[:k]
        return list(zip(map(self._ids.__getitem__, rows[best].tolist()), shown(scores[best]), strict=True))

    def _wanted(self, query: str) -> Iterator[_Wanted]:
        """The terms of a query that documents have."""
        for term, times in Counter(analyze(query)).items():
            number = self._find(term)
            if number is not None:
                first, last = self._ends[number], self._ends[number + 1]
                weight = np.float32(times) * rarity(last - first, self._counted)
                yield _Wanted(float(weight), first, last, self._peaks[number])

    def _all(self, wanted: list[_Wanted]) -> tuple[Rows, Floats]:
        """Rows and scores of all documents that have a term, from all postings at once."""
        rows = np.concatenate([self._rows[term.first : term.last] for term in wanted])
        growth = np.concatenate([self._growth[term.first : term.last] for term in wanted])
        weights = np.array([term.weight for term in wanted], np.float32)
        weights = np.repeat(weights, [term.last - term.first for term in wanted])
        sums = np.bincount(rows, weights - weights / growth)
        hits = np.flatnonzero(sums).astype(np.int32)
        return hits, sums[hits].astype(np.float32)

    def _promising(self, wanted: list[_Wanted], k: int) -> tuple[Rows, Floats]:
        """Rows and scores of documents, the best `k` and all that equal the last of them among them.

        Rare terms come first, until those that remain cannot lift a document that has none of them to the best. From
        there on only documents are looked at that were met, and that the rest can still lift so far: fewer after each
        term, and from the beginning if some of the best are scored to the end first.
        """
        sums = np.zeros(len(self))
        rest, least = sum(term.most for term in wanted), 0.0
        done, met = 0, sums
        for term in wanted:
            rows = self._rows[term.first : term.last]
            met = sums[rows] + self._parts(term, slice(term.first, term.last))
            sums[rows] = met
            rest -= term.most
            done += 1
            high = met[met > least]
            if len(high) >= k:
                least = _SLACK * float(_at(high, k))
            if rest < least:
                break
        if len(met) >= _MANY * k:
            some = np.flatnonzero(met >= _at(met, min(len(met), _TRIED * k)))
            tried = met[some]
            for term in wanted[done:]:
                tried += self._given(term, rows[some])
            least = max(least, _SLACK * float(_at(tried, k)))
        hits = np.flatnonzero(sums > max(0.0, least - rest)).astype(np.int32)
        for term in wanted[done:]:
            rows = self._rows[term.first : term.last]
            if len(hits) * _SEARCHED > len(rows):
                sums[rows] += self._parts(term, slice(term.first, term.last))
            else:
                sums[hits] += self._given(term, hits)
            rest -= term.most
            if len(hits) > k:
                met = sums[hits]
                least = max(least, _SLACK * float(_at(met, k)))
                hits = hits[met >= least - rest]
        return hits, sums[hits].astype(np.float32)

    def _given(self, term: _Wanted, documents: Rows) -> Floats:
        """What a term adds to the score of documents, whose rows rise; nothing to those without it."""
        rows = self._rows[term.first : term.last]
        places = np.minimum(np.searchsorted(rows, documents), len(rows) - 1)
        parts = self._parts(term, places + term.first)
        parts[rows[places] != documents] = 0
        return parts

    def _parts(self, term: _Wanted, postings: slice | NDArray[np.int64]) -> Floats:
        """What a term adds to the score of documents."""
        weight = np.float32(term.weight)
        parts: Floats = weight - weight / self._growth[postings]
        return parts


def _at(scores: NDArray[Any], k: int) -> Any:
    """The score at rank `k`."""
    return np.partition(scores, len(scores) - k)[len(scores) - k]
