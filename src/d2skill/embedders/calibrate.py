"""Where related keys end and unrelated ones begin: the gate τ_sim that belongs to an embedder.

Pairs of tasks are sorted by what they share: the room (the first observation), the thing that the task is about, both
or neither. Task keys are related when they share the thing, step keys when they share the room as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2skill.errors import ConfigError

Floats = npt.NDArray[np.floating[Any]]
_QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Situation:
    """The start of a task: its text, the thing that it is about, and what is seen first."""

    task: str
    thing: str
    room: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """A gate to two decimals, its balanced accuracy, and the similarities of pairs by what they share.

    `related` names the sorts of pairs that are to be above the gate.
    """

    gate: float
    accuracy: float
    sorts: Mapping[str, Floats]
    related: tuple[str, ...]

    def accuracy_at(self, gate: float) -> float:
        """Returns the balanced accuracy of another gate, in [0, 1]."""
        near = np.concatenate([values for name, values in self.sorts.items() if name in self.related])
        far = np.concatenate([values for name, values in self.sorts.items() if name not in self.related])
        return float((near >= gate).mean() + (far < gate).mean()) / 2

    def report(self, gate: float) -> dict[str, dict[str, Any]]:
        """Returns for each sort of pairs their number, 10th, 50th and 90th percentile and share at or above a gate."""
        return {
            name: {
                "pairs": len(values),
                "p10_p50_p90": [round(float(x), 2) for x in np.quantile(values, _QUANTILES)],
                "share_above_gate": round(float((values >= gate).mean()), 3),
            }
            for name, values in self.sorts.items()
            if len(values)
        }


def calibrate(situations: Sequence[Situation], task: Floats, step: Floats) -> tuple[Calibration, Calibration]:
    """Returns the calibrations of task keys and of step keys, unit vectors [n, d] each.

    Raises `ConfigError` for tasks among which there are no related pairs, or no unrelated ones.
    """
    upper = np.triu_indices(len(situations), 1)
    thing, room, goal = (
        _equal([getattr(one, name) for one in situations])[upper] for name in ("thing", "room", "task")
    )
    by_task = {"same goal": goal, "same object, other goal": thing & ~goal, "other object": ~thing & ~goal}
    by_step = {
        "same room, same object": room & thing,
        "same room, other object": room & ~thing,
        "other room, same object": ~room & thing,
        "other room, other object": ~room & ~thing,
    }
    return (
        _calibration("task", _similarities(task)[upper], by_task, ("same goal", "same object, other goal")),
        _calibration("step", _similarities(step)[upper], by_step, ("same room, same object",)),
    )


def best_threshold(related: npt.ArrayLike, unrelated: npt.ArrayLike) -> tuple[float, float]:
    """Returns the threshold with the highest balanced accuracy, and that accuracy in [0.5, 1].

    Takes the similarities of related and of unrelated pairs, any number of each; a pair counts as related
    at or above the threshold. It lies halfway between two neighbouring similarities, so that it holds for
    new pairs; of equally good ones it is the lowest, which shows more rather than less. Raises `ValueError`
    if a side is empty.
    """
    near, far = np.sort(np.asarray(related, np.float64)), np.sort(np.asarray(unrelated, np.float64))
    if not near.size or not far.size:
        raise ValueError(f"calibration needs pairs of both sorts, got {near.size} related, {far.size} unrelated")
    levels = np.unique(np.concatenate([near, far]))
    thresholds = np.concatenate([levels[:1], (levels[:-1] + levels[1:]) / 2])
    hits = 1.0 - np.searchsorted(near, thresholds, side="left") / near.size
    rejections = np.searchsorted(far, thresholds, side="left") / far.size
    accuracy = (hits + rejections) / 2
    best = int(np.argmax(accuracy))
    return float(thresholds[best]), float(accuracy[best])


def _calibration(
    kind: str, similarities: Floats, members: Mapping[str, npt.NDArray[np.bool_]], related: tuple[str, ...]
) -> Calibration:
    sorts = {name: similarities[member] for name, member in members.items()}
    near = np.concatenate([sorts[name] for name in related])
    far = np.concatenate([values for name, values in sorts.items() if name not in related])
    try:
        threshold, _ = best_threshold(near, far)
    except ValueError:
        raise ConfigError(
            f"among these tasks {len(near)} pairs of {kind} keys are related and {len(far)} are not, and a gate lies "
            "between the two: take more tasks, or those of another environment"
        ) from None
    gate = round(threshold, 2)
    found = Calibration(gate, 0.0, sorts, related)
    return Calibration(gate, found.accuracy_at(gate), sorts, related)


def _similarities(keys: Floats) -> Floats:
    return np.asarray(keys @ keys.T)


def _equal(values: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Returns which of some values [n] are the same as which [n, n]."""
    _, numbers = np.unique(np.array(values, dtype=object), return_inverse=True)
    return np.asarray(numbers[:, None] == numbers)
