"""Recovery of the events of a damaged journal that precede the damage."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from d2skill.bank.journal import sqlite_file
from d2skill.bank.journal.lock import WriteLock
from d2skill.bank.journal.replay import Replay
from d2skill.bank.journal.sqlite_file import StoredEvent
from d2skill.errors import BankError


class Salvaged(NamedTuple):
    """Number of events that were kept, and of those that are known to be lost."""

    kept: int
    lost: int


def salvage(path: Path, out: Path) -> Salvaged:
    """Creates a journal from all events before the first damage of another one, which stays as it is.

    An event that does not fit those before it is damage, too. Reads what SQLite can reach, also with the first page
    repaired. Raises `BankError` if that is nothing.
    """
    sqlite_file.check_exists(path)
    with closing(WriteLock(path, 0.0)) as lock, tempfile.TemporaryDirectory(dir=out.parent) as folder:
        acknowledged = lock.acknowledged.seq if lock.acknowledged else 0
        events = max((_replayed([*_events_before_damage(copy)]) for copy in _copies(path, Path(folder))), key=len)
    if not events:
        raise BankError(f"{path}: nothing in it can be read any more: go back to a copy")
    sqlite_file.create(out, events)
    return Salvaged(len(events) - 1, max(0, acknowledged + 1 - len(events)))


def _replayed(events: list[StoredEvent]) -> list[StoredEvent]:
    """Returns the longest beginning of some events that can be replayed."""
    replay = Replay(Path())
    for number, event in enumerate(events[1:], 1):
        try:
            replay.add(event, lambda: events)
        except BankError:
            return events[:number]
    return events


def _copies(path: Path, folder: Path) -> Iterator[Path]:
    """Yields a copy of a journal as it is, and one with the first page of a new journal and the size it really has."""
    for copy in (folder / "as-it-is", folder / "repaired"):
        shutil.copyfile(path, copy)
        if (log := sqlite_file.beside(path, "-wal")).exists():
            shutil.copyfile(log, sqlite_file.beside(copy, "-wal"))
        if copy.name == "repaired":
            sqlite_file.create(folder / "new", [sqlite_file.first_event("")])
            page = bytearray((folder / "new").read_bytes()[: sqlite_file.PAGE_BYTES])
            page[28:32] = struct.pack(">I", copy.stat().st_size // sqlite_file.PAGE_BYTES)
            with copy.open("r+b") as damaged:
                damaged.write(page)
        yield copy


def _events_before_damage(path: Path) -> Iterator[StoredEvent]:
    """Yields the events up to the first one that is unreadable, missing or changed."""
    seq, checksum = -1, b""
    with suppress(*sqlite_file.UNREADABLE), closing(sqlite_file.connect(path, "rw")) as connection:
        if not sqlite_file.has_own_events(connection):
            return
        for event in sqlite_file.read_events(connection, -1):
            if event.seq != seq + 1 or not event.is_intact(checksum):
                return
            yield event
            seq, checksum = event.seq, event.checksum
