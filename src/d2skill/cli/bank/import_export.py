"""Banks in other formats, and what can be saved of damaged ones: bank export, import and salvage."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from tyro.conf import Positional

from d2skill.bank.formats import Format, export_bank, import_record
from d2skill.bank.formats.contents import BankContents
from d2skill.bank.formats.importing import import_bank
from d2skill.bank.journal import GONE, Journal, salvage
from d2skill.bank.safety import objection
from d2skill.cli.bank.open import bank_path, listed, read
from d2skill.cli.bank.tables import count_skills, count_statuses, say
from d2skill.cli.output import Output
from d2skill.errors import BankError
from d2skill.runs.folder import RunFolder
from d2skill.types import Granularity
from d2skill.utils.text import counted


def bank_export(
    run: Positional[Path],
    out: Positional[Path],
    format: Format = "skill-md",
    granularity: Granularity | None = None,
    evicted: bool = False,
    at: int | None = None,
) -> Output:
    """Write the skills of a run's bank in another format.

    Skills on trial and held skills are left out, as no format can say that they are not to be shown.

    Args:
        run: Run folder, or a bank file.
        out: New file, or for skill-md new folder.
        format: jsonl (a bank file), release (the JSON of the released D2Skill code) or skill-md (Agent Skills).
        granularity: Task skills or step skills only.
        evicted: Also write skills that have left: evicted, retired or merged into another.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    bank = read(run, at)
    of_kind = bank.select(granularity, None)
    skills = [s for s in of_kind if bank.status(s) == "active" or (evicted and bank.status(s) in GONE)]
    rejected = {skill.id for skill in skills if format == "jsonl" and objection(skill.text)}
    skills = [skill for skill in skills if skill.id not in rejected]
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


def bank_import(source: Positional[Path], out: Positional[Path], run: Path | None = None) -> Output:
    """Make a bank from skills in any format.

    Texts are cleaned; duplicates and skills without text are left out. Text that does not look like advice is held: it
    is in the new bank, but no policy is shown it until `d2skill bank admit`. Skills of a run or a journal keep their
    signals and their status: on trial, held, evicted, retired or merged.

    Args:
        source: Run folder, journal, bank file, JSON of the released D2Skill code, or folder of Agent Skills (SKILL.md).
        out: New journal of a bank, such as bank.db.
        run: Run folder whose settings the bank is for: its embedder, and what is a duplicate; else the defaults.
    """
    if os.path.lexists(out):
        raise BankError(f"{out} exists: choose another name, or remove it first")
    config = RunFolder.open(run).config() if run else None
    if (source.is_dir() and (source / "config.toml").is_file()) or (source.is_file() and Journal.is_journal(source)):
        contents = read(source)
    else:
        contents = BankContents.of_record(import_record(source))
    imported = import_bank(contents, out, config, str(source))
    made = read(out)
    held = made.select(status="held")

    def show() -> None:
        say(f"{count_skills(made, made.skills)} written to {out}, for embedder {imported.embedder}.")
        if held:
            say(f"Held back: {len(held)} (`d2skill bank list {out} --status held`).")
        if imported.refused:
            say(f"Left out: {', '.join(f'{count} {reason}' for reason, count in imported.refused.items())}.")
        if imported.shortened:
            say(f"Shortened: {imported.shortened}, to the lengths that a bank holds.")

    statuses = Counter(map(made.status, made.skills))
    return Output({"out": out, "skills": len(made.skills), "statuses": statuses, **asdict(imported)}, show)


def bank_salvage(run: Positional[Path], out: Positional[Path]) -> Output:
    """Make a new journal of the events before the damage in another one, which stays as it is.

    Args:
        run: Run folder, or a journal.
        out: New journal.
    """
    saved = salvage(bank_path(run), out)
    told = f"{counted(saved.kept, 'event')} kept in {out}, {saved.lost} known to be lost."
    return Output({"out": out, **saved._asdict()}, partial(say, told))
