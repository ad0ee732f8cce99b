"""BM25 index: ranks documents as Lucene 8 and Anserini's SimpleSearcher do.

The score of a document is the sum, over the distinct terms of the query, of w − w / (1 + tf / norm), where

    w      how often the query has the term, times its idf: ln(1 + (N − df + 0.5) / (df + 0.5)) if df of N documents
           have it
    tf     how often the document has it
    norm   k1 · (1 − b + b · length / average length), with k1 = 0.9 and b = 0.4

Documents without any term count neither in N nor in the average, which is of exact lengths; the length in the norm is
rounded to what fits into a byte (`bm25.encoded_lengths`). Parts are single precision, their sum is double and rounded
once. Equal scores are in the order of ids. Reported scores are rounded and ties broken (`bm25.rounded_scores`). A
query of more than 1,024 distinct terms, which Lucene refuses, is answered.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2skill.envs.text_search.analyzer import analyze
from d2skill.envs.text_search.bm25 import fill_tf_factors, idf, rounded_scores
from d2skill.envs.text_search.index_files import StringArray, encode_strings, read_arrays, string_ranks, write_arrays
from d2skill.envs.text_search.postings import build_postings, scratch_array

_ARRAYS = ("ids", "id_ends", "order", "counted", "terms", "term_ends", "ends", "rows", "growth", "peaks")
_EXHAUSTIVE = 1 << 15  # documents of an index that scores all matches of a query
_TERM_CACHE = 1 << 16  # terms whose number is remembered
_BINARY_SEARCH = 16  # candidates are looked up one by one in postings that are this many times as many
_SEEDS = 4  # candidates for each hit that are scored completely first, which raises the threshold
_SEEDING = 128  # candidates for each hit from which that pays
_ROUNDING_MARGIN = 1 - 1e-6  # lowers a threshold by more than rounding can hide

Rows = NDArray[np.int32]
Floats = NDArray[np.float32]


class _QueryTerm(NamedTuple):
    """A term of a query, with its postings from `first` to before `last`."""

    weight: float
    first: int
    last: int
    max_factor: float
    """The largest tf factor of its postings."""

    @property
    def max_score(self) -> float:
        """The most that the term adds to a score."""
        return float(np.float32(self.weight) - np.float32(self.weight) / np.float32(self.max_factor))


class BM25Index:
    """An immutable index of documents, which threads and forked processes can share."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Wraps the arrays of an index; see `build` and `open`."""
        self._arrays = dict(arrays)
        self._ids = StringArray(arrays["ids"], arrays["id_ends"])
        self._term_number = lru_cache(_TERM_CACHE)(StringArray(arrays["terms"], arrays["term_ends"]).find)
        self._id_ranks: Rows = arrays["order"]
        self._offsets = arrays["ends"].data
        self._rows: Rows = arrays["rows"]
        self._tf_factors: Floats = arrays["growth"]
        self._max_factors = arrays["peaks"].data
        self._documents = int(arrays["counted"][0])

    def __len__(self) -> int:
        """Returns the number of documents."""
        return len(self._ids)

    @classmethod
    def build(cls, ids: Iterable[str], texts: Iterable[str], scratch: Path | None = None) -> BM25Index:
        """Indexes documents: their ids, and as many texts, both read once and side by side.

        With a scratch folder the work is done in files there, which have no names, and little in memory.
        """
        content, ends = bytearray(), array("q", [0])

        def noted() -> Iterator[str]:
            """Yields the texts, and notes their ids."""
            for id, text in zip(ids, texts, strict=True):
                content.extend(id.encode("utf-8", "surrogatepass"))
                ends.append(len(content))
                yield text

        postings = build_postings(noted(), scratch)
        factors = scratch_array(len(postings.documents), np.float32, scratch)
        fill_tf_factors(factors, postings.frequencies, postings.documents, postings.lengths)
        encoded_ids, id_ends = np.frombuffer(content, np.uint8), np.frombuffer(ends, np.int64)
        terms, term_ends = encode_strings(postings.terms)
        return cls(
            {
                "ids": encoded_ids,
                "id_ends": id_ends,
                "order": string_ranks(encoded_ids, id_ends),
                "counted": np.array([int(np.count_nonzero(postings.lengths))]),
                "terms": terms,
                "term_ends": term_ends,
                "ends": postings.offsets,
                "rows": postings.documents,
                "growth": factors,
                "peaks": np.maximum.reduceat(factors, postings.offsets[:-1]) if len(factors) else factors,
            }
        )

    def save(self, folder: Path) -> None:
        """Writes the index to a folder, which appears, or is replaced, when it is complete."""
        write_arrays(folder, self._arrays)

    @classmethod
    def open(cls, folder: Path) -> BM25Index:
        """Maps a saved index into memory; raises `DataError` if it is missing, damaged or of another format."""
        return cls(read_arrays(folder, _ARRAYS))

    def search(self, query: str, k: int = 50) -> list[tuple[str, float]]:
        """Returns ids and scores of the best `k` documents for a query; none if it has no term of the index."""
        return [(self._ids[row], score) for row, score in self.search_rows(query, k)]

    def search_rows(self, query: str, k: int = 50) -> list[tuple[int, float]]:
        """Returns the places of documents, by the order in which they were indexed, in place of ids; see `search`."""
        terms = sorted(self._query_terms(query), reverse=True)
        if not terms or k < 1:
            return []
        rows, scores = self._score_all(terms) if len(self) <= _EXHAUSTIVE else self._score_best(terms, k)
        if len(scores) > k:
            best = np.flatnonzero(scores >= _kth_largest(scores, k))
            rows, scores = rows[best], scores[best]
        best = np.lexsort((self._id_ranks[rows], -scores))[:k]
        return list(zip(rows[best].tolist(), rounded_scores(scores[best]), strict=True))

    def _query_terms(self, query: str) -> Iterator[_QueryTerm]:
        """Yields the terms of a query that are in the index."""
        for term, times in Counter(analyze(query)).items():
            number = self._term_number(term)
            if number is not None:
                first, last = self._offsets[number], self._offsets[number + 1]
                weight = np.float32(times) * idf(last - first, self._documents)
                yield _QueryTerm(float(weight), first, last, self._max_factors[number])

    def _score_all(self, terms: list[_QueryTerm]) -> tuple[Rows, Floats]:
        """Returns rows and scores of all documents that have a term, from all postings at once."""
        rows = np.concatenate([self._rows[term.first : term.last] for term in terms])
        factors = np.concatenate([self._tf_factors[term.first : term.last] for term in terms])
        weights = np.array([term.weight for term in terms], np.float32)
        weights = np.repeat(weights, [term.last - term.first for term in terms])
        sums = np.bincount(rows, weights - weights / factors)
        hits = np.flatnonzero(sums).astype(np.int32)
        return hits, sums[hits].astype(np.float32)

    def _score_best(self, terms: list[_QueryTerm], k: int) -> tuple[Rows, Floats]:
        """Returns rows and scores of documents, the best `k` and all that equal the last of them among them.

        Terms of high weight come first, until those that remain cannot lift a document that has none of them above
        the threshold, the score that `k` documents have so far. From there on the candidates are the documents that
        the remaining terms can still lift that far: fewer after each term, and fewer from the beginning if some of the
        best are scored completely first.
        """
        sums = np.zeros(len(self))
        remaining, threshold = sum(term.max_score for term in terms), 0.0
        done, partial = 0, sums
        for term in terms:
            rows = self._rows[term.first : term.last]
            partial = sums[rows] + self._scores(term, slice(term.first, term.last))
            sums[rows] = partial
            remaining -= term.max_score
            done += 1
            high = partial[partial > threshold]
            if len(high) >= k:
                threshold = _ROUNDING_MARGIN * float(_kth_largest(high, k))
            if remaining < threshold:
                break
        if len(partial) >= _SEEDING * k:
            seeds = np.flatnonzero(partial >= _kth_largest(partial, min(len(partial), _SEEDS * k)))
            complete = partial[seeds]
            for term in terms[done:]:
                complete += self._scores_of(term, rows[seeds])
            threshold = max(threshold, _ROUNDING_MARGIN * float(_kth_largest(complete, k)))
        candidates = np.flatnonzero(sums > max(0.0, threshold - remaining)).astype(np.int32)
        for term in terms[done:]:
            rows = self._rows[term.first : term.last]
            if len(candidates) * _BINARY_SEARCH > len(rows):
                sums[rows] += self._scores(term, slice(term.first, term.last))
            else:
                sums[candidates] += self._scores_of(term, candidates)
            remaining -= term.max_score
            if len(candidates) > k:
                partial = sums[candidates]
                threshold = max(threshold, _ROUNDING_MARGIN * float(_kth_largest(partial, k)))
                candidates = candidates[partial >= threshold - remaining]
        return candidates, sums[candidates].astype(np.float32)

    def _scores_of(self, term: _QueryTerm, documents: Rows) -> Floats:
        """Returns what a term adds to the scores of ascending documents; zero for those without it."""
        rows = self._rows[term.first : term.last]
        places = np.minimum(np.searchsorted(rows, documents), len(rows) - 1)
        scores = self._scores(term, places + term.first)
        scores[rows[places] != documents] = 0
        return scores

    def _scores(self, term: _QueryTerm, postings: slice | NDArray[np.int64]) -> Floats:
        """Returns what a term adds to the score of the document of each of some postings."""
        weight = np.float32(term.weight)
        scores: Floats = weight - weight / self._tf_factors[postings]
        return scores


def _kth_largest(scores: NDArray[Any], k: int) -> Any:
    return np.partition(scores, len(scores) - k)[len(scores) - k]
