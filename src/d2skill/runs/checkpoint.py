"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is the folder `checkpoints/000010`: the policy's own files and `progress.json`, which says how far the run
and the journal of its bank were. It appears in one step, so a killed run leaves the one before. Randomness needs no
state, since every seed is derived.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from d2skill.errors import RunError
from d2skill.utils.atomic_files import read_json, write_folder, write_json

VERSION = 2
_KEEP = 2


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


def save(run: Path, progress: Progress, policy: SavesItself) -> None:
    """Writes a checkpoint and removes all but the newest two."""

    def fill(folder: Path) -> None:
        (folder / "policy").mkdir()
        policy.save(folder / "policy")
        write_json(folder / "progress.json", asdict(progress))

    write_folder(run / "checkpoints" / f"{progress.iteration:06d}", fill)
    for old in folders(run)[:-_KEEP]:
        shutil.rmtree(old)


def folders(run: Path) -> list[Path]:
    """Returns the complete checkpoints of a run, oldest first."""
    return sorted(path for path in (run / "checkpoints").glob("[0-9]*") if path.is_dir())


def latest(run: Path) -> Path:
    """Returns the newest checkpoint; raises `RunError` when there is none."""
    found = folders(run)
    if not found:
        raise RunError(f"{run} has no checkpoint: it was stopped before the first one; start it anew")
    return found[-1]


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
        return Progress(**values)
    except TypeError:
        raise RunError(f"checkpoint {checkpoint} has a damaged progress.json: use an earlier checkpoint") from None
