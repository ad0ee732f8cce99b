"""Statistics of a bank and its journal: bank stats."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tyro.conf import Positional

from d2skill.bank.formats.contents import check_iteration
from d2skill.bank.history.diff import status_name
from d2skill.bank.history.statistics import (
    BankStatistics,
    JournalStatistics,
    Quantiles,
    bank_statistics,
    journal_statistics,
)
from d2skill.cli.bank.open import open_journal
from d2skill.cli.bank.tables import print_rows, print_table, say, table_of
from d2skill.cli.output import Output
from d2skill.utils.text import counted


def bank_stats(run: Positional[Path], at: int | None = None) -> Output:
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
    facts = journal_statistics(journal)
    record = {"iteration": iteration, "embedder": journal.embedder, "bank": bank, "journal": facts}
    return Output(record, partial(_print, bank, facts, iteration, journal.embedder))


def _print(bank: BankStatistics, facts: JournalStatistics, iteration: int, embedder: str) -> None:
    """Prints the statistics as a table of both pools, and what is known of the journal."""
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
    if has_evidence := any(pool.with_evidence for pool in pools):
        table.add_row("with evidence", *(_share(pool.with_evidence, pool.active) for pool in pools))
    print_table(table)
    say("Utility to age are of the active skills: lowest [quartile, median, quartile] highest; age is in iterations.")
    most = ", ".join(f"{task} ({count})" for task, count in bank.source_tasks)
    attempts = "trajectories of" if has_evidence else "failures in"
    events, undone = counted(facts.events, "event"), counted(facts.undone, "event")
    print_rows(
        [
            ("iteration", str(iteration)),
            ("written from", f"{attempts} {counted(bank.tasks, 'task')}, most in {most}" if most else "-"),
            ("journal", f"{events}, {facts.bytes / 1024:.0f} KiB, {counted(facts.snapshots, 'snapshot')}"),
            ("rewinds", f"{facts.rewinds}, leaving {undone} out" if facts.rewinds else "none"),
            ("embedder", embedder),
        ]
    )


def _spread(quantiles: Quantiles | None, form: str) -> str:
    """Returns quantiles in a format: lowest [lower quartile, median, upper quartile] highest."""
    if quantiles is None:
        return "-"
    low, lower, median, upper, high = (format(value, form) for value in quantiles)
    return f"{low} [{lower}, {median}, {upper}] {high}"


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.0%})" if total else "-"
