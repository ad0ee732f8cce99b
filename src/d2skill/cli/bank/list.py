"""Lists of skills and statistics of a bank: bank list, search and stats."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console
from tyro.conf import Positional

from d2skill.bank.formats.contents import BankContents, check_iteration
from d2skill.bank.history.diff import status_name
from d2skill.bank.history.search import search_by_meaning, search_by_words
from d2skill.bank.history.statistics import Quantiles, bank_statistics, journal_statistics
from d2skill.cli.bank.open import open_journal, read, settings_of
from d2skill.cli.bank.tables import count_statuses, print_rows, print_skills, say, table_of
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.types import Granularity, Skill

_LEAST_SIMILAR = 0.2  # cosine below which a skill has nothing to do with a search


def bank_list(
    run: Positional[Path],
    granularity: Granularity | None = None,
    status: Literal["active", "trial", "held", "evicted", "retired", "merged", "all"] = "active",
    sort: Literal["utility", "worth", "retrievals", "created"] = "utility",
    limit: int = 50,
    at: int | None = None,
) -> None:
    """List the skills of a run's bank.

    The utility ranks skills. The worth is the mean of a skill's signals, drawn a little towards 0, with the 95 %
    interval. A signal is success with the skill minus that of the attempts without skills at the same task.

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
    print_skills(bank, skills, limit)
    ids = {skill.id for skill in skills}
    if others := [skill for skill in bank.select(granularity, None) if skill.id not in ids]:
        say(f"Not listed: {count_statuses(bank, others)}. --status all lists all.")


def bank_search(
    run: Positional[Path],
    text: Positional[str],
    granularity: Granularity | None = None,
    limit: int = 20,
    at: int | None = None,
) -> None:
    """Find active skills by words of their text or key.

    Lists the skills that have all the words; if there are none, those that the bank's embedder finds similar.

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
    skills = bank.select(granularity)
    if matches := search_by_words(skills, text):
        print_skills(bank, [skill for skill, _ in matches], limit, [str(hits) for _, hits in matches], "hits")
        return
    ranked = search_by_meaning(skills, text, make_embedder(settings_of(run).embedder))
    similar = [(skill, cosine) for skill, cosine in ranked if cosine >= _LEAST_SIMILAR]
    if not similar:
        say("No skill has all these words, and none is like them.")
        return
    say("No skill has all these words. Alike, by the embedder:")
    print_skills(bank, [skill for skill, _ in similar], limit, [f"{cosine:.2f}" for _, cosine in similar], "alike")


def bank_stats(run: Positional[Path], at: int | None = None) -> None:
    """Show the statistics of a bank and its journal.

    Args:
        run: Run folder, or a journal.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    journal = open_journal(run)
    check_iteration(journal, at)
    head = journal.head()
    iteration = head.iteration if at is None else at
    bank = bank_statistics(journal.replay(at=at, seq=head.seq), iteration)
    pools = list(bank.pools.values())
    columns = ["", *(f"{granularity} skills" for granularity in bank.pools)]
    table = table_of(columns, left=columns)
    for status in dict.fromkeys(["active", *(status for pool in pools for status in pool.statuses)]):
        table.add_row(status_name(status), *(str(pool.statuses.get(status, 0)) for pool in pools))
    table.add_row("utility", *(_spread(pool.utility, "+.3f") for pool in pools))
    table.add_row("credits", *(_spread(pool.credits, ".0f") for pool in pools))
    table.add_row("shown", *(_spread(pool.retrievals, ".0f") for pool in pools))
    table.add_row("age", *(_spread(pool.age, ".0f") for pool in pools))
    table.add_row("utility above 0", *(_share(pool.above, pool.active) for pool in pools))
    table.add_row("utility below 0", *(_share(pool.below, pool.active) for pool in pools))
    table.add_row("never shown", *(_share(pool.never_shown, pool.active) for pool in pools))
    table.add_row("never credited", *(_share(pool.never_credited, pool.active) for pool in pools))
    Console().print(table)
    say("Utility to age are of the active skills: lowest [quartile, median, quartile] highest; age is in iterations.")
    most = ", ".join(f"{task} ({count})" for task, count in bank.source_tasks)
    facts = journal_statistics(journal)
    print_rows(
        [
            ("iteration", str(iteration)),
            ("written from", f"failures in {bank.tasks} tasks, most in {most}" if most else "-"),
            ("journal", f"{facts.events} events, {facts.bytes / 1024:.0f} KiB, {facts.snapshots} snapshots"),
            ("rewinds", f"{facts.rewinds}, which leave {facts.undone} events out" if facts.rewinds else "none"),
            ("embedder", journal.embedder),
        ]
    )


def _sort_value(run: Path, bank: BankContents, skill: Skill, sort: str) -> float:
    """Returns the value by which a list is sorted."""
    if sort != "worth":
        return float(getattr(skill, sort))
    if bank.state is None:
        raise BankError(f"{run} is no journal, so the signals of its skills are not known: leave --sort worth out")
    return bank.state.worth(skill.id).posterior().mean


def _spread(quantiles: Quantiles | None, form: str) -> str:
    """Returns quantiles in a format: lowest [lower quartile, median, upper quartile] highest."""
    if quantiles is None:
        return "-"
    low, lower, median, upper, high = (format(value, form) for value in quantiles)
    return f"{low} [{lower}, {median}, {upper}] {high}"


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.0%})" if total else "-"
