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
models.json       the revisions (commits) of the models of the Hugging Face Hub, if there were any
trackers.json     what trackers call this run, and the last iteration they were told, if it has any
summary.json      the result, once the run has ended
.beginning        only until the first checkpoint: what is here can be begun again (beginning.py)
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from d2skill.errors import RunError
from d2skill.runs import beginning, checkpoint
from d2skill.utils.atomic_files import read_json, write_bytes, write_json, write_text
from d2skill.utils.foreign_files import explained, parse_json, read_bytes
from d2skill.utils.foreign_text import command, logger, shown_path
from d2skill.utils.key_mask import mask_value
from d2skill.utils.links import open_unlinked, refuse_links, remove_folder

if TYPE_CHECKING:
    from d2skill.config import Config

_log = logger(__name__)
_ROLLOUT = re.compile(r"(\d{6,})\.jsonl\.gz")
_ALWAYS = (
    *("config.toml", "tasks.json", "parts.json", "models.json", "metrics.jsonl", "trajectories.jsonl.gz"),
    *("reflections.jsonl", "trackers.json", "bank.db", "checkpoints", "rollouts"),
)
"""Files and folders that any run makes before its first checkpoint"""
_AT_TIMES = ("tensorboard", "wandb", "verl")
"""Folders that trackers and the engine of these names make"""


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
        self.models = path / "models.json"
        self.trackers = path / "trackers.json"
        self.summary = path / "summary.json"
        self._lock: IO[bytes] | None = None

    @classmethod
    def create(cls, path: Path, parts: Collection[str] = ()) -> RunFolder:
        """Makes a new folder, or empties one that only a beginning was in, and keeps it from others until it has begun.

        `parts` are the trackers and the engine of the run. Raises `RunError` when something is in the way.
        """
        run = cls(path)
        if path.exists() and not (path.is_dir() and (run.is_beginning() or not any(path.iterdir()))):
            raise RunError(run._in_the_way())
        path.mkdir(parents=True, exist_ok=True)
        refuse_links(path)
        run._lock = open(path / beginning.BEGINNING, "a+b", opener=open_unlinked)  # noqa: SIM115
        if not _locked(run._lock):
            raise RunError(f"another process begins a run in {shown_path(path)}: wait for it, or choose another --out")
        if not run.is_beginning():  # another process was quicker
            raise RunError(run._in_the_way())
        run._empty()
        if others := sorted(one.name for one in path.iterdir() if one.name != beginning.BEGINNING):
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            said = "%s holds what the run before did not make, which stays: %s"
            _log.warning(said, shown_path(path), ", ".join(others[:5]) + more)
        beginning.mark(run._lock, path, [*_ALWAYS, *(name for name in _AT_TIMES if name in parts)])
        return run

    def is_beginning(self) -> bool:
        """Returns True for a folder that only a beginning was in: `create` takes it, as nothing in it can be lost."""
        marked = (self.path / beginning.BEGINNING).is_file() and self._made() is not None
        return (
            marked
            and not checkpoint.folders(self.path)
            and not self.summary.exists()
            and sum(1 for _ in _raw_lines(self.metrics)) < 2
        )

    def _made(self) -> set[str] | None:
        return beginning.made_in(self.path, self._lock if self._lock and not self._lock.closed else None)

    def has_begun(self) -> bool:
        """Returns True if there is a run to go on with, or one that has ended."""
        return (self.path / "config.toml").is_file() and bool(checkpoint.folders(self.path))

    def _in_the_way(self) -> str:
        path = shown_path(self.path)
        if (self.path / beginning.BEGINNING).exists() and self._made() is None:
            return (
                f"{path} is not empty, and its file {beginning.BEGINNING} does not tell what a run made there: choose "
                "another --out, or empty it yourself"
            )
        go_on = f", or go on with it by {command('resume', path)}" if self.has_begun() else ""
        return f"{path} exists and is not empty: choose another --out{go_on}"

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Returns an existing run; raises `RunError` when the folder is not one, or a link leads out of it."""
        if not (path / "config.toml").is_file():
            if cls(path).is_beginning():
                raise RunError(
                    f"{shown_path(path)} holds only the beginning of a run, without its settings: start it again by "
                    f"{command('train', '--out', shown_path(path))}"
                )
            raise RunError(f"{shown_path(path)} is not a run folder: it has no config.toml")
        refuse_links(path)
        return cls(path)

    def begin(
        self,
        config: Config,
        tasks: dict[str, Any],
        own_parts: Mapping[str, str] | None = None,
        models: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes the files that are fixed for the whole run.

        Args:
            config: Settings.
            tasks: Tasks to train on, and the validation panel.
            own_parts: Classes of parts of one's own.
            models: Models of the Hub, with their revisions.
        """
        write_json(self.tasks, tasks)
        if own_parts:
            write_json(self.parts, dict(own_parts))
        if models:
            write_json(self.models, dict(models))
        self.write_config(config)

    def write_config(self, config: Config) -> None:
        """Writes the settings."""
        from d2skill.config.toml_files import dump

        write_text(self.path / "config.toml", dump(config))

    def discard(self) -> None:
        """Removes all files of the run; the folder itself stays if it holds anything else."""
        self._empty()
        if self._lock:
            self._lock.close()
        (self.path / beginning.BEGINNING).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def _empty(self) -> None:
        """Removes what the beginning made, but its mark."""
        for name in {*_ALWAYS, *_AT_TIMES} & (self._made() or set()):
            beside = self.path.glob(f"{name}-*") if name == self.bank.name else ()
            for path in (self.path / name, *self.path.glob(f".{name}*.part*"), *beside):
                if path.is_dir():
                    remove_folder(path)
                else:
                    path.unlink(missing_ok=True)

    def config(self) -> Config:
        """Returns the run's settings."""
        from d2skill.config.toml_files import read_settings

        return read_settings(self.path / "config.toml")

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

    def whole_metrics(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl that are not damaged."""
        return [values for line in _raw_lines(self.metrics) if (values := _record(line))]

    def cut_metrics(self, iteration: int) -> None:
        """Removes the lines after an iteration, for a run that goes on from its checkpoint; warns of those it lacks."""
        there = {line["iteration"] for line in _cut(self.metrics, iteration + 1)}
        if lost := [str(one) for one in range(iteration + 1) if one not in there]:
            some = ", ".join(lost[:5]) + ", ..." * (len(lost) > 5)
            _log.warning(
                "%s has lost %d of its %d lines, those of iterations %s: its curves have gaps there",
                *(shown_path(self.metrics), len(lost), iteration + 1, some),
            )

    def append_reflections(self, iteration: int, calls: Sequence[dict[str, Any]]) -> None:
        """Adds the calls of an iteration, counted from 0 as in rollouts/, to reflections.jsonl."""
        if calls:
            _append(self.reflections, [mask_value({"iteration": iteration} | call) for call in calls])

    def read_reflections(self) -> Iterator[dict[str, Any]]:
        """Yields the lines of reflections.jsonl, as `read_metrics` does."""
        return _lines(self.reflections)

    def cut_reflections(self, iteration: int) -> None:
        """Removes the calls from an iteration on, for a run that goes on from its checkpoint."""
        _cut(self.reflections, iteration)

    def read_summary(self) -> dict[str, Any]:
        """Returns the result. Raises `RunError` for a file that holds none."""
        summary = read_json(self.summary)
        if not isinstance(summary, dict) or not isinstance(summary.get("iterations"), int):
            raise RunError(f"{shown_path(self.summary)} is no result of a run: restore it from a copy")
        return summary

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes the result."""
        write_json(self.summary, summary)


def _append(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    with open(path, "a", encoding="utf-8", opener=open_unlinked) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a file, one a line; a last line that a kill cut short is left out.

    Raises `RunError` for any other line that is damaged.
    """
    for number, line in enumerate(_raw_lines(path), start=1):
        if (values := _record(line)) is None:
            raise RunError(
                f"line {number} of {shown_path(path)} is damaged: take it out, or let `d2skill resume` do so"
            )
        yield values


def _cut(path: Path, end: int) -> list[dict[str, Any]]:
    """Keeps the lines of iterations before `end`, and returns them; those that are damaged stay in a copy."""
    kept: list[tuple[bytes, dict[str, Any]]] = []
    damaged = 0
    for line in _raw_lines(path):
        values = _record(line)
        damaged += values is None
        if values is not None and values["iteration"] < end:
            kept.append((line, values))
    if damaged:
        copy = path.with_name(f"{path.name}.damaged")
        write_bytes(copy, read_bytes(path))
        _log.warning("%s had damaged lines: they are taken out, and are in %s", shown_path(path), copy.name)
    if path.exists():
        write_bytes(path, b"".join(line for line, _ in kept))
    return [values for _, values in kept]


def _record(line: bytes) -> dict[str, Any] | None:
    """Returns the object of a line that has its iteration, None for any other line."""
    try:
        values = parse_json(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and isinstance(values.get("iteration"), int) else None


def _raw_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a file without the last, if a kill cut it short."""
    if path.exists():
        with explained(shown_path(path), RunError, "restore it from a copy"):
            data = read_bytes(path)
        yield from (line + b"\n" for line in data.split(b"\n")[:-1])


def _locked(file: IO[bytes]) -> bool:
    """Locks an open file until it is closed; returns False if another process has."""
    from filelock import lock_descriptor

    try:
        return lock_descriptor(file.fileno(), blocking=False)
    except OSError:  # a file system without locks
        return True
