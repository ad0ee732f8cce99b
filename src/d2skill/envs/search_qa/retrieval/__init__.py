"""Retrievers: exact BM25 as Lucene has it, vectors of an embedder, and servers as Search-R1 has them.

`corpus` has the passages in a mapped file, `bm25` and `dense` search them, `http` asks a server, and `recent` remembers
the results of all three.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from d2skill.envs.search_qa.data import corpus_file
from d2skill.envs.search_qa.retrieval.recent import RecentSearches
from d2skill.errors import ConfigError

if TYPE_CHECKING:
    from d2skill.config import SearchQAConfig
    from d2skill.envs.search_qa.passage import PassageSearch

__all__ = ["make_retriever"]


def make_retriever(settings: SearchQAConfig, data: Path) -> PassageSearch:
    """Returns the search of the settings over the passages of `env.search_qa.corpus`, or of the data folder.

    An index that is not there yet is made, which may take long and is told; a server is asked once. Raises
    `ConfigError` for passages that are missing and a server that does not answer, `DataError` for broken passages.
    """
    if settings.retriever == "http":
        from d2skill.envs.search_qa.retrieval.http import ServedSearch

        if not settings.url:
            raise ConfigError(
                "env.search_qa.retriever is http and env.search_qa.url is not set: name the server, such as "
                "http://127.0.0.1:8000/retrieve"
            )
        return RecentSearches(ServedSearch(settings.url, settings.timeout))
    from d2skill.envs.search_qa.retrieval.corpus import Corpus

    path = corpus_file(data, settings)
    if not path.exists():
        raise ConfigError(
            f"{path} is missing: env.search_qa.corpus names the passages, JSON lines with id and contents, and "
            "env.search_qa.retriever http searches at a server"
        )
    corpus = Corpus.open(path)
    if settings.retriever == "dense":
        from d2skill.envs.search_qa.retrieval.dense import DenseSearch

        return RecentSearches(DenseSearch(corpus, settings.embedder))
    from d2skill.envs.search_qa.retrieval.bm25 import BM25Search

    return RecentSearches(BM25Search(corpus))
