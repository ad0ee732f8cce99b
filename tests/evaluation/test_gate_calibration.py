"""Calibration of similarity gates, with keys made by hand."""

import numpy as np
import pytest

from d2skill.evaluation.gate_calibration import Situation, best_threshold, calibrate_gates


def test_best_threshold_by_hand():
    # between 0.3 and 0.5 one of four unrelated pairs passes and all related ones: (1 + 3/4) / 2
    assert best_threshold([0.5, 0.7, 0.9], [0.1, 0.2, 0.3, 0.8]) == pytest.approx((0.4, 0.875))


def test_best_threshold_needs_both_sides():
    with pytest.raises(ValueError, match="0 related, 1 unrelated"):
        best_threshold([], [0.1])


def test_calibration_by_hand():
    situations = [
        Situation(f"take {thing} {n}", thing, room) for n, (thing, room) in enumerate(["aK", "aK", "bK", "aL"])
    ]
    angles = np.array([0.0, 0.1, 1.0, 0.3])
    keys = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    task, step = calibrate_gates(situations, keys, keys).values()
    assert {name: len(values) for name, values in task.similarities.items()} == {
        "same goal": 0,
        "same object, other goal": 3,
        "other object": 3,
    }
    assert {name: len(values) for name, values in step.similarities.items()} == {
        "same room, same object": 1,
        "same room, other object": 2,
        "other room, same object": 2,
        "other room, other object": 1,
    }
    assert np.cos(0.7) < task.gate < np.cos(0.3) and task.accuracy_at(task.gate) == 1
    assert task.accuracy_at(1.0) == 0.5 and task.accuracy_at(-1.0) == 0.5
    assert task.pairs(task.gate)["same object, other goal"]["share_above_gate"] == 1
