"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is the folder `checkpoints/000010`: the policy's own files and `progress.json`, which says how far the run
and the journal of its bank were. It appears in one step, so a killed run leaves the one before. Randomness needs no
state, since every seed is derived. `files.json` has the sums of its files, and `config.toml` the settings of the run
then: so damage and edits are seen.

A run has begun once it has a checkpoint. Before that its folder holds only a beginning, and the file `.beginning`.
"""

from __future__ import annotations

import os
import re
import shutil
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from d2skill.errors import RunError
from d2skill.runs.beginning import BEGINNING, made_in
from d2skill.utils.atomic_files import read_json, write_folder, write_json, write_text
from d2skill.utils.foreign_text import command, logger, shown_path
from d2skill.utils.links import remove_folder

VERSION = 2
_KEEP = 2
_OWN = ("progress.json", "files.json")
_log = logger(__name__)
_SUMMED = 1 << 23  # bytes at each end of a file that its sum is of


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run: iterations done, environment steps and seconds spent, last event of its bank."""

    iteration: int
    env_steps: int
    seconds: float
    bank_event: int = 0
    version: int = VERSION


class SavesItself(Protocol):
    """A policy, or a stand-in whose weights are elsewhere, that writes its files into a checkpoint."""

    def save(self, folder: Path) -> None:
        """See Policy."""


def save(run: Path, progress: Progress, policy: SavesItself, settings: str = "") -> None:
    """Writes a checkpoint and removes all but the newest two; the first one makes a beginning a run.

    Args:
        run: Run folder.
        progress: Progress of the run.
        policy: Its policy.
        settings: Its settings as TOML.
    """

    def fill(folder: Path) -> None:
        (folder / "policy").mkdir()
        policy.save(folder / "policy")
        if settings:
            write_text(folder / "config.toml", settings)
        write_json(folder / "files.json", _sums(folder))
        write_json(folder / "progress.json", asdict(progress))

    write_folder(run / "checkpoints" / f"{progress.iteration:06d}", fill)
    with suppress(OSError):  # where the process that began the run still has it open, it cannot be removed on Windows
        (run / BEGINNING).unlink()
    for old in folders(run)[:-_KEEP]:
        shutil.rmtree(old)


def folders(run: Path) -> list[Path]:
    """Returns the complete checkpoints of a run, oldest first."""
    return sorted(
        path
        for path in (run / "checkpoints").glob("[0-9]*")
        if re.fullmatch(r"[0-9]{6,}", path.name) and path.is_dir() and not path.is_symlink()
    )


def latest(run: Path) -> Path:
    """Returns the newest checkpoint, and warns if newer ones are damaged; raises `RunError` when there is none."""
    found = folders(run)
    if not found:
        known = made_in(run) is not None
        way_out = f"begin it again by {command('resume', run)}" if known else "start it anew, in another folder"
        raise RunError(f"{run} has no checkpoint: it was stopped before the first one; {way_out}")
    faults: list[str] = []
    for folder in reversed(found):
        if not (fault := damage(folder)):
            if faults:
                last = shown_path(found[-1].absolute())
                _say(f"checkpoint {last} is damaged ({faults[0]}): the one before, {folder.name}, is taken")
            return folder
        faults.append(fault)
    anew = command("train", "--bank.start", run, "--out", f"{run.name}-2")
    raise RunError(
        f"checkpoint {found[-1]} is damaged ({faults[0]}), and none before it is whole: begin another run, with what "
        f"the bank of this one has by {anew} and the settings of {run / 'config.toml'}"
    )


def damage(folder: Path) -> str:
    """Returns the damage of a checkpoint in words, "" for one that is whole."""
    try:
        if _version(folder) != VERSION:
            return ""  # nothing is known of it
        read_progress(folder)
        listed = read_json(folder / "files.json") if (folder / "files.json").exists() else None  # not in earlier ones
        found = _sums(folder)
    except (RunError, OSError):
        return "its progress.json or files.json cannot be read"
    if listed is None:
        return next((f"{name} is empty" for name, (size, _) in found.items() if not size), "")
    if not isinstance(listed, dict):
        return "files.json lists no files"
    return next((f"{name} is not as it was written" for name in listed if found.get(name) != listed[name]), "")


def set_aside_after(run: Path, iteration: int) -> None:
    """Hides the checkpoints after an iteration, for a run that goes on from it."""
    for folder in folders(run):
        if folder.name > f"{iteration:06d}":
            hidden = folder.with_name(f".{folder.name}.set-aside")
            remove_folder(hidden)
            os.replace(folder, hidden)


def _sums(folder: Path) -> dict[str, list[int]]:
    """Returns the size and a checksum of each file of a checkpoint but its own two, by its path in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return {path.relative_to(folder).as_posix(): _sum(path) for path in files if path.name not in _OWN}


def _sum(path: Path) -> list[int]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        total = zlib.crc32(file.read(_SUMMED))
        file.seek(max(file.tell(), size - _SUMMED))
        return [size, zlib.crc32(file.read(), total)]


@cache
def _say(warning: str) -> None:
    """Warns, once in a process."""
    _log.warning("%s", warning)


def _version(checkpoint: Path) -> object:
    values = read_json(checkpoint / "progress.json")
    return values.get("version", VERSION) if isinstance(values, dict) else VERSION


def read_progress(checkpoint: Path) -> Progress:
    """Returns the progress at a checkpoint; raises `RunError` for one of another version."""
    values = read_json(checkpoint / "progress.json")
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        raise RunError(
            f"checkpoint {checkpoint} has version {version}, this d2skill reads version {VERSION}: "
            "use the d2skill that wrote it"
        )
    try:
        found = Progress(**values)
    except TypeError:
        found = None
    if found is None or not all(isinstance(value, int | float) for value in values.values()):
        raise RunError(f"checkpoint {checkpoint} has a damaged progress.json: use an earlier checkpoint")
    return found
