"""Caches of embeddings by text: in memory, and on disk for later processes.

One SQLite file holds the vectors of one model, by a hash of its fingerprint and the text; any number of processes use
it at once. A cache that fails is reported in one line and costs time only.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from hashlib import blake2b
from pathlib import Path
from time import time
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from d2skill.embedders.gates import ModelGates
from d2skill.utils.foreign_text import logger

Embeddings = npt.NDArray[np.float32]
_Result = TypeVar("_Result")

_IN_MEMORY = 1 << 14  # texts; 64 MB at 1024 dimensions
_WAIT_SECONDS = 10.0
_KEPT = 0.9  # share of the size that is left when old vectors are deleted
_PORTION = 2048  # texts that are embedded before they are written
_VERSION = 1
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_UNUSABLE = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM")
_log = logger(__name__)


def default_cache_folder() -> Path:
    """Returns the folder of vectors without a setting, in the user's cache folder."""
    return user_cache_path("d2skill", appauthor=False) / "embeddings"


class EmbeddingModel(Protocol):
    """A model that embeds texts: an `Embedder` without gates."""

    fingerprint: str
    dimension: int

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """See Embedder."""


class MemoryCache:
    """Vectors of the most recently used texts (LRU)."""

    def __init__(self, size: int = _IN_MEMORY) -> None:
        self._size = size
        self._vectors: OrderedDict[str, Embeddings] = OrderedDict()

    def get(self, texts: Sequence[str]) -> dict[str, Embeddings]:
        """Returns the cached vectors of texts, by text."""
        found = {text: self._vectors[text] for text in texts if text in self._vectors}
        for text in found:
            self._vectors.move_to_end(text)
        return found

    def put(self, vectors: Mapping[str, Embeddings]) -> None:
        """Adds vectors; the least recently used ones make room."""
        self._vectors.update(vectors)
        while len(self._vectors) > self._size:
            self._vectors.popitem(last=False)


class DiskCache:
    """Vectors of one model in a file."""

    def __init__(self, folder: Path, name: str, dimension: int, megabytes: int) -> None:
        """Sets up the cache; the file is opened when it is used.

        Args:
            folder: Folder of the caches of all models.
            name: Name that differs between models.
            dimension: Length of a vector.
            megabytes: Size of the file, at most.
        """
        salt = blake2b(name.encode(), digest_size=16)
        readable = re.sub(r"[^A-Za-z0-9.+-]+", "_", name)[:80].strip("._")
        self.path = folder / f"{readable}-{salt.hexdigest()[:12]}.db"
        self._salt = salt.digest()
        self._dimension = dimension
        self._bytes = megabytes * 2**20
        self._disabled = False
        self._was_replaced = False

    def get(self, texts: Sequence[str]) -> dict[str, Embeddings]:
        """Returns the cached vectors of texts, by text, with one query."""
        keys = {self._key(text): text for text in texts}
        return self._with_file(lambda connection: self._read(connection, keys), {}) if keys else {}

    def put(self, vectors: Mapping[str, Embeddings]) -> None:
        """Adds vectors; the least recently used ones make room."""
        rows = [(self._key(text), _hour(), _pack(vector)) for text, vector in vectors.items()]
        if rows:
            self._with_file(lambda connection: self._write(connection, rows), None)

    def _read(self, connection: sqlite3.Connection, keys: Mapping[str, str]) -> dict[str, Embeddings]:
        query = "SELECT key, used, vector FROM vectors WHERE key IN (SELECT value FROM json_each(?))"
        rows = connection.execute(query, (json.dumps(list(keys)),)).fetchall()
        found = {keys[key]: self._unpack(body) for key, _, body in rows}
        if stale := [key for key, used, _ in rows if used < _hour()]:
            update = "UPDATE vectors SET used = ? WHERE key IN (SELECT value FROM json_each(?))"
            with suppress(sqlite3.OperationalError):  # another process writes; the use is noted the next time
                connection.execute(update, (_hour(), json.dumps(stale)))
        return found

    def _write(self, connection: sqlite3.Connection, rows: Sequence[tuple[str, int, bytes]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR IGNORE INTO vectors (key, used, vector) VALUES (?, ?, ?)", rows)
        names = ("page_size", "page_count", "freelist_count")
        page, pages, free = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
        if (size := page * (pages - free)) > self._bytes:
            count = connection.execute("SELECT count(*) FROM vectors").fetchone()[0]
            surplus = int(count * (1 - self._bytes * _KEPT / size)) + 1
            oldest = "SELECT number FROM vectors ORDER BY used, number LIMIT ?"
            connection.execute(f"DELETE FROM vectors WHERE number IN ({oldest})", (surplus,))  # nosec B608
        connection.execute("COMMIT")
        connection.execute("PRAGMA incremental_vacuum").fetchall()

    def _with_file(self, work: Callable[[sqlite3.Connection], _Result], default: _Result) -> _Result:
        """Returns the result of `work` on the file, or the default if the file is busy, damaged or cannot be used.

        A damaged file is replaced by an empty one, once; one that cannot be used is not tried again.
        """
        if self._disabled:
            return default
        try:
            with closing(self._connect()) as connection:
                return work(connection)
        except (sqlite3.Error, OSError) as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(_BUSY):
                return default
            if isinstance(error, OSError) or name.startswith(_UNUSABLE) or not self._replace(error):
                self._disabled = True
                _log.warning("%s cannot be used (%s): vectors are not kept on disk", self.path, error)
        return default

    def _connect(self) -> sqlite3.Connection:
        """Opens the file, which is created if there is none."""
        if not self.path.exists():
            self._create()
        connection = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                raise sqlite3.DatabaseError("it is no cache of this version")
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self) -> None:
        """Creates an empty file atomically; if several processes do, that of the first one stays."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path.parent) as folder:
            new = Path(folder) / "new"
            with closing(sqlite3.connect(new, isolation_level=None)) as connection:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(
                    "CREATE TABLE vectors (number INTEGER PRIMARY KEY, key TEXT UNIQUE, used INTEGER, vector BLOB)"
                )
                connection.execute("CREATE INDEX age ON vectors (used)")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            try:
                os.link(new, self.path)
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                os.replace(new, self.path)

    def _replace(self, error: Exception) -> bool:
        """Replaces a damaged file by an empty one; returns False if it was replaced before or cannot be."""
        if self._was_replaced:
            return False
        self._was_replaced = True
        try:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self._create()
        except (sqlite3.Error, OSError):
            return False
        _log.warning("%s was damaged (%s) and is begun anew: its vectors are made again", self.path, error)
        return True

    def _key(self, text: str) -> str:
        return blake2b(text.encode(), key=self._salt, digest_size=16).hexdigest()

    def _unpack(self, body: object) -> Embeddings:
        """Returns the vector of a row; raises `sqlite3.DatabaseError` if length or checksum is wrong."""
        if not isinstance(body, bytes) or len(body) != 4 * self._dimension + 4:
            raise sqlite3.DatabaseError("a vector has another length")
        if zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
            raise sqlite3.DatabaseError("a vector does not match its checksum")
        return np.frombuffer(body[:-4], dtype="<f4").astype(np.float32)


class CachedEmbedder:
    """An `Embedder`: a model with caches and gates."""

    def __init__(self, model: EmbeddingModel, disk: DiskCache | None, gates: ModelGates) -> None:
        self._model = model
        self._memory = MemoryCache()
        self._disk = disk
        self._gates = gates
        self.fingerprint = model.fingerprint
        self.dimension = model.dimension

    @property
    def task_gate(self) -> float:
        """See Embedder. Raises `ConfigError` for a model whose gate is unknown."""
        return self._gates.task

    @property
    def step_gate(self) -> float:
        """See Embedder. Raises `ConfigError` for a model whose gate is unknown."""
        return self._gates.step

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Returns unit vectors, shape [len(texts), dimension]; a cached text gets the same vector again."""
        clean = [text.encode("utf-8", "replace").decode() for text in texts]  # without lone surrogates
        unique = list(dict.fromkeys(clean))
        vectors = self._memory.get(unique)
        if self._disk and (missing := [text for text in unique if text not in vectors]):
            on_disk = self._disk.get(missing)
            self._memory.put(on_disk)
            vectors |= on_disk
        missing = [text for text in unique if text not in vectors]
        for start in range(0, len(missing), _PORTION):
            portion = missing[start : start + _PORTION]
            new = dict(zip(portion, self._model.embed(portion), strict=True))
            self._memory.put(new)
            if self._disk:
                self._disk.put(new)
            vectors |= new
        return np.array([vectors[text] for text in clean], dtype=np.float32).reshape(len(clean), self.dimension)


def _hour() -> int:
    return int(time()) // 3600


def _pack(vector: Embeddings) -> bytes:
    body = vector.astype("<f4").tobytes()
    return body + zlib.crc32(body).to_bytes(4, "little")
