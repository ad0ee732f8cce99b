"""The file of a journal: its tables and their versions, its checksums, and what SQLite says put into sentences.

    events      one row an event; row 0 names the embedder; nothing is ever changed or deleted
    head        one row: where the journal ends
    snapshots   states of the bank, so that a replay need not start at the beginning; a damaged one is passed over

Each event's checksum covers the one before, so a changed, missing or exchanged row is found, and the head tells where
the last one must be.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from d2skill.bank.journal.lock import WriteLock
from d2skill.errors import BankError

PAGE_BYTES = 4096
_COLUMNS = "seq, iteration, back_to, body, checksum"
_APPLICATION_ID = 0xD25C111
_TROUBLE = {
    "SQLITE_FULL": "the disk is full, and the last event was not recorded: free some space and repeat it",
    "SQLITE_BUSY": "another program has locked it: close that program",
    "SQLITE_CANTOPEN": "it cannot be opened: is it there, and may files be made beside it? If not, copy all of it",
    "SQLITE_READONLY": "it cannot be written: check its permissions",
    "SQLITE_IOERR": "the disk fails: copy the journal to another one",
}
"""What is not damage: the beginning of SQLite's name for it, and what to do."""
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a damaged file can raise; the second where SQLite's message quotes from it."""


class Head(NamedTuple):
    """Where a journal ends: number, iteration and checksum of its last row."""

    seq: int
    iteration: int
    checksum: bytes


class Row(NamedTuple):
    """An event as it lies in the file.

    `iteration` is the one that the bank is in after it, so after a rewind that of the event `back_to` it goes back to.
    """

    seq: int
    iteration: int
    back_to: int | None
    body: bytes
    checksum: bytes

    def head(self) -> Head:
        """Returns where a journal ends that ends with this row."""
        return Head(self.seq, self.iteration, self.checksum)


class Damage(BankError):
    """A journal is not as it was written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path}: {what}: the journal is damaged; save what precedes the damage by "
            "`d2skill bank salvage`, or go back to a copy"
        )


def _schema_1(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, iteration INTEGER, back_to INTEGER, body BLOB, checksum BLOB)"
    )
    connection.execute(
        "CREATE TABLE head (id INTEGER PRIMARY KEY, seq INTEGER, iteration INTEGER, checksum BLOB, digest BLOB)"
    )
    connection.execute(
        "CREATE TABLE snapshots (id INTEGER PRIMARY KEY, seq INTEGER, iteration INTEGER, event BLOB, name TEXT, "
        "digest BLOB, body BLOB)"
    )


def _schema_2(connection: sqlite3.Connection) -> None:
    """Since then there are events that earlier versions cannot read; the tables are the same."""


_MIGRATIONS: list[Callable[[sqlite3.Connection], None]] = [_schema_1, _schema_2]
"""Number n brings a file of schema version n to version n + 1; version 0 has no tables yet."""
_OLDEST_READABLE = 1
"""The first schema version whose tables are as they are now."""


def digest(values: Sequence[Any], body: bytes = b"") -> bytes:
    """Returns the checksum of some values and a body."""
    return blake2b(repr(tuple(values)).encode() + body, digest_size=8).digest()


def chained(head: Head | None, iteration: int, back_to: int | None, body: bytes) -> Row:
    """Returns the row after `head`, or row 0."""
    seq, previous = (head.seq + 1, head.checksum) if head else (0, b"")
    return Row(seq, iteration, back_to, body, digest((previous, seq, iteration, back_to), body))


def follows(row: Row, previous: bytes | None) -> bool:
    """Whether a row is as it was written after one with this checksum; row 0 comes after an empty one."""
    return isinstance(row.body, bytes) and row.checksum == digest((previous, *row[:3]), row.body)


def put(connection: sqlite3.Connection, row: Row) -> None:
    """Adds an event, which the journal then ends with."""
    head = row.head()
    connection.execute(f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)", row)
    connection.execute(
        "REPLACE INTO head (id, seq, iteration, checksum, digest) VALUES (0, ?, ?, ?, ?)", (*head, digest(head))
    )


def put_snapshot(connection: sqlite3.Connection, head: Head, name: str, body: bytes) -> None:
    """Adds a snapshot of the state that a journal with this end has."""
    values = (*head, name)
    connection.execute(
        "INSERT INTO snapshots (seq, iteration, event, name, digest, body) VALUES (?, ?, ?, ?, ?, ?)",
        (*values, digest(values, body), body),
    )


def read_rows(connection: sqlite3.Connection, since: int) -> Iterator[Row]:
    """Yields the rows after number `since`, unverified."""
    return map(Row._make, connection.execute(f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq", (since,)))


def make(path: Path, rows: Iterable[Row]) -> None:
    """Makes the file of a journal with some rows, whole or not at all. Raises `BankError` if one is in the way."""
    temporary = path.with_name(f".{path.name}.part")
    with closing(WriteLock(path, 0.0)) as lock, explained(path):
        if path.exists():
            raise BankError(f"{path} exists already: open it, or choose another name")
        for leftover in (temporary, beside(path, "-wal"), beside(path, "-shm")):
            leftover.unlink(missing_ok=True)
        with closing(connect(temporary, "rwc")) as connection:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            migrate(path, connection)
            with transaction(connection):
                for row in rows:
                    put(connection, row)
            connection.execute("PRAGMA journal_mode = WAL")
        lock.note(None)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def first_row(embedder: str) -> Row:
    """Returns row 0, which names the embedder's fingerprint."""
    return chained(None, 0, None, json.dumps({"embedder": embedder}).encode())


def check_exists(path: Path) -> None:
    """Raises `BankError` unless there is a file."""
    if not path.is_file():
        raise BankError(f"{path} is missing: is it the journal of a bank?")


def beside(path: Path, suffix: str) -> Path:
    """Returns the path of a file that belongs to a journal."""
    return path.with_name(path.name + suffix)


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Opens the file; `mode` is SQLite's: "ro", "rw" or "rwc"."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Opens the file of a journal to read, also in a folder where nothing may be written.

    Where something may, SQLite is let, so that its log does not stay behind when the last one closes.
    """
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        connection = connect(path, "rw")
        connection.execute("PRAGMA query_only = ON")
        return connection
    log = beside(path, "-wal")
    unlogged = not log.exists() or log.stat().st_size == 0
    return connect(path, "ro&immutable=1" if unlogged else "ro")


def check_kind(path: Path, connection: sqlite3.Connection) -> int:
    """Returns the schema version; raises `BankError` for a newer one, or a file of another program."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise Damage(path, "it is not marked as a journal of d2skill")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(_MIGRATIONS):
        raise BankError(
            f"{path} has schema version {version}, this d2skill reads up to {len(_MIGRATIONS)}: use a newer d2skill"
        )
    return version


def check_current(path: Path, connection: sqlite3.Connection) -> None:
    """Raises `BankError` unless the file can be read without being changed."""
    version = check_kind(path, connection)
    if version < _OLDEST_READABLE:
        raise BankError(
            f"{path} has schema version {version}, this d2skill reads {len(_MIGRATIONS)}: open it once with "
            "JournalWriter, which brings it up to date"
        )


def migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Brings the file to the present schema version, or leaves it as it is."""
    version = check_kind(path, connection)
    if version < len(_MIGRATIONS):
        with transaction(connection):
            for migration in _MIGRATIONS[version:]:
                migration(connection)
            connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def check_pages(path: Path, connection: sqlite3.Connection, check: str) -> None:
    """Raises `Damage` unless SQLite's "quick_check" or "integrity_check" finds the file in order."""
    problem = connection.execute(f"PRAGMA {check}(1)").fetchone()[0]
    if problem != "ok":
        raise Damage(path, " ".join(problem.replace("*", "").split()))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Makes changes all at once or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into a `BankError` that says what to do."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except UNREADABLE as error:
        name = getattr(error, "sqlite_errorname", "")
        for beginning, meaning in _TROUBLE.items():
            if name.startswith(beginning):
                raise BankError(f"{path}: {meaning} ({error})") from error
        raise Damage(path, str(error)) from error
