"""What else is put on record by hand: bank note and undo."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from d2skill.bank import history
from d2skill.bank.journal import BankState, Journal, JournalWriter, Note, Rewind
from d2skill.cli.bank.open import check_iteration, config_of, find, journal_of, one_line
from d2skill.cli.bank.tables import say, say_how_it_is_taken_back
from d2skill.errors import BankError


def bank_undo(run: Positional[Path], to: int | None = None, event: int | None = None) -> None:
    """Take a bank back to how it was; nothing is deleted, and an undo can be undone.

    Args:
        run: Run folder, or a journal.
        to: Iteration after which the bank was as it shall be; without it, the one before the last that changed it.
        event: Number of the event after which the bank was as it shall be, instead of an iteration.
    """
    if to is not None and event is not None:
        raise BankError("--to and --event both say where to go back to: leave one of them out")
    path = journal_of(run).path
    with JournalWriter(path, wait=config_of(run).bank.wait) as writer:
        head = writer.head()
        if event is None:
            event = _last_event(run, writer, to)
        gone, back = history.undone(writer, event)
        if not (gone or back):
            say("The bank is as it was then already: nothing is undone.")
            return
        writer.append(Rewind(event, head.iteration))
        iteration = writer.head().iteration
        active = len(writer.replay(BankState()).rows(None, "active"))
    again = f", {back} count again" if back else ""
    say(
        f"The bank is as it was after event {event}, in iteration {iteration}: {active} active skills. "
        f"{gone} events no longer count{again}."
    )
    say_how_it_is_taken_back(run, head)


def bank_note(run: Positional[Path], id: Positional[str], text: Positional[str]) -> None:
    """Note something about a skill, for bank show and bank blame.

    Args:
        run: Run folder, or a journal.
        id: Id of the skill, such as s12.
        text: What is to be noted.
    """
    text = one_line(text)
    if not text:
        raise BankError("the note is empty: say something")
    with JournalWriter(journal_of(run).path, wait=config_of(run).bank.wait) as writer:
        find(writer.replay(BankState()).skills(), id, run)
        writer.append(Note(id, text, writer.head().iteration))
    say(f"Noted: `d2skill bank show {run} {id}` shows it.")


def _last_event(run: Path, journal: Journal, to: int | None) -> int:
    """Returns the last event that counts up to an iteration, by default the last but one of those with events."""
    iterations = [(number, event.iteration) for number, event in journal.events()]
    if to is None:
        last = iterations[-1][1] if iterations else 0
        before = [number for number, iteration in iterations if iteration < last]
        if not before:
            raise BankError(f"{run} has one iteration only: --event 0 goes back to the empty bank")
        return before[-1]
    check_iteration(run, journal, to)
    return max((number for number, iteration in iterations if iteration <= to), default=0)
