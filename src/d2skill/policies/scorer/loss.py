"""Policy loss of Eq. 6 for one choice among actions, in NumPy, with its gradient.

For a row with logits z over its admissible actions, probabilities p, chosen action a, old log-probability l₀ and
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
    """Terms of Eq. 6, each [rows]: loss, its derivative by the log-probability, k3, and whether it was clipped."""

    loss: Floats
    slope: Floats
    kl: Floats
    clipped: npt.NDArray[np.bool_]


def clipped_loss(
    log_probs: Floats, old: Floats, reference: Floats, advantages: Floats, *, clip: float, kl: float
) -> LossTerms:
    """Returns Eq. 6 for each row.

    Args:
        log_probs: log-probabilities [rows] of the chosen actions under the policy.
        old: the same when they were chosen.
        reference: the same under the reference policy.
        advantages: advantages [rows] of their trajectories.
        clip: ε, the clipping range of the ratio.
        kl: β, the weight of the KL term.
    """
    ratio = np.exp(log_probs - old)
    plain, held = ratio * advantages, np.clip(ratio, 1 - clip, 1 + clip) * advantages
    clipped = held < plain
    gap = reference - log_probs
    k3 = np.exp(gap) - gap - 1
    slope = np.where(clipped, 0.0, -plain) + kl * (1 - np.exp(gap))
    return LossTerms(-np.minimum(plain, held) + kl * k3, slope, k3, clipped)
