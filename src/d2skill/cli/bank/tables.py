"""Printing of sentences, tables and lists of skills."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich import box
from rich.table import Column, Table
from tyro.conf import Positional

from d2skill.bank.history.diff import status_name
from d2skill.bank.journal import GONE, JournalHead
from d2skill.bank.worth import Posterior
from d2skill.types import Skill
from d2skill.utils.foreign_text import command, shown
from d2skill.utils.terminal import Terminal
from d2skill.utils.text import counted

if TYPE_CHECKING:
    from d2skill.bank.formats.contents import BankContents
    from d2skill.bank.history.timeline import EpisodeId

_WIDE = 1000
BLOCKS = "▁▂▃▄▅▆▇█"


SkillId = Annotated[Positional[str], tyro.conf.arg(metavar="ID")]
"""An argument that is the id of a skill"""


def say(*sentences: str) -> None:
    """Prints sentences as they are, one a line."""
    Terminal().print(*sentences, sep="\n", soft_wrap=True)


def skill_record(bank: BankContents, skill: Skill) -> dict[str, Any]:
    """Returns a skill as plain data, with its status and, if the bank has a journal, its worth."""
    mark, worth = bank.marks.get(skill.id), None if bank.state is None else bank.state.worth(skill.id)
    return {
        **asdict(skill),
        "status": bank.status(skill),
        "since": mark.iteration if mark else None,
        "reason": mark.reason if mark else "",
        "merged_into": (mark.into if mark else "") or None,
        "worth": None if worth is None else worth.posterior()._asdict() | {"signals": worth.signals},
    }


def print_undo_hint(run: Path, head: JournalHead) -> None:
    """Prints the command that takes a bank back to an earlier head of its journal."""
    say(f"Nothing is deleted: {command('bank', 'undo', run, '--event', head.seq)} takes this back.")
    if run.is_dir():
        say("A run that is resumed goes on from its checkpoint anyway, with the bank as it was then.")


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Prints names and their values in two columns."""
    table = Table.grid("", Column(overflow="fold"), padding=(0, 2))
    for name, value in rows:
        table.add_row(shown(name, "dim"), value)
    Terminal().print(table)


def print_table(table: Table) -> None:
    """Prints a table with nothing cut off: in a pipe on longer lines, in a narrow terminal each row as a block."""
    for column in table.columns:
        column.overflow = "fold"
    console = Terminal()
    needed = console.measure(table, options=console.options.update(width=_WIDE))
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Terminal(width=max(console.width, needed.maximum))
    elif needed.minimum > console.width:
        for cells in zip(*(column.cells for column in table.columns), strict=True):
            headings = [str(column.header) for column in table.columns]
            named = [(name, str(cell)) for name, cell in zip(headings[1:], cells[1:], strict=True) if str(cell)]
            console.print(str(cells[0]))
            print_rows([(f"  {name}", value) for name, value in named])
        return
    console.print(table)


def table_of(columns: Iterable[str], left: Iterable[str]) -> Table:
    """Returns an empty table; the columns that are not in `left` are aligned right, for numbers."""
    table, left = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)), {*left}
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right")
    return table


def print_skills(
    bank: BankContents,
    skills: Sequence[Skill],
    limit: int,
    extra: Sequence[str] = (),
    heading: str = "",
    count: int | None = None,
) -> None:
    """Prints skills as a table, with their worth if the bank has a journal.

    Args:
        bank: The bank of the skills.
        skills: Skills in order.
        limit: Lines, at most.
        extra: A value for each skill, for one more column.
        heading: The heading of that column; without it there is none.
        count: Number of skills that there are, if it is not that of `skills`.
    """
    state = bank.state
    counted = any(skill.supports or skill.refutes for skill in skills)
    absent = {"", *(["worth"] if state is None else []), *([] if counted else ["evidence"])}
    columns = ["id", "evidence", "utility", "worth", "credits", "shown", "created", heading, "skill"]
    columns = [name for name in columns if name not in absent]
    table = table_of(columns, left=["id", "skill"])
    for row, skill in enumerate(skills[:limit]):
        worth = [] if state is None else [format_worth(state.worth(skill.id).posterior())]
        evidence = [format_tally(skill)] if counted else []
        counts = (str(count) for count in (skill.credits, skill.retrievals, skill.created))
        values = [*evidence, f"{skill.utility:+.3f}", *worth, *counts]
        title = skill.text.title
        if mark := bank.marks.get(skill.id):
            since = "in" if mark.status in GONE else "since"
            title += f" ({status_name(mark.status, mark.into)} {since} {mark.iteration})"
        table.add_row(skill.id, *values, *([extra[row]] if heading else []), title)
    print_table(table)
    count = len(skills) if count is None else count
    if count > limit:
        say(f"{count - limit} more: --limit {count} shows all.")


def print_titles(rows: Iterable[tuple[Skill, str]]) -> None:
    """Prints skills with a note about each, one a line."""
    table = Table(show_edge=False, show_header=False, box=None)
    for skill, note in rows:
        table.add_row("", skill.id, note, skill.text.title)
    Terminal().print(table)


def count_skills(bank: BankContents, skills: Iterable[Skill]) -> str:
    """Returns in words the number of active skills of each granularity, and of the others of each status."""
    skills = list(skills)
    active = Counter(skill.granularity for skill in skills if skill.id not in bank.marks)
    counts = f"{counted(active['task'], 'task skill')}, {counted(active['step'], 'step skill')}"
    others = [skill for skill in skills if skill.id in bank.marks]
    return f"{counts}, {count_statuses(bank, others)}" if others else counts


def count_statuses(bank: BankContents, skills: Iterable[Skill]) -> str:
    """Returns in words the number of skills of each status."""
    counts = Counter(map(bank.status, skills))
    return ", ".join(f"{count} {status_name(status)}" for status, count in sorted(counts.items()))


def format_tally(skill: Skill) -> str:
    """Returns the numbers of source tasks that support and refute a skill, as in "7/2"."""
    return f"{skill.supports}/{skill.refutes}"


def written_from(skill: Skill) -> str:
    """Returns in words the attempts at its task that a skill was written from: one with evidence from any of them."""
    return "trajectories of" if skill.supports or skill.refutes else "a failure in"


def format_worth(worth: Posterior) -> str:
    """Returns a worth with half its 95 % interval."""
    return f"{worth.mean:+.2f} ±{worth.high - worth.mean:.2f}"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Returns a chart of values from -1 to +1, one block each; of more than `width` values, evenly spaced ones."""
    if len(values) > width:
        values = [values[round(n * (len(values) - 1) / (width - 1))] for n in range(width)]
    return "".join(BLOCKS[min(7, max(0, int((value + 1.0) * 4.0)))] for value in values)


def replay_command(run: Path, episode: EpisodeId) -> str:
    """Returns the command that shows a training episode of a run."""
    where = ("--iteration", episode.iteration, episode.task, "--member", episode.member)
    return command("play", "--replay", run, *where)
