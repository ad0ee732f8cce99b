"""Trajectories as bytes and as rows of verl: exact except for tokens."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import group, skill, task, trajectory, turn

from d2skill.config import RewardConfig
from d2skill.credit import Hindsight, returns
from d2skill.types import Decision, Group, Observation, Prompt, Skill, SkillText, Task, Trajectory, Turn
from d2skill.verl.rows import ServerAnswer, episode_rows, pack, plain_return, unpack

TEXT = st.text(max_size=12)
SKILL = st.builds(
    Skill,
    TEXT,
    st.sampled_from(("task", "step")),
    st.builds(SkillText, TEXT, TEXT, TEXT),
    TEXT,
    TEXT,
    st.floats(-1, 1),
    st.integers(0, 9),
)
TEXTS, SKILLS = st.lists(TEXT, max_size=3).map(tuple), st.lists(SKILL, max_size=2).map(tuple)
PROMPT = st.builds(
    Prompt,
    *(TEXT, TEXT, TEXTS, st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple), SKILLS, SKILLS, TEXTS, TEXTS),
    st.integers(-1, 3),
)
TURN = st.builds(Turn, PROMPT, st.builds(Decision, TEXT, TEXT, st.just(()), st.just(())), st.booleans())
TRAJECTORY = st.builds(
    Trajectory,
    st.builds(Task, TEXT, TEXT, TEXT, TEXT),
    st.sampled_from(("skills", "none")),
    st.integers(0, 7),
    st.lists(TURN, max_size=4).map(tuple),
    TEXT,
    st.booleans(),
    TEXT,
    st.none() | st.floats(0, 1),
)
REWARD = RewardConfig(success=10.0, score=2.0, invalid_penalty=0.5, intrinsic=3.0)


def rows(of, answers, **given):
    return episode_rows(of, answers, REWARD, **({"filler": 7, "log_probs": True, "weights": 4} | given))


# bytes


@settings(max_examples=50, deadline=None)
@given(TRAJECTORY)
def test_a_round_trip_is_exact(played):
    assert unpack(pack(played)) == played


def test_tokens_and_log_probabilities_stay_behind():
    decided = Decision("<action>left</action>", "left", (3, 1, 4), (-0.5, -0.25, 0.0))
    played = trajectory(turns=[replace(turn(), decision=decided)])
    (back,) = unpack(pack(played)).turns
    assert back.decision == Decision("<action>left</action>", "left", (), ())
    assert (back.prompt, back.admissible) == (played.turns[0].prompt, True)


def test_what_prompts_share_takes_no_room():
    shown, past = skill("t1"), [(f"You see {i}.", f"go to {i}") for i in range(50)]
    played = trajectory(turns=[turn(skills=[shown], history=tuple(past[:i])) for i in range(50)])
    assert len(pack(played)) < 10 * len(repr(past))


# rows


def test_a_row_for_each_answer_and_the_trajectory_in_the_last():
    played = trajectory("skills", 2, True, [turn("left"), turn("jump")], score=0.5)
    told = {"min_global_steps": 3, "max_global_steps": 3}
    first, last = rows(
        played,
        [ServerAnswer((1, 2), (5, 6), (-0.1, -0.2), 0.25, told), ServerAnswer((1, 2, 3), (8,), (-0.3,), 0.5, told)],
    )
    assert (first.prompt, first.response, first.mask, first.log_probs) == ([1, 2], [5, 6], [1, 1], [-0.1, -0.2])
    assert (last.prompt, last.response, last.mask, last.log_probs) == ([1, 2, 3], [8], [1], [-0.3])
    assert (first.seconds, last.seconds) == (0.25, 0.5)
    # 10 for success and half of the 2 for the score; the penalty of the second turn is in its advantage
    assert (first.reward, last.reward) == (11.0, 11.0)
    assert first.extra == told | {"reward_extra_info": {"success": 1.0}}
    assert unpack(last.extra["trajectory"]) == unpack(pack(played))


@pytest.mark.parametrize(("log_probs", "expected"), [(True, [0.0]), (False, None)])
def test_an_empty_answer_is_one_masked_token(log_probs, expected):
    (row,) = rows(trajectory(), [ServerAnswer((1, 2), ())], log_probs=log_probs)
    assert (row.prompt, row.response, row.mask, row.log_probs) == ([1, 2], [7], [0], expected)


def test_a_session_that_never_began_is_one_masked_row_of_known_weights():
    failed = trajectory(turns=(), fault="EnvironmentFault: the lid fell")
    (row,) = rows(failed, [])
    assert (row.prompt, row.response, row.mask, row.log_probs) == ([7], [7], [0], [0.0])
    assert (row.extra["min_global_steps"], row.extra["max_global_steps"]) == (4, 4)
    assert unpack(row.extra["trajectory"]) == failed


def test_the_plain_return_is_that_of_the_local_engine_without_the_intrinsic_part():
    mixed = group([True, False], [False, True], turns=[turn("left"), turn("jump")])
    members = tuple(replace(t, score=i / 3) for i, t in enumerate(mixed.trajectories))
    bare = RewardConfig(success=10.0, score=2.0, invalid_penalty=0.5, intrinsic=0.0)
    together = returns(Group(task(), members), Hindsight(0.5, 0.5), bare)
    assert np.array_equal([plain_return(t, REWARD) for t in members], together)
    shaped = returns(Group(task(), members), Hindsight(0.5, 0.5), REWARD)
    assert not np.array_equal(shaped, together), "the intrinsic part is not in it"


def test_an_action_of_an_open_environment_is_no_penalty():
    assert Observation("Say something.").admits("hello")
    assert plain_return(trajectory(turns=[turn("hello", actions=())]), REWARD) == 0.0
