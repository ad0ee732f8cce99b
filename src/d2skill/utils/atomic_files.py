"""Atomic writes: a file or folder is either whole or not there, also after a crash."""

from __future__ import annotations

import glob
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import get_ident
from typing import Any

from d2skill.errors import RunError
from d2skill.utils import foreign_files
from d2skill.utils.foreign_files import reason_of
from d2skill.utils.links import open_new, remove_folder

_LEFT_OVER_SECONDS = 600


def write_text(path: Path, text: str) -> None:
    """Replaces a file by `text`, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file by `data` in one step; a crash leaves the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open_new(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_shared(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Replaces a file that any process may write at any time, and that can be made again, in one step.

    It is not synced, so after a power cut it may hold anything. What a process that was killed left of it goes with the
    next one, after ten minutes.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.part")
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):
            if time.time() - other.stat().st_mtime > _LEFT_OVER_SECONDS:
                other.unlink()
    try:
        with open_new(temporary) as file:
            file.writelines(parts)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Replaces a file by the JSON of `value`."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Returns the JSON of a file; raises `RunError` that names it when it is missing or broken."""
    try:
        return foreign_files.read_json(path)
    except FileNotFoundError:
        raise RunError(f"{path} is missing: is {path.parent} a run folder of d2skill?") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): restore it from a copy") from None
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON ({reason_of(error)}): restore it from a copy") from None


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Makes a folder whose content `fill` writes; it appears under its name only when it is complete."""
    temporary = path.with_name(f".{path.name}.part")
    remove_folder(temporary)
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        for file in _files(temporary):
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        _swap(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _swap(new: Path, path: Path) -> None:
    """Replaces a folder by another; the old one comes back if that fails."""
    old = path.with_name(f".{path.name}.old")
    remove_folder(old)
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        if old.exists():
            os.rename(old, path)
        raise
    remove_folder(old)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
