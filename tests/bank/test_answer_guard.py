"""The guard of answers: nothing that enters a bank holds an answer of its own task, and what is caught is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import skill

from d2skill.bank import Draft
from d2skill.bank.answer_guard import AnswerGuard
from d2skill.errors import ConfigError
from d2skill.knowledge.evidence import Evidence
from d2skill.types import Edit, SkillText

ANSWERS = {"nq/1": ("Theodore Sturgeon", "Ted"), "nq/2": ("1966",), "nq/3": ("?",)}
ASK = SkillText("Who was the ...", "Search what the task names, then answer one that fits.", "the task is to ...")


class Quiz:
    def golden_answers(self, task_id):
        if task_id not in ANSWERS:
            raise ConfigError(f"there is no {task_id}")
        return ANSWERS[task_id]


def told(principle, title="Who was the ...", when="always"):
    return SkillText(title, principle, when)


def test_a_step_with_the_answer_is_lost_and_how_to_ask_stays():
    guard = AnswerGuard(Quiz())
    text = told("Search[Shore Leave writer], then answer[theodore STURGEON].")
    (kept,) = guard.drafts([Draft("task", text, "Who was the screenwriter for Shore Leave?", "", "nq/1")])
    assert kept.text.principle == "Search[Shore Leave writer]."
    assert guard.caught() == 1
    assert guard.caught() == 0


@pytest.mark.parametrize(
    "text",
    [
        told("Answer [the Theodore-Sturgeon]."),
        told("It was Theodore Sturgeon, so say so."),
        told("Search again.", title="Theodore Sturgeon"),
        told("Search, then answer[Ted].", when="Ted is asked for"),
        told("Answer[Ted], then answer[Theodore Sturgeon]."),
    ],
)
def test_a_text_that_holds_the_answer_elsewhere_is_refused(text):
    guard = AnswerGuard(Quiz())
    assert guard.drafts([Draft("task", text, "who", "", "nq/1")]) == []
    assert guard.edits([Edit("add", "task", text=text), Edit("support", skill_id="t1")], "nq/1", ()) == [
        Edit("support", skill_id="t1")
    ]
    assert guard.evidence([Evidence("task", text, "who {...}", supports={"nq/1"})]) == []
    assert guard.caught() == 3


@pytest.mark.parametrize("source", ["nq/2", "nq/3", "unknown/7", ""])
def test_only_answers_of_its_own_task_count_and_only_in_whole_words(source):
    guard = AnswerGuard(Quiz())
    texts = [told("Search, then answer[Ted]."), told("Search 19661 or 966."), ASK]
    assert [one.text for one in guard.drafts(Draft("task", text, "who", "", source) for text in texts)] == texts
    assert guard.caught() == 0


@pytest.mark.parametrize(
    ("answer", "principle"),
    [
        ("Einstein", "Search Einstein's home."),
        ("U.S.A.", "It is USA."),
        ("1966", "It was 1,966."),
        ("Beyoncé", "Ask Beyonce\u0301."),
        ("Paris", "Pa\u200bris it is."),
        ("東京", "それは東京です"),
        ("🐟", "answer[🐟]"),
        ("Ted", "see the_Ted_"),
        ("Neil Armstrong", "Armstrong it is."),
    ],
)
def test_an_answer_in_another_form_is_found(answer, principle, monkeypatch):
    monkeypatch.setitem(ANSWERS, "nq/4", (answer,))
    assert AnswerGuard(Quiz()).text(told(principle, title="Neil"), ["nq/4"]) is None
    assert AnswerGuard(Quiz()).text(told("I search for it.", title="A question"), ["nq/4"])


def test_evidence_keeps_the_tasks_whose_answers_it_does_not_hold():
    text = told("It is often in 1966.")
    one = Evidence("task", text, "when {...}", supports={"nq/1", "nq/2#3"}, refutes={"nq/1"})
    (kept,) = AnswerGuard(Quiz()).evidence([one])
    assert (kept.text, kept.supports, kept.refutes) == (text, {"nq/1"}, {"nq/1"})


def test_a_revision_holds_no_answer_of_the_task_that_the_skill_came_from():
    revise = Edit("revise", skill_id="t4", text=told("Search twice, then answer[1966]."))
    guard, known = AnswerGuard(Quiz()), [skill("t4", source_task="nq/2")]
    assert [one.text.principle for one in guard.edits([revise], "nq/1", known)] == ["Search twice."]
    assert guard.edits([revise], "nq/1", []) == [revise]


def test_without_answers_that_are_known_everything_passes():
    guard = AnswerGuard(None)
    drafts = [Draft("task", told("Answer[Ted]."), "who", "", "nq/1")]
    assert guard.drafts(drafts) == drafts
    assert guard.caught() is None


@given(st.lists(st.sampled_from(("search[a b]", "answer[Ted]", "look at 1966", "answer the ted")), min_size=1))
def test_what_passes_holds_no_answer_and_has_steps_of_the_text_alone(steps):
    guard = AnswerGuard(Quiz())
    passed = guard.text(told(", then ".join(steps)), ["nq/1"])
    held = any("ted" in step.lower() for step in steps)
    assert guard.caught() == held
    if passed:
        assert "ted" not in passed.principle.lower()
        assert len(passed.principle.split(", then ")) == sum("ted" not in step.lower() for step in steps)
    else:
        assert all("ted" in step.lower() for step in steps)
