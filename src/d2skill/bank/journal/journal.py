"""Reader and writer of a journal. Events have numbers from 1 on; the state of the bank is a replay of them."""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self

from d2skill.bank.journal import kept_state, sqlite_file
from d2skill.bank.journal.events import Event, Insert, Mark, Rewind, Tally, decode, encode
from d2skill.bank.journal.lock import Acknowledged, WriteLock, acknowledged
from d2skill.bank.journal.replay import apply
from d2skill.bank.journal.sqlite_file import JournalHead
from d2skill.bank.journal.state import BankState, no_garbage_collection
from d2skill.bank.journal.view import View, is_live
from d2skill.bank.worth import Worth
from d2skill.errors import BankError
from d2skill.types import Skill

SNAPSHOT_BYTES = 1 << 20
"""Size of events, in bytes, up to which they are replayed rather than covered by another snapshot."""


class Journal:
    """Reader of a journal. Each call sees one moment of it, also while another process writes."""

    def __init__(self, path: Path) -> None:
        """Opens a journal. Raises `BankError` if there is none, or none that this version can read."""
        sqlite_file.check_exists(path)
        self.path = path
        with self._view() as view:
            self.embedder = view.embedder()
            """Fingerprint of the embedder that the bank was made with."""

    @staticmethod
    def is_journal(path: Path) -> bool:
        """Returns True if a file is an SQLite database, as journals are."""
        with path.open("rb") as opened:
            return opened.read(16) == b"SQLite format 3\0"

    def head(self) -> JournalHead:
        """Returns the head: number, iteration and checksum of the last event."""
        with self._view() as view:
            return view.head

    def events(
        self, since: int = 0, *, at: int | None = None, seq: int | None = None, rewound: bool = False
    ) -> Iterator[tuple[int, Event]]:
        """Yields the events that count, with their numbers.

        Args:
            since: Number after which the events begin.
            at: Last iteration of the events.
            seq: Number of the event that is taken for the last one of the journal.
            rewound: Adds all events that do not count.

        Raises:
            BankError: At the first damage, after the events before it.
        """
        with self._view() as view:
            live = view.live(at, seq)
            for event in view.events(since, view.checksum(since)):
                if rewound or is_live(event, live):
                    yield event.seq, decode(event.body)

    def replay(self, *, at: int | None = None, seq: int | None = None) -> BankState:
        """Returns the state of the bank after iteration `at`, or after event `seq`; without both, the present one."""
        state, kept = BankState(), kept_state.read(self.path)
        with self._view() as view, no_garbage_collection():
            live = view.live(at, seq)
            start, checksum = view.load_snapshot(state, live, at, kept)
            for event in view.events(start, checksum):
                if is_live(event, live):
                    apply(state, event, self.path)
            head = view.head
        if at is None and seq in (None, head.seq) and not (kept and kept.head.seq == start):
            kept_state.keep(self.path, head, state)
        return state

    def iteration(self, seq: int) -> int:
        """Returns the iteration that the bank was in after an event."""
        with self._view() as view:
            return view.iteration(seq)

    def has(self, head: JournalHead, *, at: int | None = None, seq: int | None = None) -> bool:
        """Returns True if what was once the head is an event that counts for the state that `replay` returns."""
        with self._view() as view:
            return view.has(head, view.live(at, seq))

    def verify(self) -> None:
        """Reads every page, event and snapshot, and replays them; raises `BankError` at the first damage."""
        with self._view() as view, no_garbage_collection():
            view.verify()

    @contextmanager
    def _view(self) -> Iterator[View]:
        noted = acknowledged(self.path)  # read before the journal, which may have later events by then
        with sqlite_file.explain_errors(self.path), closing(sqlite_file.connect_to_read(self.path)) as connection:
            sqlite_file.schema_version(self.path, connection, sqlite_file.OLDEST_READABLE)
            connection.execute("BEGIN")
            yield View(self.path, connection, noted)


class JournalWriter(Journal):
    """Writer of a journal, the only one until `close`; as a context manager it closes itself."""

    def __init__(self, path: Path, *, wait: float = 0.0) -> None:
        """Opens a journal. Raises `BankError` on damage, or if another writer has it for more than `wait` seconds."""
        sqlite_file.check_exists(path)
        self._lock = WriteLock(path, wait)
        self._opened_in = os.getpid(), threading.get_ident()
        try:
            with sqlite_file.explain_errors(path):
                self._connection = sqlite_file.connect(path, "rw")
                sqlite_file.schema_version(path, self._connection)
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
        """Creates a journal and opens it. Raises `BankError` if there is one already."""
        sqlite_file.create(path, [sqlite_file.first_event(embedder)])
        return cls(path)

    def append(self, *events: Event) -> int:
        """Records events, all or none, and returns the number of the last. They are on disk when it returns.

        Raises `ValueError` for an iteration before that of the last event: only a rewind goes back.
        """
        self._require_own()
        bodies = [encode(event) for event in events]
        with sqlite_file.explain_errors(self.path), sqlite_file.transaction(self._connection):
            view = View(self.path, self._connection)
            head = view.head
            for event, body in zip(events, bodies, strict=True):
                back_to = event.to if isinstance(event, Rewind) else None
                if back_to is not None and not 0 <= back_to <= head.seq:
                    raise ValueError(f"there is no event {back_to} to go back to, the last one is {head.seq}")
                if back_to is None and event.iteration < head.iteration:
                    raise ValueError(f"iteration {event.iteration} comes before {head.iteration}: rewind first")
                iteration = event.iteration if back_to is None else view.iteration(back_to)
                stored = head.next_event(iteration, body, back_to)
                sqlite_file.append(self._connection, stored)
                head = stored.head
        self._note(head)
        return head.seq

    def snapshot(self, *, every: int = SNAPSHOT_BYTES) -> bool:
        """Stores a snapshot if many events came since the last one. Returns True if it did.

        Many is `every` bytes, or a quarter of the last snapshot if that is more: to replay them takes about as long as
        to read the snapshot.
        """
        with self._view() as view:
            head = view.head
            last = next(iter(view.snapshots(BankState.name)), None)
            many = max(every, last.size // 4) if last else every
            if view.size(last.seq if last else 0) < many:
                return False
        state = self.replay(seq=head.seq)
        kept_state.keep(self.path, head, state)
        body = zlib.compress(json.dumps(state.dump(), separators=(",", ":"), allow_nan=False).encode(), level=1)
        values = (*head, BankState.name)
        with sqlite_file.explain_errors(self.path), sqlite_file.transaction(self._connection):
            self._connection.execute(
                "INSERT INTO snapshots (seq, iteration, event, name, digest, body) VALUES (?, ?, ?, ?, ?, ?)",
                (*values, sqlite_file.digest(values, body), body),
            )
        return True

    def close(self) -> None:
        """Closes the file and releases the lock."""
        if hasattr(self, "_connection"):
            self._connection.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _require_own(self) -> None:
        """Raises `BankError` in another process or thread than the one that opened the journal."""
        if (os.getpid(), threading.get_ident()) != self._opened_in:
            what = "thread" if os.getpid() == self._opened_in[0] else "process"
            raise BankError(f"{self.path} was opened in another {what}: change the bank there, or open it here")

    def _note(self, head: JournalHead) -> None:
        with suppress(OSError):  # the event is recorded, and a note of an earlier one is right as well
            self._lock.note(Acknowledged(head.seq, head.checksum))


def from_records(
    path: Path,
    embedder: str,
    skills: Sequence[Skill],
    worth: Mapping[str, Worth] | None = None,
    marks: Mapping[str, Mark] | None = None,
    tasks: Sequence[str] = (),
    source: str = "records",
    tallies: Mapping[str, Tally] | None = None,
) -> None:
    """Creates a journal from the skills of a bank that has none.

    Args:
        path: File of the new journal.
        embedder: Fingerprint of the embedder.
        skills: Skills in order of insertion.
        worth: Worth of skills, by id.
        marks: Status of the skills that are not active, by id.
        tasks: Tasks that the signals are from.
        source: Origin of the skills, for the record.
        tallies: Evidence for and against skills, by id.
    """
    iteration = max((max(skill.created, skill.evicted or 0) for skill in skills), default=0)
    first = sqlite_file.first_event(embedder)
    origin = {"from": source}
    body = encode(Insert(tuple(skills), iteration, origin, worth or {}, marks or {}, tuple(tasks), tallies or {}))
    sqlite_file.create(path, [first, first.head.next_event(iteration, body)])


def reembed(path: Path, out: Path, embedder: str) -> int:
    """Creates a journal with all events of another one, for an embedder of another fingerprint.

    Returns the number of events, also of those that no longer count. Vectors are in no journal, so nothing else
    changes. Raises `BankError` if the other journal is damaged, or if `out` exists.
    """
    events = [sqlite_file.first_event(embedder)]
    with Journal(path)._view() as view:
        for event in view.events(0, view.checksum(0)):
            events.append(events[-1].head.next_event(event.iteration, event.body, event.back_to))
    sqlite_file.create(out, events)
    return len(events) - 1
