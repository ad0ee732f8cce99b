import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from toys import ScriptedPolicy, TreasureEnvironment, make_bank, step_draft

from d2skill.config import PromptConfig
from d2skill.errors import ConfigError
from d2skill.evaluation import evaluate_panel, require_unseen_tasks
from d2skill.rollout import Rollouts
from d2skill.runs.tasks import select_panel
from d2skill.trackers.terminal import result_table
from d2skill.utils.statistics import paired_difference, wilson


def test_a_panel_that_the_evidence_of_the_bank_is_from_is_refused():
    bank = make_bank(
        *(replace(step_draft(title), source_task=f"train/{n:03d}") for n, title in enumerate(["Go", "Look"]))
    )
    bank.insert([replace(step_draft("Look"), source_task="train/007")], 1)
    bank.credit({"s1": [1.0, 0.5], "s2": [0.0]}, {"s1": ["train/008#3", "gym#4#"], "s2": ["train/008#3"]})
    panel = [f"valid/{n:03d}" for n in range(9)]
    require_unseen_tasks(bank, panel)
    for seen in ("train/001", "train/007", "train/008", "gym#4"):
        with pytest.raises(ConfigError, match=rf"written or credited in 1 of these 10 tasks, first {seen}: .*--seen-t"):
            require_unseen_tasks(bank, [*panel, seen])


PANEL = select_panel(TreasureEnvironment(), "valid_unseen", 8)


def evaluate(policy, bank, arms=("skills", "none"), **settings):
    rollouts = Rollouts(TreasureEnvironment(), policy, bank, PromptConfig(), 2)
    return evaluate_panel(rollouts, PANEL, arms=arms, **({"temperature": 0.4, "seed": 1} | settings))


def follower():
    """Opens the chest that a step skill names, else the first, and takes what it finds."""

    def choose(prompt):
        told = [s.text.title for s in prompt.step_skills]
        return prompt.actions[-1] if prompt.actions[-1].startswith("take") else (told or ["open chest 1"])[0]

    return ScriptedPolicy(choose)


def full_bank():
    environment = TreasureEnvironment()
    texts = {environment.start(i).task.text for i in PANEL[:6]}
    return make_bank(
        *(step_draft(f"open chest {environment.chest_of(t.split()[-1])}", "Open it.", t) for t in sorted(texts)),
        retrieval={"k_step": 1, "alpha": 1.0},
    )


def test_both_arms_play_each_task_once():
    found = evaluate(follower(), full_bank())
    assert [(t.task.id, t.arm) for t in found.trajectories] == [(i, a) for a in ("skills", "none") for i in PANEL]
    first, second = found.trajectories[:8], found.trajectories[8:]
    for skilled, plain in zip(first, second, strict=True):
        prompt = skilled.turns[0].prompt
        assert replace(prompt, task_skills=(), step_skills=()) == plain.turns[0].prompt
        assert plain.turns[0].skill_ids == ()


def test_results_are_shares_with_intervals():
    found = evaluate(follower(), full_bank())
    skilled = [t.success for t in found.trajectories[:8]]
    plain = [t.success for t in found.trajectories[8:]]
    assert sum(skilled) >= 6 > sum(plain)
    assert found.with_skills.success == sum(skilled) / 8
    assert found.without_skills.success == sum(plain) / 8
    assert found.with_skills.ci95 == wilson(sum(skilled), 8)
    assert found.with_skills.n == 8
    assert found.with_skills.steps == 2.0
    assert found.difference == paired_difference(skilled, plain)


class Graded(TreasureEnvironment):
    """Gives half of the score for trying."""

    def start(self, task_id):
        session = super().start(task_id)
        step = session.step

        def graded(action):
            session.observation = replace(step(action), score=0.5)
            return session.observation

        session.step = graded
        return session


def test_scores_are_averaged_where_an_environment_gives_them():
    rollouts = Rollouts(Graded(), follower(), full_bank(), PromptConfig(), 2)
    found = evaluate_panel(rollouts, PANEL, arms=("skills", "none"), temperature=0.4, seed=1)
    assert found.without_skills.score == 0.5 and found.record()["with_skills"]["score"] == 0.5
    plain = evaluate(follower(), full_bank())
    assert plain.without_skills.score is None and "score" not in plain.record()["with_skills"]
    shown = Console(width=100, record=True, file=StringIO())
    shown.print(result_table({"validation": found.record()}))
    assert re.search(r"success.*score", text := shown.export_text()) and text.count("50.0 %") >= 2


def test_the_bank_is_only_read():
    bank = full_bank()
    before = bank.skills()
    evaluate(follower(), bank)
    assert bank.skills() == before


def test_without_the_skill_arm_there_is_no_difference():
    found = evaluate(follower(), make_bank(), arms=("none",))
    assert (found.with_skills, found.difference) == (None, None)
    assert len(found.trajectories) == 8


def test_both_arms_have_the_same_sampling_seeds():
    seeds = []
    policy = follower()
    act = policy.act
    policy.act = lambda prompts, own, temperature: seeds.append(list(own)) or act(prompts, own, temperature)
    evaluate(policy, full_bank())
    assert seeds[0][:8] == seeds[0][8:]
    assert len(set(seeds[0])) == 8
    evaluate(policy, full_bank(), seed=2)
    assert not set(seeds[0]) & set(seeds[2])


def test_the_record_is_plain_json():
    found = evaluate(follower(), full_bank())
    record = found.record()
    assert record["with_skills"] == {
        "success": found.with_skills.success,
        "ci95": list(found.with_skills.ci95),
        "n": 8,
        "steps": 2.0,
    }
    assert record["difference"] == {"mean": found.difference[0], "ci95": list(found.difference[1])}
    assert evaluate(follower(), make_bank(), arms=("none",)).record()["with_skills"] is None
