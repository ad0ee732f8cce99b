"""List of the skills of a bank: bank list."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from d2skill.bank.formats.contents import BankContents
from d2skill.cli.bank.open import listed, read
from d2skill.cli.bank.tables import count_statuses, print_skills, say, skill_record
from d2skill.cli.output import Output
from d2skill.errors import BankError
from d2skill.knowledge.evidence import standing_of
from d2skill.types import Granularity, Skill

_NAMED = 10  # flagged skills


def bank_list(
    run: Positional[Path],
    granularity: Granularity | None = None,
    status: Literal["active", "trial", "held", "evicted", "retired", "merged", "all"] = "active",
    sort: Literal["utility", "worth", "retrievals", "created", "evidence"] = "utility",
    limit: int = 50,
    at: int | None = None,
) -> Output:
    """List the skills of a run's bank.

    The utility ranks skills. The worth is the mean of a skill's signals, drawn a little towards 0, with the 95 %
    interval. A signal is success with the skill minus that of the attempts without skills at the same task. The
    evidence is the number of source tasks whose trajectories showed that a skill is right, and of those that
    contradicted it: 7/2.

    Args:
        run: Run folder, or a bank file.
        granularity: Task skills or step skills only.
        status: Trial skills are shown to a share of the skill half, held ones to nobody; the last three have left.
        sort: Column to sort by, highest first.
        limit: Lines, at most.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    bank = read(run, at)
    skills = bank.select(granularity, None if status == "all" else status)
    skills.sort(key=lambda skill: (-_sort_value(run, bank, skill, sort), skill.id))
    ids = {skill.id for skill in skills}
    flagged = {skill_id: why for skill_id, why in bank.flagged().items() if skill_id in ids}
    others = [skill for skill in bank.select(granularity, None) if skill.id not in ids]
    held = {skill.id: bank.marks[skill.id].reason for skill in skills if bank.status(skill) == "held"}

    def show() -> None:
        print_skills(bank, skills, limit)
        if held:
            named = listed([f"{skill_id} ({why})" if why else skill_id for skill_id, why in held.items()], _NAMED)
            say(f"Held: {named}. `d2skill bank show` has their texts, `d2skill bank admit` makes them active.")
        if flagged:
            named = listed([f"{skill_id} ({why})" for skill_id, why in flagged.items()], _NAMED)
            say(f"Flagged, as no advice reads like it: {named}. `d2skill bank hold` keeps a skill from policies.")
        if others:
            say(f"Not listed: {count_statuses(bank, others)}. --status all lists all.")

    records = [skill_record(bank, skill) for skill in skills[:limit]]
    not_listed = Counter(map(bank.status, others))
    return Output({"skills": records, "count": len(skills), "not_listed": not_listed, "flagged": flagged}, show)


def _sort_value(run: Path, bank: BankContents, skill: Skill, sort: str) -> float:
    """Returns the value by which a list is sorted."""
    if sort == "evidence":
        return standing_of(skill)
    if sort != "worth":
        return float(getattr(skill, sort))
    if bank.state is None:
        raise BankError(f"{run} is no journal, so the signals of its skills are not known: leave --sort worth out")
    return bank.state.worth(skill.id).posterior().mean
