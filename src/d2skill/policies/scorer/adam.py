"""Adam optimiser of the scorer's weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam (Kingma and Ba, 2015) of one NumPy vector, in place.

    Elements whose gradient was always 0 do not move. Moments are kept of the others alone, which are far fewer, and a
    step makes no arrays: to go through memory would take most of its time.
    """

    def __init__(self, size: int) -> None:
        """Begins without momentum; `size` is the length of the vector."""
        self.steps = 0
        self._moves = np.zeros(size, dtype=bool)
        self._count = 0  # elements that move; the first columns of the following are theirs
        self._elements = np.zeros(0, dtype=np.int64)
        self._moments: Floats = np.zeros((2, 0))
        self._work: Floats = np.zeros((2, 0))

    def descend(self, weights: Floats, gradient: Floats, rate: float) -> None:
        """Moves `weights` against the gradient."""
        self.steps += 1
        self._admit(np.flatnonzero(gradient.astype(bool) > self._moves))
        elements = self._elements[: self._count]
        (first, second), (slope, work) = self._moments[:, : self._count], self._work[:, : self._count]
        gradient.take(elements, out=slope, mode="clip")
        first += np.multiply(np.subtract(slope, first, out=work), 1 - _BETA1, out=work)
        np.subtract(np.multiply(slope, slope, out=work), second, out=work)
        second += np.multiply(work, 1 - _BETA2, out=work)
        scale = rate * np.sqrt(1 - _BETA2**self.steps) / (1 - _BETA1**self.steps)
        np.add(np.sqrt(second, out=work), _EPSILON, out=work)
        np.divide(np.multiply(first, scale, out=slope), work, out=slope)
        weights[elements] -= slope

    def moments(self) -> Floats:
        """Returns the first and the second moments of all elements, shape [2, size]."""
        dense = np.zeros((2, len(self._moves)))
        dense[:, self._elements[: self._count]] = self._moments[:, : self._count]
        return dense

    def restore(self, moments: Floats, steps: int) -> None:
        """Goes on after `steps` steps, given what `moments` returned then; this one has taken none."""
        self._admit(np.flatnonzero(moments.any(axis=0)))
        self._moments[:, : self._count] = moments[:, self._elements[: self._count]]
        self.steps = steps

    def _admit(self, new: npt.NDArray[np.int64]) -> None:
        """Adds elements to those that move."""
        end = self._count + len(new)
        if end > len(self._elements):
            room = max(end, 2 * self._count)
            order = np.argsort(self._elements[: self._count])  # a sorted vector is gone through faster
            moments = np.zeros((2, room))
            moments[:, : self._count] = self._moments[:, order]
            self._moments, self._work = moments, np.empty((2, room))
            self._elements = np.resize(self._elements[order], room)
        self._elements[self._count : end] = new
        self._moves[new] = True
        self._count = end
