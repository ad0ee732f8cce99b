"""Answers: the action stands after the thought; answers without one are told apart, and a run of them stops."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import group, trajectory, turn

from d2skill.errors import RunError
from d2skill.iteration_metrics import describe
from d2skill.policies.answers import ANSWER_KINDS, closing_tags, kind_of_answer, parse_action, require_actions
from d2skill.prompts import ANY_TEXT, in_tags
from d2skill.types import Decision


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("<think>hm</think><action>go left</action>", "go left"),
        ("<action>no</action> wait, <action>go left</action>", "go left"),
        ("<ACTION>\n  go\n left </Action>", "go left"),
        ("<think>Maybe <action>go right</action>.</think> <action>go left</action>", "go left"),
        ("Maybe <action>go right</action>.</think> <action>go left</action>", "go left"),
        ("<think>Maybe <action>go right</action>.</think> I am done.", ""),
        ("<think>Then <action>go left</action>", "go left"),  # generation ends there
        ("<think>I answer in <action> tags.</think><action>go left</action>", "go left"),
        ("go left", ""),
        ("<action>go left", ""),
        ("<action></action>", ""),
        ("", ""),
    ],
)
def test_the_action_stands_in_the_last_tags_after_the_thought(text, action):
    assert parse_action(text) == action


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<think>hm</think><action>go left</action>", "action"),
        ("", "empty"),
        (" \n", "empty"),
        ("<think>The mug may be in", "cut"),
        ("<think>hm</think><action>go le", "cut"),
        ("<think>The mug may be there.</think>\n", "thought_only"),
        ('<tool_call>\n{"name": "go", "arguments": {"to": "left"}}\n</tool_call>', "tool_call"),
        ('{"name": "go", "parameters": {}}', "tool_call"),
        ("1. go left\n2. go right", "list"),
        ("<think>hm</think>- go left\n- go right", "list"),
        ('["go left"]', "list"),
        ("I would go left.", "no_tag"),
        ("<think>1. a\n2. b</think> go left", "no_tag"),
    ],
)
def test_answers_without_an_action_are_told_apart(text, kind):
    assert kind_of_answer(text) == kind


# tags of names of their own

SEARCH = ("search[...]", "answer[...]")


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("<think>hm</think><search>red\n  mugs</search>", "search[red mugs]"),
        ("<think>hm</think> <answer> Port Elm </answer> I am sure.", "answer[Port Elm]"),
        ("<SEARCH>Mugs</Search>", "search[Mugs]"),
        ("<search>one</search><answer>two</answer>", "search[one]"),
        ("<answer>two</answer><search>one</search>", "answer[two]"),
        ("<think>Is it <answer>Rome</answer>?</think><search>Rome</search>", "search[Rome]"),
        ("Is it <answer>Rome</answer>?</think><search>Rome</search>", "search[Rome]"),
        ("<think>So <search>Rome</search>", "search[Rome]"),  # generation ends there
        ("<search>a</search><information>b</information><think>c</think><answer>d</answer>", "search[a]"),
        ("<think>a</think><search>b</search><think>c</think><answer>d</answer>", "search[b]"),
        ("<search> tags: <search>Rome</search>", "search[Rome]"),
        ("<search>Rome <answer>Italy</answer>", "answer[Italy]"),
        ("<search>a[b]c <b>d</b></search>", "search[a[b]c <b>d</b>]"),
        ("<search> </search>", "search[]"),
        ("<action>search[red mugs]</action>", "search[red mugs]"),
        ("<action>look</action><search>red mugs</search>", "look"),
        ("<tool>x</tool>", ""),
        ("<search>red mugs</answer>", ""),
        ("search[red mugs]", ""),
        ("", ""),
    ],
)
def test_the_first_tags_of_a_form_after_the_thought_are_the_action(text, action):
    assert parse_action(text, SEARCH) == action


def test_only_forms_that_all_have_names_ask_for_their_tags():
    assert parse_action("<say>hello</say>", ("say[...]", "go ...")) == ""
    assert parse_action("<search>x</search><answer>y</answer>", ("answer[...]",)) == "answer[y]"
    assert parse_action("<Look_Up>x</look_up>", ("look_up[...]",)) == "look_up[x]"


@pytest.mark.parametrize("text", ["", " a\n", "<think>a</think><search>b</search> c", "<action>d</action>"])
def test_an_answer_that_is_taken_whole_stays_as_it_is(text):
    assert parse_action(text, ANY_TEXT) == text
    assert kind_of_answer(text, ANY_TEXT) == ("action" if text else "empty")


def test_answers_end_at_the_tags_that_they_are_asked_for():
    assert closing_tags(()) == closing_tags(("go ...",)) == ("</action>",)
    assert closing_tags(SEARCH) == ("</search>", "</answer>", "</action>")
    assert closing_tags(ANY_TEXT) == ("</search>", "</answer>")


@given(st.sampled_from(["search", "answer"]), st.text(st.characters(exclude_characters="<>", codec="utf-8")))
def test_what_is_written_in_tags_is_read_back(name, text):
    action = f"{name}[{' '.join(text.split())}]"
    assert parse_action(in_tags(action, SEARCH), SEARCH) == action
    assert parse_action(in_tags("look around", SEARCH), SEARCH) == "look around"
    assert in_tags(action, ()) == f"<action>{action}</action>" and in_tags(action, ANY_TEXT) == action


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<search>x</search>", "action"),
        ("<think>hm</think><search>red mu", "cut"),
        ("<think>hm</think><answer>red mu", "cut"),
        ("<think>hm</think>", "thought_only"),
        ("I would search.", "no_tag"),
    ],
)
def test_answers_without_tags_of_a_form_are_told_apart(text, kind):
    assert kind_of_answer(text, SEARCH) == kind


def test_a_run_of_answers_without_tags_names_the_tags():
    bare = [replace(wrote("Rome."), prompt=replace(turn().prompt, actions=(), forms=SEARCH))] * 7
    with pytest.raises(RunError, match="28 had no <search> or <answer> tag"):
        require_actions([trajectory(turns=bare)] * 4)


# runs of answers


def answered(*texts):
    return trajectory(turns=[wrote(text) for text in texts])


def wrote(text):
    return replace(turn(), decision=Decision(text, parse_action(text), (), ()))


def test_a_run_without_actions_stops_with_what_was_seen_and_what_to_do():
    with pytest.raises(RunError) as raised:
        few = [answered(*["I would go left."] * 7)] * 2
        require_actions([*few, answered(*["I would go left."] * 5), answered(*["<think>The mug"] * 10)])
    said = str(raised.value)
    assert "29 of 29 answers name no action" in said and "19 had no <action> tag, 10 ended before" in said
    assert "'I would go left.'" in said and "answer choice" in said


def test_a_run_goes_on_while_some_answers_name_an_action():
    some = ["<action>left</action>"] * 2
    require_actions([answered(*["I would go left."] * 14, *some)] * 4)  # 12 %
    require_actions([answered(*["I would go left."] * 4)] * 4)  # too few to tell
    require_actions([answered(*["I would go left."] * 50)])  # one episode that is stuck
    require_actions([])


def test_kinds_of_long_answers_are_told_in_time():
    """Expressions that look back at each line, or ahead at each tag, would take minutes."""
    assert kind_of_answer("I think" + "\n" * 200_000 + "the end") == "no_tag"
    assert kind_of_answer("<action>" * 20_000 + "</action>" + "x" * 200_000) == "no_tag"
    for hostile in ("<search><answer>" * 20_000, "<search>" * 40_000, "<think>" * 20_000 + "</think>"):
        assert kind_of_answer(hostile + "x" * 200_000, SEARCH) != "action"


def test_kinds_are_metrics_of_models_that_write():
    metrics = describe([group([True], [False], turns=[wrote("hm")])], None, {})
    assert metrics["answers/no_tag"] == 2 and all(f"answers/{kind}" in metrics for kind in ANSWER_KINDS)
    assert not any(name.startswith("answers/") for name in describe([group([True], [False])], None, {}))


@pytest.mark.parametrize("text", ["<\u017fearch>x</\u017fearch>", "<act\u0131on>x</act\u0131on>"])
def test_letters_of_other_alphabets_make_no_tag(text):
    assert parse_action(text, ("search[...]", "answer[...]")) == ""
