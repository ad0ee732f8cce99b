"""Saved trajectories: JSON lines that can be read without an environment, a policy or a bank.

    {"task": {"id": "train/0007", "text": ...}, "arm": "skills", "index": 3, "success": true, "turns": [...], ...}

One line a trajectory, gzip if the file's name ends in .gz. A turn names the skills it showed by id and repeats nothing
else of its prompt; fields that have their default are left out.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from d2skill.errors import ConfigError, RunError
from d2skill.types import Task, Trajectory, Turn
from d2skill.utils.atomic_files import write_bytes
from d2skill.utils.foreign_files import read_bytes, unpacked

_LEVEL = 6  # a higher one takes twice as long for a few percent
_NAMED = 6


@dataclass(frozen=True, slots=True)
class SavedTurn:
    """One saved turn: the observation and the action.

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
        """Returns the saved form of a turn."""
        text, action = turn.decision.text, turn.decision.action
        answer = text if text != action else ""
        return cls(turn.prompt.observation, action, answer, turn.admissible, turn.skill_ids)


@dataclass(frozen=True, slots=True)
class Saved:
    """One saved trajectory: `Trajectory` without prompts. The arm is "person" if a person played it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    task: Task
    arm: Literal["", "skills", "none", "person"]
    index: int
    success: bool
    turns: tuple[SavedTurn, ...]
    final: str
    fault: str = ""
    score: float | None = None

    @classmethod
    def of(cls, trajectory: Trajectory) -> Saved:
        """Returns the saved form of a trajectory."""
        return cls(
            task=trajectory.task,
            arm=trajectory.arm,
            index=trajectory.index,
            success=trajectory.success,
            turns=tuple(map(SavedTurn.of, trajectory.turns)),
            final=trajectory.final,
            fault=trajectory.fault,
            score=trajectory.score,
        )


_SAVED = TypeAdapter(Saved)


def write(path: Path, trajectories: Iterable[Trajectory | Saved]) -> None:
    """Writes a file whole or not at all; the same trajectories give the same bytes."""
    saved = (t if isinstance(t, Saved) else Saved.of(t) for t in trajectories)
    data = b"".join(_SAVED.dump_json(one, exclude_defaults=True) + b"\n" for one in saved)
    write_bytes(path, gzip.compress(data, _LEVEL, mtime=0) if path.suffix == ".gz" else data)


def read(path: Path) -> list[Saved]:
    """Returns the trajectories of a file, in order.

    Raises `RunError` that names file and line if it is missing, empty or damaged.
    """
    return [_saved(path, number, line) for number, line in _lines(path)]


def about(path: Path, skill_id: str) -> list[Saved]:
    """Returns the trajectories of a file that were shown a skill, and all others of the same tasks, in order.

    Lines that cannot be among them are not parsed. Raises `RunError` as `read` does.
    """
    lines = list(_lines(path))
    naming = (_saved(path, number, line) for number, line in _holding(lines, [skill_id]))
    tasks = {one.task.id for one in naming if any(skill_id in turn.skills for turn in one.turns)}
    near = (_saved(path, number, line) for number, line in _holding(lines, tasks))
    return [one for one in near if one.task.id in tasks]


def choose(saved: Sequence[Saved], task: str | None, number: int | None, member: int | None = None) -> Saved:
    """Returns one trajectory, chosen by task id and index in its group, or by its number.

    Args:
        saved: Trajectories to choose from.
        task: Task id, or None for any.
        number: Place in `saved`, counted from 1; excludes `task` and `member`.
        member: Index in the group, or None for any.

    Raises `ConfigError` if none fits, or more than one.
    """
    if number is not None:
        for name, given in (("a task", task), ("--member", member)):
            if given is not None:
                raise ConfigError(f"{name} and --number both name a trajectory: leave one of them out")
        if not 1 <= number <= len(saved):
            raise ConfigError(f"there is no trajectory {number}: --number is from 1 to {len(saved)}")
        return saved[number - 1]
    of_task = {n: one for n, one in enumerate(saved, start=1) if task in (None, one.task.id)}
    if not of_task:
        raise ConfigError(f'there is none of task "{task}", but of {_some([one.task.id for one in saved])}')
    found = {n: one for n, one in of_task.items() if member in (None, one.index)}
    members = [one.index for one in of_task.values()]
    if not found:
        raise ConfigError(f"there is no member {member}: --member may be {_some(sorted(members))}")
    if len(found) > 1:
        apart = member is None and len(set(members)) == len(members)
        or_member = f", or with --member, which may be {_some(members)}" if apart else ""
        raise ConfigError(
            f"there are {len(found)} of them: name one with --number, which may be {_some(found)}{or_member}"
        )
    return next(iter(found.values()))


def outcome(saved: Saved) -> str:
    """Returns the end of a trajectory in a word or two."""
    if saved.fault:
        return f"broken off ({saved.fault})"
    score = "" if saved.score is None else f", score {saved.score:.2f}"
    return ("won" if saved.success else "not won") + score


def _some(values: Iterable[object]) -> str:
    """Returns the first few of some values, each once."""
    names = list(dict.fromkeys(map(str, values)))
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a file, numbered from 1. Raises `RunError` if there are none."""
    lines = content(path).split(b"\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise RunError(f"{path} is empty: it holds no trajectory")
    return enumerate(lines, start=1)


def _holding(lines: Iterable[tuple[int, bytes]], texts: Iterable[str]) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that may contain one of some texts as a JSON string."""
    quoted = [json.dumps(text, ensure_ascii=False).encode() for text in texts]
    return ((number, line) for number, line in lines if any(text in line for text in quoted))


def _saved(path: Path, number: int, line: bytes) -> Saved:
    try:
        return _SAVED.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where}: {first['msg']}" if where else "no trajectory in JSON"
        raise RunError(f"{path}, line {number}: {what}: is it a file of saved trajectories, and whole?") from None


def content(path: Path) -> bytes:
    """Returns the content of a file, unpacked if it is compressed. Raises `RunError` if it cannot be read."""
    try:
        return unpacked(read_bytes(path))
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): is it a file of saved trajectories?") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}): restore it from a copy") from None
