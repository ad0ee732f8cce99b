"""What may enter the bank: drafts of skills, and what became of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from d2skill.types import Granularity, Skill, SkillText


@dataclass(frozen=True, slots=True)
class Draft:
    """A skill that a reflector wrote, before the bank has taken it.

    The key is `task_text` for a task skill, (`task_text`, `observation`) for a step skill. `evidence` is
    the id of the task whose failure it was written from.
    """

    granularity: Granularity
    text: SkillText
    task_text: str
    observation: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Insertion:
    """What became of a draft: the new skill and "added", "on trial" or "held: ..."; or None and why not.

    Why not is "empty" or "duplicate of t3"; what is held looks like no advice, and is not shown.
    """

    draft: Draft
    skill: Skill | None
    reason: str


def said(text: SkillText) -> str:
    """Returns what two skills are compared by: title and principle."""
    return f"{text.title}. {text.principle}"


def numbers(text: str) -> tuple[str, ...]:
    """Returns the numbers in a text, sorted: "drawer 3" and "drawer 4" are different advice however alike."""
    return tuple(sorted(re.findall(r"\d+", text)))
