"""Dense search: vectors of all passages in a mapped file of float16, and the exact inner product with a query's.

Vectors are made block by block. After each the file and a note of how many are done are written, so that a process that
is stopped loses one block, and the next goes on. Nothing is approximated: a search reads all vectors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2skill.config import EmbedderConfig
from d2skill.embedders import make_embedder
from d2skill.envs.search_qa.passage import Passage
from d2skill.envs.search_qa.retrieval.corpus import Corpus, LongWork
from d2skill.errors import DataError
from d2skill.utils.atomic_files import write_json
from d2skill.utils.foreign_files import read_json
from d2skill.utils.shared_cache import checksum_of_ends, open_or_make

_MADE = 1024  # passages that are embedded before their vectors are written
_SEARCHED = 1 << 15  # vectors that are made float32 at once
_QUERIES = 256  # that are searched at once
_VECTORS, _NOTE = "vectors.npy", "vectors.json"

Floats = NDArray[np.float32]


class DenseSearch:
    """Passages by the vectors of an embedder, best inner product first."""

    def __init__(self, corpus: Corpus, settings: EmbedderConfig) -> None:
        """Opens the vectors of the passages, or makes those that are missing, which is told if it takes long."""
        self._corpus = corpus
        # The cache of the embedder is for keys that come again; millions of passages would push them out.
        self._embedder = make_embedder(settings.model_copy(update={"cache": "none"}))
        made_by: dict[str, Any] = {
            "embedder": self._embedder.fingerprint,
            "corpus": corpus.cache.name,
            "shape": [len(corpus), self._embedder.dimension],
        }
        name = sha256(json.dumps(made_by).encode()).hexdigest()[:16]
        self._vectors = open_or_make(
            corpus.cache / f"dense-{name}", lambda folder: _open(folder, made_by), lambda f: self._make(f, made_by)
        )

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See PassageSearch."""
        if k < 1:
            return [[] for _ in queries]
        found: list[list[Passage]] = []
        for start in range(0, len(queries), _QUERIES):
            asked = self._embedder.embed(queries[start : start + _QUERIES])
            for rows, scores in best_rows(self._vectors, asked, k):
                pairs = zip(rows.tolist(), scores.tolist(), strict=True)
                found.append([self._corpus.passage(row, score) for row, score in pairs])
        return found

    def _make(self, folder: Path, made_by: dict[str, Any]) -> None:
        """Makes the vectors from where a process before has stopped, or from the beginning."""
        folder.mkdir(parents=True, exist_ok=True)
        path, shape = folder / _VECTORS, tuple(made_by["shape"])
        done = _done(folder, made_by)
        vectors = None
        if 0 < done < shape[0]:
            with suppress(OSError, ValueError):
                vectors = np.lib.format.open_memmap(path, "r+")
        if vectors is None or vectors.shape != shape or vectors.dtype != np.float16:
            done, vectors = 0, np.lib.format.open_memmap(path, "w+", np.float16, shape)
        progress = LongWork("embedding the corpus", shape[0], done)
        for start in range(done, shape[0], _MADE):
            end = min(start + _MADE, shape[0])
            texts = [self._corpus.passage(row).contents for row in range(start, end)]
            vectors[start:end] = self._embedder.embed(texts)
            vectors.flush()
            ends = checksum_of_ends(path) if end == shape[0] else None
            write_json(folder / _NOTE, {**made_by, "done": end, "file": ends})
            progress.at(end)


def best_rows(vectors: NDArray[Any], queries: Floats, k: int) -> list[tuple[NDArray[np.int64], Floats]]:
    """Returns rows and inner products of the best `k` vectors for each query; equal ones are in their order."""
    best = [(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in queries]
    for start in range(0, len(vectors), _SEARCHED):
        products = queries @ vectors[start : start + _SEARCHED].astype(np.float32).T
        floors = np.partition(products, -min(k, products.shape[1]), axis=1)[:, -min(k, products.shape[1])]
        for number, (row_products, floor) in enumerate(zip(products, floors, strict=True)):
            places = np.flatnonzero(row_products >= floor)
            rows = np.concatenate([best[number][0], places + start])
            scores = np.concatenate([best[number][1], row_products[places]])
            order = np.lexsort((rows, -scores))[:k]
            best[number] = rows[order], scores[order]
    return best


def _done(folder: Path, made_by: dict[str, Any]) -> int:
    """Returns how many vectors are done, by the note; 0 if it is missing, damaged or of others."""
    try:
        note = read_json(folder / _NOTE)
        same = all(note[key] == value for key, value in made_by.items())
        return int(note["done"]) if same else 0
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def _open(folder: Path, made_by: dict[str, Any]) -> NDArray[Any]:
    """Maps vectors that are complete; raises `DataError` for others."""
    path = folder / _VECTORS
    if _done(folder, made_by) != made_by["shape"][0]:
        raise DataError(f"{path} is not complete")
    try:
        if checksum_of_ends(path) != read_json(folder / _NOTE)["file"]:
            raise ValueError("its content has changed")
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, LookupError) as error:
        raise DataError(f"{path} is damaged ({error})") from None
