"""Banks in other formats, and what is left of damaged ones: bank export, import and salvage."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tyro.conf import Positional

from d2skill.bank import SkillBank
from d2skill.bank.draft import Draft
from d2skill.bank.formats import Format, export_bank, import_skills
from d2skill.bank.journal import (
    GONE,
    Again,
    Event,
    Insert,
    Journal,
    JournalWriter,
    Mark,
    Note,
    from_records,
    salvage,
)
from d2skill.bank.safety import LIMITS, objection
from d2skill.cli.bank.open import Contents, bank_of, listed, marks_of, read
from d2skill.cli.bank.tables import say
from d2skill.config import Config
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.runs.folder import RunFolder
from d2skill.types import Granularity, Skill


def bank_export(
    run: Positional[Path],
    out: Positional[Path],
    format: Format,
    granularity: Granularity | None = None,
    evicted: bool = False,
    at: int | None = None,
) -> None:
    """Write the skills of a run's bank in another format.

    Skills on trial and skills that are held back are left out: no format says that they are not to be shown.

    Args:
        run: Run folder, or a bank file.
        out: New file, or for skill-md new folder.
        format: jsonl (a bank file), release (the JSON of the released D2Skill code) or skill-md (Agent Skills).
        granularity: Task skills or step skills only.
        evicted: Write those that have left as well: evicted, retired or merged into another.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    bank = read(run, at)
    of_kind = bank.chosen(granularity, None)
    skills = [s for s in of_kind if bank.status(s) == "active" or (evicted and bank.status(s) in GONE)]
    strange = {skill.id for skill in skills if format == "jsonl" and objection(skill.text)}
    skills = [skill for skill in skills if skill.id not in strange]
    export_bank(replace(bank, skills=tuple(skills)), out, format)
    say(f"{bank.counted(skills)} written to {out}")
    if aside := [skill for skill in of_kind if bank.status(skill) in ("trial", "held")]:
        say(f"Left out: {bank.statuses(aside)}.")
    if strange:
        say(f"Left out: {listed(sorted(strange))}, whose text a bank file does not take.")


def bank_import(source: Positional[Path], out: Positional[Path], run: Path | None = None) -> None:
    """Make a bank from skills in any format, their texts cleaned and without what the bank would not take.

    What looks like no advice is held back: it is in the new bank, but shown to nobody until `d2skill bank admit`.
    Skills of a run or a journal keep their evidence, and what they are: on trial, held, evicted, retired or merged.

    Args:
        source: Run folder, journal, bank file, JSON of the released D2Skill code, or folder of Agent Skills (SKILL.md).
        out: New journal of a bank, such as bank.db.
        run: Run folder whose settings the bank is for: its embedder, and what is a duplicate; else the defaults.
    """
    if os.path.lexists(out):
        raise BankError(f"{out} exists: choose another name, or remove it first")
    config = RunFolder.open(run).config() if run else Config()
    embedder = make_embedder(config.embedder)
    ours = (source.is_dir() and (source / "config.toml").is_file()) or (source.is_file() and Journal.is_journal(source))
    found = read(source) if ours else _foreign(import_skills(source))
    taken = _through_the_door(found, lambda: SkillBank(embedder, config.bank, config.retrieval, config.credit))
    events = found.state.events(0) if found.state else []
    evidence = {id: one for event in events if isinstance(event, Insert) for id, one in event.evidence.items()}
    tasks = [task for event in events if isinstance(event, Insert) for task in event.tasks]
    ids = {skill.id for skill in taken.skills}
    kept = {id: one for id, one in evidence.items() if id in ids}
    from_records(out, embedder.fingerprint, taken.skills, kept, taken.marks, tasks, str(source))
    with JournalWriter(out) as writer:
        writer.append(*_rest(events, ids, writer.head().iteration))
    made = read(out)
    say(f"{made.counted(made.skills)} written to {out}, for embedder {embedder.fingerprint}.")
    if held := made.chosen(status="held"):
        say(f"Held back: {len(held)} (`d2skill bank list {out} --status held`).")
    if taken.refused:
        say(f"Left out: {', '.join(f'{count} {reason}' for reason, count in taken.refused.items())}.")
    if shortened := sum(map(_too_long, found.skills)):
        say(f"Shortened: {shortened}, to the lengths that a bank holds.")


def bank_salvage(run: Positional[Path], out: Positional[Path]) -> None:
    """Make a new journal of what precedes the damage in another; that one stays as it is.

    Args:
        run: Run folder, or a journal.
        out: New journal.
    """
    saved = salvage(bank_of(run), out)
    say(f"{saved.kept} events kept in {out}, {saved.lost} known to be lost.")


@dataclass(slots=True)
class _Taken:
    """The skills that a bank takes, the marks of those that are not active, and how many it refused for what reason."""

    skills: list[Skill] = field(default_factory=list)
    marks: dict[str, Mark] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)


def _through_the_door(found: Contents, new_bank: Callable[[], SkillBank]) -> _Taken:
    """Returns skills as a bank takes them, their ids, histories and statuses kept.

    Those that have not left are held against each other, active ones first; one that has left may say what another
    says. What the bank holds back is held, whatever it was.
    """
    bank, taken, new = new_bank(), _Taken(), dict[str, Skill]()
    for skill in sorted(found.skills, key=lambda skill: found.status(skill) != "active"):
        draft = Draft(skill.granularity, skill.text, skill.task_text, skill.observation, skill.evidence)
        gone = found.status(skill) in GONE
        (insertion,) = (new_bank() if gone else bank).insert([draft], skill.created)
        if (admitted := insertion.skill) is None:
            taken.refused[re.split(r"\W", insertion.reason)[0]] += 1
            continue
        fields = {name: getattr(admitted, name) for name in ("text", "task_text", "observation", "evidence")}
        new[skill.id] = replace(skill, **fields)
        mark = found.marks.get(skill.id)
        if insertion.reason.startswith("held: ") and not (mark and mark.status == "held"):
            mark = Mark("held", skill.created, insertion.reason.removeprefix("held: "))
        if mark:
            taken.marks[skill.id] = mark
    taken.skills = [new[skill.id] for skill in found.skills if skill.id in new]
    _settle_merged(taken)
    return taken


def _settle_merged(taken: _Taken) -> None:
    """Leaves no skill merged into one that the new bank has not."""
    ids = {skill.id for skill in taken.skills}
    for id, mark in taken.marks.items():
        if mark.into and mark.into not in ids:
            taken.marks[id] = Mark("evicted", mark.iteration, f"was merged into {mark.into}, which was left out")


def _foreign(skills: Sequence[Skill]) -> Contents:
    """Returns what is known of skills that come without a journal."""
    return Contents("", 0, 0, tuple(skills), marks_of(skills))


def _rest(events: Sequence[Event], ids: Container[str], iteration: int) -> list[Event]:
    """Returns what else a journal knows: in which tasks skills were written again, and notes."""
    rest: list[Event] = []
    for event in events:
        match event:
            case Again(tasks) if own := {id: found for id, found in tasks.items() if id in ids}:
                rest.append(Again(own, iteration))
            case Note(skill_id, text) if skill_id in ids:
                rest.append(Note(skill_id, text, iteration))
    return rest


def _too_long(skill: Skill) -> bool:
    return any(len(" ".join(getattr(skill.text, name).split())) > limit for name, limit in LIMITS.items())
