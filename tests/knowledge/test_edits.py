"""Edits of a reflector as evidence: keys, slots and sources."""

from library import LEND, STAMP, STAMPED, visits

from d2skill.knowledge.edits import as_evidence
from d2skill.types import Edit, Skill, SkillText

WON = visits(STAMP, "atlas", "student", STAMPED, "walk to shelf 1")
LOST = visits(LEND, "novel", "teacher", "walk to shelf 1", task_id="train/7")
START = "You stand in the hall of 7 places."
KNOWN = Skill("t4", "task", SkillText("lend", "Fetch {thing}.", "always"), "lend the {thing} to the {place}")
PLACE = Skill("s2", "step", SkillText("novel: in shelf 1", "Go.", "always"), "novel", START)


def said(*edits, group=WON, known=()):
    return list(as_evidence(edits, group, known))


def add(granularity, title, principle="Fetch Atlas, then lend it to the student.", when="an atlas is wanted"):
    return Edit("add", granularity, text=SkillText(title, principle, when))


def test_a_new_procedure_gets_slots_for_what_the_task_names():
    (one,) = said(add("task", "stamp the atlas"))
    assert one.task_text == "stamp the {thing}, then lend it to the {place}"
    assert one.text == SkillText(
        "stamp the {thing}", "Fetch {thing}, then lend it to the {place}.", "an {thing} is wanted"
    )
    assert (one.granularity, one.observation, one.supports) == ("task", "", {"train/0"})


def test_the_slots_come_from_the_bank_where_the_group_won_nothing():
    (one,) = said(add("task", "lend the novel", "Fetch novel."), group=LOST, known=[KNOWN])
    assert (one.task_text, one.text.principle) == ("lend the {thing} to the {place}", "Fetch {thing}.")
    (plain,) = said(add("task", "lend {thing}", "Fetch {thing}, bring it to {place}."), group=LOST)
    assert plain.task_text == LOST.task.text
    assert (plain.text.title, plain.text.principle) == ("lend the thing", "Fetch the thing, bring it to the place.")


def test_a_new_place_is_keyed_by_its_thing_and_the_start():
    here, vague = said(add("step", "Atlas: in case 1"), add("step", "Careful: unlock first"))
    assert (here.task_text, here.observation, here.supports) == ("atlas", START, {"train/0"})
    assert vague.task_text == WON.task.text


def test_support_and_refutation_of_what_was_asked_about_alone():
    support, refute = said(
        Edit("support", skill_id="t4"),
        Edit("refute", skill_id="s2"),
        Edit("refute", skill_id="s99"),
        Edit("revise", skill_id="t4", text=KNOWN.text),
        Edit("add", "task"),
        known=[KNOWN, PLACE],
    )
    assert (support.text, support.task_text, support.supports, support.refutes) == (
        KNOWN.text,
        KNOWN.task_text,
        {"train/0"},
        set(),
    )
    assert (refute.text, refute.observation, refute.supports, refute.refutes) == (PLACE.text, START, set(), {"train/0"})
