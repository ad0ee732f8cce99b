"""Saved trajectories, shown turn by turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from d2skill.play.terminal import ReadLine, in_lines, plain, say
from d2skill.runs.trajectories import Saved, outcome


def replay(
    saved: Saved, console: Console, *, titles: Mapping[str, str] | None = None, read_line: ReadLine | None = None
) -> None:
    """Shows a saved trajectory turn by turn.

    `titles` are those of skills by id; each is told where its skill is first shown. With `read_line`, each turn waits
    for Enter, and q stops.
    """
    untold = dict(titles or {})
    say(console, f"Task: {saved.task.text}", style="bold")
    played = {"skills": ", with skills", "none": ", without skills", "person": ", played by a person"}.get(
        saved.arm, ""
    )
    say(console, f"{saved.task.id}{played}", style="dim")
    for number, turn in enumerate(saved.turns, start=1):
        console.print()
        say(console, in_lines(turn.observation))
        if turn.skills:
            told = [f"{skill} ({untold.pop(skill)})" if skill in untold else skill for skill in turn.skills]
            say(console, f"skills: {', '.join(told)}", style="dim")
        if turn.answer:
            say(console, turn.answer.strip(), style="dim")
        say(console, f"{number} > {turn.action}{'' if turn.admissible else '   (not admissible)'}", style="bold")
        if read_line and _stops(read_line):
            return
    console.print()
    say(console, in_lines(saved.final))
    say(console, f"After {steps(len(saved.turns))}: {outcome(saved)}.", style="bold")


def _stops(read_line: ReadLine) -> bool:
    try:
        return read_line("Enter for the next turn, q to stop ", ()).strip().lower() in ("q", "quit")
    except (EOFError, KeyboardInterrupt):
        return True


def overview(saved: Sequence[Saved], console: Console) -> None:
    """Prints what a file of trajectories holds, a line each."""
    table = Table(show_edge=False)
    for column in ("number", "task", "arm", "member", "steps", "outcome"):
        right = column in ("number", "member", "steps")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for number, one in enumerate(saved, start=1):
        cells = (plain(one.task.id), one.arm, str(one.index), str(len(one.turns)), plain(outcome(one)))
        table.add_row(str(number), *map(Text, cells))
    console.print(table)


def steps(count: int) -> str:
    """Returns a number of steps in words."""
    return f"{count} step" if count == 1 else f"{count} steps"
