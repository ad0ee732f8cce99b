"""The shop's products and its search engine, cleaned and indexed once and then opened from a cache."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Self

from d2skill.envs.text_search import Index
from d2skill.envs.webshop.product import Product
from d2skill.envs.webshop.product_store import VERSION, Kind, Storage, write
from d2skill.envs.webshop.source_files import Size, Sources
from d2skill.utils.atomic_files import user_caches

VARIABLE = "D2SKILL_CACHE"
"""The environment variable that names another folder for caches."""

FOUND = 50
"""How many products a search of the original returns."""

_PRODUCTS_KEPT = 20_000
_SEARCHES_KEPT = 4096
_LONGEST_KEPT = 1000  # characters of a search
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Returns where catalogues are kept: $D2SKILL_CACHE/webshop, or d2skill/webshop in the user's caches."""
    if given := os.environ.get(VARIABLE, ""):
        return Path(given).expanduser() / "webshop"
    return user_caches() / "webshop"


class Catalogue:
    """All products of a data set. One is shared by any number of shops."""

    def __init__(self, storage: Storage, index: Index) -> None:
        self._storage = storage
        self._index = index
        self._product = lru_cache(maxsize=_PRODUCTS_KEPT)(storage.product)
        self._number = lru_cache(maxsize=_PRODUCTS_KEPT)(storage.number)
        self._found = lru_cache(maxsize=_SEARCHES_KEPT)(self._ask)

    @classmethod
    def load(cls, folder: Path | str, cache: Path | None = None, size: Size | None = None) -> Self:
        """Opens the data set in a folder, under the original's file names, through the cache.

        Without a `size` it is the small set if that is there, else the full one. The cache goes by the files' content.
        Raises `ConfigError` that names a missing file and where it is from, `DataError` for a broken one.
        """
        sources = Sources.find(Path(folder), size)
        root = cache or cache_folder()
        with suppress(OSError):  # `_made` says so if it matters
            root.mkdir(parents=True, exist_ok=True)
        kept = root / f"{VERSION}-{sources.digest(root / 'digests.json')[:32]}"
        opened = cls._open(kept)
        return cls._made(sources, kept) if opened is None else opened

    def __len__(self) -> int:
        return len(self._storage)

    @property
    def storage(self) -> Storage:
        """The products as they are kept."""
        return self._storage

    def product(self, number: int) -> Product:
        """Returns a product by its number, which counts in the order of the file."""
        return self._product(number)

    def find(self, asin: str) -> Product | None:
        """Returns a product by its asin, None where there is no such product."""
        number = self._number(asin)
        return None if number is None else self._product(number)

    def number(self, asin: str) -> int | None:
        """Returns the number of a product by its asin, None where there is no such product."""
        return self._number(asin)

    def __iter__(self) -> Iterator[Product]:
        """Yields all products in the order of the file, keeping none."""
        return map(self._storage.product, range(len(self)))

    def of_kind(self, kind: Kind, name: str) -> list[int]:
        """Returns the numbers of all products of a category or a query."""
        return self._storage.of_kind(kind, name)

    def search(self, query: str, k: int = FOUND) -> list[tuple[str, float]]:
        """Returns the asins of the best products for a query with their scores, best first."""
        return list(self._found(query, k) if len(query) <= _LONGEST_KEPT else self._ask(query, k))

    def _ask(self, query: str, k: int) -> tuple[tuple[str, float], ...]:
        return tuple(self._index.search(query, k))

    @classmethod
    def _open(cls, folder: Path) -> Self | None:
        if not folder.is_dir():
            return None
        try:
            return cls(Storage(folder), Index.open(folder / "index"))
        except Exception as error:  # whatever is wrong with a cache, it can be made again
            _log.warning("the cache %s is damaged (%s): it is made again", folder, error)
            return None

    @classmethod
    def _made(cls, sources: Sources, kept: Path) -> Self:
        """Makes the catalogue beside its place and moves it there; without a place it serves this process alone."""
        try:
            folder = Path(tempfile.mkdtemp(prefix=".part-", dir=kept.parent))
        except OSError as error:
            _log.warning("the cache %s cannot be written (%s): the catalogue is made anew each time", kept, error)
            folder = Path(tempfile.mkdtemp(prefix="d2skill-webshop-"))
        try:
            write(sources, folder)
            storage = Storage(folder)
            texts = (storage.product(number).text for number in range(len(storage)))
            Index.build(storage.asins(), texts).save(folder / "index")
            if folder.parent != kept.parent:
                return cls(storage, Index.open(folder / "index"))  # mapped files stay readable when they are gone
            with suppress(OSError):  # another process was faster, or a damaged cache is in the way
                os.rename(folder, kept)
            if (opened := cls._open(kept)) is not None:
                return opened
            shutil.rmtree(kept, ignore_errors=True)
            os.rename(folder, kept)
            return cls(Storage(kept), Index.open(kept / "index"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
