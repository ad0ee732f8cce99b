"""SQLite file of a journal: tables and their versions, checksums, and SQLite's errors in plain sentences.

    events      one row an event; row 0 names the embedder; nothing is ever changed or deleted
    head        one row with number and checksum of the last event
    snapshots   states of the bank, from which a replay can start; a damaged one is ignored

Each event's checksum covers the one before, so a changed, missing or exchanged row is found. The head shows if events
at the end are missing.
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
_HEADER_BYTES = 100
_COLUMNS = "seq, iteration, back_to, body, checksum"
_APPLICATION_ID = 0xD25C111
_TROUBLE = {
    "SQLITE_FULL": "the disk is full, and the last event was not recorded: free some space and repeat it",
    "SQLITE_BUSY": "another program has locked it: close that program",
    "SQLITE_CANTOPEN": "it cannot be opened: is it there, and may files be made beside it? If not, copy all of it",
    "SQLITE_READONLY": "it cannot be written: check its permissions",
    "SQLITE_IOERR": "the disk fails: copy the journal to another one",
}
"""Errors that are not damage: the beginning of SQLite's name, and the way out."""
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""Errors from reading a damaged file; the second one where SQLite's message quotes from the file."""


class JournalHead(NamedTuple):
    """Number, iteration and checksum of the last event of a journal."""

    seq: int
    iteration: int
    checksum: bytes

    def next_event(self, iteration: int, body: bytes, back_to: int | None = None) -> StoredEvent:
        """Returns the event that follows: `body` is JSON, `back_to` the number that a rewind goes back to."""
        seq = self.seq + 1
        return StoredEvent(seq, iteration, back_to, body, digest((self.checksum, seq, iteration, back_to), body))


class StoredEvent(NamedTuple):
    """Row of the table of events.

    `iteration` is the one that the bank is in after it, so after a rewind that of the event `back_to` it goes back to.
    """

    seq: int
    iteration: int
    back_to: int | None
    body: bytes
    checksum: bytes

    @property
    def head(self) -> JournalHead:
        """Head of a journal whose last event this is."""
        return JournalHead(self.seq, self.iteration, self.checksum)

    def is_intact(self, previous: bytes | None) -> bool:
        """Returns True if its checksum is right after an event with checksum `previous`, empty before event 0."""
        return isinstance(self.body, bytes) and self.checksum == digest((previous, *self[:3]), self.body)


class DamageError(BankError):
    """Error for a journal's file that is not as it was written."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}: the journal is damaged; save what precedes the damage by "
            "`d2skill bank salvage`, or go back to a copy"
        )


_TABLES = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, iteration INTEGER, back_to INTEGER, body BLOB, checksum BLOB)",
    "CREATE TABLE head (id INTEGER PRIMARY KEY, seq INTEGER, iteration INTEGER, checksum BLOB, digest BLOB)",
    "CREATE TABLE snapshots (id INTEGER PRIMARY KEY, seq INTEGER, iteration INTEGER, event BLOB, name TEXT, "
    "digest BLOB, body BLOB)",
)


def _schema_1(connection: sqlite3.Connection) -> None:
    """Creates the tables."""
    for table in _TABLES:
        connection.execute(table)


def _same_tables(connection: sqlite3.Connection) -> None:
    """Changes no table: the next version has kinds of events that earlier programs cannot read."""


_MIGRATIONS: list[Callable[[sqlite3.Connection], None]] = [_schema_1, _same_tables, _same_tables]
"""Number n brings a file of schema version n to version n + 1; version 0 has no tables yet."""
OLDEST_READABLE = 1
"""First schema version with the present tables."""


def digest(values: Sequence[Any], body: bytes = b"") -> bytes:
    """Returns the checksum of some values and a body."""
    return blake2b(repr(tuple(values)).encode() + body, digest_size=8).digest()


def first_event(embedder: str) -> StoredEvent:
    """Returns event 0, which names the embedder's fingerprint."""
    return JournalHead(-1, 0, b"").next_event(0, json.dumps({"embedder": embedder}).encode())


def append(connection: sqlite3.Connection, event: StoredEvent) -> None:
    """Adds an event, after which the journal ends."""
    head = event.head
    connection.execute(f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)", event)  # nosec B608
    connection.execute(
        "REPLACE INTO head (id, seq, iteration, checksum, digest) VALUES (0, ?, ?, ?, ?)", (*head, digest(head))
    )


def read_events(connection: sqlite3.Connection, since: int) -> Iterator[StoredEvent]:
    """Yields the events after number `since`, unverified."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq", (since,))  # nosec B608
    return map(StoredEvent._make, rows)


def create(path: Path, events: Iterable[StoredEvent]) -> None:
    """Creates the file of a journal with some events, whole or not at all. Raises `BankError` if there is a file."""
    temporary = path.with_name(f".{path.name}.part")
    with closing(WriteLock(path, 0.0)) as lock, explain_errors(path):
        if path.exists():
            raise BankError(f"{path} exists already: open it, or choose another name")
        for leftover in (temporary, beside(temporary, "-journal"), beside(path, "-wal"), beside(path, "-shm")):
            leftover.unlink(missing_ok=True)
        with closing(connect(temporary, "rwc")) as connection:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            migrate(path, connection)
            with transaction(connection):
                for event in events:
                    append(connection, event)
            connection.execute("PRAGMA journal_mode = WAL")
        lock.note(None)
        os.replace(temporary, path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)


def check_exists(path: Path) -> None:
    """Raises `BankError` if there is no file."""
    if path.is_dir():
        raise BankError(f"{path} is a folder: name the journal of a bank, a file such as {path.name}/bank.db")
    if not path.is_file():
        raise BankError(f"{path} is missing: is it the journal of a bank?")


def beside(path: Path, suffix: str) -> Path:
    """Returns the path of a file that belongs to a journal."""
    return path.with_name(path.name + suffix)


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Opens the file; `mode` is SQLite's: "ro", "rw" or "rwc".

    A file with another journal beside it is refused: SQLite would end its transaction and delete the file, anywhere,
    that it names as its "super-journal".
    """
    for suffix in ("-journal", "-wal", "-shm"):
        side = beside(path.resolve(), suffix)
        if side.is_symlink() or (suffix == "-journal" and side.exists()):
            raise BankError(f"{path}: {side.name} beside it is not of d2skill, and could change other files: remove it")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Opens the file of a journal to read, also in a folder where nothing may be written.

    In a writable folder SQLite may write, so that it can remove its log when the last connection closes.
    """
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        connection = connect(path, "rw")
        connection.execute("PRAGMA query_only = ON")
        return connection
    log = beside(path, "-wal")
    unlogged = not log.exists() or log.stat().st_size == 0
    return connect(path, "ro&immutable=1" if unlogged else "ro")


def schema_version(path: Path, connection: sqlite3.Connection, oldest: int = 0) -> int:
    """Returns the schema version; raises `BankError` for an older or newer one, or a file of another program."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise DamageError(path, "it is not marked as a journal of d2skill")
    version, newest = int(connection.execute("PRAGMA user_version").fetchone()[0]), len(_MIGRATIONS)
    if version > newest:
        raise BankError(f"{path} has schema version {version}, this d2skill reads up to {newest}: use a newer d2skill")
    if version < oldest:
        raise BankError(
            f"{path} has schema version {version}, this d2skill reads {newest}: open it once with JournalWriter, "
            "which brings it up to date"
        )
    made = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master")}
    if made - {*_TABLES}:  # such as a view, whose reading may never end
        raise DamageError(path, "its tables are not those of a journal")
    return version


def has_own_events(connection: sqlite3.Connection) -> bool:
    """Returns True if the events are in a table as this module makes it, and no view, whose reading may never end."""
    return connection.execute("SELECT sql FROM sqlite_master WHERE name = 'events'").fetchall() == [(_TABLES[0],)]


def migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Brings the file to the present schema version, all at once or not at all."""
    version = schema_version(path, connection)
    if version < len(_MIGRATIONS):
        with transaction(connection):
            for migration in _MIGRATIONS[version:]:
                migration(connection)
            connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def check_pages(path: Path, connection: sqlite3.Connection, check: str) -> None:
    """Raises `DamageError` if SQLite's "quick_check" or "integrity_check" finds a problem in the file."""
    problem = connection.execute(f"PRAGMA {check}(1)").fetchone()[0]
    if problem != "ok":
        raise DamageError(path, " ".join(problem.replace("*", "").split()))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Runs a block as one transaction: its changes are made all at once or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into a `BankError` that names the way out."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except UNREADABLE as error:
        name = getattr(error, "sqlite_errorname", "")
        for beginning, meaning in _TROUBLE.items():
            if name.startswith(beginning):
                raise BankError(f"{path}: {meaning} ({error})") from error
        if name == "SQLITE_NOTADB" and _is_text(path):
            raise BankError(
                f"{path} is no journal of a bank: name a bank.db, or import a text by `d2skill bank import`"
            ) from error
        raise DamageError(path, str(error)) from error


def _is_text(path: Path) -> bool:
    """Returns True for a file without zero bytes in its header, where a journal has some, however it was damaged.

    Nothing but a file that SQLite has refused is read: to close another file of it would end SQLite's locks.
    """
    with path.open("rb") as file:
        return b"\0" not in file.read(_HEADER_BYTES)
