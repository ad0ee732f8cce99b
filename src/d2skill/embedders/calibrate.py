"""Where related keys end and unrelated ones begin: the gate τ_sim that belongs to an embedder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
