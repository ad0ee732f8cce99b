"""Episodes that are advised: what is shown until when, and what the prompt says of it."""

from dataclasses import replace

import pytest
from toys import START, FaultyEnvironment, TreasureEnvironment, decision, skill

from d2skill.config import PromptConfig
from d2skill.episode import Episode
from d2skill.types import Retrieved

PROCEDURE = skill("t1", "take the ruby", "Take ruby from chest.")


def place(number: int, skill_id: str):
    principle = f"Open chest {number}, then take ruby from chest {number}."
    return replace(skill(skill_id, f"ruby: in chest {number}", principle), task_text="ruby")


WRONG, RIGHT, WRONG_TOO = place(1, "s1"), place(3, "s2"), place(2, "s3")


def episode(*situations, procedure=PROCEDURE, session=None, **settings) -> Episode:
    one = Episode(
        session or TreasureEnvironment().start("train/000"),
        arm="skills",
        index=0,
        max_steps=9,
        settings=PromptConfig(**settings),
        count_tokens=len,
    )
    own = [Retrieved(procedure, 1.0, 0.5)] if procedure else []
    one.advise(own, [Retrieved(each, 1.0, 0.5) for each in situations])
    return one


def shown(one: Episode, *actions: str) -> list[tuple[str, ...]]:
    """Ids of step skills before each action, and after the last."""
    ids = []
    for action in actions:
        asked = one.prompt()
        ids.append(tuple(each.id for each in asked.step_skills))
        one.act(asked, decision(action, asked.actions))
    return [*ids, tuple(each.id for each in one.prompt().step_skills)]


def test_the_next_place_is_shown_once_one_is_refuted():
    one = episode(WRONG, RIGHT)
    assert shown(one, "open chest 4", "open chest 1", "open chest 3") == [("s1",), ("s1",), ("s2",), ("s2",)]


def test_what_was_refuted_by_chance_is_not_shown():
    assert shown(episode(WRONG, WRONG_TOO, RIGHT), "open chest 2", "open chest 1")[-1] == ("s2",)


def test_once_it_is_taken_nothing_is_shown_and_the_procedure_is_done():
    one = episode(RIGHT)
    assert shown(one, "open chest 3", "take ruby 1 from chest 3") == [("s2",), ("s2",), ()]
    assert [turn.prompt.acts_done for turn in one.trajectory().turns] == [0, 0]
    assert one.prompt().acts_done == 1 and one.trajectory().success
    assert one.prompt().task_skills == (PROCEDURE,)


def test_advice_may_be_shown_once_only():
    assert shown(episode(WRONG, RIGHT, until_done=False), "open chest 1", "open chest 3") == [("s1",), (), ()]


def test_without_a_procedure_no_acts_are_counted_and_places_are_shown():
    one = episode(WRONG, RIGHT, procedure=None)
    assert one.prompt().acts_done == -1
    assert shown(one, "open chest 1") == [("s1",), ("s2",)]


def test_an_episode_that_was_not_advised_follows_nothing():
    one = Episode(
        TreasureEnvironment().start("train/000"),
        arm="none",
        index=0,
        max_steps=9,
        settings=PromptConfig(),
        count_tokens=len,
    )
    assert one.prompt().acts_done == -1 and shown(one, "open chest 1") == [(), ()]


def test_the_query_for_advice_is_the_task_and_what_was_seen_first():
    one = episode()
    assert one.start == ("take the ruby", START)
    shown(one, "open chest 1")
    assert one.start == ("take the ruby", START) != one.query


def test_a_fault_ends_it_with_its_advice():
    environment = FaultyEnvironment(TreasureEnvironment(), lambda task, action: action == "open chest 1")
    one = episode(WRONG, session=environment.start("train/000"))
    assert shown(one, "open chest 1") == [("s1",), ("s1",)]
    assert one.done and one.trajectory().fault


@pytest.mark.parametrize("action", ["", "Take ruby 1 from chest 3", "take ruby 1 from chest 3"])
def test_an_act_that_was_not_possible_is_not_done(action):
    one = episode(RIGHT)
    assert shown(one, action) == [("s2",), ("s2",)]
    assert one.prompt().acts_done == 0
