"""Calibration of an embedder's similarity gates: the thresholds that best separate related keys from unrelated ones.

Pairs of tasks are sorted by the room (first observation) and the object that they share. Task keys are related when
they share the object, step keys when they share object and room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2skill.bank.index import KeyIndex
from d2skill.bank.journal import BankState
from d2skill.envs.alfworld.expert import parse_task
from d2skill.errors import ConfigError
from d2skill.protocols import Embedder, Environment
from d2skill.types import Granularity
from d2skill.utils.rng import generator

Floats = npt.NDArray[np.floating[Any]]
_QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Situation:
    """Start of a task: its text, the object that it is about, and the first observation."""

    task: str
    thing: str
    room: str


@dataclass(frozen=True, slots=True)
class GateCalibration:
    """Best gate of one granularity, to two decimals, with the similarities of pairs by what they share.

    `related` names the sorts of pairs that should be above the gate.
    """

    gate: float
    similarities: Mapping[str, Floats]
    related: tuple[str, ...]

    def accuracy_at(self, gate: float) -> float:
        """Returns the balanced accuracy of a gate, in [0, 1]."""
        related = np.concatenate([values for name, values in self.similarities.items() if name in self.related])
        others = np.concatenate([values for name, values in self.similarities.items() if name not in self.related])
        return float((related >= gate).mean() + (others < gate).mean()) / 2

    def pairs(self, gate: float) -> dict[str, dict[str, Any]]:
        """Returns for each sort of pairs their number, 10th, 50th and 90th percentile and share at or above a gate."""
        return {
            name: {
                "pairs": len(values),
                "p10_p50_p90": [round(float(x), 2) for x in np.quantile(values, _QUANTILES)],
                "share_above_gate": round(float((values >= gate).mean()), 3),
            }
            for name, values in self.similarities.items()
            if len(values)
        }


@dataclass(frozen=True, slots=True)
class GateMeasurement:
    """Calibrations of an embedder's task and step gate; `in_use` has the gates that it comes with, None if unknown."""

    embedder: str
    tasks: int
    calibrations: Mapping[Granularity, GateCalibration]
    in_use: Mapping[Granularity, float | None]

    def record(self) -> dict[str, Any]:
        """Returns the measurement as plain data; shares are those above the gate in use, or else the best one."""
        record: dict[str, Any] = {"embedder": self.embedder, "tasks": self.tasks}
        for granularity, calibration in self.calibrations.items():
            in_use = self.in_use[granularity]
            gate = calibration.gate if in_use is None else in_use
            record[granularity] = {
                "best_gate": calibration.gate,
                "best_balanced_accuracy": round(calibration.accuracy_at(calibration.gate), 4),
                "gate": gate,
                "balanced_accuracy": round(calibration.accuracy_at(gate), 4),
                **calibration.pairs(gate),
            }
        return record


def measure_gates(embedder: Embedder, environment: Environment, split: str, tasks: int) -> GateMeasurement:
    """Calibrates an embedder's gates on the starts of some tasks, drawn at random.

    A task that is none of ALFWorld's is about its kind. Raises `ConfigError` for a split without tasks, and as
    `calibrate_gates` does.

    Args:
        embedder: Embedder to calibrate.
        environment: Environment of the tasks.
        split: Split that the tasks are drawn from.
        tasks: Number of tasks, at most.
    """
    ids = list(environment.task_ids(split))
    situations = []
    for i in generator("gate").permutation(len(ids))[:tasks]:
        session = environment.start(ids[i])
        goal = parse_task(session.task.text)
        thing = goal.target if goal else session.task.kind
        situations.append(Situation(session.task.text, thing, session.observation.text))
    if not situations:
        raise ConfigError(f'split "{split}" has no tasks to calibrate on: choose another with --split')
    index = KeyIndex(BankState(), embedder)
    task_keys = np.stack(index.keys("task", [(one.task, "") for one in situations]))
    step_keys = np.stack(index.keys("step", [(one.task, one.room) for one in situations]))
    return GateMeasurement(
        embedder.fingerprint,
        len(situations),
        calibrate_gates(situations, task_keys, step_keys),
        {"task": _gate_in_use(embedder, "task"), "step": _gate_in_use(embedder, "step")},
    )


def calibrate_gates(
    situations: Sequence[Situation], task_keys: Floats, step_keys: Floats
) -> dict[Granularity, GateCalibration]:
    """Returns the calibrations of task and step gate from the keys of situations, unit vectors [n, d].

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
    task, step = np.asarray(task_keys @ task_keys.T)[upper], np.asarray(step_keys @ step_keys.T)[upper]
    return {
        "task": _calibration("task", task, by_task, ("same goal", "same object, other goal")),
        "step": _calibration("step", step, by_step, ("same room, same object",)),
    }


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
    kind: str, similarities: Floats, masks: Mapping[str, npt.NDArray[np.bool_]], related: tuple[str, ...]
) -> GateCalibration:
    """Returns the calibration of one granularity from the similarities of all pairs [p] and the sort of each."""
    by_sort = {name: similarities[mask] for name, mask in masks.items()}
    near = np.concatenate([by_sort[name] for name in related])
    far = np.concatenate([values for name, values in by_sort.items() if name not in related])
    try:
        threshold, _ = best_threshold(near, far)
    except ValueError:
        raise ConfigError(
            f"among these tasks {len(near)} pairs of {kind} keys are related and {len(far)} are not, and a gate lies "
            "between the two: take more tasks, or those of another environment"
        ) from None
    return GateCalibration(round(threshold, 2), by_sort, related)


def _equal(values: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Returns a matrix [n, n] that is True where two values are the same."""
    _, numbers = np.unique(np.array(values, dtype=object), return_inverse=True)
    return np.asarray(numbers[:, None] == numbers)


def _gate_in_use(embedder: Embedder, granularity: Granularity) -> float | None:
    """Returns a gate that an embedder has, None if it is unknown."""
    try:
        return embedder.task_gate if granularity == "task" else embedder.step_gate
    except ConfigError:
        return None
