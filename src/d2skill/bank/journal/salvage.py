"""What can be saved of a damaged journal."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from d2skill.bank.journal import sqlite_file
from d2skill.bank.journal.lock import WriteLock
from d2skill.bank.journal.sqlite_file import Row
from d2skill.errors import BankError


@dataclass(frozen=True, slots=True)
class Salvaged:
    """How many events were kept, and how many are known to be lost."""

    kept: int
    lost: int


def salvage(path: Path, out: Path) -> Salvaged:
    """Makes a new journal of all events before the first damage of another, which stays as it is.

    Reads what SQLite can reach, also with the first page put right. Raises `BankError` if that is nothing.
    """
    sqlite_file.check_exists(path)
    with closing(WriteLock(path, 0.0)) as lock, tempfile.TemporaryDirectory(dir=out.parent) as folder:
        acknowledged = lock.acknowledged.seq if lock.acknowledged else 0
        rows = max(([*_rows_before_damage(copy)] for copy in _copies(path, Path(folder))), key=len)
    if not rows:
        raise BankError(f"{path}: nothing in it can be read any more: go back to a copy")
    sqlite_file.make(out, rows)
    return Salvaged(len(rows) - 1, max(0, acknowledged + 1 - len(rows)))


def _copies(path: Path, folder: Path) -> Iterator[Path]:
    """Yields a copy of a journal as it is, and one with the first page of a new journal and the size it really has."""
    for copy in (folder / "as-it-is", folder / "repaired"):
        shutil.copyfile(path, copy)
        if (log := sqlite_file.beside(path, "-wal")).exists():
            shutil.copyfile(log, sqlite_file.beside(copy, "-wal"))
        if copy.name == "repaired":
            sqlite_file.make(folder / "new", [sqlite_file.first_row("")])
            page = bytearray((folder / "new").read_bytes()[: sqlite_file.PAGE_BYTES])
            page[28:32] = struct.pack(">I", copy.stat().st_size // sqlite_file.PAGE_BYTES)
            with copy.open("r+b") as damaged:
                damaged.write(page)
        yield copy


def _rows_before_damage(path: Path) -> Iterator[Row]:
    seq, checksum = -1, b""
    with suppress(*sqlite_file.UNREADABLE), closing(sqlite_file.connect(path, "rw")) as connection:
        for row in sqlite_file.read_rows(connection, -1):
            if row.seq != seq + 1 or not sqlite_file.follows(row, checksum):
                return
            yield row
            seq, checksum = row.seq, row.checksum
