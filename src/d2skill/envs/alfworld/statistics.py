"""Statistics of ALFWorld's training games: usual places of objects, and receptacles that are closed at first."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class ObjectStatistics(NamedTuple):
    """Statistics about receptacle types and object types, named as in ALFRED."""

    openable: frozenset[str]
    """Receptacle types that are closed at first."""
    object_places: Mapping[str, Mapping[str, Mapping[str, int]]]
    """Room, object type, receptacle type: percent of such objects that lie there."""


@cache
def load_statistics() -> ObjectStatistics:
    """Loads the tables once, which takes a few milliseconds."""
    path = files("d2skill.envs.alfworld") / "resources" / "statistics.toml"
    tables = tomllib.loads(path.read_text("utf-8"))
    return ObjectStatistics(frozenset(tables["openable"]), tables["object_places"])
