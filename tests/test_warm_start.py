import pytest
from toys import (
    START,
    NotingReflector,
    ScriptedPolicy,
    TreasureEnvironment,
    make_bank,
    make_scorer,
    tiny_config,
)

from d2skill.evaluation import evaluate_panel
from d2skill.prompts import render_skill
from d2skill.reflectors import ContrastReflector
from d2skill.rollout import Rollouts
from d2skill.warm_start import demonstrate, warm_start

ENVIRONMENT = TreasureEnvironment()
IDS = list(ENVIRONMENT.task_ids("train"))


def config(**warm):
    return tiny_config(env={"max_steps": 8}, warm_start={"tasks": 24, "advised": 1.0, "misled": 0.0} | warm)


def shown(environment=ENVIRONMENT, reflector=None, ids=IDS, seed=0, **warm):
    settings = config(**warm).model_copy(update={"seed": seed})
    return demonstrate(settings, environment, reflector or ContrastReflector(), ScriptedPolicy(lambda p: ""), ids)


def chest(prompt) -> str:
    return f"open chest {ENVIRONMENT.chest_of(prompt.task.split()[-1])}"


class Mute:
    """An environment without an expert."""

    task_ids, start = ENVIRONMENT.task_ids, ENVIRONMENT.start


def test_demonstrations_are_the_decisions_of_episodes_that_succeed():
    pairs = shown(advised=0.0)
    assert len(pairs) >= 48
    assert all(action in prompt.actions for prompt, action in pairs)
    takes = [(p, a) for p, a in pairs if a.startswith("take")]
    assert len(takes) == 24  # one for each task, with steps enough to search all chests
    assert all(p.observation != START for p, _ in takes)


def test_episodes_that_do_not_succeed_are_left_out():
    few = demonstrate(
        tiny_config(env={"max_steps": 3}, warm_start={"tasks": 24, "advised": 0.0}),
        ENVIRONMENT,
        ContrastReflector(),
        ScriptedPolicy(lambda p: ""),
        IDS,
    )
    takes = sum(action.startswith("take") for _, action in few)
    starts = sum(not prompt.history for prompt, _ in few)
    assert 0 < takes == starts < 24


def test_without_advice_no_prompt_shows_skills():
    assert all(not (p.task_skills or p.step_skills) for p, _ in shown(advised=0.0))


def test_right_advice_is_shown_from_the_first_decision_and_followed():
    pairs = shown(advised=1.0, misled=0.0)
    advised_starts = [(p, a) for p, a in pairs if p.observation == START and p.step_skills]
    assert len(advised_starts) > 8
    for prompt, action in advised_starts:
        assert chest(prompt).removeprefix("open ") in render_skill(prompt.step_skills[0])
        assert action == chest(prompt)


def test_misleading_advice_is_about_another_task_and_the_expert_goes_on_by_itself():
    pairs = shown(advised=1.0, misled=1.0, ids=IDS[:8])  # one game for each gem
    starts = [(p, a) for p, a in pairs if p.observation == START and p.step_skills]
    assert len(starts) > 3
    for prompt, _ in starts:
        gem = prompt.task.split()[-1]
        assert gem not in prompt.step_skills[0].text.title
    assert sum(action != chest(prompt) for prompt, action in starts) > len(starts) / 2
    assert all(action in prompt.actions for prompt, action in pairs)


def test_shares_of_advice_are_kept():
    starts = [p for p, _ in shown(advised=0.5) if p.observation == START]
    assert 0.1 < sum(bool(p.task_skills or p.step_skills) for p in starts) / len(starts) < 0.8


def test_the_same_seed_demonstrates_the_same_and_another_something_else():
    assert shown(misled=0.3) == shown(misled=0.3)
    assert shown(misled=0.3) != shown(misled=0.3, seed=1)


def test_only_the_training_tasks_given_are_demonstrated():
    pairs = shown(ids=IDS[:2], advised=0.0)
    assert {p.task for p, _ in pairs} == {"take the ruby", "take the opal"}


def test_a_reflector_that_fails_leaves_a_demonstration_without_advice():
    """A failing reflector is a recorded fact, never a dead run."""
    pairs = shown(reflector=NotingReflector(None))
    assert pairs and all(not (p.task_skills or p.step_skills) for p, _ in pairs)


def success(policy) -> float:
    rollouts = Rollouts(ENVIRONMENT, policy, make_bank(), config().prompt, 8)
    panel = ENVIRONMENT.task_ids("valid_seen")
    return evaluate_panel(rollouts, panel, arms=("none",), temperature=0.0, seed=0).without_skills.success


def test_a_policy_learns_the_trade_from_the_expert():
    policy = make_scorer()
    before = success(policy)
    metrics = warm_start(config(advised=0.5), ENVIRONMENT, policy, ContrastReflector(), IDS)
    assert success(policy) > before
    assert metrics["warm_start/demonstrations"] >= 48
    assert metrics["warm_start/accuracy"] > 0.4


@pytest.mark.parametrize(("environment", "tasks"), [(Mute(), 24), (ENVIRONMENT, 0)])
def test_without_an_expert_or_demonstrations_the_reference_is_set_all_the_same(environment, tasks):
    frozen = []
    policy = ScriptedPolicy(lambda p: "")
    policy.freeze_reference = lambda: frozen.append(True)
    policy.imitate = lambda demonstrations, seed: pytest.fail("there is nothing to imitate")
    assert warm_start(config(tasks=tasks), environment, policy, ContrastReflector(), IDS) == {}
    assert frozen == [True]
