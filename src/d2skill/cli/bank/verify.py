"""Whether a bank is whole, and what its skills have seen: bank verify."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from tyro.conf import Positional

from d2skill.bank import history
from d2skill.bank.journal import BankState
from d2skill.cli.bank.open import journal_of, listed
from d2skill.cli.bank.tables import say
from d2skill.errors import BankError
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks

_NAMED = 3  # texts at fault


def bank_verify(run: Positional[Path], panel: Path | None = None) -> None:
    """Read every page, event and checksum of a bank's journal, and say what is wrong.

    It also tells which tasks the skills are from: in how many they were written from failures, in how many they got
    their signals, and which of these are in the validation panel, where such skills may hold the answers. Last, it
    looks at all texts: each has to be one that a bank takes, unless it is held back or somebody vouched for it.

    Args:
        run: Run folder, or a journal.
        panel: The tasks.json of another run, to hold the skills against its validation panel.
    """
    journal = journal_of(run)
    journal.verify()
    head = journal.head()
    say(f"{journal.path} is whole: {head.seq} events up to iteration {head.iteration}.")
    own = RunTasks.read(RunFolder.open(run).tasks) if run.is_dir() else None
    held_against = RunTasks.read(panel) if panel else own
    found, state = history.audit(journal), journal.replay(BankState(), seq=head.seq)
    say(f"Its {len(state)} skills were written from failures in {_tasks(found.written, own)}.")
    say(f"Their signals are from {_tasks(found.credited, own)}.")
    if held_against:
        _print_seen(found, held_against, f"the validation panel of {panel}" if panel else "the run's validation panel")
    else:
        say("It is in no run folder, so it has no panel: --panel names the tasks.json of a run to hold it against.")
    objections = history.objections(state)
    if not objections:
        say("Every text is one that a bank takes.")
        return
    named = "; ".join(f"{skill.id} ({why})" for skill, why in objections[:_NAMED])
    more = f" and {len(objections) - _NAMED} more" if len(objections) > _NAMED else ""
    raise BankError(
        f"{journal.path} has texts that no bank takes: {named}{more}: read them by `d2skill bank show`, keep them from "
        "policies by `d2skill bank hold`, or make a bank of what can be taken by `d2skill bank import`"
    )


def _print_seen(found: history.Audit, tasks: RunTasks, panel: str) -> None:
    """Prints which tasks of a panel the skills are from, and which skills these are."""
    seen = found.seen(tasks.validation.task_ids)
    if not seen:
        say(f"None of these tasks is in {panel}.")
        return
    ids = list(dict.fromkeys(id for own in seen.values() for id in own))
    skills = f"; skills concerned: {listed(ids, 10)}" if ids else ""
    say(f"In {panel}: {len(seen)} of these tasks, {listed(list(seen))}{skills}.")


def _tasks(ids: Collection[str], tasks: RunTasks | None) -> str:
    """Returns in words how many tasks these are, of which split."""
    splits = {id: part.split for part in (tasks.training, tasks.validation) for id in part.task_ids} if tasks else {}
    counts = Counter(splits.get(id) or id.rpartition("/")[0].partition("/")[0] or "no known split" for id in ids)
    told = ", ".join(f"{count} of {split}" for split, count in counts.most_common())
    return f"{len(ids)} tasks{f' ({told})' if told else ''}"
