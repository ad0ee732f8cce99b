"""What a model answered, read: the last JSON object in it that has the shape asked for, and nothing else of it.

Fields that were not asked for never leave this module. What the skills say is judged by the bank, which cleans them and
holds back what is no advice; here they only have to be whole, and in English or a language that the task is in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationError

from d2skill.bank.safety import LIMITS, clean
from d2skill.reflectors.language_filter import is_foreign
from d2skill.types import Reflection, SkillText, Trajectory

_MOST_OBJECTS = 200  # tried, from the end of an answer
_LONGEST = 100_000  # characters of an answer
_LATEST_STEP = 10**6


class Unusable(ValueError):
    """An answer cannot be used; the message says why, to whoever wrote it."""


def _first_number(value: Any) -> Any:
    """Finds the number in "step 3"."""
    if isinstance(value, str):
        digits = "".join(c if c.isdecimal() and c.isascii() else " " for c in value[:100]).split()
        return digits[0] if digits else value
    return value


class _Skill(BaseModel):
    title: str
    principle: str
    when_to_apply: str


class _Answer(BaseModel):
    failing_step: Annotated[int, BeforeValidator(_first_number)]
    step_skill: _Skill | None
    task_skill: _Skill | None


_SKILL_SCHEMA = {
    "anyOf": [
        {
            "type": "object",
            "properties": {field: {"type": "string"} for field in LIMITS},
            "required": list(LIMITS),
            "additionalProperties": False,
        },
        {"type": "null"},
    ]
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"failing_step": {"type": "integer"}, "step_skill": _SKILL_SCHEMA, "task_skill": _SKILL_SCHEMA},
    "required": ["failing_step", "step_skill", "task_skill"],
    "additionalProperties": False,
}
"""The shape of an answer, as JSON schema."""


def read(text: str, failure: Trajectory) -> tuple[Reflection, list[str]]:
    """Returns the reflection in an answer about a failure, and which of its skills were left out.

    A skill is left out that is clearly in another language or script than the task, what was seen in it, and English,
    in which the question is. Raises `Unusable` where there is no reflection: no JSON of the shape, or a skill without
    words.
    """
    if len(text) > _LONGEST:
        raise Unusable(f"it has more than {_LONGEST} characters")
    answer = _found(text)
    left_out: list[str] = []
    shown = failure.task.text, "\n".join(turn.prompt.observation for turn in failure.turns)
    skills: list[SkillText | None] = []
    for name, skill in (("step_skill", answer.step_skill), ("task_skill", answer.task_skill)):
        own = None if skill is None else SkillText(skill.title, skill.principle, skill.when_to_apply)
        if own is not None:
            tidy = clean(own)
            if empty := [field for field in LIMITS if not getattr(tidy, field)]:
                raise Unusable(f"{name}.{empty[0]} has no words")
            if is_foreign("\n".join(getattr(tidy, field) for field in LIMITS), *shown):
                left_out.append(name)
                own = None
        skills.append(own)
    step = min(max(answer.failing_step, 0), _LATEST_STEP)
    return Reflection(step, *skills), left_out


def _found(text: str) -> _Answer:
    """Returns the last JSON object of the shape asked for; objects in prose, fences and lists count."""
    why = "it has no JSON object, or one that does not end"
    for tried, value in enumerate(_objects(text)):
        try:
            return _Answer.model_validate(value)
        except ValidationError as error:
            if tried == 0 or "failing_step" in value:
                first = error.errors()[0]
                why = f"{'.'.join(map(str, first['loc']))}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    raise Unusable(why)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects in a text, the one that starts last first."""
    decoder, at = json.JSONDecoder(), len(text)
    for _ in range(_MOST_OBJECTS):
        at = text.rfind("{", 0, at)
        if at < 0:
            return
        try:
            yield decoder.raw_decode(text, at)[0]
        except (ValueError, RecursionError):
            continue
