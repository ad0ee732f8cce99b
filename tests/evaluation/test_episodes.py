import pytest
from toys import FaultyEnvironment, ScriptedPolicy, TreasureEnvironment, make_bank, step_draft, task_draft

from d2skill.bank import SkillBank
from d2skill.config import CausalLMConfig, Config, OptimConfig, PolicyConfig, ScorerConfig, WarmStartConfig
from d2skill.errors import D2SkillError
from d2skill.evaluation import ARMS, evaluate_panel
from d2skill.evaluation.episodes import EpisodeBatch, EpisodePlayer, episode_batches
from d2skill.policies.scorer.policy import ScorerPolicy
from d2skill.prompts import render
from d2skill.rollout import Rollouts, require_played

PANEL = TreasureEnvironment().task_ids("valid_unseen")


def settings(**given):
    config = Config(**given)
    return config.model_copy(update={"env": config.env.model_copy(update={"max_steps": 3})})


CONFIG = settings()


def full_bank() -> SkillBank:
    environment = TreasureEnvironment()
    texts = sorted({environment.start(task).task.text for task in PANEL})
    places = {text: environment.chest_of(text.split()[-1]) for text in texts}
    return make_bank(
        *(step_draft(f"open chest {places[text]}", "Open it.", text) for text in texts),
        *(task_draft(f"chest {places[text]}", "Go there.", text) for text in texts),
    )


def untrained():
    policy = ScorerPolicy(ScorerConfig(), OptimConfig(), WarmStartConfig(), 1.0)
    policy.freeze_reference()
    return policy


def played(policy, units, config=CONFIG, environment=None, **given):
    player = EpisodePlayer(environment or TreasureEnvironment(), policy, full_bank(), config, temperature=0.8, **given)
    return [player.play(unit) for unit in units]


def outcomes(policy, units, config=CONFIG, **given):
    return [one for part in played(policy, units, config, **given) for one in part.outcomes]


def test_units_are_all_episodes_once_however_they_are_cut():
    tasks = [f"task{n}" for n in range(300)]
    everything = [(arm, seed, task) for arm in ("none", "top") for seed in (4, 5) for task in tasks]
    for shares in (1, 7, 16, 5000):
        units = episode_batches(("none", "top"), (4, 5), tasks, shares)
        assert [(unit.arm, unit.seed, task) for unit in units for task in unit.tasks] == everything
        assert max(len(unit.tasks) for unit in units) <= 128 and len(units) >= min(shares, 1200)
        assert {(unit.arm, unit.seed): unit.member for unit in units} == {
            ("none", 4): 0,
            ("none", 5): 1,
            ("top", 4): 2,
            ("top", 5): 3,
        }


def test_how_episodes_are_cut_changes_nothing():
    whole = outcomes(untrained(), episode_batches(ARMS, (0, 1), PANEL, 1))
    assert {one.success for one in whole} == {True, False}
    for shares in (5, 96):
        assert outcomes(untrained(), episode_batches(ARMS, (0, 1), PANEL, shares)) == whole
    backwards = outcomes(untrained(), episode_batches(ARMS, (0, 1), PANEL, 5)[::-1])
    assert sorted(map(str, backwards)) == sorted(map(str, whole))


def test_a_seed_plays_the_same_whatever_other_seeds_are_played():
    def skills(seeds):
        parts = played(untrained(), episode_batches(("shuffled",), seeds, PANEL, 1), keep=True)
        return [[turn.skills for one in part.saved for turn in one.turns] for part in parts]

    first, second = skills((0, 1))
    assert skills((1,)) == [second] != [first]


def test_a_language_model_plays_the_same_in_batches_of_any_size():
    pytest.importorskip("torch")
    lm = pytest.importorskip("d2skill.policies.causal_lm.policy")
    texts = ["You stand before a row of chests: open chest 1. take the ruby, opal, pearl, topaz, garnet, jade"]
    found = []
    for together in (1, 64):
        model = CausalLMConfig(hidden_size=32, layers=2, heads=2, device="cpu", generate_batch=together)
        policy = lm.CausalLMPolicy(model, OptimConfig(), WarmStartConfig(), 0, lambda: texts)
        config = settings(policy=PolicyConfig(kind="causal-lm", lm=model))
        found.append(outcomes(policy, episode_batches(("none", "bank"), (0,), PANEL, 1), config))
    assert found[0] == found[1]
    assert all(one.generated > one.steps for one in found[0])


def test_every_arm_has_the_same_tasks_and_seeds_as_a_validation():
    class Noting(ScriptedPolicy):
        def act(self, prompts, seeds, temperature):
            noted.append((len(prompts), tuple(seeds), temperature))
            return super().act(prompts, seeds, temperature)

    noted = []
    policy = Noting(lambda prompt: prompt.actions[0])
    units = [EpisodeBatch(arm, 7, n, tuple(PANEL)) for n, arm in enumerate(ARMS)]
    assert [one.task for one in outcomes(policy, units)] == list(PANEL) * len(ARMS)
    assert noted == noted[:3] * len(ARMS)
    mine, noted = noted[:3], []
    rollouts = Rollouts(TreasureEnvironment(), policy, full_bank(), CONFIG.prompt, 3)
    evaluate_panel(rollouts, PANEL, arms=("none",), temperature=0.8, seed=7)
    assert noted == mine


def test_what_is_counted_by_hand():
    policy = ScriptedPolicy(lambda prompt: prompt.actions[-1])
    (one,) = played(policy, [EpisodeBatch("step", 0, 5, PANEL[:1])], keep=True)
    asked = policy.prompts
    (outcome,) = one.outcomes
    assert (outcome.arm, outcome.seed, outcome.task, outcome.kind) == ("step", 0, PANEL[0], "take")
    assert outcome.steps == len(asked) and not any(prompt.task_skills for prompt in asked)
    assert outcome.shown == sum(bool(prompt.step_skills) for prompt in asked) > 0
    assert outcome.prompt_tokens == sum(len(render(prompt)[0]["content"].split()) for prompt in asked)
    assert outcome.generated is None
    (saved,) = one.saved
    assert (saved.arm, saved.index, saved.success) == ("skills", 5, outcome.success)
    served = settings(policy={"kind": "served", "train": False})
    (outcome,) = outcomes(
        ScriptedPolicy(lambda prompt: "open chest 1"), [EpisodeBatch("none", 0, 0, PANEL[:1])], served
    )
    assert outcome.generated == 3 * outcome.steps and outcome.shown == 0


def test_the_environment_has_to_work_somewhere():
    broken = FaultyEnvironment(TreasureEnvironment(), lambda task, action: task.id != PANEL[3])
    found = outcomes(
        ScriptedPolicy(lambda prompt: prompt.actions[0]), episode_batches(("none",), (0,), PANEL, 8), environment=broken
    )
    assert [bool(one.fault) for one in found] == [n != 3 for n in range(8)]
    require_played([(one.task, one.fault) for one in found])
    with pytest.raises(D2SkillError, match=rf"failed in all of 8 episodes, first in task {PANEL[0]}: .*the lid fell"):
        require_played([(one.task, "the lid fell") for one in found])
