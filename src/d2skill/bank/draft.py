"""Drafts of skills, and the records of how the bank received them."""

from __future__ import annotations

from dataclasses import dataclass

from d2skill.types import Granularity, Skill, SkillText


@dataclass(frozen=True, slots=True)
class Draft:
    """A skill that a reflector wrote, before the bank has taken it.

    The key is `task_text` for a task skill, (`task_text`, `observation`) for a step skill. `source_task` is
    the id of the task whose failure it was written from.

    >>> from d2skill import Draft, SkillText
    >>> Draft("task", SkillText("Rubies", "The ruby is in chest 3.", "always"), "take the ruby").granularity
    'task'
    """

    granularity: Granularity
    text: SkillText
    task_text: str
    observation: str = ""
    source_task: str = ""


@dataclass(frozen=True, slots=True)
class Insertion:
    """Outcome of inserting a draft: the new skill, or None if it was refused, and the reason.

    The reason is "added", "on trial" or "held: ..." for a new skill, "empty" or "duplicate of t3" for a refused draft.
    """

    draft: Draft
    skill: Skill | None
    reason: str
