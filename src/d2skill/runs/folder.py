"""The run folder: its files, and how they are made, read and cut back for a resume.

config.toml       the complete settings
tasks.json        ids of the tasks to train on and of the validation panel
metrics.jsonl     one line an iteration, iteration 0 being the state after the warm start
bank.db           the journal of the skill bank
trajectories.jsonl.gz  the episodes of the last validation
reflections.jsonl the questions to a reflecting model and its answers, one line a call
rollouts/         the episodes of training, 000012.jsonl.gz for iteration 12, counted from 0 as in the bank
checkpoints/      the states that `resume` goes on from
parts.json        the classes of parts that were objects of one's own, if there were any
trackers.json     what trackers call this run, and the last iteration they were told, if it has any
summary.json      the result, once the run has ended
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2skill.errors import RunError
from d2skill.utils.atomic_files import read_json, write_json, write_text

if TYPE_CHECKING:
    from d2skill.config import Config

_ROLLOUT = re.compile(r"(\d{6,})\.jsonl\.gz")


def shown_path(path: Path) -> Path:
    """Returns a path for a sentence: relative to the current folder if it lies in it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bank = path / "bank.db"
        self.tasks = path / "tasks.json"
        self.metrics = path / "metrics.jsonl"
        self.trajectories = path / "trajectories.jsonl.gz"
        self.reflections = path / "reflections.jsonl"
        self.rollouts = path / "rollouts"
        self.parts = path / "parts.json"
        self.trackers = path / "trackers.json"
        self.summary = path / "summary.json"

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Makes a new folder; raises `RunError` when something is in the way."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            path = shown_path(path)
            raise RunError(
                f"{path} exists and is not empty: choose another --out, or go on with it by `d2skill resume {path}`"
            )
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Returns an existing run; raises `RunError` when the folder is not one."""
        if not (path / "config.toml").is_file():
            raise RunError(f"{shown_path(path)} is not a run folder: it has no config.toml")
        return cls(path)

    def begin(self, config: Config, tasks: dict[str, Any], own_parts: Mapping[str, str] | None = None) -> None:
        """Writes the files that are fixed for the whole run: settings, tasks, classes of parts of one's own."""
        write_json(self.tasks, tasks)
        if own_parts:
            write_json(self.parts, dict(own_parts))
        self.write_config(config)

    def write_config(self, config: Config) -> None:
        """Writes the settings."""
        from d2skill.config.toml_files import dump

        write_text(self.path / "config.toml", dump(config))

    def discard(self) -> None:
        """Removes all files of the run; the folder itself stays if it holds anything else."""
        bank = self.path.glob(f"{self.bank.name}*")
        records = self.tasks, self.parts, self.metrics, self.trajectories, self.reflections, self.trackers
        for path in (self.path / "config.toml", *records, *bank):
            path.unlink(missing_ok=True)
        for folder in (self.path / "checkpoints", self.rollouts, self.path / "tensorboard", self.path / "wandb"):
            shutil.rmtree(folder, ignore_errors=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def config(self) -> Config:
        """Returns the run's settings."""
        from d2skill.config.toml_files import parse

        path = self.path / "config.toml"
        return parse(path.read_text("utf-8"), str(path), of_run=True)

    def own_parts(self) -> dict[str, str]:
        """Returns the classes of the parts that were objects of one's own, by name of the part."""
        return dict(read_json(self.parts)) if self.parts.exists() else {}

    def rollout(self, iteration: int) -> Path:
        """Returns the file for the trajectories of a training iteration."""
        return self.rollouts / f"{iteration:06d}.jsonl.gz"

    def kept_rollouts(self) -> list[int]:
        """Returns the iterations whose trajectories are kept, in order."""
        found = (_ROLLOUT.fullmatch(path.name) for path in self.rollouts.glob("[0-9]*"))
        return sorted(int(match[1]) for match in found if match)

    def cut_rollouts(self, iteration: int) -> None:
        """Removes the trajectories from an iteration on, for a run that goes on from its checkpoint.

        The unfinished file that a kill left goes as well.
        """
        for path in self.rollouts.glob("*"):
            match = _ROLLOUT.fullmatch(path.name.removeprefix(".").removesuffix(".part"))
            if match and int(match[1]) >= iteration:
                path.unlink()

    def append_metrics(self, metrics: dict[str, Any]) -> None:
        """Adds one line to metrics.jsonl."""
        _append(self.metrics, [metrics])

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl; a last line that a kill cut short is left out."""
        return list(_lines(self.metrics))

    def cut_metrics(self, iteration: int) -> None:
        """Removes the lines after an iteration, for a run that goes on from its checkpoint."""
        kept = [line for line in self.read_metrics() if line["iteration"] <= iteration]
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))

    def append_reflections(self, iteration: int, calls: Sequence[dict[str, Any]]) -> None:
        """Adds the calls of an iteration, counted from 0 as in rollouts/, to reflections.jsonl."""
        if calls:
            _append(self.reflections, [{"iteration": iteration} | call for call in calls])

    def read_reflections(self) -> Iterator[dict[str, Any]]:
        """Yields the lines of reflections.jsonl, as `read_metrics` does."""
        return _lines(self.reflections)

    def cut_reflections(self, iteration: int) -> None:
        """Removes the calls from an iteration on, for a run that goes on from its checkpoint."""
        if self.reflections.exists():
            kept = [json.dumps(line) for line in self.read_reflections() if line["iteration"] < iteration]
            write_text(self.reflections, "".join(line + "\n" for line in kept))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes the result."""
        write_json(self.summary, summary)


def _append(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a file, one a line; a last line that a kill cut short is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
