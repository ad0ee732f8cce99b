"""A skill as one level of named values, for the formats of others, with checks of values that come from outside."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from d2skill.types import Granularity, Skill, SkillText

_MOST = 2**53
"""The largest count, which readers that take JSON numbers as floats still read exactly."""


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
    source_task: str = Field("", alias="evidence")  # the name that files have for it
    evicted: int | None = Field(None, ge=0, le=_MOST)

    @classmethod
    def of(cls, skill: Skill) -> FlatSkill:
        """Returns the values of a skill."""
        values = asdict(skill)
        return cls.model_construct(**values.pop("text"), **values)

    def skill(self) -> Skill:
        """Returns the skill of these values."""
        values = self.model_dump()
        return Skill(text=SkillText(**{field.name: values.pop(field.name) for field in fields(SkillText)}), **values)

    def differences(self, other: FlatSkill) -> dict[str, Any]:
        """Returns the values in which this skill differs from another, by their names in files."""
        theirs = other.model_dump(by_alias=True)
        return {name: value for name, value in self.model_dump(by_alias=True).items() if value != theirs[name]}


def first_fault(error: ValidationError) -> str:
    """Returns the first fault that validation found, with the name of the value at fault."""
    first = error.errors()[0]
    return ": ".join(map(str, (*first["loc"], first["msg"])))
