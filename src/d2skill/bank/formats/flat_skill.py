"""A skill as one level of named values, for the formats of others, with checks of values that come from outside."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from d2skill.bank.journal import Tally
from d2skill.types import Granularity, Skill, SkillText
from d2skill.utils.foreign_files import parse_json

_MOST = 2**53
"""The largest count, which readers that take JSON numbers as floats still read exactly."""


def _sources(value: Any) -> Any:
    """Returns the sources of evidence, which a format of strings has as JSON."""
    return parse_json(value) if isinstance(value, str) else value


Sources = Annotated[dict[str, Annotated[int, Field(ge=1, le=_MOST)]], BeforeValidator(_sources)]
"""Source tasks, with the number of times that each was named"""


class FlatSkill(BaseModel):
    """The fields of `Skill` and `SkillText` side by side, with the sources of its evidence in place of their numbers.

    Numbers may be given as strings.
    """

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
    supports: Sources = {}
    refutes: Sources = {}
    rest: str = Field("", exclude=True)  # of the text that the skill was made of

    @classmethod
    def of(cls, skill: Skill, tally: Tally | None = None) -> FlatSkill:
        """Returns the values of a skill and its tally."""
        values = asdict(skill) | asdict(tally or Tally())
        return cls.model_construct(**values.pop("text"), **values)

    def skill(self) -> Skill:
        """Returns the skill of these values."""
        values = self.model_dump()
        values |= {name: len(values[name]) for name in ("supports", "refutes")}
        return Skill(text=SkillText(**{field.name: values.pop(field.name) for field in fields(SkillText)}), **values)

    def tally(self) -> Tally:
        """Returns the evidence for and against the skill."""
        return Tally(self.supports, self.refutes)

    def differences(self, other: FlatSkill) -> dict[str, Any]:
        """Returns the values in which this skill differs from another, by their names in files."""
        theirs = other.model_dump(by_alias=True)
        return {name: value for name, value in self.model_dump(by_alias=True).items() if value != theirs[name]}


def first_fault(error: ValidationError) -> str:
    """Returns the first fault that validation found, with the name of the value at fault."""
    first = error.errors()[0]
    return ": ".join(map(str, (*first["loc"], first["msg"])))
