"""BM25 over a corpus: the scores and the order of Lucene as Pyserini sets it, k1 0.9 and b 0.4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import tee
from pathlib import Path

from d2skill.envs.search_qa.passage import Passage
from d2skill.envs.search_qa.retrieval.corpus import Corpus, LongWork
from d2skill.envs.text_search import BM25Index
from d2skill.errors import DataError
from d2skill.utils.shared_cache import open_or_make


class BM25Search:
    """Passages by the words of a query. The index is built once, kept in the cache of the corpus, and mapped."""

    def __init__(self, corpus: Corpus) -> None:
        """Opens the index, or builds it, which is told if it takes long."""
        self._corpus = corpus

        def open_index(folder: Path) -> BM25Index:
            index = BM25Index.open(folder)
            if len(index) != len(corpus):
                raise DataError(f"{folder} is of other passages")
            return index

        self._index = open_or_make(corpus.cache / "bm25", open_index, lambda folder: _build(corpus, folder))

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See PassageSearch."""
        return [
            [self._corpus.passage(row, score) for row, score in self._index.search_rows(query, k)] for query in queries
        ]


def _build(corpus: Corpus, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    ids, texts = tee(_told(corpus))
    index = BM25Index.build((passage.id for passage in ids), (passage.contents for passage in texts), folder.parent)
    index.save(folder)


def _told(corpus: Corpus) -> Iterator[Passage]:
    progress = LongWork("building the BM25 index", len(corpus))
    for row, passage in enumerate(corpus):
        progress.at(row)
        yield passage
