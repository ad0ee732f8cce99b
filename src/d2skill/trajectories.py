"""Saved trajectories: JSON lines, read without an environment, a policy or a bank.

    {"task": {"id": "train/0007", "text": ...}, "arm": "skills", "index": 3, "success": true, "turns": [...], ...}

One line a trajectory, gzip if the file's name ends in .gz. A turn names the skills it showed by id and repeats nothing
else of its prompt; fields that have their default are left out.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from d2skill.errors import ConfigError, RunError
from d2skill.files import write_bytes
from d2skill.types import Task, Trajectory, Turn

_GZIP = b"\x1f\x8b"
_NAMED = 6


@dataclass(frozen=True, slots=True)
class SavedTurn:
    """What was seen, and the action chosen then.

    `answer` is the whole text a policy wrote, "" if it wrote the action alone. `skills` are the ids of those it was
    shown, task skills first.
    """

    observation: str
    action: str
    answer: str = ""
    admissible: bool = True
    skills: tuple[str, ...] = ()

    @classmethod
    def of(cls, turn: Turn) -> SavedTurn:
        """Returns what is kept of a turn."""
        text, action = turn.decision.text, turn.decision.action
        answer = text if text != action else ""
        return cls(turn.prompt.observation, action, answer, turn.admissible, turn.skill_ids)


@dataclass(frozen=True, slots=True)
class Saved:
    """A trajectory as it is kept: `Trajectory` without prompts. The arm is "person" for one that a person played."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    task: Task
    arm: Literal["", "skills", "none", "person"]
    index: int
    success: bool
    turns: tuple[SavedTurn, ...]
    final: str
    fault: str = ""

    @classmethod
    def of(cls, trajectory: Trajectory) -> Saved:
        """Returns what is kept of a trajectory."""
        return cls(
            task=trajectory.task,
            arm=trajectory.arm,
            index=trajectory.index,
            success=trajectory.success,
            turns=tuple(map(SavedTurn.of, trajectory.turns)),
            final=trajectory.final,
            fault=trajectory.fault,
        )


_SAVED = TypeAdapter(Saved)


def write(path: Path, trajectories: Iterable[Trajectory | Saved]) -> None:
    """Writes a file whole or not at all; the same trajectories give the same bytes."""
    saved = (t if isinstance(t, Saved) else Saved.of(t) for t in trajectories)
    data = b"".join(_SAVED.dump_json(one, exclude_defaults=True) + b"\n" for one in saved)
    write_bytes(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read(path: Path) -> list[Saved]:
    """Returns the trajectories of a file, in order.

    Raises `RunError` that names file and line if it is missing, empty or damaged.
    """
    lines = _content(path).split(b"\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise RunError(f"{path} is empty: it holds no trajectory")
    return [_saved(path, number, line) for number, line in enumerate(lines, start=1)]


def choose(saved: Sequence[Saved], task: str | None, number: int | None) -> Saved:
    """Returns the one that is asked for, by the id of its task or by its number, counted from 1.

    Raises `ConfigError` if there is no such one, or more than one.
    """
    if task is not None and number is not None:
        raise ConfigError("--task and --number both name a trajectory: leave one of them out")
    if number is not None:
        if not 1 <= number <= len(saved):
            raise ConfigError(f"there is no trajectory {number}: --number is from 1 to {len(saved)}")
        return saved[number - 1]
    found = {n: one for n, one in enumerate(saved, start=1) if task in (None, one.task.id)}
    if not found:
        raise ConfigError(f'there is none of task "{task}", but of {_some([one.task.id for one in saved])}')
    if len(found) > 1:
        raise ConfigError(f"there are {len(found)} of them: name one with --number, which may be {_some(found)}")
    return next(iter(found.values()))


def outcome(saved: Saved) -> str:
    """Returns in a word or two how a trajectory ended."""
    if saved.fault:
        return f"broken off ({saved.fault})"
    return "won" if saved.success else "not won"


def _some(values: Iterable[object]) -> str:
    """Returns the first few of some values, each once."""
    names = list(dict.fromkeys(map(str, values)))
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _saved(path: Path, number: int, line: bytes) -> Saved:
    try:
        return _SAVED.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where}: {first['msg']}" if where else "no trajectory in JSON"
        raise RunError(f"{path}, line {number}: {what}: is it a file of saved trajectories, and whole?") from None


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): is it a file of saved trajectories?") from None
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise RunError(f"{path} is damaged ({error}): restore it from a copy") from None
