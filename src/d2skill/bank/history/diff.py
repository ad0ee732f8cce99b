"""What is another in the second of two banks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from d2skill.bank.journal import GONE, Mark
from d2skill.protocols import Embedder
from d2skill.types import Skill


@dataclass(frozen=True, slots=True)
class Left:
    """A skill that is not active, and why as far as it is known."""

    skill: Skill
    reason: str


@dataclass(frozen=True, slots=True)
class Shift:
    """A skill that was and is active, before and after."""

    before: Skill
    after: Skill

    @property
    def by(self) -> float:
        """How far the utility moved."""
        return self.after.utility - self.before.utility

    @property
    def credits(self) -> int:
        """Number of signals between."""
        return self.after.credits - self.before.credits


@dataclass(frozen=True, slots=True)
class Difference:
    """What is another in the second of two banks.

    `came` are in order of insertion, `moved` by how far the utility moved. `aside` are those that are new on trial or
    held back, and `passed` counts the skills that came and left between.
    """

    came: tuple[Skill, ...]
    left: tuple[Left, ...]
    moved: tuple[Shift, ...]
    same: int
    passed: int
    aside: tuple[Left, ...] = ()


def compare(
    before: Sequence[Skill],
    after: Sequence[Skill],
    marks: Mapping[str, Mark] | None = None,
    earlier: Mapping[str, Mark] | None = None,
    *,
    by_id: bool = True,
) -> Difference:
    """Compares the active skills of two banks, with those that are not among both where they are known.

    Skills are the same if they have the same id, or for banks of different runs the same text and key. `marks` are
    those of the second bank, `earlier` those of the first.
    """
    marks, earlier = marks or {}, earlier or {}

    def same(skill: Skill) -> object:
        return skill.id if by_id else (skill.granularity, skill.text, skill.task_text, skill.observation)

    then = {same(skill): skill for skill in before if _is_active(skill, earlier)}
    now = {same(skill): skill for skill in after if _is_active(skill, marks)}
    ever = {same(skill) for skill in before}
    others = {same(skill): skill for skill in after if not _is_active(skill, marks)}
    left = []
    for key, skill in then.items():
        if key not in now:
            last = others.get(key)
            left.append(Left(last or skill, told(marks.get(last.id), last) if last else ""))
    shifts = [Shift(skill, now[key]) for key, skill in then.items() if key in now]
    moved = sorted((shift for shift in shifts if shift.by), key=lambda shift: -abs(shift.by))
    new = [skill for key, skill in others.items() if key not in ever and key not in now]
    return Difference(
        came=tuple(skill for key, skill in now.items() if key not in then),
        left=tuple(left),
        moved=tuple(moved),
        same=len(shifts) - len(moved),
        passed=sum(skill.evicted is not None for skill in new) if by_id else 0,
        aside=tuple(Left(skill, told(marks[skill.id], skill)) for skill in new if skill.evicted is None),
    )


def told(mark: Mark | None, skill: Skill) -> str:
    """Returns in words since when and why a skill is not active, "" for one that is."""
    if mark is None:
        return "" if skill.evicted is None else f"evicted in iteration {skill.evicted}"
    reason = f": {mark.reason}" if mark.reason else ""
    return (
        f"{named(mark.status, mark.into)} {'in' if mark.status in GONE else 'since'} iteration {mark.iteration}{reason}"
    )


def named(status: str, into: str = "") -> str:
    """Returns a status in words, with the skill that one was merged into."""
    name = {"trial": "on trial", "held": "held back"}.get(status, status)
    return f"{name} into {into}" if into else name


def _is_active(skill: Skill, marks: Mapping[str, Mark]) -> bool:
    return skill.evicted is None and skill.id not in marks


def by_words(skills: Sequence[Skill], query: str) -> list[tuple[Skill, int]]:
    """Returns the skills that have all words of a query, with the number of hits: most first, then highest utility.

    A word hits where a word of text or key begins with it, whatever its case.
    """
    wanted = list(dict.fromkeys(re.findall(r"\w+", query.casefold())))
    found = []
    for skill in skills:
        text = skill.text
        parts = (text.title, text.principle, text.when_to_apply, skill.task_text, skill.observation)
        words = re.findall(r"\w+", " ".join(parts).casefold())
        hits = [sum(word.startswith(one) for word in words) for one in wanted]
        if hits and all(hits):
            found.append((skill, sum(hits)))
    return sorted(found, key=lambda one: (-one[1], -one[0].utility))


def by_meaning(skills: Sequence[Skill], query: str, embedder: Embedder) -> list[tuple[Skill, float]]:
    """Returns all skills with the cosine of a query and their text or task, whichever is nearer: nearest first."""
    if not skills:
        return []
    texts = [" ".join((s.text.title, s.text.principle, s.text.when_to_apply)) for s in skills]
    vectors = embedder.embed([query, *texts, *(skill.task_text for skill in skills)])
    cosines = (vectors[1:] @ vectors[0]).reshape(2, len(skills)).max(axis=0)
    order = np.argsort(-cosines, kind="stable")
    return [(skills[row], float(cosines[row])) for row in order]
