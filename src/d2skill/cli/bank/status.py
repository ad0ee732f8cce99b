"""What skills are, changed by hand: bank merge, admit and hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, arg

from d2skill.bank import SkillBank, history
from d2skill.bank.journal import Head, Journal, Status
from d2skill.bank.safety import clean, objection
from d2skill.cli.bank.open import Contents, config_of, find, journal_of, one_line, read
from d2skill.cli.bank.tables import print_rows, say, say_how_it_is_taken_back, table_of
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.types import Granularity, Skill

Ids = Annotated[Positional[tuple[str, ...]], arg(metavar="ID [ID ...]", help_behavior_hint="(required)")]


def bank_merge(
    run: Positional[Path],
    similarity: float | None = None,
    granularity: Granularity | None = None,
    dry_run: bool = False,
) -> None:
    """Merge active skills that say nearly the same for nearly the same key.

    Of skills that are alike, the one with most signals stays, with its text and utility, and the evidence of the others
    counts for it from then on. Texts with different numbers are never alike. What is as alike as the run's
    bank.duplicate is refused when it is written, so that merging usually takes a lower similarity, such as 0.8.
    Nothing is deleted; `d2skill bank admit` takes a skill out again.

    Args:
        run: Run folder, or a journal.
        similarity: Least cosine of both keys and texts, up to 1; without it, the run's bank.duplicate.
        granularity: Task skills or step skills only.
        dry_run: Only show what would be merged.
    """
    least = config_of(run).bank.duplicate if similarity is None else similarity
    if not 0 < least <= 1:
        raise BankError(f"--similarity is {least:g}: it is above 0, and 1 at most")
    with _opened(run, to_write=not dry_run) as (bank, head):
        signals = {skill.id: bank.evidence(skill.id).signals for skill in bank.skills()}
        with bank.batch(head.iteration):
            merged = bank.merge(head.iteration, least, granularity)
        left = len(bank)
    if not merged:
        say(f"No two active skills are {least:g} alike in key and text: a lower --similarity may find some.")
        return
    table = table_of(("stays", "goes into it", "signals", "skill"), left=("stays", "goes into it", "skill"))
    for keeper, ids in merged.items():
        table.add_row(keeper, "", str(signals[keeper]), Text(bank.get(keeper).text.title))
        for id in ids:
            table.add_row("", id, str(signals[id]), Text(bank.get(id).text.title))
    Console().print(table)
    gone = [id for ids in merged.values() for id in ids]
    if dry_run:
        say(f"That would merge {len(gone)} into {len(merged)} and leave {left} active; nothing is changed.")
        return
    say(
        f"Merged: {len(gone)} into {len(merged)}, where their evidence counts from now on; {left} are active.",
        f"`d2skill bank admit {run} {gone[0]}` takes that one out again.",
    )
    say_how_it_is_taken_back(run, head)


def bank_admit(run: Positional[Path], ids: Ids, reason: str = "") -> None:
    """Make skills active again, whatever they were: held back, on trial, evicted, retired or merged into another.

    They have the utility, the counts and the evidence that they had. What is held back looks like no advice: read it
    first (`d2skill bank show`), for who admits it vouches for it, and policies are shown it from then on.

    Args:
        run: Run folder, or a journal.
        ids: Ids of the skills, such as s12 t3.
        reason: Why, for the record.
    """
    with _opened(run) as (bank, head):
        found = read(run)
        skills = _named(found, ids, run, not_yet="active")
        for skill in skills:
            _require_presentable(found, skill)
        bank.admit([skill.id for skill in skills], head.iteration, one_line(reason))
    for skill in skills:
        mark = found.marks[skill.id]
        was = history.told(mark, skill)
        if mark.status == "held":
            print_rows(zip(("title", "principle", "when to apply"), astuple(skill.text), strict=True))
        own = ", with its evidence," if mark.status == "merged" else ""
        say(f"{skill.id} is active{own} from now on; it was {was}.")
    say_how_it_is_taken_back(run, head)


def bank_hold(run: Positional[Path], ids: Ids, reason: str) -> None:
    """Hold skills back: nobody is shown them until `d2skill bank admit` makes them active.

    Args:
        run: Run folder, or a journal.
        ids: Ids of the skills, such as s12 t3.
        reason: Why, for the record.
    """
    why = one_line(reason)
    if not why:
        raise BankError("the reason is empty: say why nobody is to be shown them")
    with _opened(run) as (bank, head):
        skills = _named(read(run), ids, run, not_yet="held")
        bank.hold([skill.id for skill in skills], head.iteration, why)
    for skill in skills:
        say(f"{skill.id} is held back: {skill.text.title}")
    say(f"Shown to nobody until `d2skill bank admit {run} {' '.join(skill.id for skill in skills)}`.")
    say_how_it_is_taken_back(run, head)


@contextmanager
def _opened(run: Path, *, to_write: bool = True) -> Iterator[tuple[SkillBank, Head]]:
    """Opens a bank with the settings of its run, to change it or in memory only; tells where its journal ends then."""
    path, config = journal_of(run).path, config_of(run)
    bank = SkillBank.open(path, make_embedder(config.embedder), config.bank, config.retrieval, config.credit)
    if to_write:
        bank.record(path, wait=config.bank.wait)
    try:
        yield bank, Journal(path).head()
    finally:
        bank.close()


def _named(bank: Contents, ids: Sequence[str], run: Path, *, not_yet: Status) -> list[Skill]:
    """Returns the skills of some ids. Raises `BankError` without any, and if one has a status already."""
    if not ids:
        raise BankError(f"which skills? Name their ids, as in `d2skill bank list {run} --status all`")
    skills = [find(bank.skills, id, run) for id in dict.fromkeys(ids)]
    for skill in skills:
        if bank.status(skill) == not_yet:
            raise BankError(f"{skill.id} is {not_yet} already: leave it out")
    return skills


def _require_presentable(bank: Contents, skill: Skill) -> None:
    """Raises `BankError` for a text that no policy could be shown, whoever vouches for it."""
    assert bank.state is not None
    if not (why := objection(skill.text)):
        return
    if clean(skill.text) != skill.text:
        raise BankError(
            f"{skill.id} cannot be shown to a policy: {why}; `d2skill bank import` makes a bank with its text cleaned"
        )
    if bank.status(skill) != "held" and skill.id not in bank.state.vouched:
        raise BankError(
            f"{skill.id} looks like no advice ({why}) and was {bank.status(skill)}: hold it back first "
            "(`d2skill bank hold`), then admit it if you vouch for it"
        )
