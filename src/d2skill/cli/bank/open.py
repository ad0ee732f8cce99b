"""From what a command names to what a bank holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from d2skill.bank.formats import json_lines, next_numbers
from d2skill.bank.formats.json_lines import BankRecord
from d2skill.bank.history import named
from d2skill.bank.journal import BankState, Journal, Mark, Status
from d2skill.config import Config
from d2skill.errors import BankError, RunError
from d2skill.runs.folder import RunFolder
from d2skill.types import Granularity, Skill
from d2skill.utils.text import storable


@dataclass(frozen=True, slots=True)
class Contents(BankRecord):
    """The record of a bank, and what its skills are: `marks` has those that are not active.

    `state` knows all else that a journal tells; a bank without a journal has none.
    """

    marks: Mapping[str, Mark] = field(default_factory=dict)
    state: BankState | None = field(default=None, compare=False)

    def status(self, skill: Skill) -> Status:
        """Returns what a skill is."""
        mark = self.marks.get(skill.id)
        return mark.status if mark else "active"

    def chosen(self, granularity: Granularity | None = None, status: Status | None = "active") -> list[Skill]:
        """Returns the skills of a granularity and a status, of any for None, in order of insertion."""
        return [
            skill
            for skill in self.skills
            if granularity in (None, skill.granularity) and status in (None, self.status(skill))
        ]

    def counted(self, skills: Iterable[Skill]) -> str:
        """Returns in words how many skills there are of each kind, and of those that are not active, of each status."""
        skills = list(skills)
        active = Counter(skill.granularity for skill in skills if skill.id not in self.marks)
        kinds = f"{active['task']} task skills, {active['step']} step skills"
        others = [skill for skill in skills if skill.id in self.marks]
        return f"{kinds}, {self.statuses(others)}" if others else kinds

    def statuses(self, skills: Iterable[Skill]) -> str:
        """Returns in words how many skills there are of each status."""
        counts = Counter(map(self.status, skills))
        return ", ".join(f"{count} {named(status)}" for status, count in sorted(counts.items()))


def read(run: Path, at: int | None = None) -> Contents:
    """Returns what a run's journal or a bank file holds, or held after an iteration."""
    path = bank_of(run)
    if Journal.is_journal(path):
        journal = Journal(path)
        check_iteration(run, journal, at)
        state = journal.replay(BankState(), at=at)
        skills = tuple(state.skills())
        following = next_numbers(skills)
        return Contents(journal.embedder, following["task"], following["step"], skills, state.marks, state)
    if at is not None:
        raise BankError(f"{path} is no journal and holds one state only: leave --at out")
    record = json_lines.read(path)
    return Contents(record.embedder, record.next_task, record.next_step, record.skills, marks_of(record.skills))


def marks_of(skills: Iterable[Skill]) -> dict[str, Mark]:
    """Returns the marks of skills that come without a journal, which tells at most when one left."""
    return {skill.id: Mark("evicted", skill.evicted) for skill in skills if skill.evicted is not None}


def check_iteration(run: Path, journal: Journal, at: int | None) -> None:
    """Raises `BankError` for an iteration that a bank has not come to."""
    last = journal.head().iteration
    if at is not None and not 0 <= at <= last:
        raise BankError(f"{run} has a bank of iterations 0 to {last}: there is none of iteration {at}")


def journal_of(run: Path) -> Journal:
    """Returns the journal of a run or at a path. Raises `BankError` if there is none."""
    path = bank_of(run)
    if not Journal.is_journal(path):
        raise BankError(f"{path} is no journal: name a run folder, or a bank.db")
    return Journal(path)


def bank_of(run: Path) -> Path:
    """Returns the bank file of a run, or the path itself if it is a file. Raises `RunError` if there is none."""
    path = RunFolder.open(run).bank if run.is_dir() else run
    if not path.is_file():
        raise RunError(f"{path} does not exist: is {run} a run folder or a bank?")
    return path


def config_of(run: Path) -> Config:
    """Returns the settings of a run, or of the one in whose folder a bank lies; otherwise the defaults."""
    folder = run if run.is_dir() else run.absolute().parent
    return RunFolder(folder).config() if run.is_dir() or (folder / "config.toml").is_file() else Config()


def find(skills: Iterable[Skill], id: str, run: Path) -> Skill:
    """Returns the skill of an id. Raises `RunError` if there is none."""
    skill = next((skill for skill in skills if skill.id == id), None)
    if skill is None:
        raise RunError(f"the bank of {run} has no skill {id}: `d2skill bank list {run} --status all` lists all")
    return skill


def one_line(text: str) -> str:
    """Returns what somebody typed as one line of visible characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in storable(text)).split())


def listed(names: Sequence[str], most: int = 5) -> str:
    """Returns the first few of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
