"""What stands in a bank, and banks in other formats: bank list, show, export, import, verify and salvage."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from d2skill import trajectories
from d2skill.bank import history, store
from d2skill.bank.bank import SkillBank
from d2skill.bank.drafts import Draft
from d2skill.bank.formats import Format, export_bank, import_skills, next_numbers
from d2skill.bank.history import Episode, Story
from d2skill.bank.journal import BankState, Journal, from_records, salvage
from d2skill.bank.safety import LIMITS
from d2skill.bank.store import BankRecord
from d2skill.config import Config
from d2skill.embedders import make_embedder
from d2skill.errors import BankError, RunError
from d2skill.runfolder import RunFolder
from d2skill.tasks import RunTasks
from d2skill.types import Granularity, Skill

BLOCKS = "▁▂▃▄▅▆▇█"
_LATEST = 3  # episodes that are named


def bank_list(
    run: Positional[Path],
    granularity: Granularity | None = None,
    sort: Literal["utility", "retrievals", "created"] = "utility",
    evicted: bool = False,
    limit: int = 50,
    at: int | None = None,
) -> None:
    """List the skills of a run's bank.

    Args:
        run: Run folder, or a bank file.
        granularity: Task skills or step skills only.
        sort: What to sort by, highest first.
        evicted: Show those that were evicted as well.
        limit: Lines, at most.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    skills = _chosen(read(run, at).skills, granularity, evicted)
    skills.sort(key=lambda skill: (-getattr(skill, sort), skill.id))
    print_table(skills, limit)


def bank_show(run: Positional[Path], id: Positional[str], at: int | None = None) -> None:
    """Show one skill: what it says, when it is retrieved, what it is worth, where it is from.

    Args:
        run: Run folder, or a bank file.
        id: Id of the skill, such as s12.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    skill = find(read(run, at).skills, id, run)
    rows = [
        ("id", f"{skill.id} ({skill.granularity} skill)"),
        ("title", skill.text.title),
        ("principle", skill.text.principle),
        ("when to apply", skill.text.when_to_apply),
        ("key: task", skill.task_text),
        ("key: observation", skill.observation or "-"),
        ("utility", f"{skill.utility:+.3f} after {skill.credits} credits"),
        ("shown", f"{skill.retrievals} times"),
        ("written", f"in iteration {skill.created}, from a failure in {skill.evidence or 'an unnamed task'}"),
    ]
    hints = []
    if Journal.is_one(bank_of(run)):
        journal = journal_of(run)
        told = history.story(journal, id, at=at)
        rows += _worth(journal, told, at)
        if run.is_dir():
            episodes, one_of_them = _trained(RunFolder.open(run), told)
            rows += episodes
            hints += one_of_them
        hints.append(f"`d2skill bank blame {run} {id}` tells its story, iteration by iteration.")
    else:
        rows.append(("in the bank", history.told(None, skill) or "yes"))
    if at is None and run.is_dir():
        rows += _played(RunFolder.open(run), id)
    print_rows(rows)
    for hint in hints:
        say(hint)


def bank_export(
    run: Positional[Path],
    out: Positional[Path],
    format: Format,
    granularity: Granularity | None = None,
    evicted: bool = False,
    at: int | None = None,
) -> None:
    """Write the skills of a run's bank in another format.

    Args:
        run: Run folder, or a bank file.
        out: New file, or for skill-md new folder.
        format: jsonl (a bank file), release (the JSON of the released D2Skill code) or skill-md (Agent Skills).
        granularity: Task skills or step skills only.
        evicted: Write those that were evicted as well.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    record = read(run, at)
    skills = _chosen(record.skills, granularity, evicted)
    export_bank(replace(record, skills=tuple(skills)), out, format)
    Console().print(f"{_counted(skills)} written to {out}", highlight=False, markup=False, soft_wrap=True)


def bank_import(source: Positional[Path], out: Positional[Path], run: Path | None = None) -> None:
    """Make a bank from skills in any format, their texts cleaned and without what the bank would not take.

    Args:
        source: Run folder, journal, bank file, JSON of the released D2Skill code, or folder of Agent Skills (SKILL.md).
        out: New journal of a bank, such as bank.db.
        run: Run folder whose settings the bank is for: its embedder, and what is a duplicate; else the defaults.
    """
    if os.path.lexists(out):
        raise BankError(f"{out} exists: choose another name, or remove it first")
    config = RunFolder.open(run).config() if run else Config()
    embedder = make_embedder(config.embedder)
    ours = (source.is_dir() and (source / "config.toml").is_file()) or (source.is_file() and Journal.is_one(source))
    found = list(read(source).skills) if ours else import_skills(source)
    skills, refused = _admit(found, lambda: SkillBank(embedder, config.bank, config.retrieval, config.credit))
    from_records(out, embedder.fingerprint, skills)
    said = [f"{_counted(skills)} written to {out}, for embedder {embedder.fingerprint}."]
    if refused:
        said.append(f"Left out: {', '.join(f'{count} {reason}' for reason, count in refused.items())}.")
    if shortened := sum(map(_too_long, found)):
        said.append(f"Shortened: {shortened}, to the lengths that a bank holds.")
    Console().print(*said, sep="\n", highlight=False, markup=False, soft_wrap=True)


def bank_verify(run: Positional[Path]) -> None:
    """Read every page, event and checksum of a bank's journal, and say what is wrong.

    Of a run it also tells whether skills were written from failures in tasks of its validation panel.

    Args:
        run: Run folder, or a journal.
    """
    journal = journal_of(run)
    journal.verify()
    head = journal.head()
    say(f"{journal.path} is whole: {head.seq} events up to iteration {head.iteration}.")
    if run.is_dir():
        panel = set(RunTasks.read(RunFolder.open(run).tasks).validation.task_ids)
        skills = read(run).skills
        leaks = [skill.id for skill in skills if skill.evidence in panel]
        sources = len({skill.evidence for skill in skills})
        told = f"{len(leaks)} of them in its validation panel: {', '.join(leaks[:5])}" if leaks else "none in its panel"
        say(f"Its {len(skills)} skills were written from failures in {sources} tasks, {told}.")


def bank_salvage(run: Positional[Path], out: Positional[Path]) -> None:
    """Make a new journal of what precedes the damage in another; that one stays as it is.

    Args:
        run: Run folder, or a journal.
        out: New journal.
    """
    saved = salvage(bank_of(run), out)
    Console().print(
        f"{saved.kept} events kept in {out}, {saved.lost} known to be lost.", highlight=False, soft_wrap=True
    )


def _worth(journal: Journal, told: Story, at: int | None) -> list[tuple[str, str]]:
    """Returns what the journal says of a skill's worth: its signals, utility over time, status and notes."""
    state = journal.replay(BankState(), at=at)
    id, signals, utilities = told.skill.id, told.signals(), told.utilities()
    rows = []
    if utilities:
        values = [value for _, value in utilities]
        first, last = utilities[0][0], utilities[-1][0]
        helped, harmed = sum(signal > 0 for signal in signals), sum(signal < 0 for signal in signals)
        worth = state.evidence(id).posterior()
        verdict = "probably yes" if worth.low > 0 else "probably harms" if worth.high < 0 else "cannot be told yet"
        rows += [
            ("over time", f"{sparkline(values)} (-1 to +1; iterations {first} to {last})"),
            ("signals", f"helped in {helped} of {len(signals)}, harmed in {harmed}, no difference in the others"),
            ("helps?", f"{verdict}: mean {worth.mean:+.2f}, 95 % interval {worth.low:+.2f} to {worth.high:+.2f}"),
        ]
    mark = state.marks.get(id)
    rows.append(("in the bank", history.told(mark, told.skill) or "yes"))
    return rows + [("note", text) for text in state.notes.get(id, ())]


def _trained(run: RunFolder, told: Story) -> tuple[list[tuple[str, str]], list[str]]:
    """Returns what came of a skill in the training episodes that a run keeps, and the command that shows one."""
    shown, kept = told.shown(), set(run.kept_rollouts())
    played = ((n, trajectories.about(run.rollout(n), told.skill.id)) for n in shown if n in kept)
    found = history.training(played, told.skill.id)
    latest = sorted((*found.won[:1], *found.lost[:1]), key=lambda one: -one.iteration)
    if not latest:
        return [], []
    won, count = len(found.won), len(found.won) + len(found.lost)
    wins, without = found.baseline
    rows = [
        ("training", f"shown in {count} episodes, won {won}; the same tasks without skills: won {wins} of {without}")
    ]
    if missing := len(set(shown) - kept):
        rows.append(("", f"{missing} of the {len(shown)} iterations that showed it are not kept"))
    for name, episodes in (("latest won", found.won), ("latest not won", found.lost)):
        named = [f"iteration {one.iteration} {one.task} member {one.member}" for one in episodes[:_LATEST]]
        rows.append(("", f"{name}: {', '.join(named) or '-'}"))
    return rows, [f"{replay_command(run.path, latest[0])} shows it in training."]


def replay_command(run: Path, episode: Episode) -> str:
    """Returns the command that shows a training episode of a run."""
    return f"`d2skill play --replay {run} --iteration {episode.iteration} {episode.task} --member {episode.member}`"


def _played(run: RunFolder, id: str) -> list[tuple[str, str]]:
    """Returns what came of a skill in the trajectories that a run keeps, those of its last validation."""
    if not run.trajectories.is_file():
        return []
    use = history.use(trajectories.read(run.trajectories), id)
    won, lost = (", ".join(map(str, n[:4])) + (", ..." if len(n) > 4 else "") for n in (use.won, use.lost))
    played = len(use.won) + len(use.lost)
    if not played:
        return [("validation", "not shown in the last one")]
    return [
        ("validation", f"shown in {played}, won {len(use.won)}; the same tasks without skills: won {use.baseline[0]}"),
        ("", f"numbers of those won: {won or '-'}; not won: {lost or '-'}"),
        ("", f"`d2skill play --replay {run.path} --number {(use.won + use.lost)[0]}` shows one"),
    ]


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Returns a chart of values from -1 to +1, one block each; of more than `width`, so many evenly spaced ones."""
    if len(values) > width:
        values = [values[round(n * (len(values) - 1) / (width - 1))] for n in range(width)]
    return "".join(BLOCKS[min(7, max(0, int((value + 1.0) * 4.0)))] for value in values)


def print_table(skills: Sequence[Skill], limit: int, extra: Sequence[str] = (), heading: str = "") -> None:
    """Prints skills as a table, with a column more if there is a heading for it, and says how many are left out."""
    table = Table(show_edge=False)
    for column in ("id", "utility", "credits", "shown", "created", *([heading] if heading else []), "skill"):
        table.add_column(column, justify="left" if column in ("id", "skill") else "right")
    for row, skill in enumerate(skills[:limit]):
        title = skill.text.title if skill.evicted is None else f"{skill.text.title} (left in {skill.evicted})"
        figures = [f"{skill.utility:+.3f}", str(skill.credits), str(skill.retrievals), str(skill.created)]
        table.add_row(skill.id, *figures, *([extra[row]] if heading else []), Text(title))
    Console().print(table)
    if len(skills) > limit:
        say(f"{len(skills) - limit} more: --limit {len(skills)} shows all.")


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Prints names and what they stand for, in two columns."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    Console().print(table)


def say(*sentences: str) -> None:
    """Prints sentences as they are, one a line."""
    Console().print(*sentences, sep="\n", highlight=False, markup=False, soft_wrap=True)


def find(skills: Iterable[Skill], id: str, run: Path) -> Skill:
    """Returns the skill of an id. Raises `RunError` if there is none."""
    skill = next((skill for skill in skills if skill.id == id), None)
    if skill is None:
        raise RunError(f"the bank of {run} has no skill {id}: `d2skill bank list {run} --evicted` lists all")
    return skill


def _admit(skills: Iterable[Skill], new_bank: Callable[[], SkillBank]) -> tuple[list[Skill], Counter[str]]:
    """Returns the skills as a bank takes them, their ids and histories kept, and how many it refused for what reason.

    Active skills are held against each other; one that was evicted may say what another says.
    """
    bank, admitted, refused = new_bank(), [], Counter[str]()
    for skill in skills:
        draft = Draft(skill.granularity, skill.text, skill.task_text, skill.observation, skill.evidence)
        (insertion,) = (bank if skill.evicted is None else new_bank()).insert([draft], skill.created)
        if (new := insertion.skill) is None:
            refused[re.split(r"\W", insertion.reason)[0]] += 1
            continue
        taken = {name: getattr(new, name) for name in ("text", "task_text", "observation", "evidence")}
        admitted.append(replace(skill, **taken))
    return admitted, refused


def _too_long(skill: Skill) -> bool:
    return any(len(" ".join(getattr(skill.text, name).split())) > limit for name, limit in LIMITS.items())


def _counted(skills: Iterable[Skill]) -> str:
    """Returns in words how many skills there are of each kind."""
    pools = Counter(skill.granularity if skill.evicted is None else "evicted" for skill in skills)
    counts = [f"{pools['task']} task skills", f"{pools['step']} step skills", f"{pools['evicted']} evicted ones"]
    return ", ".join(counts if pools["evicted"] else counts[:2])


def _chosen(skills: Iterable[Skill], granularity: Granularity | None, evicted: bool) -> list[Skill]:
    return [
        skill for skill in skills if granularity in (None, skill.granularity) and (evicted or skill.evicted is None)
    ]


def read(run: Path, at: int | None = None) -> BankRecord:
    """Returns what a run's journal or a bank file holds, or held after an iteration."""
    path = bank_of(run)
    if Journal.is_one(path):
        journal = Journal(path)
        check_iteration(run, journal, at)
        skills = tuple(journal.replay(BankState(), at=at).skills())
        following = next_numbers(skills)
        return BankRecord(journal.embedder, following["task"], following["step"], skills)
    if at is not None:
        raise BankError(f"{path} is no journal and holds one state only: leave --at out")
    return store.read(path)


def check_iteration(run: Path, journal: Journal, at: int | None) -> None:
    """Raises `BankError` for an iteration that a bank has not come to."""
    last = journal.head().iteration
    if at is not None and not 0 <= at <= last:
        raise BankError(f"{run} has a bank of iterations 0 to {last}: there is none of iteration {at}")


def journal_of(run: Path) -> Journal:
    """Returns the journal of a run or at a path. Raises `BankError` if there is none."""
    path = bank_of(run)
    if not Journal.is_one(path):
        raise BankError(f"{path} is no journal: name a run folder, or a bank.db")
    return Journal(path)


def bank_of(run: Path) -> Path:
    """Returns the bank file of a run, or the path itself if it is a file. Raises `RunError` if there is none."""
    path = RunFolder.open(run).bank if run.is_dir() else run
    if not path.is_file():
        raise RunError(f"{path} does not exist: is {run} a run folder or a bank?")
    return path
