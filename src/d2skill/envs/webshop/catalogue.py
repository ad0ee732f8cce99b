"""Catalogue: the products of the shop and their search index, built once and then opened from a cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Self

from d2skill.envs.text_search import BM25Index
from d2skill.envs.webshop.product import Product
from d2skill.envs.webshop.product_store import VERSION, ProductStore, write_store
from d2skill.envs.webshop.source_files import Size, SourceFiles
from d2skill.utils import shared_cache
from d2skill.utils.foreign_text import logger

MAX_RESULTS = 50
"""The number of products that a search of the original returns."""

_CACHED_PRODUCTS = 20_000
_CACHED_SEARCHES = 4096
_LONGEST_CACHED = 1000  # characters of a search
_log = logger(__name__)


def cache_folder() -> Path:
    """Returns the folder of cached catalogues: $D2SKILL_CACHE/webshop, or d2skill/webshop in the user's caches."""
    return shared_cache.cache_folder("webshop")


class Catalogue:
    """All products of a data set. One is shared by any number of shops."""

    def __init__(self, store: ProductStore, index: BM25Index) -> None:
        self.store = store
        self._index = index
        self.product = lru_cache(maxsize=_CACHED_PRODUCTS)(store.product)
        """Returns a product by its number, which counts in the order of the file."""
        self.number = lru_cache(maxsize=_CACHED_PRODUCTS)(store.number)
        """Returns the number of a product by its asin, None if there is no such product."""
        self._cached_search = lru_cache(maxsize=_CACHED_SEARCHES)(index.search)

    @classmethod
    def load(cls, folder: Path | str, cache: Path | None = None, size: Size | None = None) -> Self:
        """Opens the data set in a folder, under the original's file names, through the cache.

        Without a `size` it is the small set if that is there, else the full one. The cache goes by the files' content.
        Raises `ConfigError` for a missing file, with the way to download it, and `DataError` for a broken one.
        """
        sources = SourceFiles.find(Path(folder), size)
        root = cache or cache_folder()
        with suppress(OSError):  # `_build` warns if it matters
            root.mkdir(parents=True, exist_ok=True)
        cached = root / f"{VERSION}-{sources.digest(root / 'digests.json')[:32]}"
        opened = cls._open(cached)
        return cls._build(sources, cached) if opened is None else opened

    def __len__(self) -> int:
        return len(self.store)

    def find(self, asin: str) -> Product | None:
        """Returns a product by its asin, None if there is no such product."""
        number = self.number(asin)
        return None if number is None else self.product(number)

    def __iter__(self) -> Iterator[Product]:
        """Yields all products in the order of the file, caching none."""
        return map(self.store.product, range(len(self)))

    def search(self, query: str, k: int = MAX_RESULTS) -> list[tuple[str, float]]:
        """Returns the asins of the best products for a query with their scores, best first."""
        search = self._cached_search if len(query) <= _LONGEST_CACHED else self._index.search
        return list(search(query, k))

    @classmethod
    def _open(cls, folder: Path) -> Self | None:
        if not folder.is_dir():
            return None
        try:
            return cls(ProductStore(folder), BM25Index.open(folder / "index"))
        except Exception as error:  # whatever is wrong with a cache, it can be built again
            _log.warning("the cache %s is damaged (%s): it is built again", folder, error)
            return None

    @classmethod
    def _build(cls, sources: SourceFiles, cached: Path) -> Self:
        """Builds the catalogue beside its place in the cache and moves it there.

        Where the cache cannot be written, the catalogue serves this process alone.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix=".part-", dir=cached.parent))
        except OSError as error:
            _log.warning("the cache %s cannot be written (%s): the catalogue is built anew each time", cached, error)
            folder = Path(tempfile.mkdtemp(prefix="d2skill-webshop-"))
        try:
            write_store(sources, folder)
            store = ProductStore(folder)
            texts = (store.product(number).text for number in range(len(store)))
            BM25Index.build(store.asins(), texts, folder).save(folder / "index")
            if folder.parent != cached.parent:
                return cls(store, BM25Index.open(folder / "index"))  # mapped files stay readable when they are gone
            with suppress(OSError):  # another process was faster, or a damaged cache is in the way
                os.rename(folder, cached)
            if (opened := cls._open(cached)) is not None:
                return opened
            shutil.rmtree(cached, ignore_errors=True)
            os.rename(folder, cached)
            return cls(ProductStore(cached), BM25Index.open(cached / "index"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
