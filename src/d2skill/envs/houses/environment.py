"""The environment `houses`: generated games, played like official ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from d2skill.config import HousesConfig
from d2skill.envs.alfworld.environment import GameEnvironment
from d2skill.envs.alfworld.game import Game
from d2skill.envs.houses.generator import generate, split_size
from d2skill.errors import ConfigError

_ID = re.compile(r"([a-z_]+)/(\d{4,})")


class HousesEnvironment(GameEnvironment):
    """Games in recurring floor plans, generated when first started."""

    def __init__(self, settings: HousesConfig) -> None:
        super().__init__(cached_games=1024)
        self._settings = settings

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns the ids `split/number`. Raises `ConfigError` for an unknown split."""
        return tuple(f"{split}/{number:04d}" for number in range(split_size(self._settings, split)))

    def _load(self, task_id: str) -> Game:
        match = _ID.fullmatch(task_id)
        if not match:
            raise ConfigError(f'"{task_id}" is no id of a house: ids are split/number, such as train/0007')
        game = generate(self._settings, match[1], int(match[2]))
        return Game.load(game, id=task_id, split=match[1])
