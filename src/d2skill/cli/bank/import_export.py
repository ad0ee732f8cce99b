"""Banks in other formats, and what can be saved of damaged ones: bank export, import and salvage."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from d2skill.bank.formats import Format, export_bank, import_record
from d2skill.bank.formats.contents import BankContents
from d2skill.bank.formats.importing import add_to_bank, import_bank
from d2skill.bank.formats.one_skill import best
from d2skill.bank.journal import GONE, Journal, salvage
from d2skill.bank.safety import objection
from d2skill.cli.bank.open import bank_path, listed, open_journal, read, settings_of
from d2skill.cli.bank.tables import count_skills, count_statuses, say
from d2skill.cli.output import Output
from d2skill.errors import BankError
from d2skill.runs.folder import RunFolder
from d2skill.types import Granularity
from d2skill.utils.foreign_text import command
from d2skill.utils.text import counted

_TOP = 20  # skills of one-skill
_NAMED = 10  # files that were passed over


def bank_export(
    run: Positional[Path],
    out: Positional[Path],
    format: Format = "skill-md",
    granularity: Granularity | None = None,
    evicted: bool = False,
    at: int | None = None,
    top: int | None = None,
) -> Output:
    """Write the skills of a run's bank in another format.

    Skills on trial and held skills are left out, as no format can say that they are not to be shown.

    Args:
        run: Run folder, or a bank file.
        out: New file, or for skill-md and one-skill new folder.
        format: jsonl (a bank file), release (the JSON of the released D2Skill code), skill-md (Agent Skills, a folder
            each) or one-skill (the best of them as one Agent Skill, named as its folder).
        granularity: Task skills or step skills only.
        evicted: Also write skills that have left: evicted, retired or merged into another.
        at: Iteration after which to look at the bank; without it, as it is.
        top: Only so many skills, those of most evidence and utility; of one-skill 20 if not said.
    """
    if top is not None and top < 1:
        raise BankError(f"--top {top} leaves nothing to write: name a number from 1 on")
    bank = read(run, at)
    of_kind = bank.select(granularity, None)
    skills = [s for s in of_kind if bank.status(s) == "active" or (evicted and bank.status(s) in GONE)]
    rejected = {skill.id for skill in skills if format == "jsonl" and objection(skill.text)}
    skills = [skill for skill in skills if skill.id not in rejected]
    if top is not None or format == "one-skill":
        skills = best(skills, top or _TOP)
    if format == "one-skill" and not skills:
        raise BankError(f"the bank of {run} has no skill to write: `d2skill bank list` shows what it has")
    export_bank(replace(bank, skills=tuple(skills)), out, format)
    hidden = [skill for skill in of_kind if bank.status(skill) in ("trial", "held")]

    def show() -> None:
        say(f"{count_skills(bank, skills)} written to {out}")
        if format == "skill-md" and granularity is None and any(skill.granularity == "step" for skill in skills):
            say("Step skills are about single starts: `--granularity task` writes the task skills alone.")
        if hidden:
            say(f"Left out: {count_statuses(bank, hidden)}.")
        if rejected:
            say(f"Left out: {listed(sorted(rejected))}, whose text a bank file does not take.")

    left_out = {"hidden": [skill.id for skill in hidden], "rejected": sorted(rejected)}
    return Output({"out": out, "format": format, "skills": [skill.id for skill in skills], **left_out}, show)


def bank_import(
    source: Positional[Path],
    out: Positional[Path],
    run: Path | None = None,
    suspicion: Literal["off", "flag", "hold"] = "hold",
    add: bool = False,
) -> Output:
    """Make a bank from skills in any format.

    Texts are cleaned; duplicates and skills without text are left out. Text that does not look like advice is held: it
    is in the new bank, but no policy is shown it until `d2skill bank admit`. Skills of a run or a journal keep their
    signals and their status: on trial, held, evicted, retired or merged. Of a SKILL.md, the first paragraph and the
    description are shown to policies; a note that `d2skill bank show` prints has the rest.

    Args:
        source: Run folder, journal, bank file, JSON of the released code of D2Skill or SkillRL, or a folder with Agent
            Skills (SKILL.md) in it or below it, such as a clone.
        out: New journal of a bank, such as bank.db; with --add, a run folder or a journal.
        run: Run folder whose settings the bank is for: its embedder, and what is a duplicate; else the defaults.
        suspicion: What becomes of text that does not look like advice: hold it, flag it in lists of skills, or off.
        add: Add the active skills to the bank OUT as new ones, without their signals; else OUT is a new bank.
    """
    if os.path.lexists(out) and not add:
        raise BankError(f"{out} exists: choose another name for a new bank, or add to the bank there by --add")
    if add:
        out = open_journal(out).path
    before = {skill.id for skill in read(out).skills} if add else set()
    config = RunFolder.open(run).config() if run else settings_of(out) if add else None
    faults: list[str] = []
    if (source.is_dir() and (source / "config.toml").is_file()) or (source.is_file() and Journal.is_journal(source)):
        contents = read(source)
    else:
        contents = BankContents.of_record(import_record(source, faults))
    imported = (add_to_bank if add else import_bank)(contents, out, config, str(source), suspicion)
    made = read(out)
    new = [skill for skill in made.skills if skill.id not in before]
    held = [skill for skill in new if made.status(skill) == "held"]

    def show() -> None:
        say(f"{count_skills(made, new)} written to {out}, for embedder {imported.embedder}.")
        if held:
            say(f"Held back: {len(held)} ({command('bank', 'list', out, '--status', 'held')}).")
        if imported.refused:
            say(f"Left out: {', '.join(f'{count} {reason}' for reason, count in imported.refused.items())}.")
        if imported.shortened:
            say(
                f"Shortened: {imported.shortened}, to whole sentences; `d2skill bank show` has the rest of their texts."
            )
        if faults:
            say(f"Passed over, as no skill can be read there: {counted(len(faults), 'file')}.", *faults[:_NAMED])

    statuses = Counter(map(made.status, new))
    return Output({"out": out, "skills": len(new), "statuses": statuses, "faults": faults, **asdict(imported)}, show)


def bank_salvage(run: Positional[Path], out: Positional[Path]) -> Output:
    """Make a new journal of the events before the damage in another one, which stays as it is.

    Args:
        run: Run folder, or a journal.
        out: New journal.
    """
    saved = salvage(bank_path(run), out)
    told = f"{counted(saved.kept, 'event')} kept in {out}, {saved.lost} known to be lost."
    return Output({"out": out, **saved._asdict()}, partial(say, told))
