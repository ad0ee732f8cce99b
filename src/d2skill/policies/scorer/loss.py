"""The clipped policy-gradient loss of one choice among actions, with its gradient by hand (Eq. 6).

For a row with logits z over its admissible actions, probabilities p, chosen action a, behaviour log-probability l₀ and
advantage A, with r = exp(log p_a − l₀) and the reference q:

    loss = −min(r A, clip(r, 1−ε, 1+ε) A) + β k3,    k3 = q_a/p_a − log(q_a/p_a) − 1

k3 is the low-variance KL estimator at the chosen action. With g = d loss / d log p_a, d loss / d z = g (1_a − p).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Per row, shape [rows]: the loss, its derivative by the chosen log-probability, k3, and whether it was clipped."""

    loss: Floats
    slope: Floats
    kl: Floats
    clipped: npt.NDArray[np.bool_]


def clipped_loss(
    log_probs: Floats, old: Floats, reference: Floats, advantages: Floats, *, clip: float, kl: float
) -> LossTerms:
    """Returns Eq. 6 for each row; all arguments have shape [rows] and are log-probabilities of the chosen action."""
    ratio = np.exp(log_probs - old)
    plain, held = ratio * advantages, np.clip(ratio, 1 - clip, 1 + clip) * advantages
    clipped = held < plain
    gap = reference - log_probs
    k3 = np.exp(gap) - gap - 1
    slope = np.where(clipped, 0.0, -plain) + kl * (1 - np.exp(gap))
    return LossTerms(-np.minimum(plain, held) + kl * k3, slope, k3, clipped)
