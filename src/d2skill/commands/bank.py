"""What stands in a bank: bank list, bank show."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from d2skill.bank.store import read as read_bank
from d2skill.errors import RunError
from d2skill.runfolder import RunFolder
from d2skill.types import Granularity, Skill


def bank_list(
    run: Positional[Path],
    granularity: Granularity | None = None,
    sort: Literal["utility", "retrievals", "created"] = "utility",
    evicted: bool = False,
    limit: int = 50,
) -> None:
    """List the skills of a run's bank.

    Args:
        run: Run folder, or a bank file.
        granularity: Task skills or step skills only.
        sort: What to sort by, highest first.
        evicted: Show those that were evicted as well.
        limit: Lines, at most.
    """
    skills = [
        skill
        for skill in _read_skills(run)
        if granularity in (None, skill.granularity) and (evicted or skill.evicted is None)
    ]
    skills.sort(key=lambda skill: (-getattr(skill, sort), skill.id))
    table = Table(show_edge=False)
    for column in ("id", "utility", "credits", "shown", "created", "skill"):
        table.add_column(column, justify="left" if column in ("id", "skill") else "right")
    for skill in skills[:limit]:
        title = skill.text.title if skill.evicted is None else f"{skill.text.title} (evicted in {skill.evicted})"
        figures = (f"{skill.utility:+.3f}", str(skill.credits), str(skill.retrievals), str(skill.created))
        table.add_row(skill.id, *figures, Text(title))
    Console().print(table)
    if len(skills) > limit:
        Console().print(f"{len(skills) - limit} more: --limit {len(skills)} shows all.", highlight=False)


def bank_show(run: Positional[Path], id: Positional[str]) -> None:
    """Show one skill: what it says, when it is retrieved, what it is worth, where it is from.

    Args:
        run: Run folder, or a bank file.
        id: Id of the skill, such as s12.
    """
    skill = next((skill for skill in _read_skills(run) if skill.id == id), None)
    if skill is None:
        raise RunError(f"the bank of {run} has no skill {id}: `d2skill bank list {run} --evicted` lists all")
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("id", f"{skill.id} ({skill.granularity} skill)"),
        ("title", skill.text.title),
        ("principle", skill.text.principle),
        ("when to apply", skill.text.when_to_apply),
        ("key: task", skill.task_text),
        ("key: observation", skill.observation or "-"),
        ("utility", f"{skill.utility:+.3f} after {skill.credits} credits"),
        ("shown", f"{skill.retrievals} times"),
        ("written", f"in iteration {skill.created}, from a failure in {skill.evidence}"),
        ("evicted", "no" if skill.evicted is None else f"in iteration {skill.evicted}"),
    ):
        table.add_row(Text(name, style="dim"), Text(value))
    Console().print(table)


def _read_skills(run: Path) -> tuple[Skill, ...]:
    path = RunFolder.open(run).bank if run.is_dir() else run
    if not path.is_file():
        raise RunError(f"{path} does not exist: is {run} a run folder or a bank file?")
    return read_bank(path).skills
