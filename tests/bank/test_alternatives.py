"""Alternatives: lookup by what skills are about, best evidence first, whatever became of them since."""

import pytest

from d2skill.bank import SkillBank
from d2skill.config import BankConfig, RetrievalConfig
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.knowledge.evidence import Evidence
from d2skill.types import SkillText

HALL, YARD = "You stand in the hall.", "You stand in the yard."
LEND = "lend the {thing} to the {place}"


def procedure(principle, *supports, refutes=(), pattern=LEND):
    return Evidence("task", SkillText(pattern, principle, "always"), pattern, "", set(supports), set(refutes))


def place(where, *supports, refutes=(), thing="atlas", start=HALL):
    text = SkillText(f"{thing}: in {where}", f"Walk to {where}, then fetch {thing} from {where}.", "always")
    return Evidence("step", text, thing, start, set(supports), set(refutes))


def banked(*evidence, **settings) -> SkillBank:
    bank = SkillBank(HashedEmbedder(64), BankConfig(**settings), RetrievalConfig())
    bank.knowledge.consolidate(evidence, 0)
    return bank


def titles(skills):
    return [skill.text.title for skill in skills]


def test_alternatives_are_ranked_by_their_standing_then_by_supports_then_the_shorter():
    bank = banked(
        place("shelf 1", "a", refutes="bc"),
        place("shelf 2", "a", "b", "c"),
        place("case 10", "a"),
        place("case 1", "d"),
    )
    (ranked,) = bank.knowledge.known.sought("lend the atlas", HALL)
    assert titles(ranked) == ["atlas: in shelf 2", "atlas: in case 1", "atlas: in case 10", "atlas: in shelf 1"]
    assert [(one.supports, one.refutes) for one in ranked] == [(3, 0), (1, 0), (1, 0), (1, 2)]


def test_things_come_in_the_order_of_the_task_with_places_of_this_start_and_of_any():
    bank = banked(
        place("shelf 1", "a"),
        place("any case", "a", "b", start=""),
        place("shelf 2", "a", thing="novel"),
        place("shelf 3", "a", start=YARD),
        place("desk 1", "a", thing="stapler"),
    )
    found = bank.knowledge.known.sought("lend the novel with the atlas", HALL)
    assert [titles(ranked) for ranked in found] == [["novel: in shelf 2"], ["atlas: in any case", "atlas: in shelf 1"]]
    assert bank.knowledge.known.sought("sweep the floor", HALL) == []


def test_a_pattern_that_fits_exactly_comes_before_all_that_are_like_it():
    bank = banked(
        procedure(
            "Take {thing}, then move {thing} to {place}.", "a", "b", "c", pattern="put a cool {thing} in {place}"
        ),
        procedure("Take {thing}, then cool {thing}.", "a", pattern="cool some {thing} and put it in {place}"),
    )
    known = bank.knowledge.known
    exact = known.procedures("cool some mug and put it in box")
    assert titles(exact) == ["cool some {thing} and put it in {place}"]
    bank.knowledge.consolidate([procedure("Heat {thing}.", "z", pattern="put a hot {thing} in {place}")], 1)
    assert titles(known.procedures("put a cool mug in box")) == ["put a cool {thing} in {place}"]
    assert titles(known.procedures("heat some mug and put it in box")) == []


def test_skills_that_left_are_not_shown_but_still_known():
    bank = banked(place("shelf 1", "a", "b"), place("shelf 2", "a"), procedure("Fetch {thing}.", "a"))
    known = bank.knowledge.known
    bank.hold(["s1"], 1)
    assert titles(known.sought("lend the atlas", HALL)[0]) == ["atlas: in shelf 2"]
    assert known.find("step", bank.get("s1").text, "atlas", HALL) == 0
    assert known.find("step", bank.get("s1").text, "atlas", YARD) is None
    bank.admit(["s1"], 2)
    assert titles(known.situations(HALL)) == ["atlas: in shelf 1", "atlas: in shelf 2"]
    assert known.verbs() == {"fetch"}
    bank.hold(["t1"], 3)
    assert known.verbs() == set() and known.procedures("lend the atlas to the king") == []


@pytest.mark.parametrize("trial", [False, True])
def test_skills_on_trial_are_shown_to_those_who_try_them(trial):
    bank = banked(place("shelf 1", "a"), procedure("Fetch {thing}.", "a"), trial=0.5)
    known = bank.knowledge.known
    assert bool(known.sought("lend the atlas", HALL, trial=trial)) == trial
    assert bool(known.procedures("lend the atlas to the king", trial=trial)) == trial
    assert bool(known.situations(HALL, trial=trial)) == trial
