import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import decision, trajectory

from d2skill.config import ReflectConfig
from d2skill.learner import drafts_from
from d2skill.reflectors import ContrastReflector, make_reflector
from d2skill.reflectors.contrast import essential_actions, generalized
from d2skill.types import Prompt, Reflection, SkillText, Task, Trajectory, Turn

TASK = "put some mug in shelf"
ROOM, DRAWER, DESK = "You are in a room.", "At drawer 1. It is closed.", "At desk 2. You see a mug 3."
GO = ("go to drawer 1", "go to desk 2", "go to shelf 1", "look")
AT_DRAWER, AT_DESK = ("open drawer 1", *GO[1:]), ("take mug 3 from desk 2", GO[0], *GO[2:])
AT_SHELF, HOLDING = ("put mug 3 in shelf 1", *GO[:2], "look"), (*GO[:1], *GO[2:])


def played(*steps: tuple[str, tuple[str, ...], str], success: bool = False, text: str = TASK, final: str = "The end."):
    """A trajectory of (observation, admissible actions, action)."""
    turns = tuple(Turn(Prompt(text, o, a), decision(act, a), not a or act in a) for o, a, act in steps)
    return trajectory("skills", 0, success, turns, task=Task("train/1", text, "train"), final=final)


SUCCESS = played(
    (ROOM, GO, "go to drawer 1"),
    (DRAWER, AT_DRAWER, "look"),
    (DRAWER, AT_DRAWER, "open drawer 1"),
    (DRAWER, GO, "go to desk 2"),
    (DESK, AT_DESK, "take mug 3 from desk 2"),
    (DESK, HOLDING, "go to shelf 1"),
    ("At shelf 1.", AT_SHELF, "put mug 3 in shelf 1"),
    success=True,
)
ESSENTIAL = ["go to desk 2", "take mug 3 from desk 2", "go to shelf 1", "put mug 3 in shelf 1"]


def reflect(failure: Trajectory, success: Trajectory | None = None) -> Reflection:
    return ContrastReflector().reflect(failure, success)


def parts(text: SkillText) -> tuple[str, str, str]:
    return text.title, text.principle, text.when_to_apply


# what led to the success


def test_detours_are_not_essential():
    assert essential_actions(SUCCESS) == ESSENTIAL


def test_a_repeated_essential_action_counts_once():
    twice = [*SUCCESS.turns[:5], SUCCESS.turns[4], *SUCCESS.turns[5:]]
    assert essential_actions(trajectory("skills", 0, True, twice, task=SUCCESS.task)) == ESSENTIAL


def test_of_free_text_what_changed_something_is_essential():
    free = played(
        ("At the gate.", (), "sing"),
        ("At the gate.", (), "open the gate"),
        ("In the yard.", (), "wait"),
        ("In the yard.", (), "ring the bell"),
        success=True,
    )
    assert essential_actions(free) == ["open the gate", "ring the bell"]


# the decisive step


def test_the_failing_step_is_the_earliest_at_which_the_missing_action_could_be_played():
    failure = played((ROOM, GO, "go to drawer 1"), (DRAWER, AT_DRAWER, "open drawer 1"), (DRAWER, GO, "look"))
    assert reflect(failure, SUCCESS).failing_step == 0


def test_what_the_failure_did_right_is_not_the_failing_step():
    failure = played(
        (ROOM, GO, "look"),
        (ROOM, GO, "go to desk 2"),
        (DESK, AT_DESK, "look"),
        (DESK, AT_DESK, "go to drawer 1"),
    )
    found = reflect(failure, SUCCESS)
    assert found.failing_step == 2
    assert found.step_skill.title == "mug: take mug from desk 2"


def test_a_missing_action_counts_from_when_it_was_admissible():
    failure = played(
        (ROOM, GO, "go to desk 2"),
        ("It is dark.", ("wait",), "wait"),
        (DESK, AT_DESK, "go to drawer 1"),
        (DRAWER, AT_DRAWER, "look"),
    )
    assert reflect(failure, SUCCESS).failing_step == 2


def test_essential_actions_in_the_wrong_order_do_not_count_as_done():
    failure = played((ROOM, GO, "go to shelf 1"), ("At shelf 1.", GO, "go to desk 2"), (DESK, AT_DESK, "look"))
    found = reflect(failure, SUCCESS)
    assert found.failing_step == 2
    assert found.step_skill.principle.startswith("Take mug from desk 2")


def test_with_everything_played_the_last_action_is_missing():
    found = reflect(
        played(*((t.prompt.observation, t.prompt.actions, t.decision.action) for t in SUCCESS.turns)), SUCCESS
    )
    assert found.failing_step == 6
    assert found.step_skill.principle == "Put mug in shelf."


# what the skills say


def test_the_step_skill_keeps_the_place_and_drops_the_number_of_what_the_task_names():
    found = reflect(played((ROOM, GO, "look")), SUCCESS)
    assert found.step_skill == SkillText(
        "mug: go to desk 2",
        "Go to desk 2, then take mug from desk 2, then go to shelf.",
        "the task needs mug and you can go to desk 2",
    )


def test_the_task_skill_tells_the_whole_task_without_numbers():
    found = reflect(played((ROOM, GO, "look")), SUCCESS)
    assert found.task_skill == SkillText(
        "put some mug in shelf: go to desk",
        "Go to desk, then take mug from desk, then go to shelf, then put mug in shelf.",
        "the task is to put some mug in shelf",
    )


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("take mug 1 from desk 2", "take mug from desk 2"),
        ("take pan 1 from desk 2", "take pan 1 from desk 2"),
        ("take mug from desk 2", "take mug from desk 2"),
        ("look", "look"),
    ],
)
def test_only_what_the_task_names_is_generalised(action, said):
    assert generalized(action, TASK) == said


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("put mug 1 beside mug 12", "put mug beside mug"),
        ("Take Mug 1 from desk 2", "Take Mug from desk 2"),
    ],
)
def test_a_number_that_begins_another_and_capitals_are_generalised_too(action, said):
    assert generalized(action, TASK).lower() == said.lower()


@pytest.mark.parametrize("action", ["go to door 3", "go from door 1 to door 12", "Go To Door 3"])
def test_no_number_of_an_action_is_left_in_a_task_skill(action):
    success = played((ROOM, ("wait", action), action), success=True, text="leave the house")
    found = reflect(played((ROOM, ("wait", action), "wait"), text="leave the house"), success)
    assert not re.search(r"\d", " ".join(parts(found.task_skill))), found.task_skill


# a failure alone


def test_what_was_seen_and_not_used_is_the_advice():
    failure = played((ROOM, GO, "go to desk 2"), (DESK, AT_DESK, "go to drawer 1"), (DRAWER, AT_DRAWER, "look"))
    found = reflect(failure)
    assert found.failing_step == 1
    assert found.step_skill.principle == "Take mug from desk 2."
    assert found.task_skill is None


def test_what_was_sought_in_vain_is_told_with_where_it_is_not():
    """Keyed to the start, for whoever begins at the same place; the advice keeps the places that were tried."""
    failure = played(
        (ROOM, ("look", "go to drawer 1", "go to bin 3"), "look"),
        (ROOM, ("look", "go to drawer 1", "go to bin 3"), "go to drawer 1"),
        ("At drawer 1.", ("go to bin 3", "look"), "go to bin 3"),
        ("At bin 3.", ("go to drawer 1", "look"), "dance on bin 9"),
    )
    found = reflect(failure)
    assert (found.failing_step, found.task_skill) == (0, None)
    assert found.step_skill.title.startswith("mug")
    assert "not in drawer 1, bin 3." in found.step_skill.principle
    assert "bin 9" not in found.step_skill.principle  # that was not admissible: nothing was sought there


BEGUN = (
    (DESK, AT_DESK, "take mug 3 from desk 2"),
    (DESK, HOLDING, "go to shelf 1"),
    ("At shelf 1.", AT_SHELF, "put mug 3 in shelf 1"),
)


def test_what_was_begun_and_not_finished_is_the_advice():
    left = ("You also hold a mug 4.", ("put mug 4 in shelf 1", "look"), "look")
    found = reflect(played(*BEGUN, left, text="put two mug in shelf"))
    assert (found.failing_step, found.task_skill) == (3, None)
    assert found.step_skill.principle == "Put mug in shelf."


def test_a_verb_that_never_changed_anything_is_no_advice_to_finish():
    left = ("You also hold a mug 4.", ("examine mug 4", "look"), "look")
    assert reflect(played(*BEGUN, left, text="put two mug in shelf")) == Reflection(0, None, None)


def test_there_may_be_nothing_to_say():
    found = reflect(played((ROOM, ("look",), "look"), (ROOM, ("look",), "look")))
    assert found == Reflection(0, None, None)


def test_it_is_what_the_settings_make():
    assert isinstance(make_reflector(ReflectConfig()), ContrastReflector)


# ways through what is offered: actions with an argument in brackets

WISH = "Find me slim fit shirts with long sleeve with color: red | white, and size: x-large"
FRONT, RESULTS, OTHERS = "The shop.", "Two shirts.", "Two others."
FIRST, SECOND = "Shirt b01.", "Shirt b02."
SEARCHES = ("search[slim fit shirts with long sleeve]", "search[slim fit shirts red | white]")
SHIRTS = ("click[back]", "click[b01]", "click[b02]")
ITEM = ("click[back]", "click[< prev]", "click[red]", "click[red | white]", "click[x-large]", "click[buy now]")
BOUGHT = played(
    (FRONT, SEARCHES, SEARCHES[0]),
    (RESULTS, SHIRTS, "click[b01]"),
    (FIRST, ITEM, "click[x-large]"),
    (FIRST, ITEM, "click[< prev]"),
    (RESULTS, SHIRTS, "click[b02]"),
    (SECOND, ITEM, "click[details]"),
    ("Cotton.", ("click[< prev]",), "click[< prev]"),
    (SECOND, ITEM, "click[red | white]"),
    (SECOND, ITEM, "click[x-large]"),
    (SECOND, ITEM, "click[buy now]"),
    success=True,
    text=WISH,
)
THING = "slim fit shirts with long sleeve"
LATER = ", then click what the task names, then click[buy now]."


def test_a_plan_of_choices_has_nothing_that_was_undone_and_none_of_the_tasks_own_choices():
    found = reflect(
        played((FRONT, SEARCHES, SEARCHES[1]), (OTHERS, ("click[back]",), "click[back]"), text=WISH), BOUGHT
    )
    assert found.task_skill == SkillText(
        f"{THING}: search[{THING}]", f"Search[{THING}], then click[b02]{LATER}", f"the task is about {THING}"
    )


def test_who_was_offered_the_right_choice_and_took_another_failed_there():
    failure = played(
        (FRONT, SEARCHES, SEARCHES[1]),
        (RESULTS, SHIRTS, "click[b01]"),
        (FIRST, ITEM, "click[buy now]"),
        text=WISH,
    )
    found = reflect(failure, BOUGHT)
    assert found.failing_step == 1
    assert found.step_skill == SkillText(
        f"{THING}: click[b02]", f"Click[b02]{LATER}", f"the task is about {THING} and you can click[b02]"
    )


def test_who_was_never_offered_it_failed_in_the_search():
    failure = played((FRONT, SEARCHES, SEARCHES[1]), (OTHERS, ("click[b03]",), "click[b03]"), text=WISH)
    found = reflect(failure, BOUGHT)
    assert found.failing_step == 0
    assert found.step_skill.principle == f"Search[{THING}], then click[b02]{LATER}"


def test_who_ended_before_all_that_the_task_names_was_chosen_failed_at_that_choice():
    failure = played(
        (FRONT, SEARCHES, SEARCHES[0]),
        (RESULTS, SHIRTS, "click[b02]"),
        (SECOND, ITEM, "click[red | white]"),
        (SECOND, ITEM, "click[buy now]"),
        text=WISH,
    )
    found = reflect(failure, BOUGHT)
    assert found.failing_step == 3
    assert found.step_skill.principle == "Click what the task names, then click[buy now]."


def test_what_is_sought_is_the_search_without_what_was_chosen():
    success = played(
        (FRONT, SEARCHES, SEARCHES[1]),
        (RESULTS, SHIRTS, "click[b02]"),
        (SECOND, ITEM, "click[red | white]"),
        (SECOND, ITEM, "click[buy now]"),
        success=True,
        text=WISH,
    )
    found = reflect(played((FRONT, SEARCHES, SEARCHES[0]), text=WISH), success)
    assert found.task_skill.title == "slim fit shirts: search[slim fit shirts]"


def test_without_a_search_the_task_says_what_is_sought():
    success = played(("A door.", ("push[door]", "pull[door]"), "push[door]"), success=True, text="get out")
    found = reflect(played(("A door.", ("push[door]", "pull[door]"), "pull[door]"), text="get out"), success)
    assert parts(found.step_skill) == ("get out: push[door]", "Push[door].", "the task is about get out")
    same = played(("A box.", ("open[red]",), "open[red]"), success=True, text="red")
    assert reflect(same, same).task_skill.title == "red: open[red]"


def test_what_was_not_admissible_does_not_hide_a_way():
    slip = Turn(Prompt(WISH, RESULTS, SHIRTS), decision("hm", SHIRTS), admissible=False)
    slipped = trajectory("skills", 0, True, [*BOUGHT.turns[:1], slip, *BOUGHT.turns[1:]], task=BOUGHT.task)
    failure = played((FRONT, SEARCHES, SEARCHES[1]), (RESULTS, SHIRTS, "click[b01]"), text=WISH)
    assert reflect(failure, slipped) == reflect(failure, BOUGHT)


def test_a_failure_alone_shows_a_choice_of_the_tasks_words_that_was_not_tried():
    failure = played(
        (FRONT, SEARCHES, SEARCHES[0]),
        (RESULTS, SHIRTS, "click[b02]"),
        (SECOND, ITEM, "click[red]"),
        (SECOND, ITEM, "click[red | white]"),
        (SECOND, ITEM, "click[buy now]"),
        text=WISH,
    )
    found = reflect(failure)
    assert (found.failing_step, found.task_skill) == (4, None)
    assert parts(found.step_skill)[:2] == (f"{THING}: click[x-large]", "Click[x-large].")


def test_nor_was_another_search():
    found = reflect(played((FRONT, SEARCHES, SEARCHES[0]), (RESULTS, SHIRTS, "click[b01]"), text=WISH))
    assert found.failing_step == 0
    assert found.step_skill.principle == "Search[slim fit shirts red | white]."


def test_where_all_was_tried_there_is_nothing_to_say():
    found = reflect(played((FRONT, SEARCHES[:1], SEARCHES[0]), (RESULTS, SHIRTS, "click[b01]"), text=WISH))
    assert found == Reflection(0, None, None)


# nothing makes it fail

ACTIONS = ["", "look", "go to desk 2", "take mug 3 from desk 2", "put mug 3 in shelf 1", "7", "?!", "Tür öffnen", "mug"]
CALLS = ["search[mug]", "click[mug]", "click[b01]", "click[]", "buy[put some]", "[]", "a[b]"]
actions = st.one_of(st.sampled_from(ACTIONS), st.text(max_size=10))
steps = st.lists(
    st.tuples(st.sampled_from([ROOM, DESK, ""]), st.lists(actions, max_size=4).map(tuple), actions),
    min_size=1,
    max_size=6,
)
calls = st.sampled_from(CALLS)
called = st.lists(
    st.tuples(st.sampled_from([ROOM, DESK, ""]), st.lists(calls, max_size=4).map(tuple), calls), min_size=1, max_size=6
)
texts = st.sampled_from([TASK, "", "?", "7", "mug"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.tuples(steps, st.none() | steps), st.tuples(called, st.none() | called)), texts)
def test_any_trajectories_give_a_reflection(both, text):
    failed, succeeded = both
    failure = played(*failed, text=text)
    success = None if succeeded is None else played(*succeeded, success=True, text=text)
    found = reflect(failure, success)
    assert 0 <= found.failing_step < len(failure.turns)
    for draft in drafts_from(found, failure):
        assert draft.task_text == text


def test_one_turn_of_nothing():
    nothing = (("", (), ""),)
    assert reflect(played(*nothing), played(*nothing, success=True)).failing_step == 0
    assert reflect(played(*nothing)).failing_step == 0
