"""Display of saved trajectories, turn by turn or as an overview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from d2skill.errors import ConfigError, RunError
from d2skill.play.terminal import ReadLine, print_text, split_lines
from d2skill.runs import trajectories
from d2skill.runs.folder import RunFolder
from d2skill.runs.trajectories import Saved, outcome
from d2skill.utils.foreign_text import shown

_ARMS = {"skills": ", with skills", "none": ", without skills", "person": ", played by a person"}


def load_trajectories(path: Path, iteration: int | None = None) -> list[Saved]:
    """Loads the trajectories of a file, or of a run folder.

    From a run folder it loads those of the last validation or, with `iteration`, those of an iteration of training.
    Raises `ConfigError` for a file with an iteration, `RunError` if there are no such trajectories.
    """
    if iteration is not None and path.is_file():
        raise ConfigError(f"{path} is a file: name its run folder with --replay, or leave --iteration out")
    if iteration is not None or path.is_dir():
        run = RunFolder.open(path)
        path = run.trajectories if iteration is None else _rollout_file(run, iteration)
    return trajectories.read(path)


def _rollout_file(run: RunFolder, iteration: int) -> Path:
    """Returns the file of a training iteration. Raises `RunError` if it was not kept, and names those that were."""
    kept = run.kept_rollouts()
    if iteration in kept:
        return run.rollout(iteration)
    if kept:
        firsts = (n for n in kept if n - 1 not in kept)
        lasts = (n for n in kept if n + 1 not in kept)
        spans = [f"{a} to {b}" if a < b else str(a) for a, b in zip(firsts, lasts, strict=True)]
        raise RunError(
            f"{run.path} keeps training episodes of iterations {', '.join(spans)}: there are none of {iteration}"
        )
    if not run.config().train.keep_rollouts:
        raise RunError(
            f"{run.path} keeps no training episodes, as train.keep_rollouts is off in it: "
            "train with --train.keep-rollouts, or leave --iteration out to see the last validation"
        )
    raise RunError(
        f"{run.path} has no training episodes: no iteration is done yet, or it is from before they were kept; "
        "leave --iteration out to see the last validation"
    )


def replay(
    saved: Saved, console: Console, *, titles: Mapping[str, str] | None = None, read_line: ReadLine | None = None
) -> None:
    """Prints a saved trajectory turn by turn.

    Args:
        saved: The trajectory.
        console: Terminal to print to.
        titles: Titles of skills by id, each printed where its skill is first shown.
        read_line: Reader of lines; each turn waits for Enter, and q stops. None prints all turns at once.
    """
    new_titles = dict(titles or {})
    print_text(console, f"Task: {saved.task.text}", style="bold")
    print_text(console, f"{saved.task.id}{_ARMS.get(saved.arm, '')}", style="dim")
    for number, turn in enumerate(saved.turns, start=1):
        console.print()
        print_text(console, split_lines(turn.observation))
        if turn.skills:
            skills = [f"{id} ({new_titles.pop(id)})" if id in new_titles else id for id in turn.skills]
            print_text(console, f"skills: {', '.join(skills)}", style="dim")
        if turn.answer:
            print_text(console, turn.answer.strip(), style="dim")
        mark = "" if turn.admissible else "   (not admissible)"
        print_text(console, f"{number} > {turn.action}{mark}", style="bold")
        if read_line and _stops(read_line):
            return
    console.print()
    print_text(console, split_lines(saved.final))
    print_text(console, f"After {count_steps(len(saved.turns))}: {outcome(saved)}.", style="bold")


def _stops(read_line: ReadLine) -> bool:
    try:
        return read_line("Enter for the next turn, q to stop ", ()).strip().lower() in ("q", "quit")
    except (EOFError, KeyboardInterrupt):
        return True


def print_overview(saved: Sequence[Saved], console: Console) -> None:
    """Prints a table of trajectories, one a line."""
    table = Table(show_edge=False)
    for column in ("number", "task", "arm", "member", "steps", "outcome"):
        right = column in ("number", "member", "steps")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for number, one in enumerate(saved, start=1):
        cells = (one.task.id, one.arm, str(one.index), str(len(one.turns)), outcome(one))
        table.add_row(str(number), *map(shown, cells))
    console.print(table)


def count_steps(count: int) -> str:
    """Returns a number of steps in words."""
    return f"{count} step" if count == 1 else f"{count} steps"
