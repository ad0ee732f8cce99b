"""Access to the bank, journal and settings that the first argument of a command names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from d2skill.bank.formats.contents import BankContents, read_bank
from d2skill.bank.journal import Journal
from d2skill.errors import BankError, RunError
from d2skill.runs.folder import RunFolder
from d2skill.types import Skill
from d2skill.utils.foreign_text import command
from d2skill.utils.links import refuse_link

if TYPE_CHECKING:
    from d2skill.config import Config


def read(run: Path, at: int | None = None) -> BankContents:
    """Returns the contents of a run's bank or of a bank file, for a journal also as they were after iteration `at`."""
    return read_bank(bank_path(run), at)


def open_journal(run: Path) -> Journal:
    """Returns the journal of a run or at a path. Raises `BankError` if there is none."""
    path = bank_path(run)
    if not Journal.is_journal(path):
        raise BankError(f"{path} is no journal: name a run folder, or a bank.db")
    return Journal(path)


def bank_path(run: Path) -> Path:
    """Returns the bank of a run, or the path itself if it is a file.

    Raises `RunError` if there is none, or if it is a link in the folder of a run that leads out of it.
    """
    folder = RunFolder(run.absolute().parent)
    if (folder.path / "config.toml").is_file() and folder.tasks.is_file() and not run.is_dir():
        refuse_link(run, folder.path)
    path = RunFolder.open(run).bank if run.is_dir() else run
    if not path.is_file():
        raise RunError(f"{path} does not exist: is {run} a run folder or a bank?")
    return path


def settings_of(run: Path) -> Config:
    """Returns the settings of a run, or of the run in whose folder a bank is; otherwise the defaults."""
    from d2skill.config import Config

    folder = run if run.is_dir() else run.absolute().parent
    return RunFolder(folder).config() if run.is_dir() or (folder / "config.toml").is_file() else Config()


def find_skill(skills: Iterable[Skill], id: str, run: Path) -> Skill:
    """Returns the skill of an id. Raises `RunError` if there is none."""
    skill = next((skill for skill in skills if skill.id == id), None)
    if skill is None:
        listing = command("bank", "list", run, "--status", "all")
        raise RunError(f"the bank of {run} has no skill {id}: {listing} lists all")
    return skill


def one_line(text: str) -> str:
    """Returns typed text as one line of visible characters."""
    from d2skill.utils.text import storable

    return " ".join("".join(c if c.isprintable() else " " for c in storable(text)).split())


def listed(names: Sequence[str], most: int = 5) -> str:
    """Returns the first few of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
