"""Statistics of ALFWorld's training games that generated houses follow, from `resources/statistics.toml`.

The comments in that file explain each table.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from d2skill.envs.alfworld.statistics import load_statistics

Percentages = Mapping[str, Mapping[str, int]]


class ReceptacleCount(NamedTuple):
    """Receptacles of a type in a room: least number in generated houses, most and mean number in ALFWorld."""

    least: int
    most: int
    mean: float


def _sets(table: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    return {key: frozenset(names) for key, names in table.items()}


_TABLES: dict[str, Any] = tomllib.loads(
    (files("d2skill.envs.houses") / "resources" / "statistics.toml").read_text("utf-8")
)

OPENABLE, OBJECT_PLACES = load_statistics()
RECEPTACLES: Mapping[str, Mapping[str, ReceptacleCount]] = {
    room: {kind: ReceptacleCount(*row) for kind, row in table.items()} for room, table in _TABLES["receptacles"].items()
}
CAN_CONTAIN = _sets(_TABLES["can_contain"])
TRAITS = _sets(_TABLES["traits"])
STANDS_OPEN: Mapping[str, float] = _TABLES["stands_open"]
SHARED_LOCATIONS: Percentages = _TABLES["shared_locations"]
LAMP_PLACES: Mapping[str, Sequence[str]] = _TABLES["lamp_places"]
SCENE_SIZES: Mapping[str, Sequence[int]] = _TABLES["scene_sizes"]
MEAN_RECEPTACLES: float = _TABLES["mean_receptacles"]
FULLNESS: Mapping[str, float] = _TABLES["fullness"]
PRESENT: Percentages = _TABLES["present"]
INSTANCES: Sequence[float] = _TABLES["instances"]
TASK_KINDS: Percentages = _TABLES["task_kinds"]
TARGETS: Percentages = _TABLES["targets"]
DESTINATIONS: Percentages = _TABLES["destinations"]
CLOSED_TARGET_WEIGHT: float = _TABLES["closed_target_weight"]
