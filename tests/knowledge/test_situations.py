"""Situations: where things were found, how one gets there, and what was looked at in vain."""

import pytest
from library import LEND, STAMP, STAMPED, Library, told, visit

from d2skill.knowledge.procedures import act_of
from d2skill.knowledge.situations import (
    Found,
    Sight,
    Way,
    at_place,
    general_text,
    leading_verbs,
    looked_at,
    place_of,
    sights,
    skill_text,
)
from d2skill.types import Skill, SkillText

VERBS = {"fetch", "stamp", "lend"}
ATLAS = Found("atlas", "fetch", "case 1")
TO_ATLAS = Sight(("walk to case 1", "unlock case 1"), "fetch atlas from case 1", "in")


def step_skill(text: SkillText, thing: str = "atlas", start: str = "") -> Skill:
    return Skill("s1", "step", text, thing, start)


def written(principle: str, title: str = "atlas: in case 1") -> Skill:
    return step_skill(SkillText(title, principle, "always"))


def test_a_sight_has_the_way_through_what_was_shut():
    found = sights(visit(Library(STAMP, "atlas", "student"), STAMPED), VERBS)
    assert found == {ATLAS: TO_ATLAS}
    text = skill_text(ATLAS, TO_ATLAS)
    assert (text.title, text.principle) == (
        "atlas: in case 1",
        "Walk to case 1, then unlock case 1, then fetch atlas from case 1.",
    )


def test_what_lies_in_the_way_is_seen_whoever_wants_it_and_searching_elsewhere_is_no_part_of_it():
    looking = visit(
        Library(LEND, "novel", "teacher"), "walk to shelf 1, walk to case 2, walk to shelf 2, unlock case 2"
    )
    found = sights(looking, VERBS)
    assert found == {
        Found("novel", "fetch", "shelf 1"): Sight(("walk to shelf 1",), "fetch novel from shelf 1", "in"),
        Found("novel", "fetch", "shelf 2"): Sight(("walk to shelf 2",), "fetch novel from shelf 2", "in"),
    }


def test_nothing_is_said_about_where_an_agent_put_something():
    moved = visit(
        Library(LEND, "poem", "teacher"),
        "walk to case 2, unlock case 2, fetch poem 1 from case 2, walk to shelf 2, shelve poem 1 on shelf 2, "
        "walk to case 1, walk to shelf 2",
    )
    assert {(one.thing, one.place) for one in sights(moved, {*VERBS, "shelve"})} == {
        ("poem", "case 2"),
        ("novel", "shelf 2"),
    }


def test_without_a_place_in_the_action_it_is_what_led_there():
    garage = told(
        "start the drill",
        (("step to bench 1", "step to bench 2"), "step to bench 2"),
        (("step to bench 1", "start drill 3"), "start drill 3"),
    )
    (found,) = sights(garage, {"start"}).items()
    assert found == (Found("drill", "start", "bench 2"), Sight(("step to bench 2",), "start drill", "in"))
    assert sights(garage, ()) == {}


@pytest.mark.parametrize("mark", [" ", "", "_", " #"])
def test_names_of_things_lose_their_numbers_however_they_are_written(mark):
    (found,) = sights(
        told(
            "oil the saw",
            ((f"step to rack{mark}1",), f"step to rack{mark}1"),
            ((f"grab saw{mark}1 from rack{mark}1",), f"grab saw{mark}1 from rack{mark}1"),
        ),
        {"grab"},
    ).items()
    assert found[0] == Found("saw", "grab", "rack 1")
    assert found[1].act == f"grab saw from rack{mark}1"
    assert general_text(*found).principle == "Step to rack, then grab saw from rack."


def test_a_skill_about_any_place_is_shown_for_one():
    general = step_skill(general_text(ATLAS, TO_ATLAS))
    assert (general.text.title, place_of(general)) == ("atlas: in any case", "any case")
    assert Way.of(general).place == ""
    shown = at_place(general, "case 2")
    assert shown.text == SkillText(
        "atlas: in case 2", "Walk to case 2, then unlock case 2, then fetch atlas from case 2.", "the task needs atlas"
    )
    assert Way.of(shown) == Way(("walk to case 2", "unlock case 2"), act_of("fetch atlas from case 2"), "case 2")
    assert place_of(shown) == "case 2"


def test_the_place_of_a_way_is_what_stands_beside_the_thing():
    assert Way.of(written("Go to room 1, then take atlas from shelf 2 in room 1.")).place == "shelf 2"
    assert Way.of(written("Go to desk 2, then use lamp.")).place == "desk 2"
    assert Way.of(written("Go to desk 2, then use lamp 1.")).place == "desk 2"
    assert Way.of(written("Take atlas.")).place == ""
    assert Way.of(written("")) is None
    assert Way.of(written(", then take atlas from case 1.")).actions == ()


def test_looking_in_vain_counts_with_free_hands_and_where_all_is_open():
    steps = leading_verbs(
        [(ATLAS, TO_ATLAS), (Found("novel", "fetch", "shelf 2"), Sight(("walk to shelf 2",), "", ""))], []
    )
    assert steps == {"case": {"walk", "unlock"}, "shelf": {"walk"}}
    looking = visit(
        Library(LEND, "atlas", "teacher"),
        "walk to shelf 1, walk to case 1, walk to case 2, unlock case 2, walk to counter 1, walk to shelf 2, "
        "fetch novel 1 from shelf 2, walk to case 1, unlock case 1, walk to shelf 1",
    )
    assert looked_at(looking, steps) == {"shelf 1", "case 2", "shelf 2"}  # case 1 was shut, then a book was in hand
    assert looked_at(looking, {}) == set()
    known = written("Walk to case 1, then unlock case 1, then fetch atlas from case 1.")
    assert leading_verbs([], [known]) == {"case": {"walk", "unlock"}}


def test_a_place_is_refuted_by_who_went_all_the_way():
    way = Way.of(written("Walk to case 1, then unlock case 1, then fetch atlas from case 1."))
    both = {"walk to case 1", "unlock case 1", "walk to shelf 1"}
    assert way.is_refuted(both, [], "atlas")
    assert way.is_refuted(both, [Found("novel", "fetch", "case 1"), Found("atlas", "fetch", "case 2")], "atlas")
    assert not way.is_refuted(both, [ATLAS], "atlas")
    assert not way.is_refuted({"walk to case 1"}, [], "atlas")
    assert not Way.of(written("Fetch atlas from case 1.")).is_refuted(both, [], "atlas")


def test_a_place_without_a_number_is_refuted_by_its_name():
    way = Way.of(written("Climb to attic, then fetch atlas from attic.", "atlas: in attic"))
    assert way.is_refuted({"climb to attic"}, [Found("atlas", "fetch", "cellar")], "atlas")
    assert not way.is_refuted({"climb to attic"}, [Found("atlas", "fetch", "attic")], "atlas")
    anywhere = Way.of(written("Look around, then fetch atlas.", "atlas: look"))
    assert anywhere.is_refuted({"look around"}, [], "atlas")
