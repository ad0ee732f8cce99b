"""The goals against those that the original made, and made by hand; the panels."""

from __future__ import annotations

import json
from collections import Counter
from itertools import accumulate
from random import Random

import pytest
from envs.webshop.conftest import options, raw
from hypothesis import given
from hypothesis import strategies as st

from d2skill.envs.webshop import make_goals, panel, split_goals
from d2skill.errors import ConfigError


def test_goals_and_prices_are_those_of_the_original(catalogue, original):
    made = make_goals(catalogue)
    assert dict(made.prices) == original["prices"]
    assert len(made.goals) == len(original["goals"]) == 6910
    for goal, then in zip(made.goals, original["goals"], strict=True):
        assert (goal.asin, goal.text, list(goal.attributes)) == (
            then["asin"],
            then["instruction_text"],
            then["attributes"],
        )
        assert (goal.price_upper, goal.weight) == (then["price_upper"], then["weight"])
        assert list(goal.options.items()) == list(then["goal_options"].items())
    sums = list(accumulate(goal["weight"] for goal in original["goals"]))
    assert made.cumulative_weights == [0.0, *sums]


def test_the_goals_of_recorded_sessions_are_whole(catalogue, original):
    made = {(goal.asin, goal.text): goal for goal in make_goals(catalogue).goals}
    for session in original["sessions"]:
        then = session["goal"]
        goal = made[then["asin"], then["instruction_text"]]
        for name in ("name", "category", "query", "product_category"):
            assert getattr(goal, name) == then[name]


def test_goals_by_people_are_made_of_their_instructions(catalogue, small_set):
    written = json.loads((small_set / "items_human_ins.json").read_text())
    sold = {product.asin: product for product in catalogue}
    wanted = Counter(
        (told["asin"], told["instruction"].strip("."), tuple(told["instruction_attributes"]))
        for asin in written.keys() & sold
        for told in written[asin]
        if told["instruction_attributes"]
    )
    goals = make_goals(catalogue, human=True).goals
    assert Counter((goal.asin, goal.text.split(", and price lower")[0], goal.attributes) for goal in goals) == wanted
    assert len(goals) > 5 and all(goal.weight == 1 and isinstance(goal.options, tuple) for goal in goals)


@pytest.fixture(scope="module")
def lamps(stocked):
    """Three products with instructions, of which one costs too much for a limit, and two without."""
    both = options(Size=["S", "L"], Color=["red", "teal", "blue"])
    told = {"instruction": "Find me lamps", "instruction_attributes": ["easy clean"]}
    return stocked(
        [
            raw("A", customization_options=both),
            raw("B", pricing="$985"),
            raw("C", pricing="$5 - $9"),
            raw("D"),
            raw("E"),
        ],
        {
            "A": {"attributes": ["easy clean"], **told},
            "B": {**told, "instruction_attributes": ["easy clean", "wide"]},
            "C": told,
            "D": {"instruction": None, "instruction_attributes": None},
            "E": {"instruction": "Find me none", "instruction_attributes": []},
        },
        {
            "E": [
                {"instruction": "a lamp...", "instruction_attributes": ["warm"], "instruction_options": ["red"]},
                {"instruction": "no attributes", "instruction_attributes": [], "instruction_options": []},
            ]
        },
    )


def test_there_is_a_goal_for_each_choice_of_options(lamps):
    goals = make_goals(lamps, 3).goals
    assert Counter(goal.asin for goal in goals) == {"A": 6, "B": 1, "C": 1}
    chosen = {tuple(goal.options.items()) for goal in goals if goal.asin == "A"}
    assert (("color", "teal"), ("size", "l")) in chosen and len(chosen) == 6
    text = next(goal.text for goal in goals if goal.options == {"color": "teal", "size": "l"})
    assert text.startswith("Find me lamps with color: teal, and size: l, and price lower than ")
    assert {goal.weight for goal in goals if goal.asin == "A"} == {1 / 8}
    assert {goal.weight for goal in goals if goal.asin == "B"} == {(1 / 8 + 1) / 2}


def test_price_limits_are_the_higher_of_two_of_the_next_four(lamps):
    limits = {goal.price_upper for seed in range(60) for goal in make_goals(lamps, seed).goals if goal.asin == "A"}
    assert limits == {30.0, 40.0, 50.0}
    (dear,) = (goal for goal in make_goals(lamps).goals if goal.asin == "B")
    assert dear.price_upper == 1_000_000 and dear.text == "Find me lamps"


def test_prices_come_from_their_range_and_the_seed(lamps):
    prices = [make_goals(lamps, seed).prices for seed in (1, 1, 2)]
    assert dict(prices[0]) == dict(prices[1]) != dict(prices[2])
    assert 5 <= prices[0]["C"] <= 9 and prices[0]["A"] == 12.5 and len(prices[0]) == 5
    with pytest.raises(KeyError):
        prices[0]["Z"]


def test_goals_by_people_have_values_as_options(lamps):
    (goal,) = make_goals(lamps, human=True).goals
    assert goal.text.startswith("a lamp, and price lower than ") and goal.options == ("red",)


def test_goals_are_drawn_by_weight_one_too_far(lamps):
    goals = make_goals(lamps)
    random = Random(0)
    drawn = Counter(goals.draw(random) for _ in range(4000))
    assert 0 not in drawn and drawn.keys() == set(range(1, 8))
    assert drawn[7] / 4000 == pytest.approx(
        (goals.goals[6].weight + goals.goals[7].weight) / goals.cumulative_weights[-1], abs=0.05
    )


@given(st.integers(0, 3000), st.integers(0, 5))
def test_each_goal_is_in_one_split(count, seed):
    splits = split_goals(count, seed)
    assert sorted(number for numbers in splits.values() for number in numbers) == list(range(count))
    assert splits == split_goals(count, seed)
    assert abs(len(splits["test"]) - count / 10) <= 1
    assert all(panel(name, count, seed) == numbers for name, numbers in splits.items())


def test_splits_depend_on_the_seed():
    assert split_goals(100, 0) != split_goals(100, 1)
    assert list(split_goals(10, shares={"a": 0.5, "b": 0.5})) == ["a", "b"]
    with pytest.raises(ConfigError, match="add up to 1"):
        split_goals(10, shares={"a": 0.5})


def test_the_published_slices_can_be_asked_for():
    assert panel("published-test", 6910) == tuple(range(500))
    assert panel("published-eval", 6910) == tuple(range(500, 1500))
    assert panel("published-train", 6910) == tuple(range(1500, 6910))
    with pytest.raises(ConfigError, match="published-train is empty: there are only 1000 goals"):
        panel("published-train", 1000)
    with pytest.raises(ConfigError, match="no goals called 'dev'; there are: train, validation, test, published-test"):
        panel("dev", 1000)
