"""The JSON banks that SkillRL released, which are only read; their skills become task skills.

    {"general_skills": [{"skill_id": "gen_001", "title": ..., "principle": ..., "when_to_apply": ...}],
     "task_specific_skills": {"apparel": [{...}]},
     "common_mistakes": [{"mistake_id": "err_001", "description": ..., "why_it_happens": ..., "how_to_avoid": ...}]}

A skill has no key there, so its text is the key, after the kind of task that it is listed under. A mistake is the skill
to avoid it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from d2skill.bank.formats.flat_skill import FlatSkill

KEYS = frozenset({"general_skills", "task_specific_skills", "common_mistakes"})
"""Keys of such a file"""

_SKILL = ("title", "principle", "when_to_apply")
_MISTAKE = ("description", "how_to_avoid", "description")  # becomes title, principle and when to apply


def from_document(document: dict[str, Any]) -> list[FlatSkill]:
    """Returns the skills of a JSON object; raises `ValueError` that names the one at fault."""
    return [_flat(*found) for found in _entries(document)]


def _entries(document: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yields all entries, each after its place and the kind of task that it is for."""
    kinds = document.get("task_specific_skills") or {}
    if not isinstance(kinds, dict):
        raise ValueError("task_specific_skills is not an object of lists of skills")
    lists = {"general_skills": ("", document.get("general_skills") or [])}
    lists |= {f"task_specific_skills.{kind}": (kind, found) for kind, found in kinds.items()}
    lists |= {"common_mistakes": ("", document.get("common_mistakes") or [])}
    for name, (kind, found) in lists.items():
        if not isinstance(found, list):
            raise ValueError(f"{name} is not a list of skills")
        for number, entry in enumerate(found):
            yield f"{name}[{number}]", kind, entry


def _flat(place: str, kind: str, entry: Any) -> FlatSkill:
    """Returns the skill of an entry."""
    mistake = place.startswith("common_mistakes")
    names = _MISTAKE if mistake else _SKILL
    given = [entry.get(name) for name in names] if isinstance(entry, dict) else []
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) < len(names):
        raise ValueError(f"{place}: a skill has the texts {', '.join(dict.fromkeys(names))}")
    title, principle, when = texts
    why = entry.get("why_it_happens")
    key = ". ".join(filter(None, [kind.replace("_", " "), *dict.fromkeys(texts)]))
    return FlatSkill(
        granularity="task",
        title=f"Avoid: {title}" if mistake else title,
        principle=principle,
        when_to_apply=when,
        task_text=key,
        rest=why if isinstance(why, str) else "",
    )
