"""Patterns: slots and words are inverse, and a kind of task is found in other words but never mistaken."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.envs.alfworld.expert import parse_task
from d2skill.knowledge.patterns import REST, abstracted, bindings, filled, near_bindings, plain

WORD = st.from_regex(r"[a-z][a-z]{0,7}", fullmatch=True)
PHRASINGS = {
    "place": ("put a {} in {}", "put some {} on {}"),
    "two": ("put two {} in {}", "find two {} and put them in {}"),
    "clean": ("put a clean {} in {}", "clean some {} and put it in {}"),
    "heat": ("put a hot {} in {}", "heat some {} and put it in {}"),
    "cool": ("put a cool {} in {}", "cool some {} and put it in {}"),
    "look": ("look at {} under the {}", "examine the {} with the {}"),
}


@given(st.lists(WORD, min_size=1, max_size=8), st.sets(WORD, min_size=1, max_size=3))
def test_a_text_comes_back_from_its_pattern_and_the_words_in_it(words, slotted):
    text = " ".join(words)
    slots = {word: f"thing {n}" if n else "thing" for n, word in enumerate(sorted(slotted))}
    pattern = abstracted(text, slots)
    found = bindings(pattern, text)
    assert found is not None and filled(pattern, found) == text
    assert (plain(pattern) != pattern) == bool(slotted & set(words))
    assert found == {slots[word]: word for word in slotted & set(words)}


@given(WORD, WORD, WORD)
def test_a_pattern_made_of_one_task_binds_another_of_its_kind(thing, place, other):
    task = "put a hot {} in {}, for the king"
    pattern = abstracted(task.format("mug", "cabinet"), {"mug": "thing", "cabinet": "place"})
    assert bindings(pattern, task.format(thing, place)) == {"thing": thing, "place": place}
    assert bindings(pattern, f"put a cool {thing} in {place}, for the king") is None
    assert bindings(pattern, f"put a hot {thing} {other} in {place}, for the king") is None  # a slot is one word


def test_words_are_found_whole_and_in_any_case():
    assert abstracted("Mug: put the mugtree's MUG on mug-tree", {"mug": "thing"}) == (
        "{thing}: put the mugtree's {thing} on mug-tree"
    )
    assert bindings("put {thing} by {thing}", "put ball by Ball") == {"thing": "ball"}
    assert bindings("put {thing} by {thing}", "put ball by box") is None


def test_patterns_with_marks_of_regular_expressions_mean_themselves():
    assert bindings("what (is) {thing}? [a|b]*", "what (is) love? [a|b]*") == {"thing": "love"}
    assert bindings("what (is) {thing}? [a|b]*", "what (is) lov a") is None


def test_a_text_without_slots_is_a_kind_of_its_own_and_a_rest_binds_any_end():
    assert bindings("find all", "find all") == {}
    assert bindings("find all", "find it") is None
    assert bindings(f"i am looking {REST}", "i am looking for\nblue shoes") == {}
    assert bindings(f"i am looking {REST}", "find me blue shoes") is None
    assert near_bindings(f"i am looking {REST}", "i am looking, for {shoes}") is None


def test_a_slot_without_a_word_stays():
    assert filled("move {thing} to {place 2}", {"thing": "mug"}) == "move mug to {place 2}"


@pytest.mark.parametrize("kind", PHRASINGS)
def test_no_task_of_another_kind_is_bound(kind):
    """Of all phrasings of ALFWorld, whatever its expert takes for another kind."""
    for phrasing in PHRASINGS[kind]:
        pattern = phrasing.format("{thing}", "{place}")
        for text in (one.format("mug", "cabinet") for own in PHRASINGS.values() for one in own):
            words = bindings(pattern, text) or near_bindings(pattern, text)
            parsed = parse_task(text)
            assert parsed is not None
            if words is not None:
                assert parsed.kind == kind and words == {"thing": "mug", "place": "cabinet"}


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("put a cool {thing} in {place}", "cool some mug and put it in cabinet"),
        ("cool some {thing} and put it in {place}", "put a cool mug in cabinet"),
        ("put a clean {thing} in {place}", "clean some mug and put it in cabinet"),
        ("put a {thing} in {place}", "put some mug on cabinet"),
        ("find two {thing} and put them in {place}", "put two mug in cabinet"),
    ],
)
def test_the_other_phrasing_of_a_kind_is_found(pattern, text):
    assert bindings(pattern, text) is None
    assert near_bindings(pattern, text) == {"thing": "mug", "place": "cabinet"}


def test_a_pattern_of_slots_alone_is_like_nothing():
    assert near_bindings("{thing} for {place}", "open door") is None
    assert near_bindings("take the ruby", "take the ruby") is None


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_texts_are_bound_exactly_or_not_at_all(pattern, text):
    found = bindings(pattern, text)
    near_bindings(pattern, text)
    if found is not None and REST not in pattern:
        assert re.sub(r"\s", "", filled(pattern, found)).lower() == re.sub(r"\s", "", text).lower()


def test_patterns_of_many_parts_are_matched_in_time():
    """A regular expression with several ".+" would take minutes."""
    task = "find me x" + " color: a size: b style: c" * 4000
    assert bindings("find me {...} size: {...} color: {...} style: {...} end", task) is None
    assert bindings("{...} " * 12 + "y", task) is None
    assert bindings("find {thing} {...} size: {...} style: {...}", task) == {"thing": "me"}


@pytest.mark.parametrize(
    ("text", "fits"), [("a b c", True), ("a  c", False), ("a c", False), ("A x C", True), ("a b c d", False)]
)
def test_any_text_between_two_parts_is_one_letter_at_least(text, fits):
    assert (bindings("a {...} c", text) is not None) == fits
