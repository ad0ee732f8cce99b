from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2skill.policies.scorer.loss import clipped_loss


def one(ratio: float, advantage: float, kl: float = 0.0, reference_over_p: float = 1.0):
    """The terms of a single row with p = 0.2."""
    p = log(0.2)
    terms = clipped_loss(
        np.array([p]),
        np.array([p - log(ratio)]),
        np.array([p + log(reference_over_p)]),
        np.array([advantage]),
        clip=0.2,
        kl=kl,
    )
    return terms.loss[0], terms.slope[0], terms.kl[0], bool(terms.clipped[0])


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope", "clipped"),
    [
        (1.0, 2.0, -2.0, -2.0, False),
        (1.1, 2.0, -2.2, -2.2, False),
        (1.5, 2.0, -2.4, 0.0, True),  # min(1.5·2, 1.2·2) = 2.4
        (0.5, 2.0, -1.0, -1.0, False),  # min(0.5·2, 0.8·2) = 1: what is good is always pulled up
        (1.0, -2.0, 2.0, 2.0, False),
        (1.5, -2.0, 3.0, 3.0, False),  # min(1.5·−2, 1.2·−2) = −3: what is bad is always pushed down
        (0.5, -2.0, 1.6, 0.0, True),  # min(0.5·−2, 0.8·−2) = −1.6
        (1.5, 0.0, 0.0, 0.0, False),
    ],
)
def test_eq6_clipped_ratio(ratio, advantage, loss, slope, clipped):
    got = one(ratio, advantage)
    assert got[:2] == pytest.approx((loss, slope), abs=1e-12)
    assert got[3] is clipped


def test_eq6_low_variance_kl():
    # q/p = 2: k3 = 2 − log 2 − 1 = 0.306853; its derivative by log p is 1 − q/p = −1
    loss, slope, kl, _ = one(1.0, 0.0, kl=0.5, reference_over_p=2.0)
    assert (loss, slope, kl) == pytest.approx((0.5 * 0.3068528, 0.5 * -1.0, 0.3068528), abs=1e-6)
    # q/p = 1/2: 0.5 + log 2 − 1 = 0.193147; 1 − 1/2
    loss, slope, kl, _ = one(1.0, 0.0, kl=0.5, reference_over_p=0.5)
    assert (loss, slope, kl) == pytest.approx((0.5 * 0.1931472, 0.5 * 0.5, 0.1931472), abs=1e-6)


def test_the_kl_term_still_pulls_where_the_ratio_is_clipped():
    assert one(1.5, 2.0, kl=0.5, reference_over_p=2.0)[1] == pytest.approx(-0.5)


logs = st.floats(-6, -0.01)


@settings(max_examples=100, deadline=None)
@given(logs, logs, logs, st.floats(-3, 3), st.floats(0, 1))
def test_the_slope_is_the_derivative_of_the_loss(p, old, reference, advantage, kl):
    def at(x: float):
        args = (np.array([x]), np.array([old]), np.array([reference]), np.array([advantage]))
        return clipped_loss(*args, clip=0.2, kl=kl)

    near_edge = min(abs(exp(p - old) - 0.8), abs(exp(p - old) - 1.2)) < 1e-3
    if near_edge:
        return
    step = 1e-6
    numeric = (at(p + step).loss[0] - at(p - step).loss[0]) / (2 * step)
    assert at(p).slope[0] == pytest.approx(numeric, rel=1e-4, abs=1e-5)
    assert at(p).kl[0] >= 0
