"""What happens to a bank, as frozen events that JSON can hold.

An event is one call, however many skills it is about. `iteration` is the one in which it happened; `origin` says where
it came from: ids of trajectories, reflector, hash of its prompt, version of the policy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, astuple, dataclass, field, fields
from typing import Any, Literal

from d2skill.bank.worth import Worth
from d2skill.types import Granularity, Skill, SkillText

Origin = Mapping[str, str]
Status = Literal["active", "trial", "held", "evicted", "retired", "merged"]
"""What a skill is: shown; in quarantine, on trial or held back until somebody admits it; or no longer in the bank."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Why a skill is not active, and since which iteration; `into` is the skill that it was merged into."""

    status: Status
    iteration: int
    reason: str = ""
    into: str = ""


@dataclass(frozen=True, slots=True)
class Insert:
    """Skills entered the bank, in this order, as they are here.

    Those from another bank bring their `evidence` along, the `tasks` that it is from, and the `marks` of those that are
    not active.
    """

    skills: tuple[Skill, ...]
    iteration: int
    origin: Origin = field(default_factory=dict)
    evidence: Mapping[str, Worth] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    tasks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Again:
    """Drafts said what skills of the bank say already; for each skill the tasks whose failures they came from."""

    tasks: Mapping[str, Sequence[str]]
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
    """Skills got the signals of an iteration (Eq. 3); `beta` is its rate for each granularity.

    `sources` are the trajectories and groups that signals came from, as task id # member or task id #; `by` tells for
    each signal which of them.
    """

    signals: Mapping[str, Sequence[float]]
    beta: Mapping[Granularity, float]
    iteration: int
    origin: Origin = field(default_factory=dict)
    sources: Sequence[str] = ()
    by: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """Skills were left out of single prompts, to see whether the policy heeds them.

    Each pair is of one decision: how much more log-probability what was chosen there has with the skill than without
    it, and whether the greedy action is another one.
    """

    effects: Mapping[str, Sequence[tuple[float, bool]]]
    iteration: int
    origin: Origin = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """Skills got another status: evicted, retired, merged into another, on trial, held back, or active again.

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


Event = Insert | Again | Retrieve | Credit | Probe | Change | Note | Rewind

_KINDS: dict[str, type[Event]] = {
    "insert": Insert,
    "again": Again,
    "retrieve": Retrieve,
    "credit": Credit,
    "probe": Probe,
    "change": Change,
    "note": Note,
    "rewind": Rewind,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(event: Event) -> bytes:
    """Returns an event as JSON, empty details left out. Raises `ValueError` for a number that is not finite."""
    values = {f.name: value for f in fields(event) if (value := getattr(event, f.name)) or _required(f)}
    if isinstance(event, Insert):
        values["skills"] = [_row(skill) for skill in event.skills]
        for name, moved in (("evidence", event.evidence), ("marks", event.marks)):
            if moved:
                values[name] = {id: astuple(one) for id, one in moved.items()}
    return json.dumps({"kind": _NAMES[type(event)], **values}, separators=(",", ":"), allow_nan=False).encode()


def decode(body: bytes) -> Event:
    """Returns the event of `encode`."""
    values = json.loads(body)
    kind = _KINDS[values.pop("kind")]
    if kind is Insert:
        values["skills"] = tuple(map(_skill, values["skills"]))
        values["evidence"] = {id: Worth(*one) for id, one in values.get("evidence", {}).items()}
        values["marks"] = {id: Mark(*one) for id, one in values.get("marks", {}).items()}
        values["tasks"] = tuple(values.get("tasks", ()))
    elif kind is Change:
        values["ids"] = tuple(values["ids"])
    elif kind is Probe:
        values["effects"] = {id: [(change, other) for change, other in own] for id, own in values["effects"].items()}
    elif kind is Credit:
        values["sources"] = tuple(values.get("sources", ()))
    return kind(**values)


def _required(detail: Field[Any]) -> bool:
    return detail.default is MISSING and detail.default_factory is MISSING


def _row(skill: Skill) -> list[Any]:
    text = skill.text
    return [
        *(skill.id, skill.granularity, text.title, text.principle, text.when_to_apply),
        *(skill.task_text, skill.observation, skill.utility, skill.retrievals, skill.credits),
        *(skill.created, skill.evidence, skill.evicted),
    ]


def _skill(row: Sequence[Any]) -> Skill:
    return Skill(row[0], row[1], SkillText(row[2], row[3], row[4]), *row[5:])
