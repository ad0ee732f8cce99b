"""Folders of Agent Skills (agentskills.io/specification): one folder for each skill, with a SKILL.md in it.

    ---
    name: "look-in-the-fridge-first-t1"
    description: "Open the fridge before the cabinets. Use when: something is to be cooled"
    metadata:
      d2skill-id: "t1"
      d2skill-task-text: "put a cool apple in the garbage can"
      d2skill-utility: "0.25"
    ---

    # Look in the fridge first

    Open the fridge before the cabinets.

    ## When to apply

    something is to be cooled

The top level has keys of the specification only. The values of a skill that cannot be read from name, description and
body are "d2skill-" keys under `metadata`, a map of strings to strings. Texts are in the body; a text that would not be
read back unchanged, such as an empty one, is under `metadata` as well, which takes precedence.

A procedure, whose text has slots for the things of a task, has its steps as a list, and a sentence about the slots:

    # put a hot {thing} in {place}

    1. Take {thing}.
    2. Heat {thing} with microwave.
    3. Move {thing} to {place}.

    {thing} and {place} stand for what the task names there: put a hot {thing} in {place}.

A skill of others becomes a task skill with no history: the first paragraph of its body is the principle, and its
description, which says when agents are to use it, is when to apply and key. The rest of the body is kept beside it.
Scripts and other files beside SKILL.md are not read.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import ValidationError

from d2skill.bank.formats import front_matter
from d2skill.bank.formats.flat_skill import FlatSkill, first_fault
from d2skill.bank.formats.json_lines import BankRecord
from d2skill.bank.journal import Tally
from d2skill.bank.safety import LIMITS
from d2skill.errors import BankError
from d2skill.knowledge.procedures import sentence, steps_in
from d2skill.types import Skill, SkillText
from d2skill.utils.atomic_files import write_folder
from d2skill.utils.foreign_files import read_bytes
from d2skill.utils.foreign_text import markdown
from d2skill.utils.text import counted

FILE = "SKILL.md"
LONGEST_NAME, LONGEST_DESCRIPTION = 64, 1024
"""Limits of the specification, in characters."""

_OURS = "d2skill-"
_START = 200
"""Characters of a first observation that a body repeats"""
_FACTS = "## What d2skill knows of it"
"""Heading of a section that is not read again: the metadata has it exactly"""
_TITLE = re.compile(r"\s*^# +(.*)$", re.MULTILINE)
_WHEN = re.compile(r"^##+ +when to (?:apply|use)\b.*$", re.MULTILINE | re.IGNORECASE)
_HEADING = re.compile(r"^#+ ", re.MULTILINE)
_SLOT = re.compile(r"\{[a-z]+(?: \d+)?\}")
_ABOUT_SLOTS = re.compile(r"\n\n\{[^\n]*\} stands? for what the task names there: (.*)\.$")
_ANGLES = str.maketrans("<>", "\u2039\u203a")
_FENCED = re.compile(r"^ *(```|~~~).*?^ *\1 *$|<!--.*?-->", re.MULTILINE | re.DOTALL)
_PARAGRAPH = re.compile(r"\n\s*\n")
_NO_PROSE = ("#", "|", "!", "<", "---", "```", "~~~")
"""Beginnings of a paragraph that is a heading, a table, a picture, HTML, a rule or code"""
_MOST_BYTES = 2**22
_PASSED_OVER = {".git", "node_modules", "__pycache__"}
_STEP = re.compile(r"\d+\. (.*)\.")


def write(path: Path, record: BankRecord) -> None:
    """Writes a folder with one folder for each skill of a record."""

    def fill(folder: Path) -> None:
        for skill in record.skills:
            skill_folder = folder / folder_name(skill)
            skill_folder.mkdir()
            content = render(skill, record.tallies.get(skill.id))
            (skill_folder / FILE).write_text(content, encoding="utf-8", newline="\n")

    write_folder(path, fill)


def read(path: Path, faults: list[str] | None = None) -> list[FlatSkill]:
    """Returns the skills in a folder and the folders below it, in order of the folders' names.

    Skills that bring no id of a bank have the id "". With a list of `faults`, a file that is no skill is passed over
    and its sentence added there; without one, or if all files are faulty, the first raises `BankError`.
    """
    files = list(_files(path))
    if not files:
        raise BankError(
            f"{path} has no {FILE}, nor has a folder below it: name a skill's folder, or one with such folders"
        )
    skills, errors = [], []
    for file in files:
        try:
            skills.append(_read_file(file))
        except BankError as error:
            errors.append(error)
    if errors and (faults is None or not skills):
        raise errors[0]
    if faults is not None:
        faults += map(str, errors)
    return skills


def folder_name(skill: Skill) -> str:
    """Returns a name that the specification allows, made of title and id, so that it is unique in a bank."""
    end = slug(skill.id) or skill.granularity
    start = slug(skill.text.title) or "skill"
    return f"{start[: LONGEST_NAME - 1 - len(end)].rstrip('-')}-{end}"


def render(skill: Skill, tally: Tally | None = None) -> str:
    """Returns the SKILL.md of a skill with its evidence."""
    text = skill.text
    when = f"Use when: {text.when_to_apply}" if text.when_to_apply.strip() else ""
    said = " ".join(f"{text.principle} {when}".split()) or " ".join(text.title.split()) or folder_name(skill)
    top = {"name": folder_name(skill), "description": description(said)}
    body = f"\n# {text.title}\n\n{principle_of(skill)}\n\n## When to apply\n\n{text.when_to_apply}\n"
    body = markdown(body + _facts(skill, tally))
    plain = _skill(top, {}, body.replace("\r\n", "\n"))  # what `parse` would return without metadata
    ours = {
        _OURS + key.replace("_", "-"): json.dumps(value) if isinstance(value, dict) else str(value)
        for key, value in FlatSkill.of(skill, tally).differences(plain).items()
    }
    content = front_matter.write(top, ours, body)
    if len(content) - len(body) > front_matter.LONGEST:
        raise BankError(f"skill {skill.id} is too long for a {FILE} that can be read again: export the bank as jsonl")
    return content


def description(text: str) -> str:
    """Returns a text as the description of a skill: short enough, and without the angle brackets that some refuse."""
    return text.translate(_ANGLES)[:LONGEST_DESCRIPTION].rstrip()


def parse(content: str) -> FlatSkill:
    """Returns the skill of a SKILL.md. Raises `ValueError` that names the line or value at fault."""
    top, ours, body = front_matter.read(content, _OURS)
    if not all(top.get(key, "").strip() for key in ("name", "description")):
        raise ValueError("line 1: the front matter needs a name and a description")
    return _skill(top, ours, body)


def principle_of(skill: Skill) -> str:
    """Returns the principle of a skill, that of a procedure as a list of its steps and a sentence about its slots."""
    principle, slots = skill.text.principle, list(dict.fromkeys(_SLOT.findall(skill.task_text)))
    if not slots:
        return principle
    lines = [f"{number}. {step[:1].upper()}{step[1:]}." for number, step in enumerate(steps_in(principle), start=1)]
    named = " and ".join(filter(None, (", ".join(slots[:-1]), slots[-1])))
    stand = "stands" if len(slots) == 1 else "stand"
    written = "\n".join(lines) + f"\n\n{named} {stand} for what the task names there: {skill.task_text}."
    return written if _procedure(written) == (principle, skill.task_text) else principle


def _facts(skill: Skill, tally: Tally | None) -> str:
    """Returns the section about the first observation that a step skill is for, and about its evidence; "" if none."""
    facts = []
    if skill.granularity == "step" and skill.observation.strip():
        start = " ".join(skill.observation.split())
        facts.append(f"It was seen where an episode begins so: {start[:_START]}{'...' * (len(start) > _START)}")
    if tally:
        supports, refutes = (counted(len(tasks), "task") for tasks in (tally.supports, tally.refutes))
        facts.append(f"Evidence: {supports} for it, {refutes} against it.")
    return f"\n{_FACTS}\n\n" + "\n\n".join(facts) + "\n" if facts else ""


def _procedure(written: str) -> tuple[str, str] | None:
    """Returns principle and pattern of a procedure that is written as a list; None if it is not."""
    about = _ABOUT_SLOTS.search(written)
    steps = [_STEP.fullmatch(line) for line in written[: about.start()].split("\n")] if about else []
    if not about or not all(steps):
        return None
    acts = [step[1] for step in steps if step]
    return sentence([f"{act[:1].lower()}{act[1:]}" for act in acts]), about[1]


def _skill(top: Mapping[str, str], ours: Mapping[str, str], body: str) -> FlatSkill:
    """Returns the skill of name and description, metadata of ours, and body."""
    body = body.partition(f"\n{_FACTS}\n")[0]
    text, key, rest = _text(top["name"], top["description"], body), top["description"], ""
    if procedure := _procedure(text.principle):
        text, key = replace(text, principle=procedure[0]), procedure[1]
    elif (first := _first_paragraph(text.principle)) != text.principle:
        text, rest = replace(text, principle=first or key), body.strip()
    if len(text.when_to_apply) > LIMITS["when_to_apply"]:
        text, rest = replace(text, when_to_apply=key), body.strip()
    values = asdict(text) | {"granularity": "task", "task_text": key, "rest": rest}
    values |= {key.replace("-", "_"): value for key, value in ours.items()}
    return FlatSkill.model_validate(values)


def _text(name: str, description: str, body: str) -> SkillText:
    """Returns title, principle and when_to_apply of a body; name and description replace those that it lacks."""
    title = name.replace("-", " ").capitalize()
    if heading := _TITLE.match(body):
        title, body = heading[1].strip(), body[heading.end() :]
    when = description
    if heading := _WHEN.search(body):
        following = _HEADING.search(body, heading.end())
        end = following.start() if following else len(body)
        when = body[heading.end() : end].strip() or description
        body = body[: heading.start()] + body[end:]
    return SkillText(title, body.strip() or description, when)


def _first_paragraph(body: str) -> str:
    """Returns the first paragraph that is prose or a list, with the list that it announces; "" without any."""
    if not _PARAGRAPH.search(body):
        return "" if body.startswith(_NO_PROSE) else body
    paragraphs = [part.strip() for part in _PARAGRAPH.split(_FENCED.sub("\n\n", body))]
    paragraphs = [part for part in paragraphs if part and not part.startswith(_NO_PROSE)]
    announces = len(paragraphs) > 1 and paragraphs[0].endswith(":")
    return "\n".join(paragraphs[: 1 + announces])


def _files(path: Path) -> Iterator[Path]:
    """Yields the SKILL.md of a folder and of all folders below it; links are not followed."""
    for folder, below, files in os.walk(path):
        below[:] = sorted(name for name in below if name not in _PASSED_OVER)
        named = [name for name in (FILE, FILE.lower()) if name in files]
        yield from (Path(folder, name) for name in named[:1] if not Path(folder, name).is_symlink())


def _read_file(file: Path) -> FlatSkill:
    """Returns the skill of a file. Raises `BankError` that names it if there is none."""
    try:
        return parse(read_bytes(file, _MOST_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise BankError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BankError(f"{file} is not text in UTF-8: save it as such") from None
    except ValidationError as error:
        raise BankError(f"{file}: metadata, {_OURS}{first_fault(error)}: correct it or take it out") from None
    except ValueError as error:
        raise BankError(f"{file}, {error}") from None


def slug(text: str) -> str:
    """Returns a text in lower case, with a hyphen for each run of characters that are no ASCII letters or digits."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
