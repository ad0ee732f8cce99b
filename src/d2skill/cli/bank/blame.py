"""History of one skill: bank blame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from d2skill.bank.history.diff import describe_status, status_name
from d2skill.bank.history.timeline import (
    Credited,
    EpisodeId,
    Inserted,
    MergedIn,
    MergeUndone,
    Noted,
    Probed,
    Refuted,
    Repeated,
    Revised,
    Rewound,
    Shown,
    SkillChange,
    StatusChanged,
    Supported,
    Timeline,
    TimelineEntry,
    TracedSignal,
    skill_timeline,
)
from d2skill.cli.bank.open import listed, open_journal
from d2skill.cli.bank.tables import (
    SkillId,
    format_tally,
    format_worth,
    print_rows,
    print_table,
    replay_command,
    say,
    table_of,
    written_from,
)
from d2skill.cli.output import Output
from d2skill.runs import trajectories
from d2skill.runs.folder import RunFolder
from d2skill.utils.foreign_text import command
from d2skill.utils.text import counted

_ENDS = 8  # rows at either end of a long table


def bank_blame(
    run: Positional[Path],
    id: SkillId,
    signals: bool = False,
    rewound: bool = False,
    all: bool = False,
) -> Output:
    """Show the history of a skill: the failure it was written from, when it was shown, its evidence and utility.

    Args:
        run: Run folder, or a journal.
        id: Id of the skill, such as s12.
        signals: List every signal instead, with the episode it is from; that of a task skill is from a whole group.
        rewound: Add the events that a rewind undid, marked so.
        all: Show all lines of a long history.
    """
    journal = open_journal(run)
    timeline = skill_timeline(journal, id, rewound=rewound)
    merged = journal.replay().merged.get(id, [])
    record = {
        "skill": timeline.skill,
        "events": [_event(entry) for entry in timeline.entries],
        "signals": [signal._asdict() for signal in timeline.signals()],
        "merged": merged,
    }
    show = partial(_print_signals, run, timeline, merged) if signals else partial(_print, run, timeline, all)
    return Output(record, show)


def _event(entry: TimelineEntry) -> dict[str, Any]:
    """Returns a change of a skill as plain data, with its kind: "shown" for `Shown`, "status-changed"."""
    kind = "-".join(re.findall("[A-Z][a-z]+", type(entry.change).__name__)).lower()
    about = {"event": entry.number, "iteration": entry.iteration, "undone": entry.undone, "kind": kind}
    return about | {field.name: getattr(entry.change, field.name) for field in fields(entry.change)}


def _print(run: Path, timeline: Timeline, all: bool) -> None:
    """Prints the origin of a skill and its history, iteration by iteration."""
    say(f"{timeline.skill.id}: {timeline.skill.text.title}")
    for entry in timeline.entries:
        if isinstance(entry.change, Inserted):
            print_rows(_source(entry, entry.change, written_from(timeline.skill)))
            if run.is_dir():
                _print_replay(RunFolder.open(run), entry, entry.change)
    rows = [_row(list(entries)) for _, entries in groupby(timeline.entries, lambda e: (e.iteration, e.undone))]
    left_out = 0 if all else max(0, len(rows) - 2 * _ENDS - 1)
    columns = ("iteration", "events", "shown", "signals", "mean", "utility", "what happened")
    table = table_of(columns, left=("events", "what happened"))
    for number, row in enumerate(rows):
        if not left_out or number < _ENDS or number >= len(rows) - _ENDS:
            table.add_row(*row)
        elif number == _ENDS:
            table.add_row(*["..."] * 6, f"{counted(left_out + 1, 'more iteration')}: --all shows all")
    print_table(table)


def _print_signals(run: Path, timeline: Timeline, merged: Sequence[str]) -> None:
    """Prints every signal that counts, and the command that replays the last episode of one."""
    signals = timeline.signals()
    say(f"{timeline.skill.id}: {timeline.skill.text.title}")
    say(*map(_signal, signals), *([] if signals else ["It has no signals yet."]))
    if merged:
        commands = ", ".join(command("bank", "blame", run, id, "--signals") for id in merged)
        say(f"Those of skills that were merged into it count here as well: {commands}.")
    if not run.is_dir():
        return
    folder = RunFolder.open(run)
    kept = {*folder.kept_rollouts()}
    if last := next((signal for signal in reversed(signals) if signal.task and signal.iteration in kept), None):
        say(f"{replay_command(run, _episode(folder, timeline.skill.id, last))} shows the last of these episodes.")
    if lost := sorted({str(signal.iteration) for signal in signals if signal.iteration not in kept}, key=int):
        say(f"The episodes of these iterations are not kept: {listed(lost, 10)}.")


def _episode(run: RunFolder, id: str, signal: TracedSignal) -> EpisodeId:
    """Returns the episode that a signal is from; of a group, the first that showed the skill."""
    member = signal.member
    if member is None:
        saved = [one for one in trajectories.about(run.rollout(signal.iteration), id) if one.task.id == signal.task]
        member = next((one.index for one in saved if any(id in turn.skills for turn in one.turns)), 0)
    return EpisodeId(signal.iteration, signal.task, member)


def _signal(signal: TracedSignal) -> str:
    """Returns a signal with the episode it is from, or the task whose group it is from."""
    if not signal.task:
        source = ", from an episode that is not on record"
    else:
        source = f" {signal.task}" + (", its group" if signal.member is None else f" member {signal.member}")
    return f"iteration {signal.iteration}{source}: {signal.value:+.2f}"


def _source(entry: TimelineEntry, inserted: Inserted, attempts: str) -> list[tuple[str, str]]:
    """Returns the origin of a skill, as far as it is on record, as names and values.

    `attempts` says in words what attempts at its task it was written from.
    """
    skill, origin = inserted.skill, dict(inserted.origin)
    undone = " (undone)" if entry.undone else ""
    rows = [("written", f"in iteration {entry.iteration}, event {entry.number}{undone}")]
    if skill.source_task:
        member = f", member {inserted.failure} of its group" if inserted.failure is not None else ""
        split = f", split {origin.pop('split')}" if len(origin.get("split", "").split()) == 1 else ""
        rows.append(("from", f"{attempts} {skill.source_task}{member}{split}: {skill.task_text}"))
    if skill.credits or inserted.worth:
        worth = f", worth {format_worth(inserted.worth.posterior())}" if inserted.worth else ""
        credits = counted(skill.credits, "credit")
        rows.append(("taken over", f"with utility {skill.utility:+.3f} after {credits}{worth}"))
    if skill.supports or skill.refutes:
        rows.append(("came with", f"{format_tally(skill)} supports and refutes"))
    if inserted.mark:
        rows.append(("came as", describe_status(inserted.mark, skill)))
    if inserted.success is not None:
        rows.append(("compared with", f"a success in the same task, member {inserted.success}"))
    names = {"reflector": "by", "from": "taken from"}
    rows += [(names.get(key, key), text) for key, text in origin.items() if key not in ("trajectories", "successes")]
    return rows


def _print_replay(run: RunFolder, entry: TimelineEntry, inserted: Inserted) -> None:
    """Prints the command that shows the failure that a skill was written from, if the run keeps it."""
    if inserted.failure is None or entry.undone or not run.rollout(entry.iteration).is_file():
        return
    replayed = replay_command(run.path, EpisodeId(entry.iteration, inserted.skill.source_task, inserted.failure))
    success = f", --member {inserted.success} the success" if inserted.success is not None else ""
    say(f"{replayed} shows the failure{success}.")


def _row(entries: Sequence[TimelineEntry]) -> tuple[str, ...]:
    """Returns the table row of one iteration."""
    changes = [entry.change for entry in entries]
    shown = sum(change.times for change in changes if isinstance(change, Shown))
    credited = [change for change in changes if isinstance(change, Credited)]
    signals = [signal for change in credited for signal in change.signals]
    first, last = entries[0].number, entries[-1].number
    texts = [text for text in map(_in_words, changes) if text]
    return (
        str(entries[0].iteration),
        str(first) if first == last else f"{first}-{last}",
        str(shown or ""),
        str(len(signals) or ""),
        f"{sum(signals) / len(signals):+.2f}" if signals else "",
        f"{credited[-1].after:+.3f}" if credited else "",
        "; ".join([*texts, *(["(undone)"] if entries[0].undone else [])]),
    )


def _in_words(change: SkillChange) -> str:
    """Returns a change in words, "" for the changes that have columns of their own."""
    match change:
        case Inserted():
            return "written"
        case Supported(tasks):
            return f"supported by {listed(tasks)}"
        case Refuted(tasks):
            return f"contradicted by {listed(tasks)}"
        case Revised(before, _):
            return f"revised: was {before.title!r}, {before.principle!r}, {before.when_to_apply!r}"
        case Repeated(tasks):
            names = list(dict.fromkeys(task or "an unnamed task" for task in tasks))
            return f"written again, from {'a failure' if len(tasks) == 1 else 'failures'} in {listed(names)}"
        case Probed(decisions, changes):
            return f"heeded in {changes} of {counted(decisions, 'probe')}"
        case StatusChanged(status, reason, into):
            return f"{status_name(status, into)}{f': {reason}' if reason else ''}"
        case MergedIn(ids):
            return f"took in {', '.join(ids)}"
        case MergeUndone(ids):
            return f"parted from {', '.join(ids)}"
        case Noted(text):
            return f"note: {text}"
        case Rewound(to):
            return f"taken back to event {to}"
    return ""
