"""Differences between two banks, or one bank at two times: bank diff."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from d2skill.bank.history.diff import diff_banks
from d2skill.cli.bank.open import bank_path, read
from d2skill.cli.bank.tables import format_tally, print_titles, say
from d2skill.errors import BankError
from d2skill.types import Skill


def bank_diff(
    before: Positional[Path],
    after: Positional[Path | None] = None,
    from_: Annotated[int | None, arg(name="from")] = None,
    to: int | None = None,
    limit: int = 10,
) -> None:
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
    _print_part(f"{len(diff.added)} came", [(skill, f"{skill.utility:+.3f}") for skill in diff.added], limit)
    removed = [(left.skill, left.status or "not in the other bank") for left in diff.removed]
    _print_part(f"{len(removed)} left", removed, limit)
    if inactive := [(new.skill, new.status) for new in diff.inactive]:
        _print_part(f"{len(inactive)} are new but not active", inactive, limit)
    changed = [
        (one.after, f"{one.before.utility:+.3f} → {one.after.utility:+.3f} by {one.signals} credits")
        for one in diff.changed
    ]
    _print_part(f"{len(changed)} moved", changed, limit)
    if counted := [(one.after, f"{format_tally(one.before)} → {format_tally(one.after)}") for one in diff.counted]:
        _print_part(f"{len(counted)} have other evidence", counted, limit)
    if revised := [(one.after, f"was {one.before.text.title!r}") for one in diff.revised]:
        _print_part(f"{len(revised)} have other texts", revised, limit)
    say(f"{diff.unchanged} stayed as they were.")
    if diff.transient:
        say(f"{diff.transient} came and left between: `d2skill bank list {second} --status all` has them.")


def _print_part(heading: str, rows: Sequence[tuple[Skill, str]], limit: int) -> None:
    """Prints one part of a difference: skills with something about each."""
    say(heading + (":" if rows else "."))
    if rows and limit >= 1:
        print_titles(rows[:limit])
        if len(rows) > limit:
            say(f"   {len(rows) - limit} more")
