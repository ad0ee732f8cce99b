"""Which tasks the skills of a bank have seen, so what they may know the answers of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from d2skill.bank.journal import BankState, Credit, Journal
from d2skill.bank.safety import objection
from d2skill.types import Skill


@dataclass(frozen=True, slots=True)
class Audit:
    """Tasks with the ids of the skills that were written from failures in them, and that got signals there.

    Of skills that came from another bank, the tasks of their signals are on record, but not which skill got which.
    """

    written: Mapping[str, tuple[str, ...]]
    credited: Mapping[str, tuple[str, ...]]

    def seen(self, panel: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Returns those of some tasks that skills were written from or credited in, with the skills, by id."""
        tasks = sorted((self.written.keys() | self.credited.keys()) & {*panel})
        return {task: _both(self.written.get(task, ()), self.credited.get(task, ())) for task in tasks}


def audit(journal: Journal) -> Audit:
    """Returns which tasks the skills of a journal have seen, whatever became of the skills."""
    end = journal.head().seq
    state = journal.replay(BankState(), seq=end)
    written: dict[str, dict[str, None]] = {}
    credited: dict[str, dict[str, None]] = {task: {} for task in sorted(state.seen)}
    for skill in state.skills():
        for task in filter(None, (skill.evidence, *state.again.get(skill.id, ()))):
            written.setdefault(task, {})[skill.id] = None
    for _, event in journal.events(seq=end):
        if isinstance(event, Credit):
            tasks = [source.rpartition("#")[0] or source for source in event.sources]
            for skill_id, places in event.by.items():
                for place in places:
                    credited.setdefault(tasks[place], {})[skill_id] = None
    return Audit(*({task: tuple(ids) for task, ids in found.items()} for found in (written, credited)))


def objections(state: BankState) -> list[tuple[Skill, str]]:
    """Returns the skills whose text no bank takes, and why; those that are held back need none, as nobody sees them.

    For a skill that somebody admitted although it was held back, it is enough that its text is clean.
    """
    found = []
    for skill in state.skills():
        mark = state.marks.get(skill.id)
        if mark and mark.status == "held":
            continue
        if why := objection(skill.text, vouched=skill.id in state.vouched):
            found.append((skill, why))
    return found


def _both(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
