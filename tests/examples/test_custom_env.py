"""The example environment is short, keeps the contract and can be trained on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from d2skill.bank import SkillBank
from d2skill.config import Config, EnvConfig
from d2skill.embedders import make_embedder
from d2skill.envs import make_environment
from d2skill.policies.scorer.policy import ScorerPolicy
from d2skill.rollout import Rollouts
from d2skill.testing import check_environment

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", sys.path[:])
    return make_environment(EnvConfig(kind="custom_env:TreasureHunt"))


def test_it_is_short() -> None:
    assert len((EXAMPLES / "custom_env.py").read_text().splitlines()) < 60


@pytest.mark.parametrize("split", ["train", "valid_seen"])
def test_it_keeps_the_contract(environment: Any, split: str) -> None:
    findings = check_environment(environment, split, episodes=20)
    assert [finding for finding in findings if not finding.ok] == []


def test_it_can_be_solved_from_experience(environment: Any) -> None:
    """What was learned of a castle's habits in training serves in most of its validation games."""
    usual = {}
    for task_id in environment.task_ids("train"):
        hunt = environment.start(task_id)
        _, castle, treasure, _ = task_id.split("/")
        usual.setdefault((castle, treasure), []).append(hunt.way_to[treasure])
    solved = 0
    for task_id in environment.task_ids("valid_seen"):
        hunt = environment.start(task_id)
        _, castle, treasure, _ = task_id.split("/")
        seen = hunt.step(max(usual[castle, treasure], key=usual[castle, treasure].count))
        take = next((action for action in seen.actions if action.startswith(f"take {treasure}")), "")
        hunt.step(take)
        solved += hunt.step(f"put {treasure} on altar").success
    assert solved > 0.6 * len(environment.task_ids("valid_seen"))


def test_rollouts_run(environment: Any) -> None:
    config = Config()
    policy = ScorerPolicy(config.policy.scorer, config.optim, config.warm_start)
    bank = SkillBank(make_embedder(config.embedder), config.bank, config.retrieval, config.credit)
    rollouts = Rollouts(environment, policy, bank, config.prompt, max_steps=40)
    groups = rollouts.groups(environment.task_ids("train")[:12], group_size=4, with_skills=2, temperature=1.0, seed=0)
    played = [trajectory for group in groups for trajectory in group.trajectories]
    assert len(played) == 48
    assert not any(trajectory.fault or trajectory.invalid_actions for trajectory in played)
    assert any(trajectory.success for trajectory in played)
