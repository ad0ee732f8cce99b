"""The contents of a bank at one moment, read from its journal or from a bank file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from d2skill.bank.formats import json_lines
from d2skill.bank.formats.json_lines import BankRecord
from d2skill.bank.journal import BankState, Journal, Mark, Status
from d2skill.bank.safety import flags
from d2skill.errors import BankError
from d2skill.types import Granularity, Skill


@dataclass(frozen=True, slots=True)
class BankContents(BankRecord):
    """The record of a bank with the status of its skills: `marks` has those that are not active, by id.

    `state` has everything else that a journal records, and is None for a bank without a journal.
    """

    marks: Mapping[str, Mark] = field(default_factory=dict)
    state: BankState | None = field(default=None, compare=False)

    @classmethod
    def of_record(cls, record: BankRecord) -> BankContents:
        """Returns the contents of a bank without a journal, whose skills are active or evicted."""
        marks = {skill.id: Mark("evicted", skill.evicted) for skill in record.skills if skill.evicted is not None}
        numbers = record.next_task, record.next_step
        return cls(record.embedder, *numbers, record.skills, record.tallies, marks, rest=record.rest)

    def status(self, skill: Skill) -> Status:
        """Returns the status of a skill."""
        mark = self.marks.get(skill.id)
        return mark.status if mark else "active"

    def flagged(self) -> dict[str, str]:
        """Returns why skills that are shown, or may be, look like no advice, by id."""
        vouched = self.state.vouched if self.state else ()
        return flags((skill for skill in self.skills if self.status(skill) in ("active", "trial")), vouched)

    def select(self, granularity: Granularity | None = None, status: Status | None = "active") -> list[Skill]:
        """Returns the skills of a granularity and a status, or of any for None, in order of insertion."""
        return [
            skill
            for skill in self.skills
            if granularity in (None, skill.granularity) and status in (None, self.status(skill))
        ]


def read_bank(path: Path, at: int | None = None) -> BankContents:
    """Returns the contents of a journal, as they were after iteration `at`, or of a bank file.

    Raises `BankError` for a damaged file, and for an iteration that the bank has not reached.
    """
    if Journal.is_journal(path):
        journal = Journal(path)
        check_iteration(journal, at)
        state = journal.replay(at=at)
        numbers = state.next_number("task"), state.next_number("step")
        return BankContents(journal.embedder, *numbers, tuple(state.skills()), state.tallies, state.marks, state)
    if at is not None:
        raise BankError(f"{path} is no journal and holds one state only: leave --at out")
    return BankContents.of_record(json_lines.read(path))


def check_iteration(journal: Journal, at: int | None) -> None:
    """Raises `BankError` for an iteration that a bank has not reached."""
    last = journal.head().iteration
    if at is not None and not 0 <= at <= last:
        raise BankError(f"{journal.path} has iterations 0 to {last}: there is none of iteration {at}")
