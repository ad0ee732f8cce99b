"""Banks in other formats, out and in.

    jsonl       the bank's own file (`bank.store`)
    release     the JSON of D2Skill's released code (`formats.release`)
    skill-md    a folder of Agent Skills (`formats.skill_md`)

What a foreign format has no place for goes where it keeps extensions, so what was exported is imported unchanged.
Texts are read as they stand, and nothing is executed: to clean them and to find duplicates is for `SkillBank.insert`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from d2skill.bank.formats import json_lines, release, skill_md
from d2skill.bank.formats.json_lines import BankRecord
from d2skill.errors import BankError
from d2skill.types import Granularity, Skill

Format = Literal["jsonl", "release", "skill-md"]

_WRITERS = {"jsonl": json_lines.write, "release": release.write, "skill-md": skill_md.write}
_ID = re.compile(r"[ts][1-9][0-9]{0,8}")


def export_bank(record: BankRecord, out: Path, kind: Format) -> None:
    """Writes the skills of a record to a new file, or for skill-md to a new folder, whole or not at all."""
    if os.path.lexists(out):
        raise BankError(f"{out} exists: choose another name, or remove it first")
    _WRITERS[kind](out, record)


def import_skills(path: Path) -> list[Skill]:
    """Returns the skills of a file or folder, evicted ones included; the format is recognised by the content.

    Skills of a foreign format come with task skills first, and keep the ids they brought if those are ids of a bank
    and not taken. Raises `BankError`, naming the file and what is wrong, if it is damaged or in no known format.
    """
    if path.is_dir():
        return _numbered(skill_md.read(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BankError(f"{path}: cannot be read ({error.strerror}): is it a bank?") from error
    if f'"{json_lines.FORMAT}"'.encode() in data.split(b"\n", 1)[0]:
        return list(json_lines.read(path).skills)
    return _numbered(release.read(path, data))


def next_numbers(skills: Iterable[Skill]) -> dict[Granularity, int]:
    """Returns the number of the next id in each pool."""
    numbers: dict[Granularity, int] = {"task": 1, "step": 1}
    for skill in skills:
        numbers[skill.granularity] = max(numbers[skill.granularity], _number(skill) + 1)
    return numbers


def _numbered(skills: Iterable[Skill]) -> list[Skill]:
    """Returns skills in order of their ids, those without an id of their own last in their pool."""
    numbered: dict[str, Skill] = {}
    others: list[Skill] = []
    for skill in skills:
        own = _ID.fullmatch(skill.id) and skill.id[0] == skill.granularity[0] and skill.id not in numbered
        if own:
            numbered[skill.id] = skill
        else:
            others.append(skill)
    following = next_numbers(numbered.values())
    for skill in others:
        new = replace(skill, id=f"{skill.granularity[0]}{following[skill.granularity]}")
        following[skill.granularity] += 1
        numbered[new.id] = new
    return sorted(numbered.values(), key=lambda skill: (skill.granularity != "task", _number(skill)))


def _number(skill: Skill) -> int:
    return int(skill.id[1:])
