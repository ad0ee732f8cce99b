"""Many skills at once: bank list, search and stats."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console
from tyro.conf import Positional

from d2skill.bank import history
from d2skill.bank.journal import BankState
from d2skill.cli.bank.open import Contents, check_iteration, config_of, journal_of, read
from d2skill.cli.bank.tables import print_rows, print_skills, say, table_of
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.types import Granularity, Skill

_LEAST_ALIKE = 0.2  # cosine; below it, what a search finds has nothing to do with it


def bank_list(
    run: Positional[Path],
    granularity: Granularity | None = None,
    status: Literal["active", "trial", "held", "evicted", "retired", "merged", "all"] = "active",
    sort: Literal["utility", "worth", "retrievals", "created"] = "utility",
    limit: int = 50,
    at: int | None = None,
) -> None:
    """List the skills of a run's bank.

    Beside the utility, which ranks them, stands their worth: the mean of their signals, drawn a little towards 0, with
    the 95 % interval. A signal is success with the skill minus that of the attempts without skills at the same task.

    Args:
        run: Run folder, or a bank file.
        granularity: Task skills or step skills only.
        status: What they are: trial is shown to a share of the skill half, held to nobody; the last three have left.
        sort: What to sort by, highest first.
        limit: Lines, at most.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    bank = read(run, at)
    skills = bank.chosen(granularity, None if status == "all" else status)
    skills.sort(key=lambda skill: (-_height(run, bank, skill, sort), skill.id))
    print_skills(bank, skills, limit)
    chosen = {skill.id for skill in skills}
    if others := [skill for skill in bank.chosen(granularity, None) if skill.id not in chosen]:
        say(f"Not listed: {bank.statuses(others)}. --status all lists all.")


def bank_search(
    run: Positional[Path],
    text: Positional[str],
    granularity: Granularity | None = None,
    limit: int = 20,
    at: int | None = None,
) -> None:
    """Find active skills by what they say or what they are for.

    Lists those that have all the words, in text or key; if there are none, those that the bank's embedder finds alike.

    Args:
        run: Run folder, or a bank file.
        text: Words to look for; a word also finds longer ones that begin with it.
        granularity: Task skills or step skills only.
        limit: Lines, at most.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    if not any(letter.isalnum() for letter in text):
        raise BankError("there is no word to look for: name one or more")
    bank = read(run, at)
    skills = bank.chosen(granularity)
    if found := history.by_words(skills, text):
        print_skills(bank, [skill for skill, _ in found], limit, [str(hits) for _, hits in found], "hits")
        return
    alike = history.by_meaning(skills, text, make_embedder(config_of(run).embedder))
    alike = [(skill, cosine) for skill, cosine in alike if cosine >= _LEAST_ALIKE]
    if not alike:
        say("No skill has all these words, and none is like them.")
        return
    say("No skill has all these words. Alike, by the embedder:")
    print_skills(bank, [skill for skill, _ in alike], limit, [f"{cosine:.2f}" for _, cosine in alike], "alike")


def bank_stats(run: Positional[Path], at: int | None = None) -> None:
    """Show a bank in numbers.

    Args:
        run: Run folder, or a journal.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    journal = journal_of(run)
    check_iteration(run, journal, at)
    head = journal.head()
    iteration = head.iteration if at is None else at
    found = history.statistics(journal.replay(BankState(), at=at, seq=head.seq), iteration)
    columns = ["", *(f"{kind} skills" for kind in found.pools)]
    table = table_of(columns, left=columns)
    pools = list(found.pools.values())
    for status in dict.fromkeys(["active", *(status for pool in pools for status in pool.statuses)]):
        table.add_row(history.named(status), *(str(pool.statuses.get(status, 0)) for pool in pools))
    for name, quantity, form in (
        ("utility", "utility", "+.3f"),
        ("credits", "credits", ".0f"),
        ("shown", "retrievals", ".0f"),
        ("age", "age", ".0f"),
    ):
        table.add_row(name, *(_spread(getattr(pool, quantity), form) for pool in pools))
    for name, count in (
        ("utility above 0", "above"),
        ("utility below 0", "below"),
        ("never shown", "never_shown"),
        ("never credited", "never_credited"),
    ):
        table.add_row(name, *(_share(getattr(pool, count), pool.active) for pool in pools))
    Console().print(table)
    say("Utility to age are of the active skills: lowest [quartile, median, quartile] highest; age is in iterations.")
    most = ", ".join(f"{task} ({count})" for task, count in found.evidence)
    facts = history.recorded(journal)
    print_rows(
        [
            ("iteration", str(iteration)),
            ("written from", f"failures in {found.tasks} tasks, most in {most}" if most else "-"),
            ("journal", f"{facts.events} events, {facts.bytes / 1024:.0f} KiB, {facts.snapshots} snapshots"),
            ("rewinds", f"{facts.rewinds}, which leave {facts.undone} events out" if facts.rewinds else "none"),
            ("embedder", journal.embedder),
        ]
    )


def _height(run: Path, bank: Contents, skill: Skill, sort: str) -> float:
    """Returns what a list is sorted by."""
    if sort != "worth":
        return float(getattr(skill, sort))
    if bank.state is None:
        raise BankError(f"{run} is no journal, so the signals of its skills are not known: leave --sort worth out")
    return bank.state.evidence(skill.id).posterior().mean


def _spread(quantiles: history.Quantiles | None, form: str) -> str:
    if quantiles is None:
        return "-"
    low, lower, median, upper, high = (format(value, form) for value in quantiles)
    return f"{low} [{lower}, {median}, {upper}] {high}"


def _share(count: int, of: int) -> str:
    return f"{count} ({count / of:.0%})" if of else "-"
