"""Reflections as models write them: JSON with line breaks, comments and last commas; named steps are left out."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import group, task

from d2skill.reflectors.answer import UnusableAnswer, parse_reflection

SKILL = {"title": "Look first", "principle": "Open each drawer.", "when_to_apply": "something is sought"}
ANSWER = {"failing_step": 1, "step_skill": None, "task_skill": SKILL}
PLAIN = json.dumps(ANSWER, indent=1)
FAILURE = group([False], [False], task("train/1", "find the key")).trajectories[0]

WRITTEN = {
    "plain": PLAIN,
    "fence": f"Here it is:\n```json\n{PLAIN}\n```\nI hope that helps {{you}}.",
    "fence without an end": f"```json\n{PLAIN}",
    "tildes": f"~~~\n{PLAIN}\n~~~",
    "line break in a string": PLAIN.replace("Open each drawer.", "Open each\ndrawer."),
    "tab in a string": PLAIN.replace("Open each", "Open\teach"),
    "carriage return in a string": PLAIN.replace("Open each", "Open\r\neach"),
    "last comma in an object": PLAIN.replace('sought"', 'sought",'),
    "last comma at the end": PLAIN[:-1].rstrip() + ",\n}",
    "comment to the end of a line": PLAIN.replace('"failing_step": 1,', '"failing_step": 1,  // the "first" one'),
    "comment in a block": PLAIN.replace('"task_skill"', '/* about {all} of them,\n too */ "task_skill"'),
    "comment with a hash": PLAIN.replace('"failing_step": 1,', '"failing_step": 1,  # counted from 0'),
    "comment before the last bracket": PLAIN[:-1] + ", // done\n}",
    "all at once": "```jsonc\n"
    + PLAIN.replace("Open each", "Open\neach").replace('sought"', 'sought", // so\n')[:-1].rstrip()
    + ", # end\n}\n```",
    "thought before": f"<think>Maybe {{step_skill: null}}?</think>{PLAIN}",
    "crlf": PLAIN.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_a_model_writes_as_json_is_read(name):
    reflection, left_out = parse_reflection(WRITTEN[name], FAILURE)
    assert left_out == {} and reflection.failing_step == 1 and reflection.step_skill is None
    assert reflection.task_skill is not None and reflection.task_skill.principle == "Open each drawer."


def test_signs_in_strings_are_no_comments_and_no_last_commas():
    said = "See http://x.example/a#b, then [1,2,] and /* this */ // too."
    written = PLAIN.replace("Open each drawer.", said).replace('sought"', 'sought",')
    reflection, _ = parse_reflection(written, FAILURE)
    assert reflection.task_skill is not None and reflection.task_skill.principle == said


@settings(max_examples=200, deadline=None)
@given(st.text('{}[]",:/*#\\\n \tabstep_skill01', max_size=200))
def test_whatever_is_written_is_read_or_refused(text):
    for written in (text, PLAIN + text, PLAIN[: len(text)] + text):
        try:
            parse_reflection(written, FAILURE)
        except UnusableAnswer:
            continue


NAMED = """
Do not repeat step 2.
Skip steps 3 and 4.
In Step #5, open the drawer.
Unlike step two, take the key first.
At step no. 7 turn left.
Avoid the 3rd step.
What attempt 1 did is wrong.
Do as in the successful attempt.
The failed trajectory looked in the wrong place.
At turn 4 the door is open.
""".strip().splitlines()
UNNAMED = """
As a first step, open the drawer.
Take one step at a time.
Take two steps back, then turn left.
Step outside before you look.
Turn the key twice.
Attempt to open the drawer gently.
Go to drawer 2, then to shelf 1.
It takes 3 steps to get there.
""".strip().splitlines()


@pytest.mark.parametrize("said", NAMED)
def test_a_skill_that_names_steps_is_left_out_with_the_reason(said):
    written = json.dumps(ANSWER | {"task_skill": SKILL | {"principle": said}, "step_skill": SKILL})
    reflection, left_out = parse_reflection(written, FAILURE)
    assert left_out == {"task_skill": "it names steps or attempts"}
    assert reflection.task_skill is None and reflection.step_skill is not None, "the other one stays"


@pytest.mark.parametrize("said", UNNAMED)
def test_a_skill_that_speaks_of_steps_without_naming_them_stays(said):
    _, left_out = parse_reflection(json.dumps(ANSWER | {"task_skill": SKILL | {"principle": said}}), FAILURE)
    assert left_out == {}


def test_a_step_that_the_task_itself_names_may_be_named():
    own = group([False], [False], task("train/1", "do step 2 of the recipe")).trajectories[0]
    written = json.dumps(ANSWER | {"task_skill": SKILL | {"principle": "Read step 2 twice."}})
    assert parse_reflection(written, own)[1] == {}
