"""Check of a journal for damage, for tasks of the validation panel and for unsafe texts: bank verify."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tyro.conf import Positional

from d2skill.bank import SkillBank
from d2skill.bank.history.statistics import SeenTasks, rejected_texts, seen_tasks
from d2skill.bank.journal import Journal
from d2skill.bank.key_graph import GRAPH_FROM
from d2skill.cli.bank.open import listed, open_journal, settings_of
from d2skill.cli.bank.tables import say
from d2skill.cli.output import Output
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks
from d2skill.types import Granularity, Skill
from d2skill.utils.text import counted

_NAMED = 3  # rejected texts


def bank_verify(run: Positional[Path], panel: Path | None = None) -> Output:
    """Read every page, event and checksum of a bank's journal, and report damage.

    It also counts the tasks that the skills have seen, in which they were written from failures, got signals or
    evidence, and names those of the validation panel, as such skills may hold the answers. Last, it checks that every
    text is one that a bank takes, unless the skill is held. With retrieval.index "ann" it
    says how many of the most similar skills are found.

    Args:
        run: Run folder, or a journal.
        panel: The tasks.json of another run, to check its validation panel instead.
    """
    journal = open_journal(run)
    journal.verify()
    head = journal.head()
    folder = RunFolder(journal.path.absolute().parent)
    is_of_run = run.is_dir() or (folder.tasks.is_file() and (folder.path / "config.toml").is_file())
    own = RunTasks.read(folder.tasks) if is_of_run else None
    panel_tasks = RunTasks.read(panel) if panel else own
    recall = _recall(run, journal)
    seen, state = seen_tasks(journal), journal.replay(seq=head.seq)
    rejected = rejected_texts(state)
    record = {
        "journal": journal.path,
        "events": head.seq,
        "iteration": head.iteration,
        "skills": len(state),
        "tasks": seen,
        "panel": seen.among(panel_tasks.validation.task_ids) if panel_tasks else None,
        "recall": recall,
        "rejected": [{"id": skill.id, "reason": reason} for skill, reason in rejected],
    }

    def show() -> None:
        say(f"{journal.path} is whole: {counted(head.seq, 'event')} up to iteration {head.iteration}.")
        _print_recall(recall, settings_of(run).retrieval.candidates)
        _print_tasks(seen, _splits(own, panel_tasks), len(state))
        if panel_tasks:
            name = f"the validation panel of {panel}" if panel else "the run's validation panel"
            _print_seen(seen, panel_tasks, name)
        if rejected:
            raise BankError(_objection(journal.path, rejected))
        say("Every text is one that a bank takes.")

    return Output(record, show, status=2 if rejected else 0)


def _print_tasks(seen: SeenTasks, splits: Mapping[str, str] | None, skills: int) -> None:
    """Prints how many tasks the skills were written from, and how many their signals and evidence are from."""
    attempts = "trajectories of" if seen.counted else "failures in"
    were = "was" if skills == 1 else "were"
    say(f"Its {counted(skills, 'skill')} {were} written from {attempts} {_count_tasks(seen.written, splits)}.")
    say(f"Their signals are from {_count_tasks(seen.credited, splits)}.")
    if seen.counted:
        say(f"The evidence for and against them is from {_count_tasks(seen.counted, splits)}.")


def _objection(path: Path, rejected: Sequence[tuple[Skill, str]]) -> str:
    """Returns the sentence about texts that no bank takes."""
    named = "; ".join(f"{skill.id} ({reason})" for skill, reason in rejected[:_NAMED])
    more = f" and {len(rejected) - _NAMED} more" if len(rejected) > _NAMED else ""
    return (
        f"{path} has texts that no bank takes: {named}{more}: read them by `d2skill bank show`, keep them from "
        "policies by `d2skill bank hold`, or make a bank of what can be taken by `d2skill bank import`"
    )


def _recall(run: Path, journal: Journal) -> Mapping[Granularity, float] | None:
    """Returns how much of the exact answer the approximate index finds, None if the settings ask for no such index."""
    config = settings_of(run)
    if config.retrieval.index == "exact":
        return None
    return SkillBank.open(journal.path, make_embedder(config.embedder), config.bank, config.retrieval).recall()


def _print_recall(shares: Mapping[Granularity, float] | None, candidates: int) -> None:
    """Prints how much of the exact answer the approximate index finds, if there is one."""
    if shares is None:
        return
    for granularity, share in shares.items():
        say(
            f"The graph of {granularity} keys finds {share:.1%} of the {candidates} most similar ones "
            "(100 keys, compared with all)."
        )
    if not shares:
        say(f"Queries are compared with all keys, as no pool has {GRAPH_FROM:,} skills.")


def _print_seen(seen: SeenTasks, tasks: RunTasks, panel: str) -> None:
    """Prints the tasks of a panel that the skills have seen, and the skills."""
    tasks_of_panel = seen.among(tasks.validation.task_ids)
    if not tasks_of_panel:
        say(f"None of these tasks is in {panel}.")
        return
    ids = list(dict.fromkeys(id for skills in tasks_of_panel.values() for id in skills))
    skills = f"; skills concerned: {listed(ids, 10)}" if ids else ""
    say(f"In {panel}: {len(tasks_of_panel)} of these tasks, {listed(list(tasks_of_panel))}{skills}.")


def _splits(own: RunTasks | None, panel: RunTasks | None) -> dict[str, str] | None:
    """Returns the splits of a run's tasks; None for a bank of one's own agent, whose tasks have none."""
    if own is None:
        return None if panel is None else {}
    return {id: part.split for part in (own.training, own.validation) for id in part.task_ids}


def _count_tasks(ids: Collection[str], splits: Mapping[str, str] | None) -> str:
    """Returns in words the number of tasks, and of those of each split if there are splits."""
    if splits is None:
        return counted(len(ids), "task")
    counts = Counter(splits.get(id) or id.rpartition("/")[0].partition("/")[0] or "no known split" for id in ids)
    parts = ", ".join(f"{count} of {split}" for split, count in counts.most_common())
    return f"{counted(len(ids), 'task')}{f' ({parts})' if parts else ''}"
