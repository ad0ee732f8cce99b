"""The bank file of d2skill: JSON lines that people can read, with a checksum.

    {"format": "d2skill-bank", "version": 1, "embedder": "hashed-v2/512", "next_task": 3, "next_step": 2}
    {"id": "t1", "granularity": "task", "text": {"title": ...}, ..., "evicted": null}
    ...                                         one line a skill, in order of insertion, evicted ones included
    {"sha256": "..."}                           of all bytes before this line

A skill with evidence has "supports" and "refutes" as well, {"train/12": 1}: the number of times that each source task
was named. A file with such skills is of version 2, any other one of version 1.

Vectors are not stored, as they follow from the texts. Writing replaces the whole file or leaves it as it was.

A checksum does not prove who wrote a file, so each text has to be one that a bank would store (`bank.safety`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from d2skill.bank.journal import Tally
from d2skill.errors import BankError
from d2skill.types import Skill
from d2skill.utils.atomic_files import write_text
from d2skill.utils.foreign_files import parse_json, read_bytes

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT, VERSIONS = "d2skill-bank", (1, 2)
_HEADER = {"format": str, "version": int, "embedder": str, "next_task": int, "next_step": int}
_TALLY_FIELDS = [one.name for one in fields(Tally)]
_SKILL_FIELDS = [one.name.replace("source_task", "evidence") for one in fields(Skill) if one.name not in _TALLY_FIELDS]
_Kind = TypeVar("_Kind", Skill, Tally)
_TEXT_FIELDS = {"title", "principle", "when_to_apply"}


@dataclass(frozen=True, slots=True)
class BankRecord:
    """The content of a bank: its embedder's fingerprint, the numbers of the next ids, and all skills it ever held.

    `tallies` has the evidence for and against skills, by id, and `rest` what else the file of a skill says.
    """

    embedder: str
    next_task: int
    next_step: int
    skills: tuple[Skill, ...]
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    rest: Mapping[str, str] = field(default_factory=dict, kw_only=True)


def write(path: Path, record: BankRecord) -> None:
    """Writes a record whole or not at all: a reader sees the old file or the new one, also after a crash."""
    tallies = {skill.id: record.tallies[skill.id] for skill in record.skills if skill.id in record.tallies}
    header = {"format": FORMAT, "version": VERSIONS[bool(tallies)], "embedder": record.embedder}
    header |= {"next_task": record.next_task, "next_step": record.next_step}
    lines = [header]
    for skill in record.skills:
        values = dict(zip(_SKILL_FIELDS, asdict(skill).values(), strict=False))
        lines.append(values | (asdict(tallies[skill.id]) if skill.id in tallies else {}))
    body = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    footer = json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest()}) + "\n"
    write_text(path, body + footer)


def read(path: Path) -> BankRecord:
    """Returns the record of a file.

    Raises `BankError`, naming file and line, if the file is missing, damaged or of another version, or if it holds a
    skill whose text no bank would store.
    """
    from d2skill.bank.safety import objection

    try:
        data = read_bytes(path)
    except OSError as error:
        raise BankError(f"{path}: cannot be read ({error.strerror}): is it the bank of a run?") from error
    lines = data.split(b"\n")
    header = _header(path, lines[0])
    if lines.pop() or len(lines) < 2:
        raise _damage(path, len(lines) + 1, "the file ends too early")
    read = [_skill(path, number, line) for number, line in enumerate(lines[1:-1], start=2)]
    skills = tuple(skill for skill, _ in read)
    body = data[: len(data) - len(lines[-1]) - 1]
    if _object(path, len(lines), lines[-1]) != {"sha256": hashlib.sha256(body).hexdigest()}:
        raise _damage(path, len(lines), "the checksum does not match what stands above")
    seen: set[str] = set()
    for number, skill in enumerate(skills, start=2):
        digits = skill.id[1:]
        well_formed = skill.id[:1] == skill.granularity[0] and digits.isascii() and digits.isdecimal()
        if skill.id in seen or not well_formed or not 0 < int(digits) < header[f"next_{skill.granularity}"]:
            raise _damage(path, number, f"id {skill.id!r} is taken, of another pool or not yet given out")
        seen.add(skill.id)
        if reason := objection(skill.text):
            raise BankError(
                f"{path}, line {number}: the text of skill {skill.id} is not one that a bank takes ({reason}): the "
                "file was changed, or made by another program or version, use a bank whose origin you know"
            )
    tallies = {skill.id: tally for skill, tally in read if tally != Tally()}
    return BankRecord(header["embedder"], header["next_task"], header["next_step"], skills, tallies)


def _header(path: Path, line: bytes) -> dict[str, Any]:
    """Returns the values of the header. Raises `BankError` if this version cannot read what follows."""
    header = _object(path, 1, line)
    if header.get("format") != FORMAT:
        raise _damage(path, 1, f"not the header of a {FORMAT} file")
    if header.get("version") not in VERSIONS:
        raise BankError(
            f"{path}, line 1: bank format version {header.get('version')!r}, but this d2skill reads versions "
            f"{VERSIONS[0]} to {VERSIONS[-1]}: use the d2skill that wrote it, or start a new bank"
        )
    if header.keys() != _HEADER.keys() or any(type(header[key]) is not kind for key, kind in _HEADER.items()):
        raise _damage(path, 1, f"a header has the fields {', '.join(_HEADER)}")
    return header


def _skill(path: Path, number: int, line: bytes) -> tuple[Skill, Tally]:
    """Returns the skill of a line and its evidence; no field may be missing, unknown or of another type."""
    from pydantic import ValidationError

    raw = _object(path, number, line)
    text, sources = raw.get("text"), {name: raw.pop(name) for name in _TALLY_FIELDS if name in raw}
    if raw.keys() != {*_SKILL_FIELDS} or not isinstance(text, dict) or text.keys() != _TEXT_FIELDS:
        raise _damage(path, number, f"a skill has the fields {', '.join(_SKILL_FIELDS)}")
    raw["source_task"] = raw.pop("evidence")
    try:
        skill = _check_of(Skill).validate_json(json.dumps(raw), strict=True)
        tally = _check_of(Tally).validate_json(json.dumps(sources), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])).replace("source_task", "evidence")
        raise _damage(path, number, f"{where}: {first['msg']}") from error
    if not math.isfinite(skill.utility):
        raise _damage(path, number, f"utility is {skill.utility}")
    if any(times < 1 for named in (tally.supports, tally.refutes) for times in named.values()):
        raise _damage(path, number, "a source of evidence was named less than once")
    return replace(skill, supports=len(tally.supports), refutes=len(tally.refutes)), tally


@cache
def _check_of(kind: type[_Kind]) -> TypeAdapter[_Kind]:
    """Returns pydantic's check of a record: a journal is read without it."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Returns the JSON object on a line."""
    try:
        value = parse_json(line)
    except ValueError as error:
        raise _damage(path, number, "not JSON") from error
    if not isinstance(value, dict):
        raise _damage(path, number, "not a JSON object")
    return value


def _damage(path: Path, number: int, what: str) -> BankError:
    return BankError(f"{path}, line {number}: {what}: the file is damaged, go back to an earlier checkpoint")
