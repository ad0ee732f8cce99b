"""The JSON bank format of D2Skill's released code: banks trained with it load here, and banks of ours load there.

    {"task_skills": [{"skill_id": "task_001", "title": ..., "principle": ..., "when_to_apply": ...,
                      "retrieval_obs": ..., "utility": 0.5, "retrieval_count": 3, "created_at_step": 5}],
     "step_skills": [...]}

Read off `save_skills`, `load_skills` and `_skill_to_text` of agent_system/memory/skills_only_memory.py and
`_get_retrieval_obs_from_traj` of skill_updater.py in TU2021/D2Skill-AgenticRL:

- `retrieval_obs` is the key: the task, and for a step skill "Current observation: " and the observation after it.
  Without it, title, principle and when_to_apply together are the key.
- `retrieval_count` counts credit updates and is n in the ranking. So it is the source of both our counts.
- Absent numbers are 0. Other keys are kept and never read, so the other values of our skills are under "d2skill". Of
  the file, only the two lists are read: evicted skills, which must not be retrieved there, are in "d2skill_evicted".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from d2skill.bank.formats import skillrl
from d2skill.bank.formats.flat_skill import FlatSkill, first_fault
from d2skill.bank.formats.json_lines import BankRecord
from d2skill.bank.journal import Tally
from d2skill.errors import BankError
from d2skill.types import Granularity, Skill
from d2skill.utils.atomic_files import write_text
from d2skill.utils.foreign_files import parse_json

_OBSERVATION = "\n\nCurrent observation: "
_EVICTED = "d2skill_evicted"
_GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)


class _ReleasedSkill(BaseModel):
    """One skill in the format of the release."""

    model_config = ConfigDict(extra="ignore")

    skill_id: str | None = None
    title: str | None = None
    principle: str | None = None
    when_to_apply: str | None = None
    retrieval_obs: str | None = None
    utility: float | None = None
    retrieval_count: int | None = None
    created_at_step: int | None = None
    d2skill: dict[str, Any] = Field(default_factory=dict)


def write(path: Path, record: BankRecord) -> None:
    """Writes the skills of a record to a file that the released code reads."""
    write_text(path, json.dumps(to_document(record.skills, record.tallies), indent=2, allow_nan=False) + "\n")


def read(path: Path, data: bytes) -> list[FlatSkill]:
    """Returns the skills in the content of a file; those without an id of ours have the id ""."""
    try:
        value = parse_json(data)
    except ValueError as error:
        way = "name the folder that it is in" if path.suffix.lower() == ".md" else "is the file whole?"
        raise BankError(f"{path}: neither a bank of d2skill nor JSON ({error}): {way}") from None
    theirs = isinstance(value, dict) and skillrl.KEYS & value.keys()
    if not isinstance(value, dict) or not (theirs or value.keys() & {"task_skills", "step_skills"}):
        raise BankError(
            f'{path}: neither a bank of d2skill nor a JSON object with "task_skills" or "step_skills", or with '
            '"general_skills" as SkillRL writes it'
        )
    try:
        return skillrl.from_document(value) if theirs else from_document(value)
    except ValueError as error:
        raise BankError(f"{path}: {error}: correct that skill or take it out") from None


def to_document(skills: Iterable[Skill], tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """Returns the JSON object of the release for some skills and their tallies, by id."""
    active: dict[str, Any] = {f"{name}_skills": [] for name in _GRANULARITIES}
    evicted: dict[str, Any] = {f"{name}_skills": [] for name in _GRANULARITIES}
    for skill in skills:
        (active if skill.evicted is None else evicted)[f"{skill.granularity}_skills"].append(
            _entry(skill, tallies.get(skill.id))
        )
    return active | {_EVICTED: evicted} if any(evicted.values()) else active


def from_document(document: dict[str, Any]) -> list[FlatSkill]:
    """Returns the skills of a JSON object; raises `ValueError` that names the one at fault."""
    skills = []
    for prefix, pools in (("", document), (f"{_EVICTED}.", document.get(_EVICTED) or {})):
        for granularity in _GRANULARITIES:
            name = f"{granularity}_skills"
            entries = pools.get(name) or [] if isinstance(pools, dict) else pools
            if not isinstance(entries, list):
                raise ValueError(f"{prefix}{name} is not a list of skills")
            for number, entry in enumerate(entries):
                try:
                    skills.append(_flat(entry, granularity))
                except ValidationError as error:
                    raise ValueError(f"{prefix}{name}[{number}]: {first_fault(error)}") from None
    return skills


def _entry(skill: Skill, tally: Tally | None) -> dict[str, Any]:
    """Returns a skill in the format of the release, with other values of ours under "d2skill"."""
    entry: dict[str, Any] = {
        "skill_id": re.sub(r"^[ts](\d+)$", lambda id: f"{skill.granularity}_{int(id[1]):03d}", skill.id),
        "title": skill.text.title,
        "principle": skill.text.principle,
        "when_to_apply": skill.text.when_to_apply,
        "retrieval_obs": skill.task_text + (_OBSERVATION + skill.observation if skill.observation else ""),
        "utility": skill.utility,
        "retrieval_count": skill.retrievals,
        "created_at_step": skill.created,
    }
    ours = FlatSkill.of(skill, tally).differences(_flat(entry, skill.granularity))
    return entry | {"d2skill": ours} if ours else entry


def _flat(values: Any, granularity: Granularity) -> FlatSkill:
    """Returns the skill of a JSON object in the format of the release. Raises `ValidationError` for another value."""
    entry = _ReleasedSkill.model_validate(values)
    texts = entry.title or "", entry.principle or "", entry.when_to_apply or ""
    key = entry.retrieval_obs or ""
    if not key.strip():
        key = ". ".join(text.strip() for text in texts if text.strip())
    task_text, _, observation = key.partition(_OBSERVATION) if granularity == "step" else (key, "", "")
    number = re.fullmatch(rf"{granularity}_0*([0-9]+)", entry.skill_id or "")
    known = {
        "id": f"{granularity[0]}{number[1]}" if number else "",
        **dict(zip(("title", "principle", "when_to_apply"), texts, strict=True)),
        "task_text": task_text,
        "observation": observation,
        "utility": entry.utility or 0.0,
        "retrievals": entry.retrieval_count or 0,
        "credits": entry.retrieval_count or 0,
        "created": entry.created_at_step or 0,
    }
    return FlatSkill.model_validate(known | entry.d2skill | {"granularity": granularity})
