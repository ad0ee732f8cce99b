"""The bank that a sequence of events adds up to: texts in lists, numbers in arrays, one row a skill.

A row is a skill's number in order of insertion and never changes. So 10^5 skills cost no object each: a `Skill` is made
when somebody asks for it.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple
from typing import Any

import numpy as np
import numpy.typing as npt

from d2skill.bank.journal.events import (
    Again,
    Change,
    Credit,
    Event,
    Insert,
    Mark,
    Note,
    Probe,
    Retrieve,
    Rewind,
    Status,
)
from d2skill.bank.ranking import Floats, Integers
from d2skill.bank.worth import Influence, Worth
from d2skill.errors import BankError
from d2skill.types import Granularity, Skill, SkillText

_STATUSES: tuple[Status, ...] = ("active", "trial", "held", "evicted", "retired", "merged")
GONE = _STATUSES[3:]
"""The statuses of skills that have left the bank."""

_ID, _GRANULARITY, _TASK, _OBSERVATION, _CREATED = 0, 1, 5, 6, 7
_COLUMNS = 9  # id, granularity, title, principle, when to apply, task text, observation, created, evidence
_KINDS = {
    **dict.fromkeys(("utility", "total", "spread"), np.float64),
    **dict.fromkeys(("retrievals", "credits", "signals", "squares", "last"), np.int64),
}


class BankState:
    """A bank at one moment, as the events up to then leave it.

    By id, `marks` has the skills that are not active, `notes` what was said about skills, `again` the tasks whose
    failures gave a skill another time, `influence` what leaving skills out of prompts did, and `merged` the skills that
    were merged into others. `vouched` are those that somebody admitted although they were held back; `seen` are the
    tasks that signals are from.
    """

    name = "bank/3"

    def __init__(self) -> None:
        self.marks: dict[str, Mark] = {}
        self.notes: dict[str, list[str]] = {}
        self.again: dict[str, list[str]] = {}
        self.influence: dict[str, Influence] = {}
        self.merged: dict[str, list[str]] = {}
        self.vouched: set[str] = set()
        self.seen: set[str] = set()
        self._rows: dict[str, int] = {}
        self._last: dict[Granularity, int] = {"task": 0, "step": 0}
        self._texts: list[list[Any]] = [[] for _ in range(_COLUMNS)]
        self._numbers: dict[str, npt.NDArray[Any]] = {name: np.zeros(0, kind) for name, kind in _KINDS.items()}
        self._status = np.zeros(0, dtype=np.int8)
        self._made: dict[int, Skill] = {}

    def __len__(self) -> int:
        """Number of skills there ever were."""
        return len(self._rows)

    def rows(self, granularity: Granularity | None, *statuses: Status) -> Integers:
        """Returns the rows of skills of a granularity that have one of these statuses, in order of insertion."""
        codes = [_STATUSES.index(status) for status in statuses]
        kinds = self._texts[_GRANULARITY]
        among = np.flatnonzero(np.isin(self._status, codes))
        if granularity is None:
            return among
        return np.array([row for row in among.tolist() if kinds[row] == granularity], dtype=np.int64)

    def row(self, skill_id: str) -> int:
        """Returns the row of an id. Raises `BankError` for one that was never given out."""
        return int(self._find([skill_id])[0])

    def status(self, skill_id: str) -> Status:
        """Returns what a skill is."""
        return _STATUSES[int(self._status[self.row(skill_id)])]

    def first_not(self, ids: Iterable[str], *statuses: Status) -> str | None:
        """Returns the first of some ids whose skill has none of these statuses."""
        rows = self._find(ids)
        other = rows[~np.isin(self._status[rows], [_STATUSES.index(status) for status in statuses])]
        return self._texts[_ID][other[0]] if len(other) else None

    def following(self, granularity: Granularity) -> int:
        """Returns the number in the id of the next skill of a granularity."""
        return self._last[granularity] + 1

    def skill(self, row: int) -> Skill:
        """Returns the skill of a row."""
        skill = self._made.get(row)
        if skill is None:
            numbers = [self._numbers[name][row].item() for name in ("utility", "retrievals", "credits")]
            skill = self._made[row] = self._skill([column[row] for column in self._texts], *numbers)
        return skill

    def skills(self) -> list[Skill]:
        """Returns all skills there ever were, in order of insertion."""
        with no_garbage_collection():
            numbers = zip(*(self._numbers[name].tolist() for name in ("utility", "retrievals", "credits")), strict=True)
            return [
                self._skill(texts, *own) for texts, own in zip(zip(*self._texts, strict=True), numbers, strict=True)
            ]

    def keys(self, rows: Integers) -> list[tuple[str, str]]:
        """Returns what some rows are retrieved by: task text, and the observation of a step skill."""
        tasks, observations = self._texts[_TASK], self._texts[_OBSERVATION]
        return [(tasks[row], observations[row]) for row in rows.tolist()]

    def utility(self, rows: Integers) -> Floats:
        """Returns the utilities of some rows."""
        return np.asarray(self._numbers["utility"][rows], dtype=np.float64)

    def retrievals(self, rows: Integers) -> Integers:
        """Returns how often the skills of some rows were put before the policy."""
        return np.asarray(self._numbers["retrievals"][rows], dtype=np.int64)

    def created(self, rows: Integers) -> Integers:
        """Returns the iterations in which the skills of some rows were written."""
        return np.array([self._texts[_CREATED][row] for row in rows.tolist()], dtype=np.int64)

    def evidence(self, skill_id: str) -> Worth:
        """Returns what the signals of a skill add up to, with those of the skills that were merged into it."""
        evidence = self._evidence(self.row(skill_id))
        for other in self.merged.get(skill_id, ()):
            evidence = evidence.joined(self.evidence(other))
        return evidence

    def events(self, iteration: int) -> list[Event]:
        """Returns what makes an empty state this one, but for probes, as events of an iteration."""
        skills = tuple(self.skills())
        evidence = {skill.id: self._evidence(row) for row, skill in enumerate(skills)}
        evidence = {skill_id: one for skill_id, one in evidence.items() if one.signals}
        events: list[Event] = [Insert(skills, iteration, {}, evidence, dict(self.marks), tuple(sorted(self.seen)))]
        if vouched := tuple(sorted(self.vouched - self.marks.keys())):
            events += [Change("held", vouched, iteration), Change("active", vouched, iteration)]
        if self.again:
            events.append(Again(dict(self.again), iteration))
        return events + [Note(skill_id, text, iteration) for skill_id, own in self.notes.items() for text in own]

    def apply(self, event: Event) -> None:
        """Adds an event. Raises `BankError` for one that does not fit what came before, and changes nothing then."""
        match event:
            case Insert():
                self._insert(event)
            case Again(tasks):
                self._find(tasks)
                for skill_id, own in tasks.items():
                    self.again.setdefault(skill_id, []).extend(own)
            case Retrieve(counts):
                rows = self._find(counts)
                self._numbers["retrievals"][rows] += np.fromiter(counts.values(), np.int64, len(rows))
                self._changed(rows)
            case Credit():
                self._credit(event)
            case Probe(effects):
                self._find(effects)
                for skill_id, pairs in effects.items():
                    self.influence[skill_id] = self.influence.get(skill_id, Influence()).add(pairs)
            case Change():
                self._change(event)
            case Note(skill_id, text):
                self._find([skill_id])
                self.notes.setdefault(skill_id, []).append(text)
            case Rewind():
                raise ValueError("a journal leaves out what a rewind undid, and the rewind itself")

    def dump(self) -> dict[str, Any]:
        """Returns all of it as values for JSON."""
        return {
            "texts": self._texts,
            "numbers": {name: values.tolist() for name, values in self._numbers.items()},
            "marks": {skill_id: asdict(mark) for skill_id, mark in self.marks.items()},
            "notes": self.notes,
            "again": self.again,
            "influence": {skill_id: astuple(one) for skill_id, one in self.influence.items()},
            "vouched": sorted(self.vouched),
            "seen": sorted(self.seen),
        }

    def load(self, values: dict[str, Any]) -> None:
        """Becomes what `dump` returned, if this state is an empty one."""
        self._texts = values["texts"]
        self._numbers = {name: np.array(values["numbers"][name], dtype=kind) for name, kind in _KINDS.items()}
        self._index(0)
        for skill_id, mark in values["marks"].items():
            self._mark(skill_id, Mark(**mark))
        self.notes, self.again = values["notes"], values["again"]
        self.vouched, self.seen = set(values["vouched"]), set(values["seen"])
        self.influence = {skill_id: Influence(*one) for skill_id, one in values["influence"].items()}

    def _evidence(self, row: int) -> Worth:
        names = ("signals", "squares", "total", "spread", "last")
        return Worth(*(self._numbers[name][row].item() for name in names))

    def _insert(self, event: Insert) -> None:
        skills, start = event.skills, len(self)
        ids = [skill.id for skill in skills]
        if len({*ids}) < len(ids) or not self._rows.keys().isdisjoint(ids):
            twice = next(skill_id for skill_id in ids if skill_id in self._rows or ids.count(skill_id) > 1)
            raise BankError(f"skill {twice!r} is inserted twice")
        if strange := [skill_id for skill_id in ids if not skill_id[1:].isdecimal()]:
            raise BankError(f"{strange[0]!r} is no id of a skill: t or s and a number")
        for column, texts in zip(self._texts, zip(*map(_texts, skills), strict=True), strict=False):
            column.extend(texts)
        evidence = [event.evidence.get(skill_id, Worth()) for skill_id in ids]
        for name, values in self._numbers.items():
            own = skills if name in ("utility", "retrievals", "credits") else evidence
            new = np.array([getattr(one, name) for one in own], dtype=values.dtype)
            self._numbers[name] = np.concatenate([values, new])
        self._index(start)
        for skill in skills:
            if skill.evicted is not None:
                self._mark(skill.id, Mark("evicted", skill.evicted))
        for skill_id, mark in event.marks.items():
            self._mark(skill_id, mark)
        self.seen.update(event.tasks)

    def _index(self, start: int) -> None:
        """Takes note of the rows from a row on, all active."""
        new = self._texts[_ID][start:]
        self._rows.update(zip(new, range(start, start + len(new)), strict=True))
        self._status = np.concatenate([self._status[:start], np.zeros(len(new), dtype=np.int8)])
        for skill_id, granularity in zip(new, self._texts[_GRANULARITY][start:], strict=True):
            if (number := int(skill_id[1:])) > self._last[granularity]:
                self._last[granularity] = number

    def _credit(self, event: Credit) -> None:
        """Does what `ranking.credited_utility` and `Worth.add` do, for all skills at once and to the same bit."""
        credited = {skill_id: own for skill_id, own in event.signals.items() if own}
        rows = self._find(credited)
        kinds = [self._texts[_GRANULARITY][row] for row in rows.tolist()]
        sizes = [len(own) for own in credited.values()]
        kept_of = {each: (1.0 - event.beta[each[0]]) ** each[1] for each in set(zip(kinds, sizes, strict=True))}
        kept = np.array([kept_of[each] for each in zip(kinds, sizes, strict=True)], dtype=np.float64)
        counts = np.array(sizes, dtype=np.int64)
        totals = np.array([math.fsum(own) for own in credited.values()], dtype=np.float64)
        numbers = self._numbers
        numbers["utility"][rows] = kept * numbers["utility"][rows] + (1.0 - kept) * (totals / counts)
        numbers["credits"][rows] += counts
        numbers["signals"][rows] += counts
        numbers["squares"][rows] += counts * counts
        numbers["total"][rows] += totals
        numbers["spread"][rows] += totals * totals / counts
        numbers["last"][rows] = event.iteration
        self.seen.update(source.rpartition("#")[0] or source for source in event.sources)
        self._changed(rows)

    def _change(self, event: Change) -> None:
        self._find(event.ids)
        if event.status not in _STATUSES:
            raise BankError(f"{event.status!r} is no status of a skill: {', '.join(_STATUSES)}")
        if event.status == "merged" and (event.into in event.ids or self.status(event.into) in GONE):
            raise BankError(f"nothing can be merged into {event.into!r}, which has left the bank")
        for skill_id in event.ids:
            before = self.marks.pop(skill_id, None)
            if before and before.status == "merged":
                self.merged[before.into].remove(skill_id)
            if event.status == "active":
                if before and before.status == "held":
                    self.vouched.add(skill_id)
                self._status[self.row(skill_id)] = 0
                self._changed(self._find([skill_id]))
            else:
                self._mark(skill_id, Mark(event.status, event.iteration, event.reason, event.into))

    def _mark(self, skill_id: str, mark: Mark) -> None:
        rows = self._find([skill_id])
        self._status[rows] = _STATUSES.index(mark.status)
        self.marks[skill_id] = mark
        if mark.status == "merged":
            self.merged.setdefault(mark.into, []).append(skill_id)
        self._changed(rows)

    def _find(self, ids: Iterable[str]) -> Integers:
        """Returns the rows of some ids. Raises `BankError` for one that was never given out."""
        try:
            return np.array([self._rows[skill_id] for skill_id in ids], dtype=np.int64)
        except KeyError as error:
            raise BankError(f"there is no skill {error} among the {len(self)} inserted so far") from None

    def _changed(self, rows: Integers) -> None:
        """Forgets the skills that were made of some rows."""
        for row in rows.tolist():
            self._made.pop(row, None)

    def _skill(self, texts: Sequence[Any], utility: float, retrievals: int, credits: int) -> Skill:
        skill_id, granularity, title, principle, when, task, observation, created, evidence = texts
        mark = self.marks.get(skill_id)
        gone = mark.iteration if mark and mark.status in GONE else None
        text = SkillText(title, principle, when)
        return Skill(
            skill_id, granularity, text, task, observation, utility, retrievals, credits, created, evidence, gone
        )


def _texts(skill: Skill) -> tuple[Any, ...]:
    """Returns what never changes of a skill."""
    text = skill.text
    return (
        *(skill.id, skill.granularity, text.title, text.principle, text.when_to_apply),
        *(skill.task_text, skill.observation, skill.created, skill.evidence),
    )


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keeps the collector from walking 10^5 new records again and again, which takes longer than making them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
