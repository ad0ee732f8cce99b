"""The best skills of a bank as one Agent Skill: a folder with a SKILL.md that a person would give to another agent.

Procedures and other task skills come first, each with its steps, then step skills by the thing or place that their
titles name, without what is only a number of this bank. It is not read back as a bank: export that as skill-md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from d2skill.bank.formats import front_matter
from d2skill.bank.formats.json_lines import BankRecord
from d2skill.bank.formats.skill_md import FILE, LONGEST_NAME, description, principle_of, slug
from d2skill.bank.journal import Tally
from d2skill.knowledge.evidence import by_evidence
from d2skill.types import Skill, SkillText
from d2skill.utils.atomic_files import write_folder
from d2skill.utils.foreign_text import markdown
from d2skill.utils.text import counted

_NAMED = 5  # titles in the description


def best(skills: Iterable[Skill], top: int) -> list[Skill]:
    """Returns the best skills by evidence, then by utility; of those with the same text, only one."""
    ranked = sorted(skills, key=lambda skill: (by_evidence(skill)[0], -skill.utility, -skill.retrievals, skill.id))
    found: dict[SkillText, Skill] = {}
    for skill in ranked:
        found.setdefault(skill.text, skill)
    return list(found.values())[:top]


def write(path: Path, record: BankRecord) -> None:
    """Writes a folder with the SKILL.md of a record."""
    content = render(record.skills, record.tallies, slug(path.name)[:LONGEST_NAME].strip("-") or "advice")
    write_folder(path, lambda folder: _fill(folder, content))


def render(skills: Iterable[Skill], tallies: Mapping[str, Tally], name: str) -> str:
    """Returns the SKILL.md of some skills, best first."""
    of_kind = {kind: [one for one in skills if one.granularity == kind] for kind in ("task", "step")}
    titles = list(dict.fromkeys(one.text.title for one in (*of_kind["task"], *of_kind["step"])))
    more = f", and {len(titles) - _NAMED} more" if len(titles) > _NAMED else ""
    said = f"Advice from experience: {'; '.join(titles[:_NAMED])}{more}. Use when a task is of one of these kinds."
    counts = [counted(len(own), f"{kind} skill") for kind, own in of_kind.items() if own]
    lines = [f"# {name.replace('-', ' ').capitalize()}", ""]
    lines += [f"{' and '.join(counts)}, best first. An agent wrote them from its own attempts: they may be wrong.", ""]
    if of_kind["task"]:
        lines += ["## Kinds of task", ""]
    for skill in of_kind["task"]:
        lines += [f"### {skill.text.title}", "", principle_of(skill), "", f"When: {skill.text.when_to_apply}", ""]
        lines += _evidence(tallies.get(skill.id))
    if of_kind["step"]:
        lines += ["## On the way", ""]
    for skill in of_kind["step"]:
        lines.append(f"- **{skill.text.title}**: {skill.text.principle} When: {skill.text.when_to_apply}")
    body = markdown("\n".join(lines).rstrip())
    return front_matter.write({"name": name, "description": description(said)}, {}, f"\n{body}\n")


def _evidence(tally: Tally | None) -> list[str]:
    """Returns the line about the tasks that showed a skill to be right or wrong, and the empty line after it."""
    if not tally:
        return []
    return [f"Evidence: {counted(len(tally.supports), 'task')} for it, {len(tally.refutes)} against it.", ""]


def _fill(folder: Path, content: str) -> None:
    (folder / FILE).write_text(content, encoding="utf-8", newline="\n")
