"""Answers: the action stands after the thought; answers without one are told apart, and a run of them stops."""

from dataclasses import replace

import pytest
from toys import group, trajectory, turn

from d2skill.errors import RunError
from d2skill.iteration_metrics import describe
from d2skill.policies.answers import ANSWER_KINDS, kind_of_answer, parse_action, require_actions
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


def test_kinds_are_metrics_of_models_that_write():
    metrics = describe([group([True], [False], turns=[wrote("hm")])], None, {})
    assert metrics["answers/no_tag"] == 2 and all(f"answers/{kind}" in metrics for kind in ANSWER_KINDS)
    assert not any(name.startswith("answers/") for name in describe([group([True], [False])], None, {}))
