"""Vectors that were made before, by text: in memory, and on disk for the next process.

One SQLite file holds the vectors of one model, by a hash of its fingerprint and the text; any number of processes use
it at once. It is a cache and nothing more: what goes wrong with it is said in one line and costs time only.
"""

from __future__ import annotations

import json
import logging
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

from d2skill.embedders.gates import Gates
from d2skill.utils.atomic_files import user_caches

T = TypeVar("T")
Vectors = npt.NDArray[np.float32]

_IN_MEMORY = 1 << 14  # texts; 64 MB at 1024 dimensions
_WAIT_SECONDS = 10.0
_KEPT = 0.9  # share of the size that is left when old vectors have gone
_PORTION = 2048  # texts that are embedded before they are put down
_VERSION = 1
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_UNUSABLE = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM")
_log = logging.getLogger(__name__)


def default_folder() -> Path:
    """Returns where vectors are kept without a setting."""
    return user_caches() / "embeddings"


class Model(Protocol):
    """What makes vectors: an embedder without gates."""

    fingerprint: str
    dimension: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""


class MemoryCache:
    """The vectors of the texts that were used last."""

    def __init__(self, size: int = _IN_MEMORY) -> None:
        self._size = size
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()

    def get(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """Returns the vectors there are of some texts."""
        found = {text: self._vectors[text] for text in texts if text in self._vectors}
        for text in found:
            self._vectors.move_to_end(text)
        return found

    def put(self, vectors: Mapping[str, Vectors]) -> None:
        """Takes vectors in; those not used for longest make room."""
        self._vectors.update(vectors)
        while len(self._vectors) > self._size:
            self._vectors.popitem(last=False)


class DiskCache:
    """The vectors of one model in a file."""

    def __init__(self, folder: Path, name: str, dimension: int, megabytes: int) -> None:
        """`name` tells models apart; `megabytes` is the size of the file, at most."""
        salt = blake2b(name.encode(), digest_size=16)
        readable = re.sub(r"[^A-Za-z0-9.+-]+", "_", name)[:80].strip("._")
        self.path = folder / f"{readable}-{salt.hexdigest()[:12]}.db"
        self._salt = salt.digest()
        self._dimension = dimension
        self._bytes = megabytes * 2**20
        self._off = False
        self._was_replaced = False

    def get(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """Returns the vectors there are of some texts, by one query."""
        keys = {self._key(text): text for text in texts}
        return self._use(lambda connection: self._read(connection, keys), {}) if keys else {}

    def put(self, vectors: Mapping[str, Vectors]) -> None:
        """Takes vectors in; those not used for longest make room."""
        rows = [(self._key(text), _hour(), _packed(vector)) for text, vector in vectors.items()]
        if rows:
            self._use(lambda connection: self._write(connection, rows), None)

    def _read(self, connection: sqlite3.Connection, keys: Mapping[str, str]) -> dict[str, Vectors]:
        query = "SELECT key, used, vector FROM vectors WHERE key IN (SELECT value FROM json_each(?))"
        rows = connection.execute(query, (json.dumps(list(keys)),)).fetchall()
        found = {keys[key]: self._unpacked(body) for key, _, body in rows}
        if stale := [key for key, used, _ in rows if used < _hour()]:
            update = "UPDATE vectors SET used = ? WHERE key IN (SELECT value FROM json_each(?))"
            with suppress(sqlite3.OperationalError):  # another one writes: it is noted the next time
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
            connection.execute(f"DELETE FROM vectors WHERE number IN ({oldest})", (surplus,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA incremental_vacuum").fetchall()

    def _use(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Returns what `work` makes of the file; replaces a damaged one, and does without one that cannot be used."""
        if self._off:
            return otherwise
        try:
            with closing(self._connected()) as connection:
                return work(connection)
        except (sqlite3.Error, OSError) as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(_BUSY):
                return otherwise
            if isinstance(error, OSError) or name.startswith(_UNUSABLE) or not self._replaced(error):
                self._off = True
                _log.warning("%s cannot be used (%s): vectors are not kept on disk", self.path, error)
        return otherwise

    def _connected(self) -> sqlite3.Connection:
        """Opens the file, made first where there is none."""
        if not self.path.exists():
            self._make()
        connection = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                raise sqlite3.DatabaseError("it is no cache of this version")
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self) -> None:
        """Makes an empty file, whole before it has its name; of several processes that do, the first one's stays."""
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

    def _replaced(self, error: Exception) -> bool:
        """Puts an empty file in the place of a damaged one, once; returns whether that was possible."""
        if self._was_replaced:
            return False
        self._was_replaced = True
        try:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self._make()
        except (sqlite3.Error, OSError):
            return False
        _log.warning("%s was damaged (%s) and is begun anew: its vectors are made again", self.path, error)
        return True

    def _key(self, text: str) -> str:
        return blake2b(text.encode(), key=self._salt, digest_size=16).hexdigest()

    def _unpacked(self, body: object) -> Vectors:
        """Returns the vector in a row; raises `sqlite3.DatabaseError` if it is not as it was put there."""
        if not isinstance(body, bytes) or len(body) != 4 * self._dimension + 4:
            raise sqlite3.DatabaseError("a vector has another length")
        if zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
            raise sqlite3.DatabaseError("a vector does not match its checksum")
        return np.frombuffer(body[:-4], dtype="<f4").astype(np.float32)


class CachedEmbedder:
    """A model behind its caches, with its gates."""

    def __init__(self, model: Model, disk: DiskCache | None, gates: Gates) -> None:
        self._model = model
        self._memory = MemoryCache()
        self._disk = disk
        self._gates = gates
        self.fingerprint = model.fingerprint
        self.dimension = model.dimension

    @property
    def task_gate(self) -> float:
        """See Embedder. Raises `ConfigError` for a model whose gate nobody has measured."""
        return self._gates.task

    @property
    def step_gate(self) -> float:
        """See Embedder. Raises `ConfigError` for a model whose gate nobody has measured."""
        return self._gates.step

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns unit vectors, shape [len(texts), dimension]; a text that was embedded before gets the same one."""
        wanted = [text.encode("utf-8", "replace").decode() for text in texts]  # without halves of surrogate pairs
        unique = list(dict.fromkeys(wanted))
        vectors = self._memory.get(unique)
        if self._disk and (missing := [text for text in unique if text not in vectors]):
            found = self._disk.get(missing)
            self._memory.put(found)
            vectors |= found
        missing = [text for text in unique if text not in vectors]
        for start in range(0, len(missing), _PORTION):
            portion = missing[start : start + _PORTION]
            made = dict(zip(portion, self._model.embed(portion), strict=True))
            self._memory.put(made)
            if self._disk:
                self._disk.put(made)
            vectors |= made
        return np.array([vectors[text] for text in wanted], dtype=np.float32).reshape(len(wanted), self.dimension)


def _hour() -> int:
    return int(time()) // 3600


def _packed(vector: Vectors) -> bytes:
    body = vector.astype("<f4").tobytes()
    return body + zlib.crc32(body).to_bytes(4, "little")
