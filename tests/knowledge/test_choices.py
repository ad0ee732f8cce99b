"""Choices: procedures of a shop, without numbers of products and without what led nowhere."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from library import played, told

from d2skill.config import EnvConfig
from d2skill.envs import make_environment
from d2skill.knowledge.choices import (
    FITTING,
    NAMED,
    WHOLE,
    ChoiceProgress,
    acts_by_choices,
    choice_steps,
    general_choice,
    is_asked_for,
    turns_not_undone,
    until,
)
from d2skill.knowledge.evidence import NOTHING_KNOWN, evidence_of, gather
from d2skill.knowledge.patterns import bindings
from d2skill.knowledge.procedures import acts_in, procedure_of, sentence
from d2skill.types import Decision, Group, Prompt, Trajectory, Turn

TASK = "i am looking for red wool socks, and price lower than 30.00 dollars"


def shop(*steps: tuple[str, str], success: bool = True, task: str = TASK) -> Trajectory:
    """A trajectory of a page and a choice on it, each."""
    turns = [Turn(Prompt(task, page, (a,)), Decision(a, a, (), ()), True) for page, a in steps]
    return replace(played(task, "wait"), turns=tuple(turns), success=success)


def test_a_shop_is_told_from_a_room():
    assert acts_by_choices(played(TASK, "search[red socks]", "click[buy now]"))
    assert not acts_by_choices(played(TASK, "search[red socks]", "go to till 1"))
    assert not acts_by_choices(told(TASK, (("search[a]",), "buy")))


def test_what_the_task_names_is_asked_for_as_a_whole():
    assert is_asked_for("click[Red Wool]", TASK)
    assert not is_asked_for("click[red socks]", TASK)
    assert not is_asked_for("click[]", TASK)


def test_a_procedure_of_choices_has_general_words_and_no_way_back():
    found = procedure_of(
        shop(
            ("search page", "search[socks of wool]"),
            ("results", "click[b00wrong]"),
            ("product wrong", "click[back]"),
            ("results", "click[b07right]"),
            ("product right", "click[red]"),
            ("product right", "click[large]"),  # not asked for
            ("product right", "click[buy now]"),
        )
    )
    assert found.pattern == "i am looking {...}"
    assert found.steps == (
        f"search {NAMED}",
        f"click {FITTING}",
        f"click {NAMED}",
        "click buy now",
    )
    assert acts_in(sentence(found.steps)) == ()
    assert bindings(found.pattern, TASK.replace("red", "blue")) == {}


def test_turns_that_came_back_to_a_page_are_left_out():
    kept = turns_not_undone(shop(("a", "x[1]"), ("b", "x[2]"), ("c", "x[3]"), ("b", "x[4]"), ("d", "x[5]")))
    assert [turn.decision.action for turn in kept] == ["x[1]", "x[4]", "x[5]"]


def test_a_task_is_told_by_its_beginning_up_to_what_was_chosen():
    pattern, steps = choice_steps(shop(("a", "pick[socks]"), ("b", "pick[socks]"), task="socks for me"))
    assert (pattern, steps) == ("{...}", (f"pick {NAMED}",))
    assert choice_steps(shop(("a", "pick[socks]"), task="find socks"))[0] == "find {...}"
    assert choice_steps(shop(("a", "pick[it]"), task="please get me all of them"))[0] == "please {...}"


def test_shoppers_of_the_real_set_leave_procedures_without_products(webshop_folder):
    environment = make_environment(EnvConfig(kind="webshop", data=webshop_folder))
    seen = set()
    for task_id in list(environment.task_ids("train"))[:30]:
        session = environment.start(task_id)
        expert, turns = environment.expert(session.task, (), 0), []
        while not session.observation.done and len(turns) < 15:
            now = session.observation
            action = expert.act(now)
            turns.append(Turn(Prompt(session.task.text, now.text, now.actions), Decision(action, action, (), ()), True))
            session.step(action)
        if session.observation.success:
            won = Trajectory(session.task, "skills", 0, tuple(turns), "", True)
            (piece,) = evidence_of(won)
            assert bindings(piece.task_text, session.task.text) is not None
            seen.add(piece.text.principle)
    assert seen
    assert not any(re.search(r"\d", principle) for principle in seen)


FIELDS = "find me socks with color: red, and size: large, and price lower than 30.00 dollars"
STEPS = (
    f"search {NAMED}",
    f"click {FITTING}",
    "click the color that the task names",
    "click the size that the task names",
    "click buy now",
)
RESULTS = ("click[b01]", "click[b02]", "click[next >]", "click[back to search]")


def bought(*options: str, success: bool = True) -> Trajectory:
    pages = (("search page", "search[socks]"), ("results", "click[b01]"), *(("product", one) for one in options))
    return shop(*pages, ("product", "click[buy now]"), success=success, task=FIELDS)


def test_fields_whose_values_were_chosen_are_named_in_the_order_of_the_task():
    for options in (("click[red]", "click[large]"), ("click[large]", "click[red]")):
        assert choice_steps(bought(*options)) == ("find me {...} color: {...} size: {...}", STEPS)
    pattern, steps = choice_steps(bought("click[large]", "click[blue]"))
    assert (pattern, steps) == ("find me {...} size: {...}", (*STEPS[:2], STEPS[3], STEPS[4]))
    assert bindings(pattern, FIELDS) == {} and bindings(pattern, FIELDS.replace("size:", "width:")) is None


def test_a_purchase_that_failed_speaks_against_the_procedure_that_it_followed():
    task = bought().task
    group = Group(task, (bought("click[red]", "click[large]"), bought("click[large]", success=False)))
    other = Group(replace(task, id="other"), (bought("click[large]", success=True),))
    counts = {
        one.task_text.count("{...}"): (one.supports, one.refutes) for one in gather([group, other], NOTHING_KNOWN)
    }
    assert counts == {3: ({task.id}, set()), 2: ({"other"}, {task.id})}


def test_progress_takes_what_the_task_names_in_any_order():
    progress = ChoiceProgress(STEPS, FIELDS)
    product = ("click[< prev]", "click[large]", "click[red]", "click[blue]", "click[buy now]")
    done = []
    for action, offered in (
        ("search[socks]", RESULTS),
        ("click[b01]", product),
        ("click[large]", product),
        ("click[blue]", product),
        ("click[red]", product),
        ("click[buy now]", ()),
    ):
        progress.follow(action, offered)
        done.append(progress.done)
    assert done == [1, 2, 2, 2, 4, 5]


def test_progress_goes_back_with_the_episode_and_remembers_what_was_looked_at():
    progress = ChoiceProgress(STEPS, FIELDS)
    for action, offered in (
        ("search[socks]", RESULTS),
        ("click[b01]", ("click[< prev]", "click[large]", "click[buy now]")),
        ("click[large]", ("click[< prev]", "click[large]", "click[buy now]")),
        ("click[< prev]", RESULTS),
    ):
        progress.follow(action, offered)
    assert (progress.done, progress.got) == (1, ("search[socks]", "click[b01]"))
    progress.follow("click[next >]", ("click[b03]",))
    assert progress.done == 1
    progress.follow("click[back to search]", ("search[socks]", "search[red socks]"))
    assert (progress.done, progress.got) == (0, ("search[socks]", "click[b01]"))


def test_the_steps_that_may_come_next_end_with_the_first_that_the_task_does_not_name():
    assert [until(STEPS, done) for done in range(6)] == [1, 2, 4, 4, 5, 5]


PLAYED = [*RESULTS, "click[red]", "click[large]", "click[buy now]", "search[socks]", "wait"]


@given(st.lists(st.tuples(st.sampled_from(PLAYED), st.sets(st.sampled_from(PLAYED)))))
def test_progress_stays_within_the_steps_whatever_is_played(turns):
    progress = ChoiceProgress(STEPS, FIELDS)
    for action, offered in turns:
        progress.follow(action, tuple(offered))
        assert 0 <= progress.done <= len(STEPS)
        assert set(progress.got) <= {action for action, _ in turns}


@pytest.mark.parametrize(
    ("action", "step"),
    [
        ("click[army green]", "click the color that the task names"),
        ("click[army]", "click the color that the task names"),  # as far as a shop may have it
        ("click[green]", f"click {NAMED}"),
        ("click[arm]", "click arm"),
        ("click[X-Large Tall]", "click the size that the task names"),
        ("click[7]", f"click {FITTING}"),
        ("click[slim]", "click the type that the task names"),
        ("click[30.00 dollars]", f"click {NAMED}"),
    ],
)
def test_a_field_is_named_by_the_beginning_of_its_value(action, step):
    fields = "color: army green, and size: x-large tall, fit type: slim and price lower than 30.00 dollars"
    task = f"find me a coat with {fields}"
    assert general_choice(action, task) == step


def test_a_kind_of_task_keeps_a_word_of_its_beginning_or_is_none():
    assert procedure_of(bought("click[red]", "click[large]")).pattern.startswith("find me")
    bought_today = shop(("a", "pick[socks]"), ("b", "click[buy now]"), task="Buy socks today")
    assert procedure_of(bought_today).pattern == "Buy {...}"
    assert procedure_of(shop(("a", "pick[socks]"), task="socks for me")) is None


def test_a_step_that_comes_again_is_done_again():
    progress = ChoiceProgress((f"click {NAMED}", "click next", f"click {NAMED}"), "find red large socks")
    for action in ("click[red]", "click[next]", "click[large]"):
        progress.follow(action, ())
    assert progress.done == 3


QUIZ = "who wrote Shore Leave"
FORMS = ("search[...]", "answer[...]")


def quiz(*actions: str, success: bool = True) -> Trajectory:
    turns = [
        Turn(Prompt(QUIZ, f"page {at}", (a,), forms=FORMS), Decision(a, a, (), ()), True)
        for at, a in enumerate(actions)
    ]
    return replace(played(QUIZ, "wait"), turns=tuple(turns), success=success)


@pytest.mark.parametrize(
    ("action", "step"),
    [
        (f"search[{QUIZ}]", f"search {WHOLE}"),
        ("search[wrote Shore Leave]", f"search {NAMED}"),
        ("search[Theodore Sturgeon]", f"search {FITTING}"),
        ("answer[Theodore Sturgeon]", f"answer {FITTING}"),
        ("click[buy now]", "click buy now"),
    ],
)
def test_free_text_is_never_kept(action, step):
    assert general_choice(action, QUIZ, FORMS) == step


def test_a_procedure_says_how_to_ask_and_not_what_the_answer_is():
    asked = quiz("search[Shore Leave]", "answer[Theodore Sturgeon]")
    assert choice_steps(asked) == ("who wrote {...}", (f"search {NAMED}", f"answer {FITTING}"))
    assert choice_steps(quiz(f"search[{QUIZ}]", "answer[Ted]")) == (
        "who {...}",
        (f"search {WHOLE}", f"answer {FITTING}"),
    )


def test_wrong_answers_speak_against_the_procedure_that_they_followed():
    right, wrong = (quiz("search[Shore Leave]", f"answer[{name}]", success=name == "Ted") for name in ("Ted", "Ned"))
    other = Group(replace(right.task, id="other"), (replace(wrong, task=replace(wrong.task, id="other")),))
    (one,) = gather([Group(right.task, (right,)), other], NOTHING_KNOWN)
    assert (one.supports, one.refutes) == ({right.task.id}, {"other"})


def test_progress_follows_free_text():
    progress = ChoiceProgress((f"search {NAMED}", f"answer {FITTING}"), QUIZ, FORMS)
    progress.follow("search[Shore Leave]", ("search[Ted]", "answer[Ted]"))
    assert progress.done == 1
    progress.follow("answer[Ted]", ())
    assert progress.done == 2
