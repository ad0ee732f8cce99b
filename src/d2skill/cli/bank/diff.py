"""Two banks, or one at two times: bank diff."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from d2skill.bank import history
from d2skill.cli.bank.open import bank_of, read
from d2skill.cli.bank.tables import print_titles, say
from d2skill.errors import BankError
from d2skill.types import Skill


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
    old, new = read(before, from_), read(second, to)
    found = history.compare(old.skills, new.skills, new.marks, old.marks, by_id=one_bank)
    _print_part(f"{len(found.came)} came", found.came, limit)
    _print_part(
        f"{len(found.left)} left",
        [left.skill for left in found.left],
        limit,
        [left.reason or "not in the other bank" for left in found.left],
    )
    if found.aside:
        aside = [one.skill for one in found.aside]
        _print_part(f"{len(aside)} are new but not active", aside, limit, [one.reason for one in found.aside])
    moves = [
        f"{shift.before.utility:+.3f} → {shift.after.utility:+.3f} by {shift.credits} credits" for shift in found.moved
    ]
    _print_part(f"{len(found.moved)} moved", [shift.after for shift in found.moved], limit, moves)
    say(f"{found.same} stayed as they were.")
    if found.passed:
        say(f"{found.passed} came and left between: `d2skill bank list {second} --status all` has them.")


def _print_part(heading: str, skills: Sequence[Skill], limit: int, notes: Iterable[str] | None = None) -> None:
    """Prints one part of a difference, if there is anything in it."""
    say(heading + (":" if skills else "."))
    if not skills or limit < 1:
        return
    print_titles(zip(skills[:limit], notes or [f"{skill.utility:+.3f}" for skill in skills], strict=False))
    if len(skills) > limit:
        say(f"   {len(skills) - limit} more")
