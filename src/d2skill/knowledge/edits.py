"""Edits of a reflector as evidence: its new skills with their keys, its supports and its refutations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from d2skill.knowledge.evidence import Evidence
from d2skill.knowledge.patterns import abstracted, bindings, plain
from d2skill.knowledge.procedures import procedure_of
from d2skill.types import Edit, Group, Skill, SkillText
from d2skill.utils.text import content

Question = tuple[Group, tuple[Skill, ...]]
"""A group, and the skills of the bank that are about it"""


def as_evidence(edits: Sequence[Edit], group: Group, known: Sequence[Skill]) -> Iterator[Evidence]:
    """Yields what some edits say about a group, with its task as source; edits of unknown skills are left out.

    A new task skill is keyed by the pattern of the task, a new step skill by the thing before the colon of its title,
    if the task names it, and by the first observation.
    """
    skills, source = {skill.id: skill for skill in known}, group.task.id
    for edit in edits:
        if edit.op == "add" and edit.text and edit.granularity:
            yield _new(edit.text, edit.granularity == "task", group, known)
        elif edit.op in ("support", "refute") and edit.skill_id in skills:
            skill = skills[edit.skill_id]
            one = Evidence(skill.granularity, skill.text, skill.task_text, skill.observation)
            (one.supports if edit.op == "support" else one.refutes).add(source)
            yield one


def _new(text: SkillText, is_procedure: bool, group: Group, known: Sequence[Skill]) -> Evidence:
    task = group.task.text
    if is_procedure:
        words = _words(group, known)
        slots = {word.lower(): slot for slot, word in words.items()}
        general = text.changed(lambda field: abstracted(field, slots)) if words else text.changed(plain)
        return Evidence("task", general, abstracted(task, slots), supports={group.task.id})
    thing = text.title.partition(":")[0].strip().lower()
    start = next((t.turns[0].prompt.observation for t in group.trajectories if t.turns), "")
    return Evidence("step", text, thing if thing in content(task) else task, start, supports={group.task.id})


def _words(group: Group, known: Sequence[Skill]) -> dict[str, str]:
    """Returns the words of a task by slot, from a success of the group or from a pattern that the bank has."""
    found = (procedure_of(t) for t in group.trajectories if t.success and t.turns)
    patterns = [one.pattern for one in found if one] + [one.task_text for one in known if one.granularity == "task"]
    return next((dict(words) for one in patterns if (words := bindings(one, group.task.text))), {})
