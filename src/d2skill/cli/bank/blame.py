"""The story of one skill: bank blame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from d2skill.bank import history
from d2skill.bank.history import (
    Credited,
    Entry,
    Episode,
    Joined,
    Moved,
    Parted,
    Probed,
    Repeated,
    Said,
    Shown,
    Signal,
    Story,
    Undid,
    What,
    Written,
)
from d2skill.bank.journal import BankState
from d2skill.cli.bank.open import journal_of, listed
from d2skill.cli.bank.tables import print_rows, replay_command, say, short, table_of
from d2skill.runs import trajectories
from d2skill.runs.folder import RunFolder

_ENDS = 8  # lines that a long story begins and ends with


def bank_blame(
    run: Positional[Path], id: Positional[str], signals: bool = False, rewound: bool = False, all: bool = False
) -> None:
    """Tell the story of a skill: where it is from, when it was shown, what moved its utility.

    Args:
        run: Run folder, or a journal.
        id: Id of the skill, such as s12.
        signals: List every signal instead, with the episode it is from; that of a task skill is from a whole group.
        rewound: Show what a rewind undid as well, marked so.
        all: Show all lines of a long story.
    """
    journal = journal_of(run)
    told = history.story(journal, id, rewound=rewound)
    say(f"{id}: {told.skill.text.title}")
    if signals:
        _print_signals(run, told, journal.replay(BankState()).merged.get(id, []))
        return
    for entry in told.entries:
        if isinstance(entry.what, Written):
            print_rows(_source(entry, entry.what))
            if run.is_dir():
                _print_replay(RunFolder.open(run), entry, entry.what)
    rows = [_line(list(entries)) for _, entries in groupby(told.entries, lambda e: (e.iteration, e.undone))]
    left_out = 0 if all else max(0, len(rows) - 2 * _ENDS - 1)
    columns = ("iteration", "events", "shown", "signals", "mean", "utility", "what happened")
    table = table_of(columns, left=("events", "what happened"))
    for number, row in enumerate(rows):
        if not left_out or number < _ENDS or number >= len(rows) - _ENDS:
            table.add_row(*map(Text, row))
        elif number == _ENDS:
            table.add_row(*["..."] * 6, Text(f"{len(rows) - 2 * _ENDS} more iterations: --all shows them"))
    Console().print(table)


def _print_signals(run: Path, told: Story, within: Sequence[str]) -> None:
    """Prints every signal that counts, and how to see the episodes they are from."""
    traced = told.traced()
    say(*map(_traced, traced), *([] if traced else ["It has no signals yet."]))
    if within:
        named = ", ".join(f"`d2skill bank blame {run} {id} --signals`" for id in within)
        say(f"Those of skills that were merged into it count here as well: {named}.")
    if not run.is_dir():
        return
    folder = RunFolder.open(run)
    kept = {*folder.kept_rollouts()}
    if last := next((one for one in reversed(traced) if one.task and one.iteration in kept), None):
        say(f"{replay_command(run, _episode(folder, told.skill.id, last))} shows the last of these episodes.")
    if lost := sorted({str(one.iteration) for one in traced if one.iteration not in kept}, key=int):
        say(f"The episodes of these iterations are not kept: {listed(lost, 10)}.")


def _episode(run: RunFolder, id: str, signal: Signal) -> Episode:
    """Returns an episode that a signal is from; of a group, the first that was shown the skill."""
    member = signal.member
    if member is None:
        of_task = [one for one in trajectories.about(run.rollout(signal.iteration), id) if one.task.id == signal.task]
        member = next((one.index for one in of_task if any(id in turn.skills for turn in one.turns)), 0)
    return Episode(signal.iteration, signal.task, member)


def _traced(signal: Signal) -> str:
    """Returns a signal with the episode it is from, or the task whose group it is from."""
    place = f" {signal.task}" if signal.task else ", from an episode that is not on record"
    if signal.task:
        place += ", its group" if signal.member is None else f" member {signal.member}"
    return f"iteration {signal.iteration}{place}: {signal.value:+.2f}"


def _source(entry: Entry, written: Written) -> list[tuple[str, str]]:
    """Returns where a skill is from, as far as the journal says."""
    skill, origin = written.skill, dict(written.origin)
    undone = " (undone)" if entry.undone else ""
    rows = [("written", f"in iteration {entry.iteration}, event {entry.number}{undone}")]
    if skill.evidence:
        member = f", member {written.failure} of its group" if written.failure is not None else ""
        split = f", split {origin.pop('split')}" if len(origin.get("split", "").split()) == 1 else ""
        rows.append(("from", f"a failure in {skill.evidence}{member}{split}: {skill.task_text}"))
    if skill.credits or written.evidence:
        worth = f", worth {short(written.evidence.posterior())}" if written.evidence else ""
        rows.append(("taken over", f"with utility {skill.utility:+.3f} after {skill.credits} credits{worth}"))
    if written.mark:
        rows.append(("came as", history.told(written.mark, skill)))
    if written.success is not None:
        rows.append(("held against", f"a success in the same task, member {written.success}"))
    named = {"reflector": "by", "from": "taken from"}
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


def _in_words(what: What) -> str:
    match what:
        case Written():
            return "written"
        case Repeated(tasks):
            names = list(dict.fromkeys(task or "an unnamed task" for task in tasks))
            return f"written again, from {'a failure' if len(tasks) == 1 else 'failures'} in {listed(names)}"
        case Probed(decisions, changes):
            return f"heeded in {changes} of {decisions} probes"
        case Moved(status, reason, into):
            return f"{history.named(status, into)}{f': {reason}' if reason else ''}"
        case Joined(ids):
            return f"took in {', '.join(ids)}"
        case Parted(ids):
            return f"parted from {', '.join(ids)}"
        case Said(text):
            return f"note: {text}"
        case Undid(to):
            return f"taken back to event {to}"
    return ""
