"""The reward, by hand, against logs of people, and where nouns come from."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webshop_products import options, raw

from d2skill.envs.webshop import Goal, compute_reward, default_noun_finder, make_goals, plain_nouns
from d2skill.envs.webshop.reward import colour, matched_attributes, matched_options, type_term
from d2skill.envs.webshop.token_set_ratio import is_similar, token_set_ratio


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        ("essential oils", "essential oil", 96),
        ("tea tree", "tree tea", 100),
        ("tea", "green tea tree", 100),
        ("tea bag", "tea tree", 60),
        ("Über-Größe", "ber gr e", 80),
        ("", "tea", 0),
        ("!?", "tea", 0),
        ("wide", "narrow", 20),
        ("日本 茶", "日本", 100),
    ],
)
def test_phrases_are_compared_as_sets_of_words(one, other, ratio):
    """As thefuzz 0.19.0 rates them."""
    assert token_set_ratio(one, other) == token_set_ratio(other, one) == ratio
    assert is_similar(one, other) == is_similar(other, one) == (ratio > 85)


@given(st.text("abcé -'1", max_size=12), st.text("abcé -'1", max_size=12), st.sampled_from([0, 50, 70, 85, 99, 100]))
def test_the_short_cut_agrees_with_the_ratio(one, other, above):
    assert is_similar(one, other, above) == (token_set_ratio(one, other) > above)


def goal(**fields) -> Goal:
    given = {
        "asin": "A",
        "text": "",
        "attributes": ("tea tree", "essential oils", "natural ingredients"),
        "price_upper": 40.0,
        "options": {"color": "grey", "size": "xl"},
        "name": "Lamp A",
        "category": "garden",
        "query": "table lamps",
        "product_category": "Home › Lights › Lamps",
    }
    return Goal(**{**given, **fields})


@pytest.fixture(scope="module")
def sold(stocked):
    """Products by asin: one that is wanted, others that are less so."""
    return stocked(
        [
            raw("A", customization_options=options(color=["Grey", "R.Brown"], size=["XL"])),
            raw("B", small_description=["with Essential Oils"], full_description="NATURAL ingredients", query="x"),
            raw("C", product_category="Toys", query="toys", name="Lamp of wood, big and very heavy table thing"),
        ],
        {"A": {"attributes": ["tea tree", "essential oil", "natural ingredients"]}, "B": {"attributes": []}},
    )


def test_the_right_purchase_is_worth_one(sold):
    earned = compute_reward(sold.find("A"), goal(), 35.0, {"color": "grey", "size": "xl"}, plain_nouns)
    assert earned.value == 1.0
    kind = {"r_type": 1.0, "query_match": True, "category_match": True, "title_score": 1.0}
    weights = {"w_att": 3 / 6, "w_option": 2 / 6, "w_price": 1 / 6}
    assert earned.parts == kind | weights | {"r_att": 1.0, "r_option": 1.0, "r_price": True}


def test_each_part_counts_by_its_number(sold):
    assert compute_reward(sold.find("A"), goal(), 41.0, {"size": "xl"}, plain_nouns).value == pytest.approx(4 / 6)
    without = compute_reward(sold.find("B"), goal(options={}), 40.0, {"size": "xl"}, plain_nouns)
    assert without.value == pytest.approx(3 / 4) and "r_option" not in without.parts
    assert (without.parts["query_match"], without.parts["category_match"]) == (False, True)


def test_attributes_are_found_in_all_texts(sold):
    assert matched_attributes(sold.find("B"), ("essential oils", "natural ingredients", "tea tree", "lamp b")) == 3
    assert matched_attributes(sold.find("C"), ("dummy_attr",)) == 1, "the attribute of those that have none"


@pytest.mark.parametrize(
    ("query", "category", "title", "term"),
    [
        (True, True, 1.0, 1.0),
        (False, False, 0.3, 1.0),
        (False, False, 0.2, 0.5),
        (True, False, 0.1, 1.0),
        (False, True, 0.09, 0.1),
        (True, True, 0.0, 0.0),
    ],
)
def test_the_type_is_right_by_query_or_category_or_title(query, category, title, term):
    assert type_term(query, category, title) == term


def test_a_title_without_nouns_is_a_fifth(sold):
    earned = compute_reward(sold.find("C"), goal(name="for the 3"), 1.0, {}, plain_nouns)
    assert (earned.parts["title_score"], earned.parts["r_type"]) == (0.2, 0.5)


def test_colours_stand_for_options():
    assert [colour(one) for one in ("r.brown2060", "fashion black", "rectangular", "xl")] == [
        "brown",
        "ash",
        "tan",
        "xl",
    ]
    assert matched_options({"color": "r.brown2060"}, ("brown",)) == 1
    assert matched_options({"color": "r.brown2060"}, {"color": "r.brown2060"}) == 0, "an oddity of the original"
    assert matched_options({"color": "brown"}, {"color": "brown"}) == 1
    assert matched_options({}, ("brown",)) == matched_options({"a": "b"}, ()) == 0


def test_as_many_goals_are_out_of_reach_as_others_counted(catalogue):
    """458 of the 6,725 goals with options: an audit of the original, made by others, says so."""
    goals = [one for one in make_goals(catalogue).goals if one.options]
    assert len(goals) == 6725
    assert sum(matched_options(one.options, one.options) < len(one.options) for one in goals) == 458
    assert all(matched_attributes(catalogue.find(one.asin), one.attributes) == len(one.attributes) for one in goals)


def test_rewards_of_people_follow_from_their_parts(small_set):
    """None of what people bought is in the small set; what does not need the product is checked."""
    logs = 0
    for path in sorted((small_set / "human_sessions").glob("*.jsonl")):
        for entry in map(json.loads, path.open()):
            if entry["page"] != "done":
                continue
            wanted, info, content = entry["goal"], entry["reward_info"], entry["content"]
            n, o = len(wanted["attributes"]), len(wanted["goal_options"])
            assert type_term(info["query_match"], info["category_match"], info["title_score"]) == info["r_type"]
            found = matched_options(content["options"], tuple(wanted["goal_options"]))
            assert (found / o if o else None) == info.get("r_option")
            assert (content["price"] <= wanted["price_upper"]) == info["r_price"]
            total = (round(info["r_att"] * n) + found + info["r_price"]) / (n + o + 1) * info["r_type"]
            assert total == pytest.approx(entry["reward"], abs=1e-12)
            logs += 1
    assert logs == 25


def test_words_of_titles():
    assert plain_nouns("Women's Anti-Fatigue Mat for 2 Kitchens | St. John's") == (
        *("women", "anti", "fatigue", "mat", "kitchens", "|", "st", "john"),
    )
    assert plain_nouns("for the 3 with -") == ()


@pytest.fixture
def fresh():
    """Forgets before and after a test where nouns come from."""
    default_noun_finder.cache_clear()
    yield
    default_noun_finder.cache_clear()


def test_nouns_come_from_spacy_where_it_is(monkeypatch, fresh):
    def load(model):
        assert model == "en_core_web_sm"
        return lambda title: [
            SimpleNamespace(text=word, pos_=["VERB", "PROPN"][word[0].isupper()]) for word in title.split()
        ]

    spacy = ModuleType("spacy")
    spacy.load = load
    monkeypatch.setitem(sys.modules, "spacy", spacy)
    monkeypatch.setattr("d2skill.envs.webshop.reward.find_spec", lambda name: name in {"spacy", "en_core_web_sm"})
    assert default_noun_finder()("Buy Lamps now") == ("buy", "lamps")


def test_nouns_come_from_words_elsewhere(monkeypatch, fresh):
    monkeypatch.setattr("d2skill.envs.webshop.reward.find_spec", lambda name: name == "spacy")
    assert default_noun_finder() is plain_nouns
