"""Differences between two banks, and the status of skills in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from d2skill.bank.journal import GONE, Mark
from d2skill.types import Skill


@dataclass(frozen=True, slots=True)
class InactiveSkill:
    """A skill that is not active, and its status in words, as far as it is known."""

    skill: Skill
    status: str


@dataclass(frozen=True, slots=True)
class ChangedSkill:
    """A skill that is active in both banks, before and after."""

    before: Skill
    after: Skill

    @property
    def utility_change(self) -> float:
        """The second utility minus the first."""
        return self.after.utility - self.before.utility

    @property
    def signals(self) -> int:
        """Number of signals between."""
        return self.after.credits - self.before.credits

    @property
    def has_new_evidence(self) -> bool:
        """True if its numbers of supports and refutes are others."""
        return (self.before.supports, self.before.refutes) != (self.after.supports, self.after.refutes)


@dataclass(frozen=True, slots=True)
class BankDiff:
    """Difference of the active skills of two banks.

    `added` are in order of insertion, `changed` by the size of the change of utility, largest first. `counted` have
    other numbers of supports or refutes, `revised` other texts. `inactive` are new skills on trial or held; `unchanged`
    and `transient` are counts, the latter of skills that came and left between.
    """

    added: tuple[Skill, ...]
    removed: tuple[InactiveSkill, ...]
    changed: tuple[ChangedSkill, ...]
    counted: tuple[ChangedSkill, ...]
    revised: tuple[ChangedSkill, ...]
    inactive: tuple[InactiveSkill, ...]
    unchanged: int
    transient: int


def diff_banks(
    before: Sequence[Skill],
    after: Sequence[Skill],
    marks_before: Mapping[str, Mark] | None = None,
    marks_after: Mapping[str, Mark] | None = None,
    *,
    by_id: bool = True,
) -> BankDiff:
    """Compares the active skills of two banks.

    Args:
        before: All skills of the first bank, active or not.
        after: All skills of the second bank.
        marks_before: Status of the skills of the first bank that are not active, by id.
        marks_after: Status of those of the second bank.
        by_id: Skills with the same id are the same; if False, for banks of different runs, skills with the same text
            and key.
    """
    marks_before, marks_after = marks_before or {}, marks_after or {}

    def identity(skill: Skill) -> object:
        return skill.id if by_id else (skill.granularity, skill.text, skill.task_text, skill.observation)

    def is_active(skill: Skill, marks: Mapping[str, Mark]) -> bool:
        return skill.evicted is None and skill.id not in marks

    old = {identity(skill): skill for skill in before if is_active(skill, marks_before)}
    new = {identity(skill): skill for skill in after if is_active(skill, marks_after)}
    ever = {identity(skill) for skill in before}
    others = {identity(skill): skill for skill in after if not is_active(skill, marks_after)}
    removed = []
    for key in (key for key in old if key not in new):
        if last := others.get(key):
            removed.append(InactiveSkill(last, describe_status(marks_after.get(last.id), last)))
        else:
            removed.append(InactiveSkill(old[key], ""))
    both = [ChangedSkill(skill, new[key]) for key, skill in old.items() if key in new]
    changed = sorted((one for one in both if one.utility_change), key=lambda one: -abs(one.utility_change))
    counted = tuple(one for one in both if one.has_new_evidence)
    revised = tuple(one for one in both if one.before.text != one.after.text)
    unseen = [skill for key, skill in others.items() if key not in ever and key not in new]
    return BankDiff(
        added=tuple(skill for key, skill in new.items() if key not in old),
        removed=tuple(removed),
        changed=tuple(changed),
        counted=counted,
        revised=revised,
        inactive=tuple(
            InactiveSkill(skill, describe_status(marks_after[skill.id], skill))
            for skill in unseen
            if skill.evicted is None
        ),
        unchanged=len(both) - len({one.after.id for one in (*changed, *counted, *revised)}),
        transient=sum(skill.evicted is not None for skill in unseen) if by_id else 0,
    )


def describe_status(mark: Mark | None, skill: Skill) -> str:
    """Returns the status of a skill that is not active, with iteration and reason, and "" for an active skill."""
    if mark is None:
        return "" if skill.evicted is None else f"evicted in iteration {skill.evicted}"
    reason = f": {mark.reason}" if mark.reason else ""
    since = "in" if mark.status in GONE else "since"
    return f"{status_name(mark.status, mark.into)} {since} iteration {mark.iteration}{reason}"


def status_name(status: str, into: str = "") -> str:
    """Returns a status in words, with the id of the skill that one was merged into."""
    name = {"trial": "on trial", "held": "held back"}.get(status, status)
    return f"{name} into {into}" if into else name
