"""View of a journal at one moment: the events that count, and the snapshots.

A reading verifies what it depends on: all events after the snapshot that it starts from, up to the end.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from d2skill.bank.journal import sqlite_file
from d2skill.bank.journal.kept_state import KeptState
from d2skill.bank.journal.lock import Acknowledged
from d2skill.bank.journal.replay import Replay, live_ranges
from d2skill.bank.journal.sqlite_file import DamageError, JournalHead, StoredEvent
from d2skill.bank.journal.state import BankState
from d2skill.errors import BankError
from d2skill.utils.foreign_files import MOST_BYTES, explained, parse_json


class SnapshotEntry(NamedTuple):
    """Entry in the list of snapshots: of the state after event `seq`, in `iteration`, `size` bytes long."""

    id: int
    seq: int
    iteration: int
    size: int


class View:
    """Journal as an open transaction sees it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, noted: Acknowledged | None = None) -> None:
        """Raises `DamageError` if the head is damaged, or if the journal lacks the event that was noted."""
        self._path = path
        self._connection = connection
        rows = connection.execute("SELECT seq, iteration, checksum, digest FROM head").fetchall()
        if len(rows) != 1 or rows[0][3] != sqlite_file.digest(rows[0][:3]):
            raise DamageError(path, "the row that tells where it ends is not as it was written")
        self.head = JournalHead(*rows[0][:3])
        if noted and self.checksum(noted.seq) != noted.checksum:
            raise DamageError(
                path,
                f"event {noted.seq} was recorded, but is not there, or another one is (if {path.name} was replaced "
                f"by a copy on purpose, delete {path.name}-lock)",
            )

    def embedder(self) -> str:
        """Returns the fingerprint of the embedder."""
        first = next(sqlite_file.read_events(self._connection, -1), None)
        if first is None or first.seq != 0 or not first.is_intact(b""):
            raise DamageError(self._path, "event 0, which names the embedder, is missing or changed")
        with explained(self._path, BankError, "go back to a copy of the journal"):
            return str(parse_json(first.body)["embedder"])

    def live(self, at: int | None, seq: int | None) -> list[range]:
        """Returns the numbers of the events that count up to an iteration or event, as ranges, newest first.

        A range starts with a rewind or event 0.
        """
        end = self.head.seq if seq is None else seq
        if not 0 <= end <= self.head.seq:
            raise BankError(f"{self._path} has events 1 to {self.head.seq}: there is no event {seq}")
        rewinds = self._connection.execute(
            "SELECT seq, back_to FROM events WHERE back_to IS NOT NULL AND seq <= ? ORDER BY seq DESC", (end,)
        ).fetchall()
        for rewind, back_to in rewinds:
            if not (isinstance(back_to, int) and 0 <= back_to < rewind):
                raise DamageError(self._path, f"event {rewind} goes back to {back_to!r}")
        ranges = live_ranges(end, rewinds)
        if at is not None:
            last = self._last(ranges, at)
            ranges = [range(numbers.start, min(numbers.stop, last + 1)) for numbers in ranges]
        return ranges

    def iteration(self, seq: int) -> int:
        """Returns the iteration that the bank was in after an event."""
        return int(self._value("SELECT iteration FROM events WHERE seq = ?", seq))

    def checksum(self, seq: int) -> bytes | None:
        """Returns the checksum that an event has in the file, None if it is missing."""
        checksum = self._value("SELECT checksum FROM events WHERE seq = ?", seq)
        return checksum if isinstance(checksum, bytes) else None

    def events(self, since: int, checksum: bytes | None) -> Iterator[StoredEvent]:
        """Yields all events after number `since`, which has `checksum`; raises `DamageError` at the first damage."""
        seq = since
        for event in sqlite_file.read_events(self._connection, since):
            seq += 1
            if event.seq != seq:
                raise DamageError(self._path, f"event {seq} is missing")
            if not event.is_intact(checksum):
                raise DamageError(self._path, f"event {seq} does not match its checksum")
            checksum = event.checksum
            yield event
        if (seq, checksum) != (self.head.seq, self.head.checksum):
            raise DamageError(self._path, f"it ends with event {seq}, but should end with event {self.head.seq}")

    def load_snapshot(
        self, state: BankState, live: Sequence[range], at: int | None, kept: KeptState | None
    ) -> tuple[int, bytes | None]:
        """Loads the newest intact snapshot that fits into a state; returns number and checksum of its event.

        Without such a snapshot these are of event 0.

        Args:
            state: An empty state.
            live: Numbers of the events that count.
            at: Last iteration of the snapshot.
            kept: A state beside the journal, which is taken if it fits and no snapshot is newer.
        """
        if kept and not self.has(kept.head, live):
            kept = None
        for entry in self.snapshots(state.name):
            if kept and kept.head.seq >= entry.seq:
                break
            fits = any(entry.seq in numbers for numbers in live) and (at is None or entry.iteration <= at)
            if fits and (snapshot := self._snapshot(entry)) is not None:
                checksum, values = snapshot
                with explained(self._path, BankError, "go back to a copy of the journal"):
                    state.load(values)
                return entry.seq, checksum
        if kept:
            with explained(f"{self._path}-state", BankError, "delete it, it is made again"):
                state.unpack(kept.values, kept.arrays)
            return kept.head.seq, kept.head.checksum
        return 0, self.checksum(0)

    def has(self, head: JournalHead, live: Sequence[range]) -> bool:
        """Returns True if the event that was once the last one counts, and is the same."""
        return any(head.seq in numbers for numbers in live) and self.checksum(head.seq) == head.checksum

    def snapshots(self, name: str) -> list[SnapshotEntry]:
        """Returns the snapshots of one kind of state, newest first; none if their list is damaged."""
        query = (
            "SELECT id, seq, iteration, length(body) FROM snapshots WHERE name = ? "
            "AND typeof(seq) = 'integer' AND typeof(iteration) = 'integer' ORDER BY id DESC"
        )
        try:
            return [SnapshotEntry(*row) for row in self._connection.execute(query, (name,))]
        except sqlite_file.UNREADABLE:
            return []

    def size(self, since: int) -> int:
        """Returns the size of the events after number `since`, in bytes."""
        return int(self._value("SELECT total(length(body)) FROM events WHERE seq > ?", since))

    def verify(self) -> None:
        """Reads everything and replays the events; raises `DamageError` at the first damage."""
        sqlite_file.check_pages(self._path, self._connection, "integrity_check")
        self.embedder()
        replay = Replay(self._path)
        for event in self.events(0, self.checksum(0)):
            replay.add(event, lambda: self.events(0, self.checksum(0)))
        for (name,) in self._connection.execute("SELECT DISTINCT name FROM snapshots").fetchall():
            for entry in self.snapshots(name):
                if self._snapshot(entry) is None:
                    raise DamageError(self._path, f"the snapshot at event {entry.seq} is changed, and is passed over")

    def _last(self, ranges: Sequence[range], at: int) -> int:
        """Returns the last event in these ranges, newest first, of iteration `at` or before; 0 if there is none."""
        query = "SELECT max(seq) FROM events WHERE seq >= ? AND seq < ? AND iteration <= ?"
        found = (self._value(query, numbers.start, numbers.stop, at) for numbers in ranges)
        return next((int(last) for last in found if last), 0)

    def _value(self, query: str, *parameters: int) -> Any:
        """Returns the first value that a query finds, None if it finds nothing."""
        row = self._connection.execute(query, parameters).fetchone()
        return row[0] if row else None

    def _snapshot(self, entry: SnapshotEntry) -> tuple[bytes, Any] | None:
        """Returns the event's checksum and the values of a snapshot, None if it is damaged."""
        query = "SELECT seq, iteration, event, name, digest, body FROM snapshots WHERE id = ?"
        try:
            row = self._connection.execute(query, (entry.id,)).fetchone()
        except sqlite_file.UNREADABLE:
            return None
        if row is None or row[:2] != entry[1:3]:
            return None
        *values, checksum, body = row
        if not isinstance(body, bytes) or checksum != sqlite_file.digest(values, body):
            return None
        try:
            unpacker = zlib.decompressobj()
            values = json.loads(unpacker.decompress(body, MOST_BYTES))
        except (zlib.error, ValueError, RecursionError):
            return None
        return None if unpacker.unconsumed_tail else (row[2], values)


def is_live(event: StoredEvent, live: Sequence[range]) -> bool:
    """Returns True if an event is in one of the live ranges and is not a rewind itself."""
    return event.back_to is None and any(event.seq in numbers for numbers in live)
