"""What a journal holds at one moment: which events count, their rows one by one, and the snapshots.

What a reading decides on, it also verifies: all events after the snapshot that it starts from, up to the end.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from d2skill.bank.journal.events import Event
from d2skill.bank.journal.lock import Acknowledged
from d2skill.bank.journal.sqlite_file import UNREADABLE, Damage, Head, Row, check_pages, digest, follows, read_rows
from d2skill.errors import BankError


class State(Protocol):
    """What a replay fills; `name` tells snapshots of different kinds of state apart."""

    name: str

    def apply(self, event: Event) -> None:
        """Adds an event."""

    def dump(self) -> Any:
        """Returns all of it as values for JSON."""

    def load(self, values: Any) -> None:
        """Becomes what `dump` returned."""


class Listed(NamedTuple):
    """A snapshot that is there: of the state after event `seq`, in `iteration`, `size` bytes long."""

    id: int
    seq: int
    iteration: int
    size: int


class View:
    """A journal at one moment: what an open transaction sees."""

    def __init__(self, path: Path, connection: sqlite3.Connection, noted: Acknowledged | None = None) -> None:
        """Raises `Damage` if the journal does not end where it should, or lacks the event that was noted."""
        self._path = path
        self._connection = connection
        rows = connection.execute("SELECT seq, iteration, checksum, digest FROM head").fetchall()
        if len(rows) != 1 or rows[0][3] != digest(rows[0][:3]):
            raise Damage(path, "the row that tells where it ends is not as it was written")
        self.head = Head(*rows[0][:3])
        if noted and self.checksum(noted.seq) != noted.checksum:
            raise Damage(
                path,
                f"event {noted.seq} was recorded, but is not there, or another one is (if {path.name} was replaced "
                f"by a copy on purpose, delete {path.name}-lock)",
            )

    def embedder(self) -> str:
        """Returns the fingerprint of the embedder."""
        row = next(read_rows(self._connection, -1), None)
        if row is None or row.seq != 0 or not follows(row, b""):
            raise Damage(self._path, "event 0, which names the embedder, is missing or changed")
        return str(json.loads(row.body)["embedder"])

    def live(self, at: int | None, seq: int | None) -> list[range]:
        """Returns which rows count up to an iteration or event, newest first; a range starts with a rewind or row 0."""
        end = self.head.seq if seq is None else seq
        if not 0 <= end <= self.head.seq:
            raise BankError(f"{self._path} has events 1 to {self.head.seq}: there is no event {seq}")
        ranges = []
        for rewind, back_to in self._connection.execute(
            "SELECT seq, back_to FROM events WHERE back_to IS NOT NULL AND seq <= ? ORDER BY seq DESC", (end,)
        ):
            if not (isinstance(back_to, int) and 0 <= back_to < rewind):
                raise Damage(self._path, f"event {rewind} goes back to {back_to!r}")
            if rewind <= end:
                ranges.append(range(rewind, end + 1))
                end = back_to
        ranges.append(range(end + 1))
        if at is not None:
            last = self._last(ranges, at)
            ranges = [range(numbers.start, min(numbers.stop, last + 1)) for numbers in ranges]
        return ranges

    def iteration(self, seq: int) -> int:
        """Returns the iteration that the bank was in after an event."""
        return int(self._connection.execute("SELECT iteration FROM events WHERE seq = ?", (seq,)).fetchone()[0])

    def checksum(self, seq: int) -> bytes | None:
        """Returns the checksum that an event has in the file, None if it is missing."""
        row = self._connection.execute("SELECT checksum FROM events WHERE seq = ?", (seq,)).fetchone()
        return row[0] if row and isinstance(row[0], bytes) else None

    def rows(self, since: int, checksum: bytes | None) -> Iterator[Row]:
        """Yields the rows after number `since`, which has `checksum`, up to the end; raises `Damage` at the first."""
        seq = since
        for row in read_rows(self._connection, since):
            seq += 1
            if row.seq != seq:
                raise Damage(self._path, f"event {seq} is missing")
            if not follows(row, checksum):
                raise Damage(self._path, f"event {seq} does not match its checksum")
            checksum = row.checksum
            yield row
        if (seq, checksum) != (self.head.seq, self.head.checksum):
            raise Damage(self._path, f"it ends with event {seq}, but should end with event {self.head.seq}")

    def load_snapshot(self, state: State, live: Sequence[range], at: int | None) -> tuple[int, bytes | None]:
        """Fills a state from the newest snapshot that fits and is whole; returns the number and checksum of its event.

        Without one, these are of event 0.
        """
        for listed in self.snapshots(state.name):
            fits = any(listed.seq in numbers for numbers in live) and (at is None or listed.iteration <= at)
            if fits and (read := self._read(listed)) is not None:
                checksum, values = read
                state.load(values)
                return listed.seq, checksum
        return 0, self.checksum(0)

    def snapshots(self, name: str) -> list[Listed]:
        """Returns the snapshots of one kind of state, newest first; none if their list is damaged."""
        query = (
            "SELECT id, seq, iteration, length(body) FROM snapshots WHERE name = ? "
            "AND typeof(seq) = 'integer' AND typeof(iteration) = 'integer' ORDER BY id DESC"
        )
        try:
            return [Listed(*row) for row in self._connection.execute(query, (name,))]
        except UNREADABLE:
            return []

    def size(self, since: int) -> int:
        """Returns the bytes of the events after number `since`."""
        query = "SELECT total(length(body)) FROM events WHERE seq > ?"
        return int(self._connection.execute(query, (since,)).fetchone()[0])

    def verify(self) -> None:
        """Reads everything; raises `Damage` at the first."""
        check_pages(self._path, self._connection, "integrity_check")
        self.embedder()
        for _ in self.rows(0, self.checksum(0)):
            pass
        for (name,) in self._connection.execute("SELECT DISTINCT name FROM snapshots").fetchall():
            for listed in self.snapshots(name):
                if self._read(listed) is None:
                    raise Damage(self._path, f"the snapshot at event {listed.seq} is changed, and is passed over")

    def _last(self, ranges: Sequence[range], at: int) -> int:
        """Returns the last event of these ranges, newest first, that came in iteration `at` or before; 0 if none."""
        query = "SELECT max(seq) FROM events WHERE seq >= ? AND seq < ? AND iteration <= ?"
        for numbers in ranges:
            if last := self._connection.execute(query, (numbers.start, numbers.stop, at)).fetchone()[0]:
                return int(last)
        return 0

    def _read(self, listed: Listed) -> tuple[bytes, Any] | None:
        """Returns the event checksum and the values of a snapshot, None if it is damaged."""
        query = "SELECT seq, iteration, event, name, digest, body FROM snapshots WHERE id = ?"
        try:
            row = self._connection.execute(query, (listed.id,)).fetchone()
        except UNREADABLE:
            return None
        if row is None or row[:2] != listed[1:3]:
            return None
        *values, checksum, body = row
        if not isinstance(body, bytes) or checksum != digest(values, body):
            return None
        return row[2], json.loads(zlib.decompress(body))


def counts(row: Row, live: Sequence[range]) -> bool:
    """Whether an event is one of those that count, and not a rewind itself."""
    return row.back_to is None and any(row.seq in numbers for numbers in live)
