"""The environment `houses`: generated games, played like official ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from d2skill.config import HousesConfig
from d2skill.envs.alfworld.environment import AlfworldSession
from d2skill.envs.alfworld.expert import Explorer
from d2skill.envs.alfworld.game import Game
from d2skill.envs.houses import generate, split_size
from d2skill.errors import ConfigError
from d2skill.types import Task

_GAMES_KEPT = 1024
_ID = re.compile(r"([a-z_]+)/(\d{4,})")


class HousesEnvironment:
    """Games in recurring floor plans, made when first started; see `Environment` and `SupportsExpert`."""

    def __init__(self, settings: HousesConfig) -> None:
        self._settings = settings
        self._game = lru_cache(maxsize=_GAMES_KEPT)(self._load)

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns the ids `split/number`. Raises `ConfigError` for an unknown split."""
        return tuple(f"{split}/{number:04d}" for number in range(split_size(self._settings, split)))

    def start(self, task_id: str) -> AlfworldSession:
        """Starts a fresh episode. Raises `ConfigError` for an id that `task_ids` does not list."""
        return AlfworldSession(self._game(task_id).clone())

    def expert(self, task: Task, hints: Sequence[str], seed: int) -> Explorer:
        """Returns an expert that searches as an agent must, trying first what the hints name."""
        return Explorer(task.text, hints, seed)

    def _load(self, task_id: str) -> Game:
        match = _ID.fullmatch(task_id)
        if not match:
            raise ConfigError(f'"{task_id}" is no id of a house: ids are split/number, such as train/0007')
        game = generate(self._settings, match[1], int(match[2]))
        return Game.load(game, id=task_id, split=match[1])
