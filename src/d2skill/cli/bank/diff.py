"""Differences between two banks, or one bank at two times: bank diff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from d2skill.bank.history.diff import BankDiff, diff_banks
from d2skill.cli.bank.open import bank_path, read
from d2skill.cli.bank.tables import format_tally, print_titles, say
from d2skill.cli.output import Output
from d2skill.errors import BankError
from d2skill.types import Skill
from d2skill.utils.foreign_text import command
from d2skill.utils.text import counted


def bank_diff(
    before: Positional[Path],
    after: Positional[Path | None] = None,
    from_: Annotated[int | None, arg(name="from")] = None,
    to: int | None = None,
    limit: int = 10,
) -> Output:
    """Show the skills that came, left and changed between two iterations of a run, or between two banks.

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
    one_bank = bank_path(before).resolve() == bank_path(second).resolve()
    old, new = read(before, from_), read(second, to)
    diff = diff_banks(old.skills, new.skills, old.marks, new.marks, by_id=one_bank)
    return Output(asdict(diff), partial(_print, diff, second, limit))


def _print(diff: BankDiff, second: Path, limit: int) -> None:
    """Prints a difference part by part, so many lines of each."""
    _print_part(f"{len(diff.added)} came", [(skill, f"{skill.utility:+.3f}") for skill in diff.added], limit)
    removed = [(left.skill, left.status or "not in the other bank") for left in diff.removed]
    _print_part(f"{len(removed)} left", removed, limit)
    if inactive := [(new.skill, new.status) for new in diff.inactive]:
        _print_part(f"{len(inactive)} {_are(inactive)} new but not active", inactive, limit)
    changed = [
        (one.after, f"{one.before.utility:+.3f} → {one.after.utility:+.3f} by {counted(one.signals, 'credit')}")
        for one in diff.changed
    ]
    _print_part(f"{len(changed)} moved", changed, limit)
    if evidence := [(one.after, f"{format_tally(one.before)} → {format_tally(one.after)}") for one in diff.counted]:
        _print_part(f"{len(evidence)} with other evidence", evidence, limit)
    if revised := [(one.after, f"was {one.before.text.title!r}") for one in diff.revised]:
        _print_part(f"{len(revised)} with other texts", revised, limit)
    say(f"{diff.unchanged} stayed as before.")
    if diff.transient:
        say(f"{diff.transient} came and left between: {command('bank', 'list', second, '--status', 'all')} lists all.")


def _are(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"


def _print_part(heading: str, rows: Sequence[tuple[Skill, str]], limit: int) -> None:
    """Prints one part of a difference: skills with something about each."""
    say(heading + (":" if rows else "."))
    if rows and limit >= 1:
        print_titles(rows[:limit])
        if len(rows) > limit:
            say(f"   {len(rows) - limit} more")
