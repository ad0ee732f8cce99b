"""Import and export of banks in other formats.

    jsonl       the bank file of d2skill (`formats.json_lines`)
    release     the JSON of D2Skill's released code (`formats.release`); that of SkillRL is read too
    skill-md    a folder of Agent Skills (`formats.skill_md`)
    one-skill   the best skills as one Agent Skill (`formats.one_skill`), which is only written

Values that a foreign format has no field for are stored in its extensions, so an exported bank is imported unchanged.
Texts are read as they are, and nothing is executed. `SkillBank.insert` cleans texts and finds duplicates.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from d2skill.bank.formats import json_lines
from d2skill.bank.formats.json_lines import BankRecord
from d2skill.errors import BankError
from d2skill.utils.foreign_files import read_bytes

if TYPE_CHECKING:
    from d2skill.bank.formats.flat_skill import FlatSkill

Format = Literal["jsonl", "release", "skill-md", "one-skill"]

_MODULES = {"jsonl": "json_lines", "release": "release", "skill-md": "skill_md", "one-skill": "one_skill"}
_ID = re.compile(r"[ts][1-9][0-9]{0,8}")


def export_bank(record: BankRecord, out: Path, kind: Format) -> None:
    """Writes the skills of a record to a new file, or for skill-md to a new folder, whole or not at all."""
    if os.path.lexists(out):
        raise BankError(f"{out} exists: choose another name, or remove it first")
    import_module(f"{__name__}.{_MODULES[kind]}").write(out, record)


def import_record(path: Path, faults: list[str] | None = None) -> BankRecord:
    """Returns the skills of a file or folder, evicted ones included; the format is recognised by the content.

    Skills of a foreign format come with task skills first. They keep an id that has the form of a bank's ids and is not
    taken. Raises `BankError`, naming the file and the fault, for damaged files and unknown formats. With a list of
    `faults`, one bad file of a folder does not stop the others, and its sentence is added there.
    """
    if path.is_dir():
        from d2skill.bank.formats import skill_md

        return _numbered(skill_md.read(path, faults))
    try:
        data = read_bytes(path)
    except OSError as error:
        raise BankError(f"{path}: cannot be read ({error.strerror}): is it a bank?") from error
    if f'"{json_lines.FORMAT}"'.encode() in data.split(b"\n", 1)[0]:
        return json_lines.read(path)
    from d2skill.bank.formats import release

    return _numbered(release.read(path, data))


def _numbered(skills: Iterable[FlatSkill]) -> BankRecord:
    """Returns skills in order of their ids; skills without an id of their own get one, after the others of the pool."""
    numbered: dict[str, FlatSkill] = {}
    others: list[FlatSkill] = []
    for skill in skills:
        if _ID.fullmatch(skill.id) and skill.id[0] == skill.granularity[0] and skill.id not in numbered:
            numbered[skill.id] = skill
        else:
            others.append(skill)
    last = {"t": 0, "s": 0}  # numbers of ids
    for id in numbered:
        last[id[0]] = max(last[id[0]], int(id[1:]))
    for skill in others:
        pool = skill.granularity[0]
        last[pool] += 1
        numbered[f"{pool}{last[pool]}"] = skill.model_copy(update={"id": f"{pool}{last[pool]}"})
    ordered = sorted(numbered.values(), key=lambda skill: (skill.granularity != "task", int(skill.id[1:])))
    tallies = {skill.id: skill.tally() for skill in ordered if skill.supports or skill.refutes}
    rest = {skill.id: skill.rest for skill in ordered if skill.rest}
    made = tuple(skill.skill() for skill in ordered)
    return BankRecord("", last["t"] + 1, last["s"] + 1, made, tallies, rest=rest)
