"""Events of a bank's life, as frozen records that JSON can hold.

An event is one call, however many skills it is about. `iteration` is the one in which it happened; `origin` says where
it came from: ids of trajectories, reflector, hash of its prompt, version of the policy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, astuple, dataclass, field, fields
from typing import Any, Literal

from d2skill.bank.worth import Worth
from d2skill.types import Granularity, Skill, SkillText

Origin = Mapping[str, str]
Status = Literal["active", "trial", "held", "evicted", "retired", "merged"]
"""State of a skill: shown; not shown yet, on trial or held until somebody admits it; or no longer in the bank."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Status of a skill that is not active, its reason, and the iteration since when; `into` is what it merged into."""

    status: Status
    iteration: int
    reason: str = ""
    into: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """Evidence for and against a skill: by source task, the number of events that named it."""

    supports: dict[str, int] = field(default_factory=dict)
    refutes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Insert:
    """Insertion of skills, in this order and with these values.

    Skills from another bank bring along the `worth` of their signals, the `tasks` that these are from, the `marks` of
    those that are not active, and their `tallies`, from which their numbers of supports and refutes are.
    """

    skills: tuple[Skill, ...]
    iteration: int
    origin: Origin = field(default_factory=dict)
    worth: Mapping[str, Worth] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    tasks: Sequence[str] = ()
    tallies: Mapping[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Support:
    """Evidence that skills are right: by skill, the tasks whose trajectories showed it."""

    sources: Mapping[str, Sequence[str]]
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refute:
    """Evidence that skills are wrong: by skill, the tasks whose trajectories contradicted it."""

    sources: Mapping[str, Sequence[str]]
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revise:
    """New texts of skills, which keep their ids, keys and numbers."""

    texts: Mapping[str, SkillText]
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repeat:
    """Drafts that repeated skills of the bank: by skill, the tasks whose failures they were written from."""

    tasks: Mapping[str, Sequence[str]]
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Retrieval counts: how often each skill was put before the policy."""

    counts: Mapping[str, int]
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Credit:
    """Signals of an iteration by skill (Eq. 3); `beta` is the rate for each granularity.

    `sources` are the trajectories and groups that signals came from, as task id # member or task id #; `by` has for
    each signal the number of its source.
    """

    signals: Mapping[str, Sequence[float]]
    beta: Mapping[Granularity, float]
    iteration: int
    origin: Origin = field(default_factory=dict)
    sources: Sequence[str] = ()
    by: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """Effects of leaving skills out of single prompts, to see if the policy heeds them.

    Each pair is of one decision: how much more log-probability (nats) the chosen answer has with the skill than
    without it, and whether the greedy action is another one.
    """

    effects: Mapping[str, Sequence[tuple[float, bool]]]
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """Change of the status of skills: evicted, retired, merged into another, on trial, held, or active again.

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
    """Remark of a person about a skill."""

    skill: str
    text: str
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rewind:
    """Return to the bank as it was after event number `to`: all that happened since is undone."""

    to: int
    iteration: int
    origin: Origin = field(default_factory=dict)


Event = Insert | Support | Refute | Revise | Repeat | Retrieve | Credit | Probe | Change | Note | Rewind

_KINDS: dict[str, type[Event]] = {
    "insert": Insert,
    "support": Support,
    "refute": Refute,
    "revise": Revise,
    "again": Repeat,
    "retrieve": Retrieve,
    "credit": Credit,
    "probe": Probe,
    "change": Change,
    "note": Note,
    "rewind": Rewind,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def source_task(source: str) -> str:
    """Returns the task of a source: a task id, or with # and more the id of a trajectory, group or place of one."""
    return source.rpartition("#")[0] or source


def counts(tally: Tally | None) -> tuple[int, int]:
    """Returns the numbers of source tasks that support and refute a skill."""
    return (len(tally.supports), len(tally.refutes)) if tally else (0, 0)


def encode(event: Event) -> bytes:
    """Returns an event as JSON, without empty fields. Raises `ValueError` for a number that is not finite."""
    values: dict[str, Any] = {"kind": _NAMES[type(event)]}
    for each in fields(event):
        value = getattr(event, each.name)
        if value or (each.default is MISSING and each.default_factory is MISSING):
            values[each.name] = value
    if isinstance(event, Insert):
        values["skills"] = [_row(skill) for skill in event.skills]
        values = {"evidence" if name == "worth" else name: value for name, value in values.items()}
    for name in ("evidence", "marks", "tallies", "texts"):
        if name in values:
            values[name] = {skill_id: astuple(one) for skill_id, one in values[name].items()}
    return json.dumps(values, separators=(",", ":"), allow_nan=False).encode()


def decode(body: bytes) -> Event:
    """Returns the event of a body from `encode`."""
    values = json.loads(body)
    kind = _KINDS[values.pop("kind")]
    if kind is Insert:
        tallies = {skill_id: Tally(*one) for skill_id, one in values.get("tallies", {}).items()}
        values["tallies"] = tallies
        values["skills"] = tuple(_skill(row, tallies.get(row[0])) for row in values["skills"])
        values["worth"] = {skill_id: Worth(*one) for skill_id, one in values.pop("evidence", {}).items()}
        values["marks"] = {skill_id: Mark(*one) for skill_id, one in values.get("marks", {}).items()}
        values["tasks"] = tuple(values.get("tasks", ()))
    elif kind is Revise:
        values["texts"] = {skill_id: SkillText(*text) for skill_id, text in values["texts"].items()}
    elif kind is Change:
        values["ids"] = tuple(values["ids"])
    elif kind is Probe:
        values["effects"] = {skill_id: [tuple(pair) for pair in own] for skill_id, own in values["effects"].items()}
    elif kind is Credit:
        values["sources"] = tuple(values.get("sources", ()))
    return kind(**values)


def _row(skill: Skill) -> list[Any]:
    """Returns a skill as a list of values, its text among them."""
    text = skill.text
    return [
        *(skill.id, skill.granularity, text.title, text.principle, text.when_to_apply),
        *(skill.task_text, skill.observation, skill.utility, skill.retrievals, skill.credits),
        *(skill.created, skill.source_task, skill.evicted),
    ]


def _skill(row: Sequence[Any], tally: Tally | None) -> Skill:
    """Returns the skill of a list of values and a tally."""
    return Skill(row[0], row[1], SkillText(row[2], row[3], row[4]), *(*row[5:], *counts(tally)))
