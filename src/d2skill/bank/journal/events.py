"""What happens to a bank, as frozen events that JSON can hold, and the bank that a sequence of them adds up to.

An event is one call, however many skills it is about. `iteration` is the one in which it happened; `origin` says where
it came from: ids of trajectories, reflector, hash of its prompt, version of the policy.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, fields
from typing import Any, Literal

from d2skill.bank.evidence import Evidence
from d2skill.bank.ranking import credited_utility
from d2skill.errors import BankError
from d2skill.types import Granularity, Skill, SkillText

Origin = Mapping[str, str]
Status = Literal["active", "quarantined", "evicted", "retired", "merged"]


@dataclass(frozen=True, slots=True)
class Insert:
    """Skills entered the bank, in this order, as they are here."""

    skills: tuple[Skill, ...]
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Skills were put before the policy, so and so often each."""

    counts: Mapping[str, int]
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Credit:
    """Skills got the signals of an iteration (Eq. 3); `beta` is its rate for each granularity."""

    signals: Mapping[str, Sequence[float]]
    beta: Mapping[Granularity, float]
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """Skills got another status: evicted, retired, merged into another, quarantined, or active again.

    `into` is the id of the skill that the others were merged into.
    """

    status: Status
    ids: tuple[str, ...]
    iteration: int
    reason: str = ""
    into: str = ""
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note:
    """Somebody said something about a skill."""

    skill: str
    text: str
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rewind:
    """All that happened after event number `to` is undone: the bank is again as it was then, whatever that was."""

    to: int
    iteration: int
    origin: Origin = field(default_factory=dict)


Event = Insert | Retrieve | Credit | Change | Note | Rewind

_KINDS: dict[str, type[Event]] = {
    "insert": Insert,
    "retrieve": Retrieve,
    "credit": Credit,
    "change": Change,
    "note": Note,
    "rewind": Rewind,
}
_NONE = Evidence()
_NAMES = {kind: name for name, kind in _KINDS.items()}

_COLUMNS = (
    *("id", "granularity", "title", "principle", "when_to_apply", "task_text", "observation"),
    *("utility", "retrievals", "credits", "created", "evidence", "evicted"),
)
_GRANULARITY, _UTILITY, _RETRIEVALS, _CREDITS, _EVICTED = map(
    _COLUMNS.index, ("granularity", "utility", "retrievals", "credits", "evicted")
)


def encode(event: Event) -> bytes:
    """Returns an event as JSON. Raises `ValueError` for a number that is not finite."""
    values = {f.name: getattr(event, f.name) for f in fields(event)}
    if isinstance(event, Insert):
        values["skills"] = [_row(skill) for skill in event.skills]
    return json.dumps({"kind": _NAMES[type(event)], **values}, separators=(",", ":"), allow_nan=False).encode()


def decode(body: bytes) -> Event:
    """Returns the event of `encode`."""
    values = json.loads(body)
    kind = _KINDS[values.pop("kind")]
    if kind is Insert:
        values["skills"] = tuple(_skills(values["skills"]))
    elif kind is Change:
        values["ids"] = tuple(values["ids"])
    return kind(**values)


@dataclass(frozen=True, slots=True)
class Mark:
    """Why a skill is no longer active, and since which iteration."""

    status: Status
    iteration: int
    reason: str = ""
    into: str = ""


class BankState:
    """A bank at one moment, as the events up to then leave it.

    `evidence` has what the signals of skills add up to, `marks` the skills that are not active, `notes` what was said
    about skills, all by id. An evicted, retired or
    merged skill has left the bank, and its `evicted` says when; a quarantined one has not.
    """

    name = "bank/2"

    def __init__(self) -> None:
        self.evidence: dict[str, Evidence] = {}
        self.marks: dict[str, Mark] = {}
        self.notes: dict[str, list[str]] = {}
        self._rows: dict[str, list[Any]] = {}

    def skills(self) -> list[Skill]:
        """Returns all skills, those that have left included, in order of insertion."""
        with _no_garbage_collection():
            return _skills(self._rows.values())

    def apply(self, event: Event) -> None:
        """Adds an event. Raises `BankError` for one that does not fit what came before."""
        match event:
            case Insert(skills):
                for skill in skills:
                    if skill.id in self._rows:
                        raise BankError(f"skill {skill.id!r} is inserted twice")
                    self._rows[skill.id] = _row(skill)
                    if skill.evicted is not None:
                        self.marks[skill.id] = Mark("evicted", skill.evicted)
            case Retrieve(counts):
                for skill_id, count in counts.items():
                    self._row(skill_id)[_RETRIEVALS] += count
            case Credit(signals, beta, iteration):
                for skill_id, own in signals.items():
                    row = self._row(skill_id)
                    row[_UTILITY] = credited_utility(row[_UTILITY], own, beta[row[_GRANULARITY]])
                    row[_CREDITS] += len(own)
                    self.evidence[skill_id] = self.evidence.get(skill_id, _NONE).add(own, iteration)
            case Change():
                self._change(event)
            case Note(skill_id, text):
                self._row(skill_id)
                self.notes.setdefault(skill_id, []).append(text)
            case Rewind():
                raise ValueError("a journal leaves out what a rewind undid, and the rewind itself")

    def dump(self) -> dict[str, Any]:
        """Returns all of it as values for JSON."""
        marks = {skill_id: asdict(mark) for skill_id, mark in self.marks.items()}
        evidence = {skill_id: astuple(one) for skill_id, one in self.evidence.items()}
        return {
            "evidence": evidence,
            "columns": list(zip(*self._rows.values(), strict=True)),
            "marks": marks,
            "notes": self.notes,
        }

    def load(self, values: dict[str, Any]) -> None:
        """Becomes what `dump` returned."""
        with _no_garbage_collection():
            self._rows = {row[0]: list(row) for row in zip(*values["columns"], strict=True)}
        self.evidence = {skill_id: Evidence(*one) for skill_id, one in values["evidence"].items()}
        self.marks = {skill_id: Mark(**mark) for skill_id, mark in values["marks"].items()}
        self.notes = values["notes"]

    def _change(self, change: Change) -> None:
        gone = change.status not in ("active", "quarantined")
        for skill_id in change.ids:
            self._row(skill_id)[_EVICTED] = change.iteration if gone else None
            if change.status == "active":
                self.marks.pop(skill_id, None)
            else:
                self.marks[skill_id] = Mark(change.status, change.iteration, change.reason, change.into)

    def _row(self, skill_id: str) -> list[Any]:
        try:
            return self._rows[skill_id]
        except KeyError:
            raise BankError(f"there is no skill {skill_id!r} among the {len(self._rows)} inserted so far") from None


def _row(skill: Skill) -> list[Any]:
    """Returns the values of a skill in the order of `_COLUMNS`."""
    text = skill.text
    return [
        *(skill.id, skill.granularity, text.title, text.principle, text.when_to_apply),
        *(skill.task_text, skill.observation, skill.utility, skill.retrievals, skill.credits),
        *(skill.created, skill.evidence, skill.evicted),
    ]


def _skills(rows: Any) -> list[Skill]:
    """Returns the skills of rows."""
    return [Skill(row[0], row[1], SkillText(row[2], row[3], row[4]), *row[5:]) for row in rows]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keeps the collector from walking 10^5 new records again and again, which takes longer than making them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
