"""Caches of what is made from large files, such as search indexes: where they are, and by what content they go."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path

from d2skill.errors import D2SkillError, DataError
from d2skill.utils.atomic_files import write_text
from d2skill.utils.foreign_files import read_json
from d2skill.utils.foreign_text import logger

_CACHE_VARIABLE = "D2SKILL_CACHE"
_LARGE = 1 << 26  # bytes of a file whose digest is remembered
_CHECKED = 1 << 20  # bytes at either end of a file that its checksum covers
_PATIENCE = 1.0  # seconds of waiting for another process before that is said
_log = logger(__name__)

_Opened = TypeVar("_Opened")


def cache_folder(name: str) -> Path:
    """Returns the folder of one kind of caches: $D2SKILL_CACHE/NAME, or d2skill/NAME in the user's caches."""
    if folder := os.environ.get(_CACHE_VARIABLE, ""):
        return Path(folder).expanduser() / name
    return user_cache_path("d2skill", appauthor=False) / name


def content_digest(path: Path, memory: Path) -> str:
    """Returns a digest of the content of a file.

    Reading gigabytes takes long, so `memory`, a JSON file, keeps the digests of large files by size, time and the
    checksum of both ends.
    """
    status = path.stat()
    key = [str(path.resolve()), status.st_size, status.st_mtime_ns, checksum_of_ends(path)["checksum"]]
    known = _read_digests(memory) if status.st_size >= _LARGE else []
    digest = next((entry[4] for entry in known if entry[:4] == key), None)
    if digest is None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if status.st_size >= _LARGE:
            others = [entry for entry in known if entry[0] != key[0]]
            with suppress(OSError):
                write_text(memory, json.dumps([*others, [*key, digest]]))
    return str(digest)


def checksum_of_ends(path: Path) -> dict[str, int]:
    """Returns the size of a file and the checksum of its ends."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        checksum = zlib.crc32(file.read(_CHECKED))
        file.seek(max(0, size - _CHECKED))
        return {"bytes": size, "checksum": zlib.crc32(file.read(_CHECKED), checksum)}


def open_or_make(folder: Path, open_it: Callable[[Path], _Opened], make_it: Callable[[Path], None]) -> _Opened:
    """Opens a folder of a cache, which is made first if it is missing or damaged; one process makes it, others wait.

    Where the cache cannot be written, it is made for this process alone.

    Args:
        folder: The folder; the one above it, which may be missing, gets a lock.
        open_it: Opens the folder; raises `DataError` for one that is missing or damaged.
        make_it: Makes the folder, from scratch or from what it left there when it was stopped.
    """
    from filelock import FileLock, Timeout

    try:
        return open_it(folder)
    except DataError as error:
        damage = f"{error}" if folder.exists() else ""
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), thread_local=False)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            _log.warning("another process makes %s: waiting for it", folder)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        _log.warning("the cache %s cannot be written (%s): it is made anew each time", folder.parent, error)
        with tempfile.TemporaryDirectory(prefix="d2skill-") as name:  # mapped files stay readable when they are gone
            return _made(Path(name) / folder.name, open_it, make_it)
    with lock:
        with suppress(DataError):
            return open_it(folder)
        if damage:
            _log.warning("the cache %s is not complete (%s): what is missing is made", folder, damage)
        return _made(folder, open_it, make_it)


def _made(folder: Path, open_it: Callable[[Path], _Opened], make_it: Callable[[Path], None]) -> _Opened:
    try:
        make_it(folder)
    except D2SkillError:
        raise
    except OSError as error:
        raise DataError(
            f"{folder} cannot be made ({error.strerror or error}): set ${_CACHE_VARIABLE} to a folder with room"
        ) from error
    return open_it(folder)


def _read_digests(memory: Path) -> list[list[Any]]:
    try:
        known = read_json(memory)
    except (OSError, ValueError):
        return []
    return [entry for entry in known if isinstance(entry, list) and len(entry) == 5] if isinstance(known, list) else []
