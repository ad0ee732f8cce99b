"""What the journal of a bank tells: bank search, diff, blame and stats; and what adds to it: bank undo and note."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from d2skill.bank import history
from d2skill.bank.drafts import storable
from d2skill.bank.history import Credited, Entry, Episode, Moved, Said, Shown, Undid, Written
from d2skill.bank.journal import BankState, Journal, JournalWriter, Note, Rewind
from d2skill.commands.bank import (
    bank_of,
    check_iteration,
    find,
    journal_of,
    print_rows,
    print_table,
    read,
    replay_command,
    say,
)
from d2skill.config import Config
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.runfolder import RunFolder
from d2skill.types import Granularity, Skill

_ENDS = 8  # lines that a long story begins and ends with
_LEAST_ALIKE = 0.2  # cosine; below it, what a search finds has nothing to do with it


def bank_search(
    run: Positional[Path],
    text: Positional[str],
    granularity: Granularity | None = None,
    limit: int = 20,
    at: int | None = None,
) -> None:
    """Find skills by what they say or what they are for.

    Lists those that have all the words, in text or key; if there are none, those that the bank's embedder finds alike.

    Args:
        run: Run folder, or a bank file.
        text: Words to look for; a word also finds longer ones that begin with it.
        granularity: Task skills or step skills only.
        limit: Lines, at most.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    if not any(letter.isalnum() for letter in text):
        raise BankError("there is no word to look for: name one or more")
    skills = [s for s in read(run, at).skills if granularity in (None, s.granularity) and s.evicted is None]
    if found := history.by_words(skills, text):
        print_table([skill for skill, _ in found], limit, [str(hits) for _, hits in found], "hits")
        return
    config = RunFolder.open(run).config() if run.is_dir() else Config()
    alike = history.by_meaning(skills, text, make_embedder(config.embedder))
    alike = [(skill, cosine) for skill, cosine in alike if cosine >= _LEAST_ALIKE]
    if not alike:
        say("No skill has all these words, and none is like them.")
        return
    say("No skill has all these words. Alike, by the embedder:")
    print_table([skill for skill, _ in alike], limit, [f"{cosine:.2f}" for _, cosine in alike], "alike")


def bank_diff(
    before: Positional[Path],
    after: Positional[Path | None] = None,
    from_: Annotated[int | None, arg(name="from")] = None,
    to: int | None = None,
    limit: int = 10,
) -> None:
    """Show what came, left and changed between two iterations of a run, or between two banks.

    Args:
        before: Run folder, or a bank file.
        after: Another one; without it, the same.
        from_: Iteration after which to look at the first; without it, as it is.
        to: Iteration after which to look at the second; without it, as it is.
        limit: Lines of each table, at most.
    """
    if after is None and from_ is None:
        raise BankError(f"{before} is to be compared with what? Name a second bank, or an iteration with --from")
    second = before if after is None else after
    one_bank = bank_of(before).resolve() == bank_of(second).resolve()
    old, new = read(before, from_).skills, read(second, to).skills
    marks = journal_of(second).replay(BankState(), at=to).marks if Journal.is_one(bank_of(second)) else {}
    found = history.compare(old, new, marks, by_id=one_bank)
    _print_part(f"{len(found.came)} came", found.came, limit)
    _print_part(
        f"{len(found.left)} left",
        [left.skill for left in found.left],
        limit,
        [left.reason or "not in the other bank" for left in found.left],
    )
    moves = [
        f"{shift.before.utility:+.3f} → {shift.after.utility:+.3f} by {shift.credits} credits" for shift in found.moved
    ]
    _print_part(f"{len(found.moved)} moved", [shift.after for shift in found.moved], limit, moves)
    say(f"{found.same} stayed as they were.")
    if found.passed:
        say(f"{found.passed} came and left between: `d2skill bank list {second} --evicted` has them.")


def bank_blame(run: Positional[Path], id: Positional[str], rewound: bool = False, all: bool = False) -> None:
    """Tell the story of a skill: where it is from, when it was shown, what moved its utility.

    Args:
        run: Run folder, or a journal.
        id: Id of the skill, such as s12.
        rewound: Show what a rewind undid as well, marked so.
        all: Show all lines of a long story.
    """
    journal = journal_of(run)
    told = history.story(journal, id, rewound=rewound)
    say(f"{id}: {told.skill.text.title}")
    for entry in told.entries:
        if isinstance(entry.what, Written):
            print_rows(_source(entry, entry.what))
            if run.is_dir():
                _print_replay(RunFolder.open(run), entry, entry.what)
    rows = [_line(list(entries)) for _, entries in groupby(told.entries, lambda e: (e.iteration, e.undone))]
    left_out = 0 if all else max(0, len(rows) - 2 * _ENDS - 1)
    table = Table(show_edge=False)
    for column in ("iteration", "events", "shown", "signals", "mean", "utility", "what happened"):
        table.add_column(column, justify="left" if column in ("events", "what happened") else "right")
    for number, row in enumerate(rows):
        if not left_out or number < _ENDS or number >= len(rows) - _ENDS:
            table.add_row(*map(Text, row))
        elif number == _ENDS:
            table.add_row(*["..."] * 6, Text(f"{len(rows) - 2 * _ENDS} more iterations: --all shows them"))
    Console().print(table)


def bank_stats(run: Positional[Path], at: int | None = None) -> None:
    """Show a bank in numbers.

    Args:
        run: Run folder, or a journal.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    journal = journal_of(run)
    check_iteration(run, journal, at)
    head = journal.head()
    iteration = head.iteration if at is None else at
    found = history.statistics(journal.replay(BankState(), at=at, seq=head.seq), iteration)
    table = Table(show_edge=False)
    for column in ("", *(f"{kind} skills" for kind in found.pools)):
        table.add_column(column, justify="left")
    pools = list(found.pools.values())
    for status in dict.fromkeys(["active", *(status for pool in pools for status in pool.statuses)]):
        table.add_row(status, *(str(pool.statuses.get(status, 0)) for pool in pools))
    for name, quantity, form in (
        ("utility", "utility", "+.3f"),
        ("credits", "credits", ".0f"),
        ("shown", "retrievals", ".0f"),
        ("age", "age", ".0f"),
    ):
        table.add_row(name, *(_spread(getattr(pool, quantity), form) for pool in pools))
    for name, count in (
        ("utility above 0", "above"),
        ("utility below 0", "below"),
        ("never shown", "never_shown"),
        ("never credited", "never_credited"),
    ):
        table.add_row(name, *(_share(getattr(pool, count), pool.active) for pool in pools))
    Console().print(table)
    say("Utility to age are of the active skills: lowest [quartile, median, quartile] highest; age is in iterations.")
    most = ", ".join(f"{task} ({count})" for task, count in found.evidence)
    facts = history.recorded(journal)
    print_rows(
        [
            ("iteration", str(iteration)),
            ("written from", f"failures in {found.tasks} tasks, most in {most}" if most else "-"),
            ("journal", f"{facts.events} events, {facts.bytes / 1024:.0f} KiB, {facts.snapshots} snapshots"),
            ("rewinds", f"{facts.rewinds}, which leave {facts.undone} events out" if facts.rewinds else "none"),
            ("embedder", journal.embedder),
        ]
    )


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
    with JournalWriter(path) as writer:
        head = writer.head()
        if event is None:
            event = _last_event(run, writer, to)
        gone, back = history.undone(writer, event)
        if not (gone or back):
            say("The bank is as it was then already: nothing is undone.")
            return
        writer.append(Rewind(event, head.iteration))
        iteration = writer.head().iteration
        active = sum(skill.evicted is None for skill in writer.replay(BankState()).skills())
    again = f", {back} count again" if back else ""
    say(
        f"The bank is as it was after event {event}, in iteration {iteration}: {active} active skills. "
        f"{gone} events no longer count{again}.",
        f"Nothing is deleted: `d2skill bank undo {run} --event {head.seq}` takes this back.",
    )
    if run.is_dir():
        say("A run that is resumed goes on from its checkpoint anyway, with the bank as it was then.")


def bank_note(run: Positional[Path], id: Positional[str], text: Positional[str]) -> None:
    """Note something about a skill, for bank show and bank blame.

    Args:
        run: Run folder, or a journal.
        id: Id of the skill, such as s12.
        text: What is to be noted.
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in storable(text)).split())
    if not text:
        raise BankError("the note is empty: say something")
    with JournalWriter(journal_of(run).path) as writer:
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


def _print_part(heading: str, skills: Sequence[Skill], limit: int, notes: Iterable[str] | None = None) -> None:
    """Prints one part of a difference, if there is anything in it."""
    say(heading + (":" if skills else "."))
    if not skills or limit < 1:
        return
    table = Table(show_edge=False, show_header=False, box=None)
    for skill, note in zip(skills[:limit], notes or [f"{skill.utility:+.3f}" for skill in skills], strict=False):
        table.add_row("", skill.id, Text(note), Text(skill.text.title))
    Console().print(table)
    if len(skills) > limit:
        say(f"   {len(skills) - limit} more")


def _source(entry: Entry, written: Written) -> list[tuple[str, str]]:
    """Returns where a skill is from, as far as the journal says."""
    skill, origin = written.skill, written.origin
    undone = " (undone)" if entry.undone else ""
    rows = [("written", f"in iteration {entry.iteration}, event {entry.number}{undone}")]
    if skill.evidence:
        member = f", member {written.failure} of its group" if written.failure is not None else ""
        rows.append(("from", f"a failure in {skill.evidence}{member}: {skill.task_text}"))
    if skill.credits:
        rows.append(("taken over", f"with utility {skill.utility:+.3f} after {skill.credits} credits"))
    if written.success is not None:
        rows.append(("held against", f"a success in the same task, member {written.success}"))
    named = {"reflector": "by", "prompt": "prompt", "model": "model", "policy": "policy", "from": "taken from"}
    rows += [(named.get(key, key), text) for key, text in origin.items() if key not in ("trajectories", "successes")]
    return rows


def _print_replay(run: RunFolder, entry: Entry, written: Written) -> None:
    """Prints the command that shows the failure that a skill was written from, if the run keeps it."""
    if written.failure is None or entry.undone or not run.rollout(entry.iteration).is_file():
        return
    command = replay_command(run.path, Episode(entry.iteration, written.skill.evidence, written.failure))
    success = f", --member {written.success} the success" if written.success is not None else ""
    say(f"{command} shows the failure{success}.")


def _line(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Returns the line of a story that is about one iteration."""
    kinds = [entry.what for entry in entries]
    shown = sum(what.times for what in kinds if isinstance(what, Shown))
    credited = [what for what in kinds if isinstance(what, Credited)]
    signals = [signal for what in credited for signal in what.signals]
    first, last = entries[0].number, entries[-1].number
    said = [text for text in map(_in_words, kinds) if text]
    return (
        str(entries[0].iteration),
        str(first) if first == last else f"{first}-{last}",
        str(shown or ""),
        str(len(signals) or ""),
        f"{sum(signals) / len(signals):+.2f}" if signals else "",
        f"{credited[-1].after:+.3f}" if credited else "",
        "; ".join([*said, *(["(undone)"] if entries[0].undone else [])]),
    )


def _in_words(what: object) -> str:
    match what:
        case Written():
            return "written"
        case Moved(status, reason, into):
            return f"{status}{f' into {into}' if into else ''}{f': {reason}' if reason else ''}"
        case Said(text):
            return f"note: {text}"
        case Undid(to):
            return f"taken back to event {to}"
    return ""


def _spread(quantiles: history.Quantiles | None, form: str) -> str:
    if quantiles is None:
        return "-"
    low, lower, median, upper, high = (format(value, form) for value in quantiles)
    return f"{low} [{lower}, {median}, {upper}] {high}"


def _share(count: int, of: int) -> str:
    return f"{count} ({count / of:.0%})" if of else "-"
