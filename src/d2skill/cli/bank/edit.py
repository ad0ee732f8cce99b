"""Changes of a bank by hand: bank merge, admit, hold, note and undo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from d2skill.bank import SkillBank
from d2skill.bank.formats.contents import BankContents, check_iteration
from d2skill.bank.history.diff import describe_status
from d2skill.bank.history.statistics import count_undone
from d2skill.bank.journal import Change, Journal, JournalHead, JournalWriter, Note, Rewind, Status
from d2skill.bank.safety import objection
from d2skill.cli.bank.open import find_skill, one_line, open_journal, read, settings_of
from d2skill.cli.bank.tables import SkillId, print_rows, print_table, print_undo_hint, say, table_of
from d2skill.cli.output import Output
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.types import Granularity, Skill
from d2skill.utils.foreign_text import command
from d2skill.utils.text import counted

Ids = Annotated[Positional[tuple[str, ...]], arg(metavar="ID [ID ...]", help_behavior_hint="(required)")]


def bank_merge(
    run: Positional[Path],
    similarity: float | None = None,
    granularity: Granularity | None = None,
    dry_run: bool = False,
) -> Output:
    """Merge active skills that say nearly the same for nearly the same key.

    Of similar skills, the one with most signals stays, with its text and utility, and the signals of the others count
    for it from then on. Texts with different numbers are never similar. New skills that are as similar as
    bank.duplicate are refused anyway, so merging usually takes a lower similarity, such as 0.8. Nothing is deleted, and
    `d2skill bank admit` takes a skill out again.

    Args:
        run: Run folder, or a journal.
        similarity: Least cosine of both keys and texts, up to 1; without it, the run's bank.duplicate.
        granularity: Task skills or step skills only.
        dry_run: Only show what would be merged.
    """
    least = settings_of(run).bank.duplicate if similarity is None else similarity
    if not 0 < least <= 1:
        raise BankError(f"--similarity is {least:g}: it is above 0, and 1 at most")
    with _open_bank(run, to_write=not dry_run) as (bank, head):
        signals = {skill.id: bank.worth(skill.id).signals for skill in bank.skills()}
        merged = bank.merge(head.iteration, least, granularity, dry_run=dry_run)
        left = len(bank) - (sum(map(len, merged.values())) if dry_run else 0)
        titles = {id: bank.get(id).text.title for keeper, ids in merged.items() for id in (keeper, *ids)}
    record = {"similarity": least, "merged": merged, "active": left, "dry_run": dry_run, "event_before": head.seq}
    if not merged:
        told = f"No two active skills are {least:g} alike in key and text: a lower --similarity may find some."
        return Output(record, partial(say, told))
    gone = [id for ids in merged.values() for id in ids]

    def show() -> None:
        _print_merged(merged, signals, titles)
        if dry_run:
            say(f"That would merge {len(gone)} into {len(merged)} and leave {left} active; nothing is changed.")
            return
        say(
            f"Merged: {len(gone)} into {len(merged)}, where their signals count from now on; active: {left}.",
            f"{command('bank', 'admit', run, gone[0])} takes that one out again.",
        )
        print_undo_hint(run, head)

    return Output(record, show)


def _print_merged(merged: Mapping[str, Sequence[str]], signals: Mapping[str, int], titles: Mapping[str, str]) -> None:
    """Prints a table of the skills that stay, and of those that went into each."""
    table = table_of(("stays", "goes into it", "signals", "skill"), left=("stays", "goes into it", "skill"))
    for keeper, ids in merged.items():
        table.add_row(keeper, "", str(signals[keeper]), titles[keeper])
        for id in ids:
            table.add_row("", id, str(signals[id]), titles[id])
    print_table(table)


def bank_admit(run: Positional[Path], ids: Ids, reason: str = "") -> Output:
    """Make skills active again, of any status: held, on trial, evicted, retired or merged into another.

    They keep their utility, counts and signals. A held skill does not look like advice, and to admit it is to vouch for
    it: read it first by `d2skill bank show`, since policies are shown it from then on.

    Args:
        run: Run folder, or a journal.
        ids: Ids of the skills, such as s12 t3.
        reason: Why, for the record.
    """
    with _status_change(run, "active", one_line(reason), ids) as (contents, skills, head):
        for skill in skills:
            _check_presentable(skill)

    def show() -> None:
        for skill in skills:
            mark = contents.marks[skill.id]
            if mark.status == "held":
                print_rows(zip(("title", "principle", "when to apply"), astuple(skill.text), strict=True))
            own = ", with its signals," if mark.status == "merged" else ""
            say(f"{skill.id} is active{own} from now on; it was {describe_status(mark, skill)}.")
        print_undo_hint(run, head)

    before = {skill.id: contents.status(skill) for skill in skills}
    return Output({"active": list(before), "before": before, "event_before": head.seq}, show)


def bank_hold(run: Positional[Path], ids: Ids, reason: str) -> Output:
    """Hold skills: no policy is shown them until `d2skill bank admit` makes them active.

    Args:
        run: Run folder, or a journal.
        ids: Ids of the skills, such as s12 t3.
        reason: Why, for the record.
    """
    why = one_line(reason)
    if not why:
        raise BankError("the reason is empty: say why nobody is to be shown them")
    with _status_change(run, "held", why, ids) as (contents, skills, head):
        pass

    def show() -> None:
        for skill in skills:
            say(f"{skill.id} is held back: {skill.text.title}")
        say(f"Shown to nobody until {command('bank', 'admit', run, *(skill.id for skill in skills))}.")
        print_undo_hint(run, head)

    before = {skill.id: contents.status(skill) for skill in skills}
    return Output({"held": list(before), "before": before, "reason": why, "event_before": head.seq}, show)


def bank_note(run: Positional[Path], id: SkillId, text: Positional[str]) -> Output:
    """Put a note about a skill on record, which bank show and bank blame print.

    Args:
        run: Run folder, or a journal.
        id: Id of the skill, such as s12.
        text: The note.
    """
    text = one_line(text)
    if not text:
        raise BankError("the note is empty: say something")
    with JournalWriter(open_journal(run).path, wait=settings_of(run).bank.wait) as writer:
        find_skill(writer.replay().skills(), id, run)
        writer.append(Note(id, text, writer.head().iteration))
    return Output({"id": id, "note": text}, partial(say, f"Noted: {command('bank', 'show', run, id)} shows it."))


def bank_undo(run: Positional[Path], to: int | None = None, event: int | None = None) -> Output:
    """Take a bank back to an earlier state; nothing is deleted, and an undo can be undone.

    Args:
        run: Run folder, or a journal.
        to: Iteration to go back to; without it, the one before the last that changed the bank.
        event: Number of the event to go back to, instead of an iteration.
    """
    if to is not None and event is not None:
        raise BankError("--to and --event both say where to go back to: leave one of them out")
    path = open_journal(run).path
    with JournalWriter(path, wait=settings_of(run).bank.wait) as writer:
        head = writer.head()
        if event is None:
            event = _last_event(run, writer, to)
        undone, redone = count_undone(writer, event)
        if undone or redone:
            writer.append(Rewind(event, head.iteration))
        iteration = writer.head().iteration
        active = len(writer.replay().rows(None, "active"))

    def show() -> None:
        if not (undone or redone):
            say("The bank is as it was then already: nothing is undone.")
            return
        again = f" Counting again: {redone}." if redone else ""
        say(
            f"The bank is as it was after event {event}, in iteration {iteration}: {counted(active, 'active skill')}. "
            f"Undone: {counted(undone, 'event')}.{again}"
        )
        print_undo_hint(run, head)

    record = {"event": event, "iteration": iteration, "active": active, "undone": undone, "redone": redone}
    return Output(record | {"event_before": head.seq}, show)


def _last_event(run: Path, journal: Journal, to: int | None) -> int:
    """Returns the last event that counts up to an iteration, by default up to the last but one that has events."""
    iterations = [(number, event.iteration) for number, event in journal.events()]
    if to is None:
        last = iterations[-1][1] if iterations else 0
        before = [number for number, iteration in iterations if iteration < last]
        if not before:
            raise BankError(f"{run} has one iteration only: --event 0 goes back to the empty bank")
        return before[-1]
    check_iteration(journal, to)
    return max((number for number, iteration in iterations if iteration <= to), default=0)


@contextmanager
def _open_bank(run: Path, *, to_write: bool) -> Iterator[tuple[SkillBank, JournalHead]]:
    """Opens a bank with the settings of its run, to change it or only to read it; yields its journal's head."""
    path, config = open_journal(run).path, settings_of(run)
    bank = SkillBank.open(path, make_embedder(config.embedder), config.bank, config.retrieval, config.credit)
    if to_write:
        bank.record(path, wait=config.bank.wait)
    try:
        yield bank, Journal(path).head()
    finally:
        bank.close()


@contextmanager
def _status_change(
    run: Path, status: Status, reason: str, ids: Sequence[str]
) -> Iterator[tuple[BankContents, list[Skill], JournalHead]]:
    """Gives skills another status after its block, if that raises nothing; the run's embedder is not made for it.

    Args:
        run: Run folder, or a journal.
        status: The new status.
        reason: Why, for the record.
        ids: Ids of the skills.

    Yields:
        The bank as it is, its skills of these ids, and the head of its journal.
    """
    with JournalWriter(open_journal(run).path, wait=settings_of(run).bank.wait) as writer:
        contents, head = read(run), writer.head()
        skills = _find_skills(contents, ids, run, not_yet=status)
        yield contents, skills, head
        writer.append(Change(status, tuple(skill.id for skill in skills), head.iteration, reason))


def _find_skills(bank: BankContents, ids: Sequence[str], run: Path, *, not_yet: Status) -> list[Skill]:
    """Returns the skills of some ids. Raises `BankError` if there are none, or if one has the status already."""
    if not ids:
        raise BankError(f"which skills? Name their ids, as in {command('bank', 'list', run, '--status', 'all')}")
    skills = [find_skill(bank.skills, id, run) for id in dict.fromkeys(ids)]
    for skill in skills:
        if bank.status(skill) == not_yet:
            raise BankError(f"{skill.id} is {not_yet} already: leave it out")
    return skills


def _check_presentable(skill: Skill) -> None:
    """Raises `BankError` for a text that no policy can be shown, even if a person vouches for it."""
    if reason := objection(skill.text):
        raise BankError(
            f"{skill.id} cannot be shown to a policy: {reason}; `d2skill bank import` makes a bank with its text "
            "cleaned"
        )
