"""The mark of a beginning: the file `.beginning` in the folder of a run that has no checkpoint yet.

A run begins in a new or empty folder, so all that it makes there is its own. Before it makes anything, it writes a line
into the mark, with the folder and the names of what it makes; only these are ever removed. A line counts in the folder
that it was written in, known by its path or its inode: so a mark that was copied or received removes nothing. Lines are
only added, so a full disk takes none away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from d2skill.utils.foreign_files import parse_json, read_bytes

BEGINNING = ".beginning"
"""File in the folder of a run that has no checkpoint yet"""
_MOST_BYTES = 1 << 16


def made_in(folder: Path, opened: IO[bytes] | None = None) -> set[str] | None:
    """Returns the names of what a beginning made in a folder; None if its mark does not tell.

    One without any line tells it if nothing else is there: its process was stopped before it made anything.

    Args:
        folder: Folder of a run.
        opened: Its mark, if this process has it open.
    """
    try:
        if opened:
            opened.seek(0)
        data = opened.read(_MOST_BYTES) if opened else read_bytes(folder / BEGINNING, _MOST_BYTES)
        here = _identity(folder)
        told = [names for line in data.split(b"\n") if (names := _names(line, here)) is not None]
        others = [name for name in os.listdir(folder) if name != BEGINNING]
    except OSError:
        return None
    return None if others and not told else {name for names in told for name in names}


def mark(opened: IO[bytes], folder: Path, names: Collection[str]) -> None:
    """Adds a line to an open mark, unless it has these names already; it is on the disk when this returns."""
    if not {*names} <= (made_in(folder, opened) or set()):
        opened.write(b"\n" + json.dumps(_identity(folder) | {"makes": sorted(names)}).encode() + b"\n")
        opened.flush()
        os.fsync(opened.fileno())


def _identity(folder: Path) -> dict[str, Any]:
    return {"folder": str(folder.resolve()), "inode": folder.stat().st_ino}


def _names(line: bytes, here: dict[str, Any]) -> list[str] | None:
    """Returns the names in a line that was written here, None for any other line."""
    try:
        told = parse_json(line)
    except ValueError:
        return None
    if not isinstance(told, dict) or not any(told.get(key) == value for key, value in here.items()):
        return None
    makes = told.get("makes")
    return [name for name in makes if isinstance(name, str)] if isinstance(makes, list) else None
