"""Ledger of a bank: its state in memory and its journal, which never part.

An event is applied to the state, which refuses one that does not fit, and then written. If anything raises before it is
written, the state goes back to what it was; so an event counts in memory and in the journal, or in neither. An
interrupt may come even while that is done: then the next change does what is left.
"""

from __future__ import annotations

import inspect
import operator
import weakref
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import SupportsIndex

from d2skill.bank.journal import BankState, Event, JournalWriter
from d2skill.bank.journal.state import Savepoint
from d2skill.errors import BankError

_MOST_ITERATIONS = 1_000_000_000


class Ledger:
    """Changes of a bank.

    Args:
        state: State of the bank.
        applied: Called with each event that the state has applied.
        undone: Called after events were taken back.
        written: Called after events were written.
    """

    def __init__(
        self,
        state: BankState,
        applied: Callable[[Event], None],
        undone: Callable[[], None],
        written: Callable[[], None],
    ) -> None:
        self.state = state
        self.iteration = 0
        self.writer: JournalWriter | None = None
        self.subscribers: list[Callable[[Event], None]] = []
        self._applied = applied
        self._undone = undone
        self._when_written = written
        self._blocks: list[weakref.ref[Generator[int, None, None]]] = []  # of changes that have not ended
        self._before = 0  # iteration before the outermost of them
        self._pending: list[tuple[Event, Savepoint]] = []
        self._outdated = False  # True from when an event was taken back until `undone` was called
        self._written: list[Event] = []  # events of which not all have been told
        self._last = 0  # number of the last event that is known to be in the journal
        self._unsure = ""  # the reason why memory and journal may have parted
        self.refusal = ""  # the reason why nothing may be changed: it would be lost

    def attach(self, writer: JournalWriter) -> None:
        """Ties the ledger to a journal that has the same state."""
        head = writer.head()
        self.writer, self._last, self._unsure, self.iteration = writer, head.seq, "", head.iteration
        self.refusal = ""

    def detach(self) -> None:
        """Closes the journal; raises `BankError` inside a change, which could not be written then."""
        if self.writer:
            self.require_no_change("closed")
            self._recover()
            self.writer.close()
            self.refusal = (
                f"the bank of {self.writer.path} is closed, and a change would be lost: make it before `close`, inside "
                "the `with` block, or open the bank again with create=True"
            )
            self.writer = None

    def require_no_change(self, done: str) -> None:
        """Raises `BankError` inside a change, in which the bank cannot be `done`: closed, or tied to a journal."""
        if self._depth():
            raise BankError(f"a batch has not ended, and the bank cannot be {done} before: end its `with` block first")

    def change(self, iteration: SupportsIndex | None = None, *, follow: bool = False) -> AbstractContextManager[int]:
        """Returns a block whose events count all or not at all; it yields the iteration.

        They are written at the end of the outermost block, and taken back if a block raises. `iteration` is the present
        one for None. Raises `BankError` for one before it, and changes nothing then; so where there is a `refusal`,
        unless the events `follow` those of another bank.
        """
        block = contextmanager(self._block)(iteration, follow)
        self._blocks.append(weakref.ref(block.gen))
        return block

    def do(self, event: Event, *, follow: bool = False) -> None:
        """Applies an event, as part of the present change or as one of its own (see `change`)."""
        if not self._depth():
            with self.change(event.iteration, follow=follow):
                self.do(event)
            return
        self._pending.append((event, self.state.savepoint(event)))
        self.state.apply(event)
        self._applied(event)

    def _block(self, iteration: SupportsIndex | None, follow: bool) -> Generator[int, None, None]:
        if self.refusal and not follow:
            raise BankError(self.refusal)
        outermost = self._depth() == 1
        if outermost:
            self._recover()
        if self._unsure:
            raise BankError(self._unsure)
        now, before, start = self._checked(iteration), self.iteration, len(self._pending)
        try:
            if outermost:
                self._before = before
            self.iteration = now
            yield now
            if outermost:
                self._write()
        except BaseException:
            if not self._written:
                self._take_back(start)
                self.iteration = before
            raise
        finally:
            if outermost and self._written:
                self._blocks.clear()  # this one is done, and a subscriber may begin another
                self._tell()

    def _depth(self) -> int:
        """Returns the number of changes that have begun and not ended, however they may have ended."""
        states = {ref: inspect.getgeneratorstate(block) for ref in self._blocks if (block := ref()) is not None}
        self._blocks = [ref for ref, state in states.items() if state != inspect.GEN_CLOSED]
        return sum(states[ref] != inspect.GEN_CREATED for ref in self._blocks)

    def _recover(self) -> None:
        """Does what an interrupted end of a change has left to do."""
        if self._pending or self._outdated:
            if self._pending and self.writer and self._is_in_journal(self._last + len(self._pending)):
                self._count_as_written(self._last + len(self._pending))
            else:
                self._take_back(0)
                self.iteration = self._before
        if self._written:
            self._tell()

    def _checked(self, iteration: SupportsIndex | None) -> int:
        if iteration is None:
            return self.iteration
        try:
            number = operator.index(iteration)
        except TypeError:
            raise BankError(f"an iteration is a whole number, not {iteration!r}") from None
        if number >= _MOST_ITERATIONS:
            raise BankError(f"iteration {number} is too large: iterations count rounds, one after the other")
        if number < self.iteration:
            raise BankError(
                f"iteration {number} comes before iteration {self.iteration}, which the bank has reached: leave it "
                f"out, or give {self.iteration} or a later one"
            )
        return number

    def _write(self) -> None:
        """Writes the pending events; an error after they are in the journal leaves them there."""
        last = self._last
        try:
            if self.writer and self._pending:
                last = self.writer.append(*(event for event, _ in self._pending))
            self._count_as_written(last)
        except BaseException:
            if self.writer and self._pending and self._is_in_journal(self._last + len(self._pending)):
                self._count_as_written(self._last + len(self._pending))
            raise

    def _count_as_written(self, last: int) -> None:
        self._written, self._pending, self._last = [event for event, _ in self._pending], [], last

    def _is_in_journal(self, last: int) -> bool:
        """Returns True if the journal ends with event number `last` although writing it raised an error."""
        assert self.writer is not None
        try:
            return self.writer.head().seq == last
        except BankError:
            self._unsure = (
                f"{self.writer.path} could not be read after an error, so the last change of the bank may be in it or "
                "not: open the bank again"
            )
            return False

    def _take_back(self, start: int) -> None:
        """Takes back the pending events from number `start` on."""
        while len(self._pending) > start:
            self._outdated = True
            self._pending[-1][1].restore()
            self._pending.pop()
        if self._outdated:
            self._undone()
            self._outdated = False

    def _tell(self) -> None:
        """Tells all of the events that were written, also if one raises."""
        events, self._written = self._written, []
        error: BaseException | None = None
        calls: list[Callable[[], None]] = [self._when_written]
        calls += [partial(call, event) for call in self.subscribers for event in events]
        for call in calls:
            try:
                call()
            except BaseException as raised:
                error = error or raised
        if error is not None:
            raise error
