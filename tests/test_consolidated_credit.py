"""Signals of step skills by act: it became possible while it was shown, less the baseline half's share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import group, skill, trajectory, turn

from d2skill.credit import hindsight, signals
from d2skill.types import Group

RIGHT = skill("s1", "ruby: in chest 3", "Open chest 3, then take ruby from chest 3.")
WRONG = skill("s2", "ruby: in chest 1", "Open chest 1, then take ruby from chest 1.")
VAGUE = skill("s3", "ruby: beware", "")
PROCEDURE = skill("t1", "take", "Take ruby from chest.")
SHUT = ("open chest 1", "open chest 2", "open chest 3")
OPEN = (*SHUT, "take ruby 1 from chest 3")
ELSEWHERE = (*SHUT, "take ruby 2 from chest 2")


def member(arm, index, success, *shown):
    """An episode whose turns show some skills and offer some actions."""
    turns = [turn("open chest 3", skills, actions=actions) for skills, actions in shown]
    return trajectory(arm, index, success, turns)


def worked() -> Group:
    members = (
        member("skills", 0, True, ([RIGHT, PROCEDURE], SHUT), ([RIGHT], OPEN)),
        member("skills", 1, False, ([WRONG, VAGUE], SHUT), ([WRONG], SHUT), ([RIGHT], SHUT)),
        member("skills", 2, False, ([WRONG], SHUT), ([], OPEN)),
        member("none", 3, True, ([], SHUT), ([], ELSEWHERE)),
        member("none", 4, False, ([], SHUT)),
        member("none", 5, False, ([], SHUT)),
        member("none", 6, False, ([], SHUT)),
    )
    return Group(members[0].task, members)


def values(by, group=None):
    groups = [group or worked()]
    found = signals(groups, hindsight(groups), by=by)
    return {skill_id: [signal.value for signal in own] for skill_id, own in found.items()}


def test_a_worked_example():
    """A ruby was in reach of one in four without skills, though of another one at another place."""
    assert values("act") == {
        "t1": pytest.approx([1 / 3 - 1 / 4]),  # of a task skill Δ as ever
        "s1": [1 - 1 / 4, 0 - 1 / 4],
        "s2": [0 - 1 / 4, 0 - 1 / 4],  # the ruby that was seen later was not seen where it says
        "s3": [0 - 1 / 4],  # names no act: success less the baseline's
    }


def test_the_papers_signals_are_as_they_were():
    groups = [worked()]
    assert values("success") == {
        "t1": pytest.approx([1 / 3 - 1 / 4]),
        "s1": [1 - 1 / 4, 0 - 1 / 4],
        "s2": [0 - 1 / 4, 0 - 1 / 4],
        "s3": [0 - 1 / 4],
    }
    assert signals(groups, hindsight(groups)) == signals(groups, hindsight(groups), by="success")


def test_success_counts_for_nothing_and_the_act_for_all():
    one = Group(
        trajectory().task,
        (
            member("skills", 0, True, ([WRONG], SHUT), ([WRONG], OPEN)),
            member("skills", 1, False, ([RIGHT], SHUT), ([RIGHT], OPEN)),
        ),
    )
    assert values("act", one) == {"s1": [1.0], "s2": [0.0]}
    assert values("success", one) == {"s1": [0.0], "s2": [1.0]}


def test_an_act_that_all_do_without_the_skill_is_worth_nothing():
    one = Group(
        trajectory().task,
        (member("skills", 0, False, ([RIGHT], OPEN)), *(member("none", n, False, ([], ELSEWHERE)) for n in (1, 2))),
    )
    assert values("act", one) == {"s1": [0.0]}


@given(st.lists(st.booleans(), max_size=4), st.lists(st.booleans(), max_size=4))
def test_where_no_step_skill_is_shown_both_measures_agree(skilled, baseline):
    one = group(skilled, baseline, turns=[turn(skills=[PROCEDURE])])
    assert values("act", one) == values("success", one)
