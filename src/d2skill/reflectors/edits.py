"""Parser of the edits of a bank that a model asks for, after a question about a group.

Only skills that the question gave can be supported, refuted and revised. An edit that does not count is left out; the
others of the answer stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from d2skill.bank.safety import LIMITS
from d2skill.reflectors.answer import SkillFields, last_answer, tidied
from d2skill.types import Edit, Granularity, Group, Skill, SkillText

MOST_EDITS = 6
"""Edits of an answer that count: the first ones."""

_LONGEST_SHOWN = 20_000  # characters of observations from which their language is told
_SLOT = re.compile(r"\{[^{}]*\}?|\}")
_KNOWN_SLOT = re.compile(r"\{(?:thing|place)(?: [2-9])?\}")

_Id = Annotated[str, StringConstraints(strip_whitespace=True)]


class _Add(SkillFields):
    op: Literal["add"]
    granularity: Granularity


class _Vote(BaseModel):
    op: Literal["support", "refute"]
    id: _Id


class _Revision(SkillFields):
    op: Literal["revise"]
    id: _Id


class _Edits(BaseModel):
    edits: list[Annotated[_Add | _Vote | _Revision, Field(discriminator="op")]]


def _shape(*ops: str, **fields: Any) -> dict[str, Any]:
    properties = {"op": {"type": "string", "enum": list(ops)}, **fields}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_STRING = {"type": "string"}
_TEXT = dict.fromkeys(LIMITS, _STRING)
_EDIT_SCHEMA = {
    "anyOf": [
        _shape("add", granularity={"type": "string", "enum": ["task", "step"]}, **_TEXT),
        _shape("support", "refute", id=_STRING),
        _shape("revise", id=_STRING, **_TEXT),
    ]
}
EDITS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"edits": {"type": "array", "items": _EDIT_SCHEMA}},
    "required": ["edits"],
    "additionalProperties": False,
}
"""JSON schema of an answer."""


def parse_edits(text: str, group: Group, skills: Sequence[Skill]) -> tuple[list[Edit], str]:
    """Returns the edits in an answer about a group, with clean texts, and a remark on those that were left out.

    An answer has one support or refute and one revision of a skill at most. Raises `UnusableAnswer` as
    `parse_reflection` does.
    """
    answer = last_answer(text, _Edits)
    given = {skill.id: skill for skill in skills}
    seen = dict.fromkeys(turn.prompt.observation for member in group.trajectories for turn in member.turns)
    shown = group.task.text, "\n".join(seen)[:_LONGEST_SHOWN]
    edits: list[Edit] = []
    left_out: list[str] = []
    known: set[object] = set()
    for at, one in enumerate(answer.edits[:MOST_EDITS]):
        edit = _edit(f"edits.{at}", one, given, shown)
        key = (edit.skill_id, edit.op == "revise") if isinstance(edit, Edit) and edit.skill_id else edit
        if isinstance(edit, str) or key in known:
            left_out.append(f"{one.op} ({edit if isinstance(edit, str) else 'said before'})")
        else:
            edits.append(edit)
            known.add(key)
    if len(answer.edits) > MOST_EDITS:
        left_out.append(f"{len(answer.edits) - MOST_EDITS} more")
    return edits, f"{', '.join(left_out)} left out" if left_out else ""


def _edit(name: str, one: _Add | _Vote | _Revision, given: Mapping[str, Skill], shown: Sequence[str]) -> Edit | str:
    """Returns an edit of an answer, or the reason why it does not count; `name` is its place in the answer."""
    old = None if isinstance(one, _Add) else given.get(one.id)
    if old is None and not isinstance(one, _Add):
        return "an id that was not given"
    if isinstance(one, _Vote):
        return Edit(one.op, skill_id=one.id)
    text = tidied(name, SkillText(one.title, one.principle, one.when_to_apply), shown)
    if isinstance(text, str):
        return text
    granularity = one.granularity if isinstance(one, _Add) else given[one.id].granularity
    if why := _misfit(granularity, text, old):
        return why
    if isinstance(one, _Add):
        return Edit("add", granularity, text=text)
    return Edit("revise", skill_id=one.id, text=text)


def _misfit(granularity: Granularity, text: SkillText, old: Skill | None) -> str:
    """Returns the reason why a text is no skill of its granularity, or none that can replace an `old` one; else ""."""
    slots = set(_SLOT.findall(" ".join(getattr(text, field) for field in LIMITS)))
    if granularity == "step":
        thing, _, place = text.title.partition(":")
        if not thing.strip() or not place.strip():
            return "no thing and colon"
        if old is not None and thing.strip().lower() != old.text.title.partition(":")[0].strip().lower():
            return "about another thing"
        return "slots in a step skill" if slots else ""
    known = all(map(_KNOWN_SLOT.fullmatch, slots)) if old is None else slots <= set(_SLOT.findall(old.task_text))
    return "" if known else "slots that nothing fills"
