"""A journal to read and to write. Events have numbers from 1 on; the state of the bank is a replay of them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from d2skill.bank.journal import sqlite_file
from d2skill.bank.journal.events import Event, Insert, Mark, Rewind, decode, encode
from d2skill.bank.journal.lock import Acknowledged, WriteLock, acknowledged
from d2skill.bank.journal.sqlite_file import Head
from d2skill.bank.journal.state import no_garbage_collection
from d2skill.bank.journal.view import State, View, counts
from d2skill.bank.worth import Worth
from d2skill.types import Skill

SNAPSHOT_BYTES = 1 << 20
"""Bytes of events that are replayed rather than covered by another snapshot."""

S = TypeVar("S", bound=State)


class Journal:
    """A journal to read. Each call sees one moment of it, also while another process writes."""

    def __init__(self, path: Path) -> None:
        """Opens a journal. Raises `BankError` if there is none, or none that this version can read."""
        sqlite_file.check_exists(path)
        self.path = path
        with self._view() as view:
            self.embedder = view.embedder()
            """The fingerprint of the embedder that the bank was made with."""

    @staticmethod
    def is_journal(path: Path) -> bool:
        """Tells whether a file is an SQLite database, as journals are."""
        with path.open("rb") as opened:
            return opened.read(16) == b"SQLite format 3\0"

    def head(self) -> Head:
        """Returns where the journal ends."""
        with self._view() as view:
            return view.head

    def events(
        self, since: int = 0, *, at: int | None = None, seq: int | None = None, rewound: bool = False
    ) -> Iterator[tuple[int, Event]]:
        """Yields the events after number `since` that count, with their numbers; `rewound` adds all others.

        `at` leaves out what came after that iteration, `seq` looks at the journal as it was after that event. Raises
        `BankError` on damage, when it has yielded what came before.
        """
        with self._view() as view:
            live = view.live(at, seq)
            for row in view.rows(since, view.checksum(since)):
                if rewound or counts(row, live):
                    yield row.seq, decode(row.body)

    def replay(self, state: S, *, at: int | None = None, seq: int | None = None) -> S:
        """Fills an empty state with what happened up to an iteration or event, and returns it."""
        with self._view() as view, no_garbage_collection():
            live = view.live(at, seq)
            for row in view.rows(*view.load_snapshot(state, live, at)):
                if counts(row, live):
                    state.apply(decode(row.body))
        return state

    def verify(self) -> None:
        """Reads every page, event and snapshot; raises `BankError` at the first damage."""
        with self._view() as view:
            view.verify()

    @contextmanager
    def _view(self) -> Iterator[View]:
        noted = acknowledged(self.path)  # read first: what is written from here on may or may not be in view
        with sqlite_file.explained(self.path), closing(sqlite_file.connect_to_read(self.path)) as connection:
            sqlite_file.check_current(self.path, connection)
            connection.execute("BEGIN")
            yield View(self.path, connection, noted)


class JournalWriter(Journal):
    """The one writer of a journal, until `close`; a context manager that closes."""

    def __init__(self, path: Path, *, wait: float = 0.0) -> None:
        """Opens a journal. Raises `BankError` on damage, or if another writer has it for more than `wait` seconds."""
        sqlite_file.check_exists(path)
        self._lock = WriteLock(path, wait)
        try:
            with sqlite_file.explained(path):
                self._connection = sqlite_file.connect(path, "rw")
                sqlite_file.check_kind(path, self._connection)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA fullfsync = ON")
                sqlite_file.migrate(path, self._connection)
                sqlite_file.check_pages(path, self._connection, "quick_check")
            super().__init__(path)
            self._note(self.head())
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, embedder: str) -> Self:
        """Makes a journal and opens it. Raises `BankError` if there is one already."""
        sqlite_file.make(path, [sqlite_file.first_row(embedder)])
        return cls(path)

    def append(self, *events: Event) -> int:
        """Records events, all or none; returns the number of the last. They are on disk when it returns.

        Raises `ValueError` for an iteration before that of the last event: only a rewind goes back.
        """
        bodies = [encode(event) for event in events]
        with sqlite_file.explained(self.path), sqlite_file.transaction(self._connection):
            view = View(self.path, self._connection)
            head = view.head
            for event, body in zip(events, bodies, strict=True):
                back_to = event.to if isinstance(event, Rewind) else None
                if back_to is not None and not 0 <= back_to <= head.seq:
                    raise ValueError(f"there is no event {back_to} to go back to, the last one is {head.seq}")
                if back_to is None and event.iteration < head.iteration:
                    raise ValueError(f"iteration {event.iteration} comes before {head.iteration}: rewind first")
                iteration = event.iteration if back_to is None else view.iteration(back_to)
                row = sqlite_file.chained(head, iteration, back_to, body)
                sqlite_file.put(self._connection, row)
                head = row.head()
        self._note(head)
        return head.seq

    def snapshot(self, state: State, *, every: int = SNAPSHOT_BYTES) -> bool:
        """Fills an empty state and stores it, if many events came since the last snapshot; returns whether it did so.

        Many is `every` bytes, or a quarter of what the last snapshot has if that is more: a replay from there takes
        about as long as reading the snapshot.
        """
        with self._view() as view:
            head = view.head
            last = next(iter(view.snapshots(state.name)), None)
            many = max(every, last.size // 4) if last else every
            if view.size(last.seq if last else 0) < many:
                return False
        self.replay(state, seq=head.seq)
        body = zlib.compress(json.dumps(state.dump(), separators=(",", ":"), allow_nan=False).encode(), level=1)
        with sqlite_file.explained(self.path), sqlite_file.transaction(self._connection):
            sqlite_file.put_snapshot(self._connection, head, state.name, body)
        return True

    def close(self) -> None:
        """Leaves the journal to the next writer."""
        if hasattr(self, "_connection"):
            self._connection.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, head: Head) -> None:
        self._lock.note(Acknowledged(head.seq, head.checksum))


def from_records(
    path: Path,
    embedder: str,
    skills: Sequence[Skill],
    evidence: Mapping[str, Worth] | None = None,
    marks: Mapping[str, Mark] | None = None,
    tasks: Sequence[str] = (),
    source: str = "records",
) -> None:
    """Makes a journal of a bank that has none, of its skills and what is known of them by id."""
    iteration = max((max(skill.created, skill.evicted or 0) for skill in skills), default=0)
    first = sqlite_file.first_row(embedder)
    body = encode(Insert(tuple(skills), iteration, {"from": source}, evidence or {}, marks or {}, tuple(tasks)))
    sqlite_file.make(path, [first, sqlite_file.chained(first.head(), iteration, None, body)])


def reembedded(path: Path, out: Path, embedder: str) -> int:
    """Makes a new journal of all that another one holds, for an embedder of another fingerprint.

    Events that no longer count are in it as well; returns how many there are. Vectors are in no journal, so nothing
    else changes. Raises `BankError` if the other one is damaged, or if there is something at `out`.
    """
    rows = [sqlite_file.first_row(embedder)]
    with Journal(path)._view() as view:
        for row in view.rows(0, view.checksum(0)):
            rows.append(sqlite_file.chained(rows[-1].head(), row.iteration, row.back_to, row.body))
    sqlite_file.make(out, rows)
    return len(rows) - 1
