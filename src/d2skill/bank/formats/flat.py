"""A skill as one level of named values, as foreign formats hold it, and the checks on what comes from outside."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from d2skill.types import Granularity, Skill, SkillText

_MOST = 2**53
"""Largest count: whatever reads JSON numbers as floats still reads it exactly."""


class FlatSkill(BaseModel):
    """The fields of `Skill` and `SkillText` side by side; numbers may be given as strings."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    id: str = ""
    granularity: Granularity
    title: str
    principle: str
    when_to_apply: str
    task_text: str
    observation: str = ""
    utility: float = 0.0
    retrievals: int = Field(0, ge=0, le=_MOST)
    credits: int = Field(0, ge=0, le=_MOST)
    created: int = Field(0, ge=0, le=_MOST)
    evidence: str = ""
    evicted: int | None = Field(None, ge=0, le=_MOST)

    @classmethod
    def of(cls, skill: Skill) -> FlatSkill:
        """Returns the values of a skill."""
        text = {name: getattr(skill.text, name) for name in SkillText.__slots__}
        rest = {name: getattr(skill, name) for name in Skill.__slots__ if name != "text"}
        return cls.model_construct(**text, **rest)

    def skill(self) -> Skill:
        """Returns the skill of these values."""
        values = self.model_dump()
        text = SkillText(**{name: values.pop(name) for name in SkillText.__slots__})
        return Skill(text=text, **values)

    def beyond(self, other: FlatSkill) -> dict[str, Any]:
        """Returns the values in which this skill differs from another."""
        theirs = other.model_dump()
        return {name: value for name, value in self.model_dump().items() if value != theirs[name]}


def fault(error: ValidationError) -> str:
    """Returns the first fault that validation found, with the name of the value at fault."""
    first = error.errors()[0]
    return ": ".join(map(str, (*first["loc"], first["msg"])))
