"""How skills and what is told of them are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from d2skill.bank.history import Episode, named
from d2skill.bank.journal import GONE, Head, Mark
from d2skill.bank.worth import Posterior
from d2skill.cli.bank.open import Contents
from d2skill.types import Skill

BLOCKS = "▁▂▃▄▅▆▇█"


def say(*sentences: str) -> None:
    """Prints sentences as they are, one a line."""
    Console().print(*sentences, sep="\n", highlight=False, markup=False, soft_wrap=True)


def say_how_it_is_taken_back(run: Path, head: Head) -> None:
    """Prints how to take back what was done to a bank since its journal ended there."""
    say(f"Nothing is deleted: `d2skill bank undo {run} --event {head.seq}` takes this back.")
    if run.is_dir():
        say("A run that is resumed goes on from its checkpoint anyway, with the bank as it was then.")


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Prints names and what they stand for, in two columns."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    Console().print(table)


def table_of(columns: Iterable[str], left: Iterable[str]) -> Table:
    """Returns an empty table; the columns that are not named as `left` hold numbers."""
    table, left = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)), {*left}
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right")
    return table


def print_skills(
    bank: Contents, skills: Sequence[Skill], limit: int, extra: Sequence[str] = (), heading: str = ""
) -> None:
    """Prints skills as a table, with a column more if there is a heading for it, and says how many are left out.

    A bank with a journal also tells the worth of each, and of those that are not active what they are.
    """
    state = bank.state
    numbers = [
        "utility",
        *([] if state is None else ["worth"]),
        "credits",
        "shown",
        "created",
        *([heading] if heading else []),
    ]
    table = table_of(["id", *numbers, "skill"], ["id", "skill"])
    for row, skill in enumerate(skills[:limit]):
        worth = [] if state is None else [short(state.evidence(skill.id).posterior())]
        figures = [f"{skill.utility:+.3f}", *worth, str(skill.credits), str(skill.retrievals), str(skill.created)]
        mark = bank.marks.get(skill.id)
        title = f"{skill.text.title} ({standing(mark)})" if mark else skill.text.title
        table.add_row(skill.id, *figures, *([extra[row]] if heading else []), Text(title))
    Console().print(table)
    if len(skills) > limit:
        say(f"{len(skills) - limit} more: --limit {len(skills)} shows all.")


def print_titles(rows: Iterable[tuple[Skill, str]]) -> None:
    """Prints skills with something about each, one a line."""
    table = Table(show_edge=False, show_header=False, box=None)
    for skill, note in rows:
        table.add_row("", skill.id, Text(note), Text(skill.text.title))
    Console().print(table)


def short(worth: Posterior) -> str:
    """Returns a worth with its 95 % interval."""
    return f"{worth.mean:+.2f} ±{worth.high - worth.mean:.2f}"


def standing(mark: Mark) -> str:
    """Returns what a skill is that is not active, and since when."""
    return f"{named(mark.status, mark.into)} {'in' if mark.status in GONE else 'since'} {mark.iteration}"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Returns a chart of values from -1 to +1, one block each; of more than `width`, so many evenly spaced ones."""
    if len(values) > width:
        values = [values[round(n * (len(values) - 1) / (width - 1))] for n in range(width)]
    return "".join(BLOCKS[min(7, max(0, int((value + 1.0) * 4.0)))] for value in values)


def replay_command(run: Path, episode: Episode) -> str:
    """Returns the command that shows a training episode of a run."""
    return f"`d2skill play --replay {run} --iteration {episode.iteration} {episode.task} --member {episode.member}`"
