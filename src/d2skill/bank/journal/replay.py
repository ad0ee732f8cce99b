"""Replay of stored events, which finds the first that does not fit what came before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from d2skill.bank.journal.events import decode
from d2skill.bank.journal.sqlite_file import DamageError, StoredEvent
from d2skill.bank.journal.state import BankState


def apply(state: BankState, event: StoredEvent, path: Path) -> None:
    """Applies a stored event to a state; raises `DamageError` for one that cannot be read or does not fit."""
    try:
        state.apply(decode(event.body))
    except MemoryError:
        raise
    except Exception as error:  # whatever a program wrote that was no event
        raise DamageError(path, f"event {event.seq} cannot be replayed: {error}") from error


class Replay:
    """State of a bank after each event of a journal in turn, rewinds among them.

    Args:
        path: The journal, for errors.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = BankState()
        self._rewinds: list[tuple[int, int]] = []

    def add(self, event: StoredEvent, earlier: Callable[[], Iterable[StoredEvent]]) -> None:
        """Applies the next event; raises `DamageError` for one that does not fit.

        `earlier` returns all events from the first on, for a rewind.
        """
        if event.back_to is None:
            apply(self._state, event, self._path)
            return
        if not 0 <= event.back_to < event.seq:
            raise DamageError(self._path, f"event {event.seq} goes back to {event.back_to}")
        ranges = live_ranges(event.back_to, reversed(self._rewinds))
        self._state = BankState()
        for one in earlier():
            if one.seq > event.back_to:
                break
            if one.seq and one.back_to is None and any(one.seq in numbers for numbers in ranges):
                apply(self._state, one, self._path)
        self._rewinds.append((event.seq, event.back_to))


def live_ranges(end: int, rewinds: Iterable[tuple[int, int]]) -> list[range]:
    """Returns the numbers of the events that count up to event `end`, as ranges, newest first.

    A range starts with a rewind or event 0. `rewinds` are the numbers of rewinds and of the events that they go back
    to, newest first.
    """
    ranges = []
    for rewind, back_to in rewinds:
        if rewind <= end:
            ranges.append(range(rewind, end + 1))
            end = back_to
    return [*ranges, range(end + 1)]
