import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2skill.bank.journal import BankState, Credit, Insert
from d2skill.bank.worth import Influence, Worth
from d2skill.types import Skill, SkillText
from d2skill.utils.statistics import t_critical

signals = st.lists(st.floats(-1, 1), min_size=1, max_size=6)


def gathered(*iterations) -> Worth:
    """The worth of a skill with these signals in iterations 0, 1, ..., as a bank adds them up."""
    state = BankState()
    state.apply(Insert((Skill("t1", "task", SkillText("Look", "Open it.", "always"), "a task"),), 0))
    for number, own in enumerate(iterations):
        state.apply(Credit({"t1": own}, {"task": 0.1, "step": 0.1}, number))
    return state.worth("t1")


def test_without_signals_it_is_the_prior():
    nothing = Worth().posterior()
    assert (nothing.mean, Worth().size, Worth().last) == (0.0, 0.0, -1)
    assert nothing.high == -nothing.low == pytest.approx(4.303 * 0.5, abs=1e-3)
    assert Worth().posterior(prior=0.2).mean == 0.2


def test_worked_example():
    """Two iterations: four signals of mean 0.5, two of mean -0.25."""
    worth = gathered([1.0, 0.5, 0.5, 0.0], [-0.5, 0.0])
    assert worth.size == pytest.approx(36 / 20)
    assert worth.mean == pytest.approx(1.5 / 6)
    found = worth.posterior()
    assert found.mean == pytest.approx(1.8 * 0.25 / 2.8)
    between = (4 * 0.5**2 + 2 * 0.25**2) / 6 - 0.25**2
    variance = (2 * 0.25 + 1.8 * between + 1.8 / 2.8 * 0.25**2) / 3.8
    assert found.high - found.mean == pytest.approx(t_critical(3.8) * math.sqrt(variance / 2.8))


def test_signals_of_one_iteration_are_one_observation():
    assert gathered([0.5] * 40).size == 1.0
    assert gathered(*[[0.5]] * 40).size == 40.0


@settings(deadline=None)
@given(st.lists(signals, min_size=1, max_size=4))
def test_no_order_within_an_iteration_matters(iterations):
    expected = gathered(*iterations)
    for orders in itertools.islice(itertools.product(*map(itertools.permutations, iterations)), 50):
        assert gathered(*orders) == expected


@settings(deadline=None)
@given(st.floats(-1, 1), st.integers(2, 60))
def test_the_interval_narrows_around_the_truth(value, count):
    few, many = gathered(*[[value]] * count).posterior(), gathered(*[[value]] * 4 * count).posterior()
    assert many.high - many.low < few.high - few.low
    assert abs(many.mean - value) <= abs(few.mean - value)
    assert few.low <= few.mean <= few.high


def test_the_interval_covers_what_it_says():
    """Drawn from the prior's own model, 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(0)
    held, tries = 0, 4000
    for _ in range(tries):
        variance = 2 * 0.25 / rng.chisquare(2)
        truth = rng.normal(0, math.sqrt(variance))
        found = gathered(*[[x] for x in rng.normal(truth, math.sqrt(variance), 6)]).posterior()
        held += found.low <= truth <= found.high
    assert held / tries == pytest.approx(0.95, abs=0.012)


def test_a_narrower_interval_holds_the_mean_less_often():
    worth = gathered([0.5, 0.25], [0.75])
    half, most = worth.posterior(mass=0.5), worth.posterior()
    assert half.mean == most.mean
    # t with half of the mass for 3.8 degrees is 0.745 (tables: 0.765 for 3, 0.741 for 4), with 95 % of it 2.835
    assert (half.high - half.mean) / (most.high - most.mean) == pytest.approx(0.745 / 2.835, abs=2e-3)


def test_the_sum_of_two_is_that_of_all_signals():
    one, other = gathered([0.5, 0.25], [], [], [], [0.75]), gathered([], [], [-1.0])
    both = one + other
    assert (both.signals, both.total, both.last) == (4, 0.5, 4)
    assert both == other + one
    assert both == gathered([0.5, 0.25], [0.75], [], [], [-1.0])


def test_influence_counts_changes_and_adds_up_log_probabilities():
    assert Influence().add([(0.5, True), (0.25, False)]).add([(-1.0, True)]) == Influence(3, 2, -0.25)
