"""The environment `alfworld`: a folder of official game files.

The folder is the official layout, `FOLDER/json_2.1.1/<split>/<task>/<trial>/game.tw-pddl`; the folder
`json_2.1.1` itself or any other folder of splits will do. No other file of the official data is needed.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from d2skill.envs.alfworld.broken_games import find_broken
from d2skill.envs.alfworld.expert import Explorer
from d2skill.envs.alfworld.game import Game
from d2skill.envs.alfworld.planner import shortest_plan
from d2skill.errors import ConfigError, DataError
from d2skill.types import Observation, Task
from d2skill.utils.foreign_files import open_regular, read_json

VARIABLE = "ALFWORLD_DATA"
"""The environment variable with the data folder, the same that alfworld itself uses."""

_FILE = "game.tw-pddl"
_EXCLUDED = ("movable", "Sliced")
_TAIL = 4096
_SOLVABLE = re.compile(rb'"solvable"\s*:\s*(true|false)')


class AlfworldSession:
    """One episode of one game; see `Session` and `SupportsShortestPlan`."""

    def __init__(self, game: Game) -> None:
        self._game = game
        game.reset()
        # The task is a field of its own, so the first observation is the description of the room alone.
        self._observation = self._observe(game.first_look)

    @property
    def task(self) -> Task:
        """The task that is being played."""
        return self._game.task

    @property
    def observation(self) -> Observation:
        """The current observation."""
        return self._observation

    def step(self, action: str) -> Observation:
        """Plays an action; one that is not admissible is answered "Nothing happens."."""
        self._observation = self._observe(self._game.play(action))
        return self._observation

    def shortest_plan(self) -> list[str] | None:
        """Returns the fewest actions that win from here, None if there are none."""
        return shortest_plan(self._game)

    def _observe(self, text: str) -> Observation:
        won = self._game.won
        return Observation(text, self._game.actions, won, won)


class GameEnvironment(ABC):
    """Base of environments that play games; see `Environment` and `SupportsExpert`. It caches loaded games."""

    def __init__(self, cached_games: int) -> None:
        self._game = lru_cache(maxsize=cached_games)(self._load)

    @abstractmethod
    def task_ids(self, split: str) -> Sequence[str]:
        """See `Environment`."""

    def start(self, task_id: str) -> AlfworldSession:
        """Starts a fresh episode. Raises `ConfigError` for an unknown id, `DataError` for a missing or broken file."""
        return AlfworldSession(self._game(task_id).clone())

    def expert(self, task: Task, hints: Sequence[str], seed: int) -> Explorer:
        """Returns an expert that searches as an agent must, trying first what the hints name."""
        return Explorer(task.text, hints, seed)

    @abstractmethod
    def _load(self, task_id: str) -> Game:
        """Loads the game of a task."""


class GameFile(GameEnvironment):
    """The environment of one game file, whose path is its one task id."""

    def __init__(self, path: Path) -> None:
        super().__init__(cached_games=1)
        self._path = path

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns the path, whatever the split."""
        return (str(self._path),)

    def _load(self, task_id: str) -> Game:
        return Game.load(self._path)


class AlfworldEnvironment(GameEnvironment):
    """The environment of a folder of official games.

    Only the split that is asked for is ever read. Raises `ConfigError` when no data folder is named and
    `DataError` when it is not there.
    """

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(cached_games=512)
        folder = str(data) if data is not None else os.environ.get(VARIABLE, "")
        if not folder:
            raise ConfigError(f"alfworld needs its game files: name their folder with --data or ${VARIABLE}")
        self._root = Path(folder).expanduser()
        if not self._root.is_dir():
            raise DataError(
                f"the ALFWorld data folder {self._root} does not exist: set --data or ${VARIABLE} to the "
                "folder that holds json_2.1.1"
            )
        if (self._root / "json_2.1.1").is_dir():
            self._root /= "json_2.1.1"
        self._ids: dict[str, tuple[str, ...]] = {}

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns the sorted ids, `split/task/trial`, of a split's solvable games."""
        if split not in self._ids:
            folder = self._split_folder(split)
            ids = sorted(f"{split}/{name}" for name in _find_games(folder) if _is_solvable(folder / name / _FILE))
            if not ids:
                raise DataError(f"{folder} holds no solvable game: it should hold <task>/<trial>/{_FILE} files")
            self._ids[split] = tuple(ids)
        return self._ids[split]

    def broken_tasks(self, task_ids: Sequence[str]) -> dict[str, str]:
        """See `FindsBrokenTasks`; a file that was found whole is not read again until it changes."""
        return find_broken(self._root, task_ids, self._game)

    def _split_folder(self, split: str) -> Path:
        folder = self._root / split
        if not split or split in {".", ".."} or Path(split).name != split or not folder.is_dir():
            splits = sorted(entry.name for entry in os.scandir(self._root) if entry.is_dir())
            raise ConfigError(f"{self._root} has no split {split!r}; it has: {', '.join(splits) or 'nothing at all'}")
        return folder

    def _load(self, task_id: str) -> Game:
        parts = task_id.split("/")
        if len(parts) != 3 or any(part in {"", ".", ".."} for part in parts):
            raise ConfigError(f"{task_id!r} is no ALFWorld task id: ids are split/task/trial, as task_ids lists them")
        return Game.load(self._root / task_id / _FILE, id=task_id, split=parts[0])


def _find_games(split: Path) -> list[str]:
    """Returns `task/trial` of all trial folders with a game file, except those that the official loader excludes."""
    names = []
    for task in os.scandir(split):
        if task.is_dir() and not any(mark in task.name for mark in _EXCLUDED):
            for trial in os.scandir(task.path):
                if os.path.isfile(os.path.join(trial.path, _FILE)):
                    names.append(f"{task.name}/{trial.name}")
    return names


def _is_solvable(path: Path) -> bool:
    """Returns True if a game is marked as solvable.

    The mark is read from the file's end if possible: parsing thousands of files would take long. A game without a mark
    is excluded, as by the official loader. A file that cannot be read is kept, so that `start` reports it.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            marks = _SOLVABLE.findall(file.read())
        if marks:
            return bool(marks[-1] == b"true")
        data = read_json(path)
    except (OSError, ValueError):
        return True
    return not isinstance(data, dict) or data.get("solvable") is True
