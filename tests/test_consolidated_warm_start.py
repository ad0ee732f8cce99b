"""Warm start with consolidated skills: each game plain, and some advised, rightly or not."""

import pytest
from toys import START, NotingReflector, ScriptedPolicy, TreasureEnvironment, tiny_config

from d2skill.warm_start import demonstrate

ENVIRONMENT = TreasureEnvironment()
IDS = ENVIRONMENT.task_ids("train")[:8]  # one for each gem


def shown(seed=0, ids=IDS, **warm):
    settings = tiny_config(
        bank={"skills": "consolidated"},
        env={"max_steps": 8},
        warm_start={"tasks": 24, "advised": 1.0, "misled": 0.0} | warm,
    ).model_copy(update={"seed": seed})
    reflector = NotingReflector()
    pairs = demonstrate(settings, ENVIRONMENT, reflector, ScriptedPolicy(lambda prompt: ""), ids)
    assert reflector.asked == []
    return pairs


def starts(pairs):
    return [(prompt, action) for prompt, action in pairs if prompt.observation == START and not prompt.history]


def right(prompt) -> str:
    return f"open chest {ENVIRONMENT.chest_of(prompt.task.split()[-1])}"


def test_each_game_is_shown_plain_and_advised():
    plain = [prompt.task for prompt, _ in starts(shown()) if not prompt.task_skills]
    advised = [prompt.task for prompt, _ in starts(shown()) if prompt.task_skills]
    assert sorted(plain) == sorted(advised) and len(set(plain)) == 8


def test_no_demonstration_is_taken_from_the_policy_without_skills():
    plain = [pair for pair in shown() if not pair[0].task_skills]
    alone = shown(advised=0.0)
    assert all(not (prompt.task_skills or prompt.step_skills) for prompt, _ in alone)
    assert sorted(prompt.task for prompt, _ in starts(plain)) == sorted(prompt.task for prompt, _ in starts(alone))


def test_right_advice_is_followed_act_by_act():
    for prompt, action in shown():
        if prompt.task_skills:
            gem = prompt.task.split()[-1]
            assert prompt.task_skills[0].text.principle == f"Take {gem} from chest."
            assert prompt.acts_done == 0
            assert [one.text.title for one in prompt.step_skills] == [f"{gem}: in chest {ENVIRONMENT.chest_of(gem)}"]
            assert action in (right(prompt), f"take {gem} 1 from {right(prompt)[5:]}")


def test_misleading_places_come_first_and_the_game_is_won_all_the_same():
    pairs = [pair for pair in shown(misled=1.0) if pair[0].task_skills]
    misled = 0
    for prompt, _ in starts(pairs):
        gem = prompt.task.split()[-1]
        (first,) = prompt.step_skills
        assert first.text.title.startswith(f"{gem}: in ")
        misled += first.text.title != f"{gem}: in {right(prompt)[5:]}"
    assert misled > 4  # the similar game may have its gem in the same chest
    takes = [action for _, action in pairs if action.startswith("take")]
    assert len(takes) == 8
    for prompt, _ in pairs:
        refuted = {f"chest {past.split()[-1]}" for _, past in prompt.history} - {right(prompt)[5:]}
        assert not any(one.text.title.endswith(f" {place}") for one in prompt.step_skills for place in refuted)


@pytest.mark.parametrize("misled", [0.0, 0.5])
def test_the_same_seed_demonstrates_the_same_and_another_something_else(misled):
    assert shown(misled=misled) == shown(misled=misled)
    assert shown(misled=misled, advised=0.5) != shown(misled=misled, advised=0.5, seed=1)


def test_games_that_are_lost_are_left_out_and_advise_nobody():
    assert shown(ids=()) == []
    few = shown(tasks=1)
    assert len({prompt.task for prompt, _ in few}) == 1
