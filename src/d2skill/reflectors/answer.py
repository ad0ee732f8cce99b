"""Parser of a model's answer: the last JSON object of the requested shape, and nothing else of it.

Fields that were not requested never leave the parsers. The bank cleans the texts of skills and holds back what is no
advice; here they only have to be complete, and in English or a language of the task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from d2skill.bank.safety import LIMITS, clean
from d2skill.endpoints import one_line
from d2skill.reflectors.language_filter import is_foreign
from d2skill.types import Reflection, SkillText, Trajectory

_MOST_OBJECTS = 200  # that are tried, from the end of an answer
_LONGEST = 100_000  # characters of an answer
_LONGEST_REPAIRED = 10_000
_LATEST_STEP = 10**6
# strings and comments end at the end of the text too: to look for that end at each beginning takes quadratic time
_STRING = r'"(?:[^"\\]|\\.)*+["\\]?'
_COMMENT = re.compile(rf"{_STRING}|//[^\n]*|#[^\n]*|/\*(?:.*?\*/|.*)", re.DOTALL)
_LAST_COMMA = re.compile(rf"{_STRING}|,(?=\s*[}}\]])", re.DOTALL)
_NAMED_STEP = re.compile(
    r"\b(?:steps?|turns?|attempts?|trajectory|episode|schritt|étape|paso|passo) (?:number |no\. ?|# ?)?"
    r"(?:\d+|zero|one|two|three|four|five|six|seven|eight|nine|ten)\b"
    r"|\b\d+(?:st|nd|rd|th) (?:step|turn|attempt)\b|шаг\w* \d+|第 ?\d+ ?步|ステップ ?\d+|단계 ?\d+"
    r"|\bthe (?:failed|failing|unsuccessful|successful) (?:attempt|trajectory|episode)\b",
    re.IGNORECASE,
)
"""Words that name a step or an attempt of the question"""

_Shape = TypeVar("_Shape", bound=BaseModel)


class UnusableAnswer(ValueError):
    """An answer cannot be used; the message is the reason, for the model that wrote it."""


def _first_number(value: Any) -> Any:
    """Returns the number in a text such as "step 3"."""
    if isinstance(value, str):
        digits = "".join(c if c.isdecimal() and c.isascii() else " " for c in value[:100]).split()
        return digits[0] if digits else value
    return value


class SkillFields(BaseModel):
    """The text of a skill in an answer."""

    title: str
    principle: str
    when_to_apply: str


class _Answer(BaseModel):
    failing_step: Annotated[int, BeforeValidator(_first_number)]
    step_skill: SkillFields | None
    task_skill: SkillFields | None


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
"""JSON schema of an answer."""


def parse_reflection(text: str, failure: Trajectory) -> tuple[Reflection, dict[str, str]]:
    """Returns the reflection in an answer about a failure, and why skills were left out, by their names.

    A skill is left out if it is clearly in another language or script than the task, its observations, and English, in
    which the question is, or if it names steps or attempts, which nobody sees later. Raises `UnusableAnswer` without
    JSON of the shape, and for a skill without words.
    """
    answer = last_answer(text, _Answer)
    left_out: dict[str, str] = {}
    shown = failure.task.text, "\n".join(turn.prompt.observation for turn in failure.turns)
    skills: list[SkillText | None] = []
    for name, skill in (("step_skill", answer.step_skill), ("task_skill", answer.task_skill)):
        if skill is None:
            tidy: SkillText | str | None = None
        else:
            tidy = tidied(name, SkillText(skill.title, skill.principle, skill.when_to_apply), shown)
        if isinstance(tidy, str):
            left_out[name] = tidy
        skills.append(None if isinstance(tidy, str) else tidy)
    step = min(max(answer.failing_step, 0), _LATEST_STEP)
    return Reflection(step, *skills), left_out


def tidied(name: str, text: SkillText, shown: Sequence[str]) -> SkillText | str:
    """Returns the clean text of a skill, or the reason to leave it out, compared with the texts `shown` to the model.

    Raises `UnusableAnswer`, with the `name` of the skill in the answer, if a field has no words.
    """
    tidy = clean(text)
    if empty := [field for field in LIMITS if not getattr(tidy, field)]:
        raise UnusableAnswer(f"{name}.{empty[0]} has no words")
    said = "\n".join(getattr(tidy, field) for field in LIMITS)
    if is_foreign(said, *shown):
        return "another language"
    named = {match[0].lower() for match in _NAMED_STEP.finditer(said)}
    seen = "\n".join(shown).lower()
    return "it names steps or attempts" if any(name not in seen for name in named) else tidy


def last_answer(text: str, shape: type[_Shape]) -> _Shape:
    """Returns the last JSON object of a shape, be it in prose, a code fence or a list, or raises `UnusableAnswer`."""
    if len(text) > _LONGEST:
        raise UnusableAnswer(f"it has more than {_LONGEST} characters")
    why = "it has no JSON object, or one that does not end"
    for tried, value in enumerate(_objects(text)):
        try:
            return shape.model_validate(value)
        except ValidationError as error:
            if tried == 0 or next(iter(shape.model_fields)) in value:
                first = error.errors()[0]
                why = one_line(f"{'.'.join(map(str, first['loc']))}: {first['msg'][:1].lower()}{first['msg'][1:]}")
    raise UnusableAnswer(why)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects in a text, as models write JSON; the one that starts last comes first."""
    at = len(text)
    for _ in range(_MOST_OBJECTS):
        at = text.rfind("{", 0, at)
        if at < 0:
            return
        try:
            yield _decoded(text, at)
        except (ValueError, RecursionError):
            continue


def _decoded(text: str, at: int) -> dict[str, Any]:
    """Returns the JSON object that begins at a place, with line breaks in strings, comments and last commas allowed."""
    decoder = json.JSONDecoder(strict=False)
    try:
        found: dict[str, Any] = decoder.raw_decode(text, at)[0]
    except ValueError:
        text = text[at : at + _LONGEST_REPAIRED]
        for extra in (_COMMENT, _LAST_COMMA):
            text = extra.sub(lambda match: match[0] if match[0][0] == '"' else " ", text)
        found = decoder.raw_decode(text)[0]
    return found
