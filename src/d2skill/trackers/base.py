"""The run as its trackers see it, and metrics as they take them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2skill.config import Config

PROJECT = "d2skill"
"""The project, or experiment, of all runs, where the library's own environment variable names no other"""


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run that a tracker is told of: a tracker whose class has a parameter `run` gets it there.

    `id` is the attribute `id` that the tracker had when the run stopped, None for a run that is new to it. A tracker
    that goes on with that record keeps the same `id`; under a new one it is told all iterations again.
    """

    folder: Path
    config: Config
    id: str | None = None

    def settings(self) -> dict[str, str | int | float | bool]:
        """Returns the settings of the run by dotted name, lists as JSON; those that are None are left out."""
        return dict(_flat(self.config.model_dump(mode="json")))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, json.dumps(value) if isinstance(value, list) else value


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics that are numbers; the iteration is the step, and not among them."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float) and name != "iteration"}
