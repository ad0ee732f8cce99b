import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import FaultyEnvironment, ScriptedPolicy, TreasureEnvironment, group, make_bank, skill, trajectory, turn

from d2skill.config import AdvantageConfig, PromptConfig, RewardConfig
from d2skill.credit import Hindsight, advantages, credited_utilities, hindsight, policy_batch, returns, signals
from d2skill.rollout import Rollouts
from d2skill.types import Group

REWARD = RewardConfig(success=10, invalid_penalty=1, penalty="trajectory", intrinsic=1)


def by_trajectory(group, shaped, settings):
    """The advantage of each trajectory, which all of its turns have."""
    found = advantages(group, shaped, settings)
    assert all(len(set(own.tolist())) == 1 for own in found)
    return np.array([own[0] for own in found])


# The group of all numbers below: successes 1 1 0 1 | 0 1 0 0, turns 1 2 1 1 | 1 1 1 2,
# inadmissible actions 0 2 0 0 | 0 1 1 0.
_MEMBERS = [(1, 1, 0), (1, 2, 2), (0, 1, 0), (1, 1, 0), (0, 1, 0), (1, 1, 1), (0, 1, 1), (0, 2, 0)]
WORKED = Group(
    trajectory().task,
    tuple(
        trajectory("skills" if i < 4 else "none", i, bool(y), [turn("sing" if k < wrong else "left") for k in range(n)])
        for i, (y, n, wrong) in enumerate(_MEMBERS)
    ),
)
# R = 10 Y − penalties; R_int = Y − 0.25 for the first four:
# 10 + 0.75, 10 − 2 + 0.75, 0 − 0.25, 10 + 0.75 | 0, 10 − 1, −1, 0
RETURNS = [10.75, 8.75, -0.25, 10.75, 0.0, 9.0, -1.0, 0.0]


def test_eq1_gap_of_the_halves():
    (seen,) = hindsight([WORKED])
    assert (seen.skilled, seen.baseline) == (3 / 4, 1 / 4)
    assert seen.gap == 0.5


def test_eq2_gain_of_each_skill_trajectory():
    (seen,) = hindsight([WORKED])
    assert [seen.gain(t) for t in WORKED.trajectories] == [0.75, 0.75, -0.25, 0.75, 0, 0, 0, 0]


def test_eq4_returns():
    (seen,) = hindsight([WORKED])
    assert returns(WORKED, seen, REWARD).tolist() == RETURNS


def test_a_score_is_rewarded_only_if_asked():
    partly = Group(WORKED.task, tuple(replace(t, score=0.5) for t in WORKED.trajectories))
    (seen,) = hindsight([partly])
    assert returns(partly, seen, REWARD).tolist() == RETURNS
    more = REWARD.model_copy(update={"score": 4.0})
    assert (returns(partly, seen, more) - RETURNS).tolist() == [2.0] * 8
    assert returns(WORKED, seen, more).tolist() == RETURNS


def test_eq4_lambda_scales_the_intrinsic_reward_alone():
    (seen,) = hindsight([WORKED])
    double = returns(WORKED, seen, RewardConfig(success=10, invalid_penalty=1, penalty="trajectory", intrinsic=2))
    assert (double - RETURNS).tolist() == [0.75, 0.75, -0.25, 0.75, 0, 0, 0, 0]


def test_eq5_over_the_group():
    # mean 38/8 = 4.75; squared deviations 36+16+25+36+22.5625+18.0625+33.0625+22.5625 = 209.25, /7, root 5.467436
    got = by_trajectory(WORKED, np.array(RETURNS), AdvantageConfig(normalise="group"))
    deviations = np.array([6, 4, -5, 6, -4.75, 4.25, -5.75, -4.75])
    assert got == pytest.approx(deviations / 5.467436, rel=1e-6)


def test_eq5_over_each_half():
    # skill half: mean 7.5, squares 10.5625+1.5625+60.0625+10.5625 = 82.75, /3, root 5.251984
    # baseline: mean 2, squares 4+49+9+4 = 66, /3, root 4.690416
    got = by_trajectory(WORKED, np.array(RETURNS), AdvantageConfig(normalise="half"))
    assert got[:4] == pytest.approx(np.array([3.25, 1.25, -7.75, 3.25]) / 5.251984, rel=1e-6)
    assert got[4:] == pytest.approx(np.array([-2, 7, -3, -2]) / 4.690416, rel=1e-6)


def test_eq5_over_rows_weighs_long_trajectories_more():
    # ten rows, 8.75 and the last 0 twice: mean 46.75/10 = 4.675, squares 466.3125 − 10·4.675² = 247.75625, /9, root
    # 5.246758
    got = by_trajectory(WORKED, np.array(RETURNS), AdvantageConfig(normalise="rows"))
    assert got == pytest.approx((np.array(RETURNS) - 4.675) / 5.246758, rel=1e-6)


def test_a_row_for_each_decision_with_the_advantage_of_its_trajectory():
    rows = policy_batch([WORKED], hindsight([WORKED]), REWARD, AdvantageConfig())
    turns = [(t, one) for t in WORKED.trajectories for one in t.turns]
    expected = by_trajectory(WORKED, np.array(RETURNS), AdvantageConfig())
    assert len(rows) == 10
    for row, (owner, one) in zip(rows, turns, strict=True):
        assert (row.prompt, row.decision) == (one.prompt, one.decision)
        assert row.advantage == expected[owner.index]


def test_an_inadmissible_action_lowers_the_advantage_of_its_own_row():
    # returns 10 and 0; scores 10 9 | 0 0: means 9.5 and 0, their variance 45.125, mean variance within (0.25 + 0) / 2
    one = group([], [True, False], turns=[turn("left"), turn("jump")])
    one = replace(one, trajectories=(one.trajectories[0], replace(one.trajectories[1], turns=(turn("left"),) * 2)))
    rows = policy_batch([one], hindsight([one]), RewardConfig(success=10, invalid_penalty=1), AdvantageConfig())
    scale = np.sqrt(45.125 + 0.125)
    assert [row.advantage for row in rows] == pytest.approx(np.array([5.25, 4.25, -4.75, -4.75]) / scale, rel=1e-5)


def test_penalties_of_equal_returns_stay_of_the_size_of_the_others():
    """All fail, one action in 40 is inadmissible: without the variance within, its advantage would be a million."""
    one = group([False, False], [False, False], turns=[turn("left")] * 10)
    odd = replace(one.trajectories[0], turns=(turn("jump"), *one.trajectories[0].turns[1:]))
    one = replace(one, trajectories=(odd, *one.trajectories[1:]))
    rows = policy_batch([one], hindsight([one]), RewardConfig(), AdvantageConfig())
    assert rows[0].advantage == pytest.approx(-0.975, abs=1e-5) and all(abs(row.advantage) < 1 for row in rows)
    assert np.mean([row.advantage for row in rows]) == pytest.approx(0, abs=1e-6)


def test_a_long_episode_keeps_its_reward_though_some_of_its_actions_are_inadmissible():
    """40 steps of which 15 % are inadmissible cost 6 of a success of 10 as a penalty of the trajectory."""
    turns = [turn("jump" if step % 20 < 3 else "left") for step in range(40)]
    one = group([], [True, False], turns=turns)
    (seen,) = hindsight([one])
    assert returns(one, seen, RewardConfig(penalty="trajectory")).tolist() == [4.0, -6.0]
    assert returns(one, seen, RewardConfig()).tolist() == [10.0, 0.0]


def values(*given):
    return {skill_id: [signal.value for signal in own] for skill_id, own in signals(*given).items()}


def test_a_task_skill_gets_the_gap_once_per_group():
    shown = [turn(skills=[skill("t1")]), turn(skills=[skill("t1"), skill("t2")])]
    groups = [group([True, False], [False, False], turns=shown), group([True, True], [True, False], turns=shown)]
    # gaps 1/2 − 0 and 1 − 1/2
    assert values(groups, hindsight(groups)) == {"t1": [0.5, 0.5], "t2": [0.5, 0.5]}


def test_a_step_skill_gets_the_gain_once_per_trajectory_however_often_shown():
    often = [turn(skills=[skill("s1")])] * 3
    members = (
        trajectory("skills", 0, True, often),
        trajectory("skills", 1, False, [turn(skills=[skill("s1"), skill("s2")]), turn()]),
        trajectory("none", 2, True),
        trajectory("none", 3, False),
    )
    groups = [Group(members[0].task, members)]
    assert values(groups, hindsight(groups)) == {"s1": [0.5, -0.5], "s2": [-0.5]}


def test_a_task_skill_on_trial_gets_the_mean_gain_of_those_that_tried_it():
    members = (
        trajectory("skills", 0, False, [turn(skills=[skill("t1")])]),
        trajectory("skills", 1, True, [turn(skills=[skill("t1"), skill("t2")])]),
        trajectory("skills", 2, True, [turn(skills=[skill("t2")]), turn(skills=[skill("t2"), skill("s1")])]),
        trajectory("none", 3, True),
        trajectory("none", 4, False),
    )
    groups = [Group(members[0].task, members)]
    # gap 2/3 − 1/2, gains −1/2, 1/2, 1/2
    assert values(groups, hindsight(groups), {"t2", "s1"}) == {"t1": [2 / 3 - 0.5], "t2": [0.5], "s1": [0.5]}
    assert values(groups, hindsight(groups))["t2"] == [2 / 3 - 0.5]


def test_signals_name_the_group_or_the_trajectory_that_they_are_from():
    groups = [group([True, False], [False], turns=[turn(skills=[skill("t1"), skill("s1")])])]
    task = groups[0].task.id
    found = signals(groups, hindsight(groups))
    assert {skill_id: [signal.source for signal in own] for skill_id, own in found.items()} == {
        "t1": [f"{task}#"],
        "s1": [f"{task}#0", f"{task}#1"],
    }


def test_without_a_baseline_half_signals_are_the_successes_themselves():
    shown = [turn(skills=[skill("t1"), skill("s1")])]
    alone = group([True, False, True, True], [], turns=shown)
    (seen,) = hindsight([alone])
    assert (seen.baseline, seen.skilled, seen.gap) == (None, 0.75, 0.75)
    assert [seen.gain(t) for t in alone.trajectories] == [1, 0, 1, 1]
    assert values([alone], [seen]) == {"t1": [0.75], "s1": [1, 0, 1, 1]}
    assert values([alone], [seen], {"t1"})["t1"] == [0.75]


def test_without_a_baseline_half_there_is_no_intrinsic_reward():
    alone = group([True, False], [], turns=[turn(skills=[skill("t1"), skill("s1")])])
    (seen,) = hindsight([alone])
    assert [seen.intrinsic(t) for t in alone.trajectories] == [0, 0]
    assert returns(alone, seen, REWARD).tolist() == [10, 0]
    # mean 5, squares 25 + 25, /1, root 7.071068
    got = by_trajectory(alone, returns(alone, seen, REWARD), AdvantageConfig())
    assert got == pytest.approx(np.array([5, -5]) / 7.071068, rel=1e-6)


def test_a_baseline_half_that_only_fails_is_still_one():
    """Δ is the same number as without one, but there is something to compare with, so the reward is there."""
    one = group([True, False], [False, False])
    (seen,) = hindsight([one])
    assert (seen.baseline, seen.gap) == (0.0, 0.5)
    assert returns(one, seen, REWARD).tolist() == [11, 0, 0, 0]


def test_faults_never_leave_a_half_empty():
    """Not even one of which no episode could be started: those count as failures."""

    class Breaking(TreasureEnvironment):
        starts = 0

        def start(self, task_id):
            self.starts += 1
            if self.starts > 2:  # the baseline half comes second
                raise OSError("no chests left")
            return super().start(task_id)

    rollouts = Rollouts(Breaking(1), ScriptedPolicy(lambda p: p.actions[-1]), make_bank(), PromptConfig(), 5)
    groups = rollouts.groups(["train/000"], group_size=4, with_skills=2, temperature=1.0, seed=0)
    assert [bool(t.fault) for t in groups[0].trajectories] == [False, False, True, True]
    (seen,) = hindsight(groups)
    assert (seen.skilled, seen.baseline, seen.gap) == (1.0, 0.0, 1.0)


def test_without_a_skill_half_it_is_plain_grpo():
    alone = group([], [True, False, True])
    (seen,) = hindsight([alone])
    assert (seen.skilled, seen.gap) == (None, 0.0)
    assert signals([alone], [seen]) == {}
    assert returns(alone, seen, REWARD).tolist() == [10, 0, 10]


@pytest.mark.parametrize("normalise", ["group", "half", "rows"])
def test_equal_returns_and_lone_trajectories_have_no_advantage(normalise):
    mode = AdvantageConfig(normalise=normalise)
    for one in (group([True, True], [True, True]), group([True], []), group([], [True])):
        shaped = returns(one, hindsight([one])[0], REWARD)
        assert by_trajectory(one, shaped, mode).tolist() == [0.0] * len(one.trajectories)


def test_a_trajectory_that_ended_in_a_fault_counts_as_a_failure():
    breaks = iter([False, True])  # the second member, of the baseline half, when it takes the gem
    faulty = FaultyEnvironment(TreasureEnvironment(1), lambda task, action: action.startswith("take") and next(breaks))
    policy = ScriptedPolicy(lambda p: p.actions[-1])
    rollouts = Rollouts(faulty, policy, make_bank(), PromptConfig(), 5)
    groups = rollouts.groups(["train/000"], group_size=2, with_skills=1, temperature=1.0, seed=0)
    assert [bool(t.fault) for t in groups[0].trajectories] == [False, True]
    (seen,) = hindsight(groups)
    assert (seen.skilled, seen.baseline, seen.gap) == (1.0, 0.0, 1.0)
    assert returns(groups[0], seen, REWARD).tolist() == [11.0, 0.0]


def test_hindsights_have_to_match_the_groups():
    with pytest.raises(ValueError, match="shorter"):
        signals([WORKED], [])


@st.composite
def groups(draw):
    flags = st.booleans()
    length = st.lists(st.booleans(), min_size=1, max_size=3)
    size = draw(st.integers(1, 8))
    own = [(draw(st.sampled_from(["skills", "none"])), draw(flags), draw(length)) for _ in range(size)]
    members = [
        trajectory(
            arm, i, y, [turn("left" if fine else "sing", [skill("s1")] if arm == "skills" else []) for fine in n]
        )
        for i, (arm, y, n) in enumerate(own)
    ]
    return Group(members[0].task, tuple(members))


@settings(max_examples=80, deadline=None)
@given(groups())
def test_advantages_are_centred(one):
    (seen,) = hindsight([one])
    shaped = returns(one, seen, REWARD)
    over_group = by_trajectory(one, shaped, AdvantageConfig(normalise="group"))
    assert abs(over_group.mean()) < 1e-9
    assert over_group.std() < 1 + 1e-9
    over_half = by_trajectory(one, shaped, AdvantageConfig(normalise="half"))
    for arm in ("skills", "none"):
        own = [a for a, t in zip(over_half, one.trajectories, strict=True) if t.arm == arm]
        assert not own or abs(np.mean(own)) < 1e-9


@settings(max_examples=80, deadline=None)
@given(groups())
def test_the_baseline_half_never_gets_an_intrinsic_reward(one):
    (seen,) = hindsight([one])
    for t, shaped in zip(one.trajectories, returns(one, seen, REWARD), strict=True):
        if t.arm == "none" or not one.half("none"):
            assert shaped == 10 * t.success - t.invalid_actions


@settings(max_examples=80, deadline=None)
@given(groups(), st.randoms(use_true_random=False), st.sampled_from(["group", "half", "rows"]))
def test_permuting_the_trajectories_permutes_the_results_and_nothing_else(one, random, normalise):
    order = list(range(len(one.trajectories)))
    random.shuffle(order)
    other = Group(one.task, tuple(one.trajectories[i] for i in order))
    (seen,), (seen_other,) = hindsight([one]), hindsight([other])
    assert seen == seen_other
    shaped, shaped_other = returns(one, seen, REWARD), returns(other, seen_other, REWARD)
    assert shaped[order].tolist() == shaped_other.tolist()
    mode = AdvantageConfig(normalise=normalise)
    assert by_trajectory(other, shaped_other, mode) == pytest.approx(by_trajectory(one, shaped, mode)[order], abs=1e-9)
    found, found_other = signals([one], [seen]), signals([other], [seen_other])
    assert {k: sorted(v) for k, v in found.items()} == {k: sorted(v) for k, v in found_other.items()}


def test_hindsight_of_an_empty_skill_half_has_no_gap():
    assert Hindsight(baseline=1.0, skilled=None).gap == 0.0
    assert Hindsight(baseline=None, skilled=None).gap == 0.0


# Eq. 3


def credited(utility, signals, beta):
    """Eq. 3 for one skill."""
    return credited_utilities(np.array([utility]), [signals], [beta]).item()


def test_eq3_by_hand():
    assert credited(0.2, [0.6], 0.5) == pytest.approx(0.4)
    assert credited(0.2, [0.6], 0.25) == pytest.approx(0.3)
    # 0.25 · 0.4 + 0.75 · mean(1, −0.5) = 0.1 + 0.1875
    assert credited(0.4, [1.0, -0.5], 0.5) == pytest.approx(0.2875)
    assert credited(0.4, [], 0.5) == 0.4


@given(st.lists(st.tuples(st.floats(-1, 1), st.lists(st.floats(-1, 1), max_size=4), st.floats(0, 1)), max_size=8))
def test_eq3_of_many_skills_is_that_of_each_to_the_last_bit(skills):
    """Against Eq. 3 in Python's numbers, which are those of all journals so far."""
    utilities, signals, betas = zip(*skills, strict=True) if skills else ((), (), ())
    found = credited_utilities(np.array(utilities, dtype=np.float64), signals, betas)
    for value, utility, own, beta in zip(found.tolist(), utilities, signals, betas, strict=True):
        kept = (1.0 - beta) ** len(own)
        assert value == (kept * utility + (1.0 - kept) * (math.fsum(own) / len(own)) if own else utility)


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_eq3_is_the_mean_over_all_orders(beta):
    utility, signals = 0.3, [1.0, -0.25, 0.5, 0.0, -1.0]
    ends = []
    for order in itertools.permutations(signals):
        u = utility
        for signal in order:
            u = (1 - beta) * u + beta * signal
        ends.append(u)
    assert credited(utility, signals, beta) == pytest.approx(np.mean(ends), abs=1e-12)


@given(st.permutations([0.1, 0.2, 0.3, -0.7, 1 / 3, 1e-9, -1.0]))
def test_eq3_is_bitwise_free_of_order(signals):
    assert credited(0.1, signals, 0.3) == credited(0.1, sorted(signals), 0.3)


@pytest.mark.parametrize("penalty", [0.001, 1.0, 5.0])
@pytest.mark.parametrize("normalise", ["group", "half", "rows"])
def test_a_penalty_is_one_standard_deviation_at_most_where_returns_are_alike(penalty, normalise):
    one = group([False] * 4, [True] * 4, turns=[turn("left")] * 50)
    odd = replace(one.trajectories[0], turns=(turn("jump"), *one.trajectories[0].turns[1:]))
    one = replace(one, trajectories=(odd, *one.trajectories[1:]))
    reward = RewardConfig(invalid_penalty=penalty, intrinsic=0.0)
    rows = policy_batch([one], hindsight([one]), reward, AdvantageConfig(normalise=normalise))
    others = [row.advantage for row in rows[1:200]]
    assert len(set(others)) == 1 and -1.0 <= rows[0].advantage - others[0] < 0
