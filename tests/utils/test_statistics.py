"""Intervals and tests against numbers worked by hand, tables, and their coverage on simulated data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2skill.utils import statistics
from d2skill.utils.statistics import mcnemar, mean_with_interval, paired_difference, t_critical, wilson


def test_wilson_by_hand():
    # 5 of 10, z² = 3.841459: centre (0.5 + 0.192073)/1.384146 = 0.5,
    # half width 1.959964·sqrt(0.025 + 0.009604)/1.384146 = 0.263406
    assert wilson(5, 10) == pytest.approx((0.236594, 0.763406), abs=1e-6)
    # 0 of 10: upper end z²/(n + z²)
    assert wilson(0, 10) == pytest.approx((0.0, 3.841459 / 13.841459), abs=1e-6)
    assert wilson(81, 128) == pytest.approx((0.546570, 0.711315), abs=1e-6)  # 0.628943 ∓ 0.082373


def test_nothing_tried_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_and_mirrors(case):
    successes, n = case
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n + 1e-12 and successes / n - 1e-12 <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    assert all(type(end) is float for end in (low, high))


def test_wilson_covers():
    """Of 95 % intervals about 95 hold the truth."""
    rng = np.random.default_rng(0)
    inside = [low <= 0.7 <= high for low, high in (wilson(int(k), 128) for k in rng.binomial(128, 0.7, 2000))]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_paired_difference_by_hand():
    mean, (low, high) = paired_difference([1, 1, 1, 0], [0, 1, 0, 1])
    assert mean == pytest.approx(0.25)  # (1 + 0 + 1 − 1)/4
    assert -0.75 <= low < 0 < 0.25 < high <= 1


def test_pairs_that_never_differ_leave_doubt():
    """By hand, Tango's score interval: -z²/(n + z²) to z²/(n + z²), and from (n - z²)/(n + z²) to 1 if all differ."""
    z2 = 3.841459
    mean, interval = paired_difference([1, 0, 1], [1, 0, 1])
    assert mean == 0.0 and interval == pytest.approx((-z2 / (3 + z2), z2 / (3 + z2)))
    mean, interval = paired_difference([1] * 8, [0] * 8)
    assert mean == 1.0 and interval == pytest.approx(((8 - z2) / (8 + z2), 1.0))
    mean, interval = paired_difference([0] * 8, [1] * 8)
    assert mean == -1.0 and interval == pytest.approx((-1.0, -(8 - z2) / (8 + z2)))
    assert paired_difference([], []) == (0.0, (0.0, 0.0))


@given(st.integers(1, 300), st.floats(-1, 1))
def test_equal_differences_have_an_interval_around_them(n, difference):
    mean, (low, high) = paired_difference([max(0.0, difference)] * n, [max(0.0, -difference)] * n)
    assert -1 - 1e-12 <= low <= mean <= high <= 1 + 1e-12 and high - low > 1 / n
    fewer = paired_difference([max(0.0, difference)] * (n + 1), [max(0.0, -difference)] * (n + 1))[1]
    assert fewer[1] - fewer[0] < high - low


def test_rare_differences_are_inside_the_interval_of_none_seen():
    """With nothing seen in 128 tasks, a difference of 2 points is still possible, and covered as often as promised."""
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(300):
        first = rng.random(128) < 0.02
        low, high = paired_difference(first, np.zeros(128))[1]
        inside += low <= 0.02 <= high
    assert inside / 300 > 0.9


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(1)
    hard = rng.random(128) < 0.5
    better = hard | (rng.random(128) < 0.1)
    _, paired = paired_difference(better, hard)
    _, unpaired = paired_difference(better, rng.permutation(hard))
    assert paired[1] - paired[0] < 0.6 * (unpaired[1] - unpaired[0])


def test_the_bootstrap_agrees_with_the_normal_interval():
    rng = np.random.default_rng(2)
    one, two = rng.random(200) < 0.8, rng.random(200) < 0.6
    differences = one.astype(float) - two
    half = 1.96 * differences.std() / np.sqrt(200)
    mean, (low, high) = paired_difference(one, two)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.015)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_the_difference_is_reproducible_and_antisymmetric(pairs):
    one, two = zip(*pairs, strict=True)
    mean, (low, high) = paired_difference(one, two)
    assert paired_difference(one, two) == (mean, (low, high))
    assert low <= mean + 1e-12 and mean - 1e-12 <= high
    back, (lower, upper) = paired_difference(two, one)
    assert (back, lower, upper) == pytest.approx((-mean, -high, -low), abs=1e-9)


def test_pairs_have_to_match():
    with pytest.raises(ValueError, match="broadcast"):
        paired_difference([1, 0, 1], [1, 0])


def test_the_mean_by_hand():
    mean, (low, high) = mean_with_interval([0.5] * 9)  # 0.5 ∓ 0.5 z²/(9 + z²)
    assert mean == 0.5 and (low, high) == pytest.approx((0.350427, 0.649573), abs=1e-6)
    assert mean_with_interval([1.0] * 9)[1] == pytest.approx(wilson(9, 9))
    assert mean_with_interval([]) == (0.0, (0.0, 0.0))
    mean, (low, high) = mean_with_interval([1, 0] * 50)
    assert mean == 0.5 and (low, high) == pytest.approx((0.4, 0.6), abs=0.011)  # 1.96·0.5/sqrt(100) = 0.098


def test_means_over_seeds_cover_although_episodes_of_a_task_are_alike():
    """Tasks are the clusters: with episodes as if independent, far fewer than 95 of 100 intervals would hold."""
    rng = np.random.default_rng(3)
    inside, pretended = [], []
    for _ in range(300):
        solved = rng.binomial(5, rng.beta(0.4, 0.4, size=60))  # of 5 seeds, in 60 tasks that are easy or hard
        _, (low, high) = mean_with_interval((solved / 5).tolist())
        inside.append(low <= 0.5 <= high)
        low, high = wilson(int(solved.sum()), 300)
        pretended.append(low <= 0.5 <= high)
    assert np.mean(inside) == pytest.approx(0.945, abs=0.03)
    assert np.mean(pretended) < 0.8


def test_paired_differences_cover():
    rng = np.random.default_rng(4)
    inside = []
    for _ in range(300):
        hard, helped = rng.random(100) < 0.5, rng.random(100) < 0.2
        _, (low, high) = paired_difference(hard | helped, hard)
        inside.append(low <= 0.1 <= high)
    assert np.mean(inside) == pytest.approx(0.945, abs=0.03)


def test_resampling_does_not_hang_on_how_much_is_drawn_at_a_time(monkeypatch):
    values = np.random.default_rng(5).random(37).tolist()
    whole = mean_with_interval(values)
    monkeypatch.setattr(statistics, "_BLOCK", 999)
    assert mean_with_interval(values) == whole


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2·(1/2)
        (5, 5, 1.0),
        (6, 0, 2 / 64),
        (1, 7, 2 * (1 + 8) / 256),
        (10, 2, 2 * (1 + 12 + 66) / 4096),
        (1000, 1000, 1.0),
    ],
)
def test_mcnemar_by_hand(wins, losses, p):
    assert mcnemar(wins, losses) == mcnemar(losses, wins) == pytest.approx(p)


def test_mcnemar_keeps_its_level():
    rng = np.random.default_rng(6)
    found = [mcnemar(wins := int(rng.binomial(40, 0.5)), 40 - wins) for _ in range(2000)]
    assert 0.01 < np.mean(np.array(found) <= 0.05) <= 0.055


@pytest.mark.parametrize(
    ("degrees", "t"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (30, 2.0423), (1000, 1.9623)],
)
def test_student_s_t_as_in_tables(degrees, t):
    assert t_critical(degrees) == pytest.approx(t, abs=1e-4)


def test_student_s_t_of_other_shares():
    assert t_critical(4, 0.9) == pytest.approx(2.1318, abs=1e-4)
    assert t_critical(10, 0.99) == pytest.approx(3.1693, abs=1e-4)
