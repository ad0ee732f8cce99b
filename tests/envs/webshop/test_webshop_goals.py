"""The goals against those that the original made, and made by hand; the splits."""

from __future__ import annotations

import json
from bisect import bisect
from collections import Counter
from dataclasses import replace
from functools import reduce
from itertools import accumulate, product
from operator import add
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webshop_products import options, raw

from d2skill.envs.webshop import Catalogue, Goal, goals_of_split, make_goals, split_goals, split_products
from d2skill.envs.webshop.lazy_sequence import LazySequence, Numbers, shuffled
from d2skill.errors import ConfigError, DataError


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
    assert made.cumulative_weights.tolist() == [0.0, *sums]


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


# all at once, as the original makes them


def eager(catalogue: Catalogue, attributes: dict, people: dict, seed: int, human: bool) -> tuple[dict, list[Goal]]:
    """The prices and the goals of a catalogue, made one after the other and kept."""
    random = Random(seed)
    random.getrandbits(32)
    prices = {one.asin: one.pricing[0] if len(one.pricing) == 1 else random.uniform(*one.pricing) for one in catalogue}
    goals, counts = [], Counter()
    for one in catalogue:
        for text, wanted, choices in told(one, attributes.get(one.asin), people.get(one.asin, ()), human):
            limit, said = 1_000_000, ""
            if len(above := [10.0 * n for n in range(1, 100) if 10.0 * n > prices[one.asin]][:4]) >= 2:
                limit = max(random.sample(above, 2))
                said = f", and price lower than {limit:.2f} dollars"
            kinds = (one.title, one.category, one.query, one.product_category)
            for chosen, more in choices:
                goals.append(Goal(one.asin, text + more + said, tuple(wanted), limit, chosen, *kinds))
                counts.update(wanted)
    if not human:
        goals = [
            replace(one, weight=reduce(add, (1 / counts[name] for name in one.attributes)) / len(one.attributes))
            for one in goals
        ]
    Random(233).shuffle(goals)
    return prices, goals


def told(one: Any, known: dict | None, people: Any, human: bool) -> list[tuple[str, list[str], list]]:
    """The instructions of a product: text, attributes, and for each choice of options what is chosen and said."""
    if human:
        return [
            (each["instruction"].strip("."), each["instruction_attributes"], [(tuple(each["instruction_options"]), "")])
            for each in people
            if each["instruction_attributes"]
        ]
    if known is None or known["instruction"] is None or not known["instruction_attributes"]:
        return []
    pairs = []
    for values in product(*(one.options[name] for name in sorted(one.options))):
        chosen = dict(zip(sorted(one.options), values, strict=True))
        wish = ", and ".join(f"{name}: {value}" for name, value in chosen.items())
        pairs.append((chosen, wish and f" with {wish}"))
    return [(known["instruction"], known["instruction_attributes"], pairs)]


WORDS = st.sampled_from(["wide", "soft", "blue", "easy clean", "a 'b'", "ü", "38/40"])
PRICES = st.sampled_from(["", "$5", "$12.50", "$10", "$5 - $9", "$70.10 - $200", "$969", "$971", "$985", "$5000"])
OPTIONS = st.dictionaries(st.sampled_from(["Size", "color", "Fit", "size"]), st.none() | st.lists(WORDS, max_size=3))
SYNTHETIC = st.fixed_dictionaries(
    {
        "attributes": st.lists(WORDS),
        "instruction": st.none() | WORDS,
        "instruction_attributes": st.none() | st.lists(WORDS, max_size=9),
    }
)
BY_PEOPLE = st.lists(
    st.fixed_dictionaries(
        {
            "instruction": WORDS.map(lambda word: f".{word}.."),
            "instruction_attributes": st.lists(WORDS, max_size=2),
            "instruction_options": st.lists(WORDS, max_size=2),
        }
    ),
    max_size=3,
)
SETS = st.lists(st.tuples(PRICES, OPTIONS, st.none() | SYNTHETIC, BY_PEOPLE), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(SETS, st.integers(0, 1 << 40), st.booleans())
def test_goals_made_when_asked_for_are_those_made_at_once(stocked, records, seed, human):
    products, attributes, people = [], {}, {}
    for number, (price, given_options, synthetic, by_people) in enumerate(records):
        products.append(raw(f"A{number}", pricing=price, customization_options=options(**given_options)))
        attributes |= {f"A{number}": synthetic} if synthetic else {}
        people[f"A{number}"] = by_people
    shop = stocked(products, attributes, people)
    prices, goals = eager(shop, attributes, people, seed, human)
    made = make_goals(shop, seed, human)
    assert dict(made.prices) == prices
    assert made.goals == goals and len(made.goals) == len(goals)
    assert [made.goals[at] for at in range(-len(goals), len(goals))] == goals * 2
    assert made.goals[1::2] == goals[1::2] and list(made.goals[-3:]) == goals[-3:]
    with pytest.raises(IndexError):
        made.goals[len(goals)]
    sums = [0.0, *accumulate(goal.weight for goal in goals)]
    assert made.cumulative_weights.tolist() == sums
    random, same = Random(seed), Random(seed)
    for _ in range(20):
        assert made.draw(random) == min(bisect(sums, same.uniform(0, sums[-1])), len(goals) - 1)


@pytest.mark.parametrize("damage", [None, "array.npy", "search_index.json"])
def test_what_is_drawn_for_many_goals_is_drawn_once(small_set, tmp_path, monkeypatch, damage):
    drawn = make_goals(Catalogue.load(small_set, tmp_path), 5)
    monkeypatch.setattr("d2skill.envs.webshop.product_store._CACHED_SIZE", 100)
    first = make_goals(Catalogue.load(small_set, tmp_path), 5)
    (kept,) = (path for path in tmp_path.iterdir() if path.is_dir())
    folders = sorted(kept.glob("*-*"))
    assert [path.name for path in folders] == ["limits-of-synthetic-5", "shuffled-6910-233"]
    if damage:
        for path in folders:
            (path / damage).write_bytes((path / damage).read_bytes()[:-9])
    else:
        monkeypatch.setattr("d2skill.envs.webshop.product_store.shuffled", None)
        monkeypatch.setattr("d2skill.envs.webshop.goals._draw_limits", None)
    second = make_goals(Catalogue.load(small_set, tmp_path), 5)
    assert drawn.goals == first.goals == second.goals


def test_what_cannot_be_kept_is_drawn_each_time(small_set, tmp_path, monkeypatch):
    monkeypatch.setattr("d2skill.envs.webshop.product_store._CACHED_SIZE", 0)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    goals = make_goals(Catalogue.load(small_set, tmp_path / "file" / "cache")).goals
    assert len(goals) == 6910 and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_more_choices_than_numbers_are_refused(stocked):
    many = options(**{f"o{n}": [str(value) for value in range(9)] for n in range(20)})
    known = {"attributes": [], "instruction": "Find me", "instruction_attributes": ["wide"]}
    shop = stocked([raw("A", customization_options=many)], {"A": known})
    with pytest.raises(DataError, match=r"can be chosen in 1,099,511,627,776 ways: more than 2,147,483,647"):
        make_goals(shop)
    assert make_goals(shop, human=True).goals == []


@given(st.integers(0, 2000), st.integers(-3, 1 << 70))
def test_numbers_are_shuffled_by_pythons_generator(count, seed):
    order = list(range(count))
    Random(seed).shuffle(order)
    assert shuffled(count, seed).tolist() == order


def test_a_lazy_sequence_is_a_sequence():
    made = LazySequence(np.array([3, 1, 2], np.int32), str)
    assert made == ["3", "1", "2"] == list(made) and made == ("3", "1", "2") and made[1:] == ("1", "2")
    assert (
        made != ["3", "1"]
        and made != ["3", "1", "3"]
        and made != 7
        and LazySequence(np.array([3], np.int32), str) != "3"
    )
    assert (made[np.int64(1)], made[-1], made.index("2"), "4" in made) == ("1", "2", 2, False)
    assert Random(0).sample(made, 3) == Random(0).sample(["3", "1", "2"], 3)


def listed(splits: dict[str, Numbers]) -> dict[str, list[int]]:
    return {name: numbers.tolist() for name, numbers in splits.items()}


@given(st.integers(0, 3000), st.integers(0, 5))
def test_each_goal_is_in_one_split(count, seed):
    order = shuffled(count, seed)
    splits = listed(split_goals(order))
    assert sorted(number for numbers in splits.values() for number in numbers) == list(range(count))
    assert [number for numbers in splits.values() for number in numbers] == order.tolist()
    assert splits == listed(split_goals(shuffled(count, seed)))
    assert abs(len(splits["test"]) - count / 10) <= 1
    assert all(goals_of_split(name, order).tolist() == numbers for name, numbers in splits.items())


def test_splits_depend_on_the_seed():
    assert listed(split_goals(shuffled(100, 0))) != listed(split_goals(shuffled(100, 1)))
    assert list(split_goals(shuffled(10, 0), shares={"a": 0.5, "b": 0.5})) == ["a", "b"]
    with pytest.raises(ConfigError, match="add up to 1"):
        split_goals(shuffled(10, 0), shares={"a": 0.5})


def test_the_published_slices_can_be_asked_for():
    order = shuffled(6910, 0)
    assert goals_of_split("published-test", order).tolist() == list(range(500))
    assert goals_of_split("published-eval", order).tolist() == list(range(500, 1500))
    assert goals_of_split("published-train", order).tolist() == list(range(1500, 6910))
    with pytest.raises(ConfigError, match="published-train is empty: there are only 1000 goals"):
        goals_of_split("published-train", order[:1000])
    with pytest.raises(ConfigError, match='no split "dev": name one of train, validation, test, published-test,'):
        goals_of_split("dev", order)


@given(st.lists(st.integers(0, 400), max_size=60), st.integers(0, 5))
def test_splits_by_product_have_each_goal_once_and_no_product_in_common(sizes, seed):
    products = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[shuffled(sum(sizes), 9)]
    order, turns = shuffled(len(products), seed), shuffled(len(sizes), seed)
    splits = split_products(order, products, turns)
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(len(products)))
    sold = [set(products[numbers].tolist()) for numbers in splits.values()]
    assert sum(map(len, sold)) == len(set().union(*sold))
    for numbers in splits.values():  # in the order of the permutation
        assert numbers.tolist() == [number for number in order.tolist() if number in set(numbers.tolist())]


@pytest.mark.parametrize("seed", range(5))
def test_splits_by_product_keep_the_shares_and_train_has_the_large_products(seed):
    sizes = [500, 400, 300] + [30, 10, 1] * 100
    products = np.repeat(np.arange(303, dtype=np.int32), sizes)
    splits = split_products(shuffled(5300, seed), products, shuffled(303, seed))
    for name, share in (("train", 4240), ("test", 530)):  # half a product of 30 goals at the one end that is cut
        assert abs(len(splits[name]) - share) <= 15
    assert {0, 1, 2} < set(products[splits["train"]].tolist())
    assert listed(splits) != listed(split_products(shuffled(5300, seed), products, shuffled(303, seed + 1)))


def test_what_test_goals_of_the_small_set_share_with_training_goals(catalogue):
    """The figures of docs/environments.md."""
    made = make_goals(catalogue)
    order, products = shuffled(6910, 0), made.products()
    assert [catalogue.product(number).asin for number in products.tolist()] == [goal.asin for goal in made.goals]
    keys = (
        lambda goal: (goal.asin, goal.attributes),
        lambda goal: (goal.query, frozenset(goal.attributes)),
        lambda goal: frozenset(goal.attributes),
        lambda goal: goal.query,
        lambda goal: goal.category,
    )
    figures = []
    for splits in (split_goals(order), split_products(order, products, shuffled(len(catalogue), 0))):
        train, test = ([made.goals[number] for number in splits[name].tolist()] for name in ("train", "test"))
        known = [set(map(key, train)) for key in keys]
        shared = [sum(key(goal) in seen for goal in test) for key, seen in zip(keys, known, strict=True)]
        figures.append((len(test), len({goal.asin for goal in test}), *shared))
    assert figures == [(691, 160, 675, 675, 676, 684, 691), (670, 95, 0, 32, 46, 421, 670)]
