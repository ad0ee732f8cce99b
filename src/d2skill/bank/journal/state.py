"""Replayed state of a bank: texts and numbers in columns, with one row for each skill.

A row is a skill's number in order of insertion and never changes. So 10^6 skills do not need an object each: a `Skill`
is made when it is asked for.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple
from functools import cached_property
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from d2skill.bank.journal.columns import NumberColumns, TextColumn
from d2skill.bank.journal.events import (
    Change,
    Credit,
    Event,
    Insert,
    Mark,
    Note,
    Probe,
    Refute,
    Repeat,
    Retrieve,
    Revise,
    Rewind,
    Status,
    Support,
    Tally,
    counts,
    source_task,
)
from d2skill.bank.ranking import Floats, Integers
from d2skill.bank.worth import Influence, Worth
from d2skill.credit import credited_utilities
from d2skill.errors import BankError
from d2skill.types import Granularity, Skill, SkillText

_STATUSES: tuple[Status, ...] = get_args(Status)
GONE = _STATUSES[3:]
"""Statuses of skills that have left the bank."""

_GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
_TEXT = ("title", "principle", "when_to_apply")
_TEXTS = ("id", *_TEXT, "task_text", "observation", "source_task")
_DUMPED = ("id", "granularity", *_TEXT, "task_text", "observation", "created", "source_task")  # order of `dump`
_KINDS = {
    **dict.fromkeys(("utility", "total", "spread", "odd_total"), np.float64),
    **dict.fromkeys(("retrievals", "credits", "signals", "squares", "last", "odd_signals"), np.int64),
}
_COLUMN_KINDS = {**_KINDS, "created": np.int64, "granularity": np.int8, "status": np.int8}
_COUNTERS = ("utility", "retrievals", "credits", "granularity", "created")  # of a `Skill`
_ODD = ("odd_signals", "odd_total")  # of the signals of odd iterations
_SUMS = ("signals", "squares", "total", "spread", "last")  # of its `Worth`


class BankState:
    """State of a bank after a sequence of events.

    By id, `tallies` has the evidence for and against skills, `marks` the status of those that are not active, `notes`
    what people remarked on them, `repeats` the tasks whose failures gave a skill another time, `influence` what leaving
    skills out of prompts did, and `merged` the skills that were merged into others. `vouched` are the ids of skills
    that a person admitted although they were held; `credited_tasks` are the tasks that signals are from.
    """

    name = "bank/4"

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}
        self.marks: dict[str, Mark] = {}
        self.notes: dict[str, list[str]] = {}
        self.repeats: dict[str, list[str]] = {}
        self.influence: dict[str, Influence] = {}
        self.merged: dict[str, list[str]] = {}
        self.vouched: set[str] = set()
        self.credited_tasks: set[str] = set()
        self._last_number: dict[Granularity, int] = {"task": 0, "step": 0}
        self._texts = {name: TextColumn() for name in _TEXTS}
        self._numbers = NumberColumns(**{name: np.zeros(0, kind) for name, kind in _COLUMN_KINDS.items()})
        self._made: dict[int, Skill] = {}
        self._seen: dict[str, int] = {}  # rows by id of skills that were asked for: few, so soon made

    def __len__(self) -> int:
        """Number of skills that were ever inserted."""
        return len(self._numbers)

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Rows by id."""
        return dict(zip(self._texts["id"], range(len(self)), strict=True))

    def has_status(self, rows: Integers, *statuses: Status) -> npt.NDArray[np.bool_]:
        """Returns for each of some rows whether it has one of these statuses."""
        return np.isin(self._numbers["status"][rows], [_STATUSES.index(status) for status in statuses])

    def rows(self, granularity: Granularity | None, *statuses: Status) -> Integers:
        """Returns the rows of skills of a granularity that have one of some statuses, without any all, in order."""
        rows = np.arange(len(self))
        if granularity is not None:
            rows = np.flatnonzero(self._numbers["granularity"] == _GRANULARITIES.index(granularity))
        return rows[self.has_status(rows, *statuses)] if statuses else rows

    def find(self, ids: Iterable[str]) -> Integers:
        """Returns the rows of some ids. Raises `BankError` for one that was never given out."""
        ids = list(ids)
        rows = self._seen if self._seen.keys() >= {*ids} else self._rows
        try:
            return np.array([rows[skill_id] for skill_id in ids], dtype=np.int64)
        except KeyError as error:
            raise BankError(f"there is no skill {error} among the {len(self)} inserted so far") from None

    def row(self, skill_id: str) -> int:
        """Returns the row of an id. Raises `BankError` for one that was never given out."""
        return int(self.find([skill_id])[0])

    def status(self, skill_id: str) -> Status:
        """Returns the status of a skill."""
        return _STATUSES[int(self._numbers["status"][self.row(skill_id)])]

    def next_number(self, granularity: Granularity) -> int:
        """Returns the number in the id of the next skill of a granularity."""
        return self._last_number[granularity] + 1

    def skill(self, row: int) -> Skill:
        """Returns the skill of a row."""
        if row not in self._made:
            texts = (column[row] for column in self._texts.values())
            self._made[row] = self._skill(*texts, *(self._numbers[name][row].item() for name in _COUNTERS))
            self._seen[self._made[row].id] = row
        return self._made[row]

    def skills(self) -> list[Skill]:
        """Returns all skills that were ever inserted, in order of insertion."""
        numbers = (self._numbers[name].tolist() for name in _COUNTERS)
        with no_garbage_collection():
            return [self._skill(*values) for values in zip(*self._texts.values(), *numbers, strict=True)]

    def has_skills_of(self, other: BankState) -> bool:
        """Returns True if the skills that were ever inserted are the same in another state, with all their values."""
        pairs = [(self._numbers[name], other._numbers[name]) for name in _COUNTERS]
        for one, two in zip(self._texts.values(), other._texts.values(), strict=True):
            pairs += zip(one.packed(), two.packed(), strict=True)
        gone, others = (
            {i: (m.status, m.iteration * (m.status in GONE)) for i, m in s.marks.items()} for s in (self, other)
        )
        same = gone == others and self.tallies == other.tallies
        return same and all(np.array_equal(*pair) for pair in pairs)

    def keys(self, rows: Integers) -> list[tuple[str, str]]:
        """Returns the keys of some rows: task text, and the observation of a step skill."""
        tasks, observations = self._texts["task_text"], self._texts["observation"]
        return [(tasks[row], observations[row]) for row in rows.tolist()]

    def texts(self, name: str) -> TextColumn:
        """Returns a column: "title", "principle", "when_to_apply", "task_text" or "observation"."""
        return self._texts[name]

    def utility(self, rows: Integers) -> Floats:
        """Returns the utilities of some rows."""
        return np.asarray(self._numbers["utility"][rows], dtype=np.float64)

    def retrievals(self, rows: Integers) -> Integers:
        """Returns the retrieval counts of some rows."""
        return np.asarray(self._numbers["retrievals"][rows], dtype=np.int64)

    def created(self, rows: Integers) -> Integers:
        """Returns the iterations in which the skills of some rows were written."""
        return np.asarray(self._numbers["created"][rows], dtype=np.int64)

    def reliability(self, granularity: Granularity | None = None, least: int = 4) -> float | None:
        """Returns how well mean signals repeat: their correlation over skills between odd and even iterations.

        It is weighted by signals, of skills with `least` or more in both; None for fewer than three of them.
        """
        rows = self.rows(granularity)
        odd, signals = self._numbers["odd_signals"][rows], self._numbers["signals"][rows]
        enough = (odd >= least) & (signals - odd >= least)
        if enough.sum() < 3:
            return None
        odd, even = odd[enough], (signals - odd)[enough]
        total, odd_total = self._numbers["total"][rows][enough], self._numbers["odd_total"][rows][enough]
        covariance = np.cov(odd_total / odd, (total - odd_total) / even, aweights=odd * even / (odd + even))
        deviations = np.sqrt(covariance[0, 0] * covariance[1, 1])
        return float(covariance[0, 1] / deviations) if deviations > 0 else None

    def worth(self, skill_id: str) -> Worth:
        """Returns the worth of a skill, with the signals of the skills that were merged into it."""
        worth = self._own_worth(self.row(skill_id))
        for other in self.merged.get(skill_id, ()):
            worth += self.worth(other)
        return worth

    def events(self, iteration: int) -> list[Event]:
        """Returns events of an iteration that turn an empty state into this one, but for probes and reliability."""
        skills = tuple(self.skills())
        worth = {skill.id: own for row, skill in enumerate(skills) if (own := self._own_worth(row)).signals}
        tasks = tuple(sorted(self.credited_tasks))
        events: list[Event] = [Insert(skills, iteration, {}, worth, dict(self.marks), tasks, dict(self.tallies))]
        if vouched := tuple(sorted(self.vouched - self.marks.keys())):
            events += [Change("held", vouched, iteration), Change("active", vouched, iteration)]
        if self.repeats:
            events.append(Repeat(dict(self.repeats), iteration))
        return events + [Note(skill_id, text, iteration) for skill_id, texts in self.notes.items() for text in texts]

    def apply(self, event: Event) -> None:
        """Applies an event. Raises `BankError` for one that does not fit what came before, and changes nothing then."""
        match event:
            case Insert():
                self._insert(event)
            case Support(evidence) | Refute(evidence):
                rows = self.find(evidence)
                for skill_id, sources in evidence.items():
                    tally = self.tallies.setdefault(skill_id, Tally())
                    counted = tally.supports if isinstance(event, Support) else tally.refutes
                    counted.update({source: counted.get(source, 0) + 1 for source in sources})
                self._forget(rows)
            case Revise(texts):
                rows = self.find(texts)
                for row, text in zip(rows.tolist(), texts.values(), strict=True):
                    for name in _TEXT:
                        self._texts[name][row] = getattr(text, name)
                self._forget(rows)
            case Repeat(tasks):
                self.find(tasks)
                for skill_id, sources in tasks.items():
                    self.repeats.setdefault(skill_id, []).extend(sources)
            case Retrieve(times):
                rows = self.find(times)
                self._numbers["retrievals"][rows] += np.fromiter(times.values(), np.int64, len(rows))
                self._forget(rows)
            case Credit():
                self._credit(event)
            case Probe(effects):
                self.find(effects)
                for skill_id, pairs in effects.items():
                    self.influence[skill_id] = self.influence.get(skill_id, Influence()).add(pairs)
            case Change():
                self._change(event)
            case Note(skill_id, text):
                self.find([skill_id])
                self.notes.setdefault(skill_id, []).append(text)
            case Rewind():
                raise ValueError("a journal leaves out what a rewind undid, and the rewind itself")

    def savepoint(self, event: Event) -> Savepoint:
        """Returns a savepoint before an event, which can take it back, also when it was applied in part."""
        return Savepoint(self, event)

    def dump(self) -> dict[str, Any]:
        """Returns the whole state as values for JSON."""
        columns: dict[str, Iterable[Any]] = {**self._texts, "created": self._numbers["created"].tolist()}
        columns["granularity"] = [_GRANULARITIES[code] for code in self._numbers["granularity"].tolist()]
        return {
            "texts": [list(columns[name]) for name in _DUMPED],
            "numbers": {name: self._numbers[name].tolist() for name in _KINDS},
            **self._rest(),
        }

    def load(self, values: dict[str, Any]) -> None:
        """Restores what `dump` returned into this state, which has to be empty."""
        columns = dict(zip(_DUMPED, values["texts"], strict=True))
        self._add_rows(columns, columns["granularity"], {**values["numbers"], "created": columns["created"]})
        self._load_rest(values)
        codes = [_STATUSES.index(mark.status) for mark in self.marks.values()]
        self._numbers["status"][self.find(self.marks)] = codes

    def packed(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Returns the whole state as values for JSON, and arrays, which are read much faster."""
        arrays = {name: self._numbers[name] for name in _COLUMN_KINDS}
        for name, column in self._texts.items():
            arrays[f"{name} texts"], arrays[f"{name} ends"] = column.packed()
        return {**self._rest(), "last": self._last_number}, arrays

    def unpack(self, values: dict[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restores what `packed` returned into this state, which has to be empty."""
        self._numbers = NumberColumns(**{name: arrays[name].copy() for name in _COLUMN_KINDS})
        self._texts = {name: TextColumn(arrays[f"{name} texts"], arrays[f"{name} ends"]) for name in _TEXTS}
        self._last_number = values["last"]
        self._load_rest(values)

    def _rest(self) -> dict[str, Any]:
        """Returns all but the columns, as values for JSON."""
        return {
            "tallies": {skill_id: [tally.supports, tally.refutes] for skill_id, tally in self.tallies.items()},
            "marks": {skill_id: asdict(mark) for skill_id, mark in self.marks.items()},
            "notes": self.notes,
            "again": self.repeats,
            "influence": {skill_id: astuple(influence) for skill_id, influence in self.influence.items()},
            "vouched": sorted(self.vouched),
            "seen": sorted(self.credited_tasks),
        }

    def _load_rest(self, values: dict[str, Any]) -> None:
        self.tallies = {skill_id: Tally(*named) for skill_id, named in values["tallies"].items()}
        self.marks = {skill_id: Mark(**mark) for skill_id, mark in values["marks"].items()}
        for skill_id, mark in self.marks.items():
            if mark.status == "merged":
                self.merged.setdefault(mark.into, []).append(skill_id)
        self.notes, self.repeats = values["notes"], values["again"]
        self.vouched, self.credited_tasks = set(values["vouched"]), set(values["seen"])
        self.influence = {skill_id: Influence(*sums) for skill_id, sums in values["influence"].items()}

    def _own_worth(self, row: int) -> Worth:
        """Returns the worth of a row, without skills that were merged into it."""
        return Worth(*(self._numbers[name][row].item() for name in _SUMS))

    def _insert(self, event: Insert) -> None:
        skills = event.skills
        ids = [skill.id for skill in skills]
        if len({*ids}) < len(ids) or not self._rows.keys().isdisjoint(ids):
            twice = next(skill_id for skill_id in ids if skill_id in self._rows or ids.count(skill_id) > 1)
            raise BankError(f"skill {twice!r} is inserted twice")
        if others := event.marks.keys() - {*ids}:
            raise BankError(f"skill {min(others)!r} is marked by an insertion that it is not part of")
        if strange := [skill_id for skill_id in ids if not skill_id[1:].isdecimal()]:
            raise BankError(f"{strange[0]!r} is no id of a skill: t or s and a number")
        texts = {name: [getattr(one.text if name in _TEXT else one, name) for one in skills] for name in _TEXTS}
        worths = [event.worth.get(skill_id, Worth()) for skill_id in ids]
        numbers: dict[str, Sequence[Any]] = {name: [getattr(one, name) for one in worths] for name in _SUMS}
        numbers |= {name: [getattr(one, name) for one in skills] for name in _COUNTERS}
        numbers |= {name: [0] * len(ids) for name in _ODD}
        self._add_rows(texts, [skill.granularity for skill in skills], numbers)
        for skill in skills:
            if skill.evicted is not None:
                self._mark(skill.id, Mark("evicted", skill.evicted))
        for skill_id, mark in event.marks.items():
            self._mark(skill_id, mark)
        self.credited_tasks.update(event.tasks)
        for skill_id in filter(event.tallies.__contains__, ids):
            tally = event.tallies[skill_id]
            self.tallies[skill_id] = Tally(dict(tally.supports), dict(tally.refutes))

    def _add_rows(
        self,
        texts: Mapping[str, Sequence[str]],
        granularities: Sequence[Granularity],
        numbers: Mapping[str, Sequence[Any]],
    ) -> None:
        """Adds rows, all active."""
        start, ids = len(self), texts["id"]
        last = dict(self._last_number)
        for skill_id, granularity in zip(ids, granularities, strict=True):
            if (number := int(skill_id[1:])) > last[granularity]:
                last[granularity] = number
        codes = [_GRANULARITIES.index(granularity) for granularity in granularities]
        columns = {**numbers, "granularity": codes, "status": np.zeros(len(ids))}
        self._numbers.extend(**{name: np.array(columns[name], dtype=kind) for name, kind in _COLUMN_KINDS.items()})
        self._last_number = last
        for name, column in self._texts.items():
            column.extend(texts[name])
        self._rows.update(zip(ids, range(start, start + len(ids)), strict=True))

    def _credit(self, event: Credit) -> None:
        credited = {skill_id: signals for skill_id, signals in event.signals.items() if signals}
        rows, signals, numbers = self.find(credited), list(credited.values()), self._numbers
        betas = [event.beta[_GRANULARITIES[code]] for code in numbers["granularity"][rows].tolist()]
        numbers["utility"][rows] = credited_utilities(numbers["utility"][rows], signals, betas)
        counts = np.array([len(own) for own in signals], dtype=np.int64)
        totals = np.array([math.fsum(own) for own in signals], dtype=np.float64)
        numbers["credits"][rows] += counts
        numbers["signals"][rows] += counts
        numbers["squares"][rows] += counts * counts
        numbers["total"][rows] += totals
        numbers["spread"][rows] += totals * totals / counts
        numbers["last"][rows] = event.iteration
        if event.iteration % 2:
            numbers["odd_signals"][rows] += counts
            numbers["odd_total"][rows] += totals
        self.credited_tasks.update(map(source_task, event.sources))
        self._forget(rows)

    def _change(self, event: Change) -> None:
        self.find(event.ids)
        if event.status not in _STATUSES:
            raise BankError(f"{event.status!r} is no status of a skill: {', '.join(_STATUSES)}")
        if event.status == "merged" and (event.into in event.ids or self.status(event.into) in GONE):
            raise BankError(f"nothing can be merged into {event.into!r}, which has left the bank")
        for skill_id in event.ids:
            before = self.marks.pop(skill_id, None)
            if before and before.status == "merged":
                self.merged[before.into].remove(skill_id)
            elif before and before.status == "held" and event.status == "active":
                self.vouched.add(skill_id)
            self._mark(skill_id, Mark(event.status, event.iteration, event.reason, event.into))

    def _mark(self, skill_id: str, mark: Mark) -> None:
        """Gives a skill the status of a mark."""
        rows = self.find([skill_id])
        self._numbers["status"][rows] = _STATUSES.index(mark.status)
        if mark.status != "active":
            self.marks[skill_id] = mark
        if mark.status == "merged":
            self.merged.setdefault(mark.into, []).append(skill_id)
        self._forget(rows)

    def _forget(self, rows: Integers) -> None:
        """Forgets the `Skill` objects that were made of some rows, which have changed."""
        for row in rows.tolist():
            self._made.pop(row, None)

    def _skill(self, *values: Any) -> Skill:
        """Returns a skill from the values of its row: `_TEXTS`, `_COUNTERS`, granularity as a number, and iteration."""
        skill_id, title, principle, when, task, observation, source = values[: len(_TEXTS)]
        utility, retrievals, credits, code, created = values[len(_TEXTS) :]
        mark = self.marks.get(skill_id)
        gone = mark.iteration if mark and mark.status in GONE else None
        text = SkillText(title, principle, when)
        return Skill(
            *(skill_id, _GRANULARITIES[code], text, task, observation, utility, retrievals, credits, created, source),
            *(gone, *counts(self.tallies.get(skill_id))),
        )


class Savepoint:
    """Values that an event may change, as they are before it.

    Args:
        state: State that has not applied the event yet.
        event: The event.
    """

    def __init__(self, state: BankState, event: Event) -> None:
        self._state = state
        self._size = len(state)
        self._last = dict(state._last_number)
        self._new = [skill.id for skill in event.skills] if isinstance(event, Insert) else []
        ids: list[str] = []
        with suppress(BankError):  # an unknown id, for which the event will be refused
            ids = list(_ids_of(event))
            state.find(ids)
        self._rows = state.find(ids) if not self._new else state.find(())
        self._numbers = {name: state._numbers[name][self._rows] for name in _COLUMN_KINDS}
        revised = self._rows.tolist() if isinstance(event, Revise) else []
        self._texts = [(name, row, state._texts[name][row]) for name in _TEXT for row in revised]
        if isinstance(event, Change):
            into = {mark.into for skill_id in ids if (mark := state.marks.get(skill_id))}
            ids = list(dict.fromkeys((*ids, *into, event.into)))
        by_id = _by_id(state).get(type(event), ())
        self._values = [(values, skill_id, _copied(values.get(skill_id))) for values in by_id for skill_id in ids]
        self._vouched = set(state.vouched.intersection(ids))
        self._not_vouched = {*ids} - self._vouched
        self._new_tasks = {*_tasks_of(event)} - state.credited_tasks

    def restore(self) -> None:
        """Brings the state back to what it was at the savepoint; may be called again."""
        state = self._state
        if self._new:
            for rows in (state._rows, state._seen):
                for skill_id in self._new:
                    if rows.get(skill_id, -1) >= self._size:
                        del rows[skill_id]
            for skill_id in self._new:
                if skill_id not in state._rows:
                    for values in (state.tallies, state.marks, state.merged):
                        values.pop(skill_id, None)
            state._made = {row: skill for row, skill in state._made.items() if row < self._size}
        for column in state._texts.values():
            column.cut(self._size)
        state._numbers.cut(self._size)
        state._last_number = dict(self._last)
        for name, numbers in self._numbers.items():
            state._numbers[name][self._rows] = numbers
        for name, row, text in self._texts:
            state._texts[name][row] = text
        for by_id, skill_id, value in self._values:
            if value is None:
                by_id.pop(skill_id, None)
            else:
                by_id[skill_id] = value
        state.vouched.difference_update(self._not_vouched)
        state.vouched.update(self._vouched)
        state.credited_tasks -= self._new_tasks
        state._forget(self._rows)


def _by_id(state: BankState) -> dict[type[Event], tuple[dict[str, Any], ...]]:
    """Returns the values by skill id that an event of a type changes."""
    return {
        Support: (state.tallies,),
        Refute: (state.tallies,),
        Repeat: (state.repeats,),
        Probe: (state.influence,),
        Change: (state.marks, state.merged),
        Note: (state.notes,),
    }


def _copied(value: Any) -> Any:
    """Returns a copy of a value that changes in place."""
    match value:
        case Tally():
            return Tally(dict(value.supports), dict(value.refutes))
        case list():
            return list(value)
    return value


def _ids_of(event: Event) -> Iterable[str]:
    """Returns the ids of the skills that an event changes; none of an insertion, whose skills are new."""
    match event:
        case Support(named) | Refute(named) | Revise(named) | Repeat(named) | Retrieve(named) | Probe(named):
            return named
        case Credit():
            return event.signals
        case Change():
            return event.ids
        case Note():
            return (event.skill,)
    return ()


def _tasks_of(event: Event) -> Iterable[str]:
    """Returns the tasks that an event may add to those that signals are from."""
    if isinstance(event, Insert):
        return event.tasks
    return map(source_task, event.sources) if isinstance(event, Credit) else ()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Disables the garbage collector, which would walk 10^5 new records again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
