"""The same recorded sessions give the same credits, returns and advantages on both engines."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("verl")

import torch
from tensordict import TensorDict
from toys import tiny_config
from verl.protocol import DataProto
from verl.trainer.ppo.core_algos import AdvantageEstimator
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

from d2skill import credit
from d2skill.components import Components
from d2skill.config import AdvantageConfig, RewardConfig
from d2skill.learner import Learner
from d2skill.reflectors import ContrastReflector
from d2skill.rollout import Rollouts
from d2skill.types import Group
from d2skill.verl.rows import (
    ServerAnswer,
    episode_rows,
    half_uids,
    penalised_advantages,
    read_groups,
    shaped_returns,
)

REWARD = RewardConfig(score=2.0)


@pytest.fixture(scope="module")
def recorded():
    """Groups of real episodes, with skills in one half, some of them won, of unequal lengths."""
    config = tiny_config()
    parts = Components.make(config)
    rollouts = Rollouts(parts.environment, parts.policy, parts.bank, config.prompt, config.env.max_steps)
    learner = Learner(parts.bank, ContrastReflector(), config.reflect)
    tasks = parts.environment.task_ids("train")[:4]
    given = {"group_size": 6, "with_skills": 3, "temperature": 1.0}
    for iteration in range(3):
        groups = rollouts.groups(tasks, seed=iteration, **given)
        learner.observe(groups, credit.hindsight(groups), iteration=iteration, seed=iteration)
    assert any(t.success for g in groups for t in g.trajectories) and any(
        turn.skill_ids for g in groups for t in g.trajectories for turn in t.turns
    )
    return groups


def as_verl_has_them(groups, seed, padding=3):
    """The rows of a step, in verl's own disorder, and which decision each of them is."""
    rng, rows = np.random.default_rng(seed), []
    for number, group in enumerate(groups):
        for session, trajectory in enumerate(group.trajectories):
            answers = [ServerAnswer((1, 2), tuple(range(1, 2 + int(rng.integers(5))))) for _ in trajectory.turns]
            told = episode_rows(trajectory, answers, REWARD, filler=0, log_probs=False, weights=0)
            for index, row in enumerate(told):
                rows.append((f"uid-{number}_{session}_{index}", {}, row, (number, session)))
    for filler in range(padding):
        rows.append((f"pad{filler}_{filler}_0", {"is_padding": True}, told[0], None))
    order = rng.permutation(len(rows))
    return [rows[i] for i in order]


def advantages_of_verl(rows, returns, uids=None):
    """Advantages by verl's own code, one a row: of its first token."""
    width = max(len(row.response) for _, _, row, _ in rows)
    mask, scores = torch.zeros(len(rows), width), torch.zeros(len(rows), width)
    for place, (_, tag, row, _) in enumerate(rows):
        padded = tag.get("is_padding", False)
        mask[place, : len(row.response)] = 0.0 if padded else torch.tensor(row.mask, dtype=torch.float32)
        scores[place, len(row.response) - 1] = 0.0 if padded else returns.get(place, row.reward)
    data = DataProto(
        batch=TensorDict({"response_mask": mask, "token_level_rewards": scores}, batch_size=len(rows)),
        non_tensor_batch={"uid": np.array(uids or [key.rsplit("_", 2)[0] for key, *_ in rows], dtype=object)},
    )
    keys = [key for key, *_ in rows]
    found = compute_advantage_for_multi_trajectories(data, keys, AdvantageEstimator.GRPO, norm_adv_by_std_in_grpo=True)
    return found.batch["advantages"]


@pytest.mark.parametrize("seed", range(3))
def test_returns_advantages_and_credits_are_those_of_the_local_engine(recorded, seed):
    rows = as_verl_has_them(recorded, seed)
    batch = read_groups([(key, tag, row.extra) for key, tag, row, _ in rows], 4, 6)
    assert (batch.lost, batch.broken) == (0, [])

    hindsights = credit.hindsight(recorded)
    by_task = {group.task.id: place for place, group in enumerate(recorded)}
    again = credit.hindsight(batch.groups)
    assert [again[i] for i in range(4)] == [hindsights[by_task[g.task.id]] for g in batch.groups]
    ours = credit.signals(recorded, hindsights)
    theirs = credit.signals(batch.groups, again)
    assert {name: sorted(own) for name, own in theirs.items()} == {name: sorted(own) for name, own in ours.items()}
    assert ours

    returns = shaped_returns(batch, again, REWARD)
    advantages = advantages_of_verl(rows, returns)
    for place, (_, _, _, whose) in enumerate(rows):
        if whose is None:
            assert place not in returns and not advantages[place].any()
            continue
        group, seen = recorded[whose[0]], hindsights[whose[0]]
        expected = credit.returns(group, seen, REWARD)
        assert returns[place] == pytest.approx(expected[whose[1]], abs=1e-6)
        wanted = credit.advantages(group, expected, AdvantageConfig(normalise="group"))[whose[1]][0]
        assert advantages[place][0].item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("with_skills", [3, 1])
def test_halves_are_normalised_apart_as_by_the_local_engine(recorded, with_skills):
    """A half of one session has nothing to be compared with."""
    best_first = [sorted(group.half("skills"), key=lambda t: not t.success)[:with_skills] for group in recorded]
    recorded = [Group(g.task, (*own, *g.half("none"))) for g, own in zip(recorded, best_first, strict=True)]
    rows = as_verl_has_them(recorded, 0)
    batch = read_groups([(key, tag, row.extra) for key, tag, row, _ in rows], 4, with_skills + 3)
    returns = shaped_returns(batch, credit.hindsight(batch.groups), REWARD)
    uids, alone = half_uids([key for key, *_ in rows], with_skills)
    assert any(returns.get(place) for place in alone) == (with_skills == 1), "or else leaving them out says nothing"
    advantages = advantages_of_verl(rows, returns | dict.fromkeys(alone, 0.0), uids)
    for place, (_, _, _, whose) in enumerate(rows):
        if whose is None:
            assert not advantages[place].any()
            continue
        group = recorded[whose[0]]
        expected = credit.returns(group, credit.hindsight([group])[0], REWARD)
        wanted = credit.advantages(group, expected, AdvantageConfig(normalise="half"))[whose[1]][0]
        assert advantages[place][0].item() == pytest.approx(wanted, abs=1e-6)


def test_a_group_with_a_lost_session_teaches_the_bank_nothing(recorded):
    rows = [one for one in as_verl_has_them(recorded, 0) if one[3] != (1, 4)]
    batch = read_groups([(key, tag, row.extra) for key, tag, row, _ in rows], 4, 6)
    assert batch.lost == 1 and [group.task for group in batch.broken] == [recorded[1].task]
    assert {group.task for group in batch.groups} == {group.task for group in recorded} - {recorded[1].task}
    told = shaped_returns(batch, credit.hindsight(batch.groups), REWARD)
    assert {place for place, row in enumerate(rows) if row[3] and row[3][0] == 1}.isdisjoint(told)


def test_penalties_of_rows_are_those_of_the_local_engine(recorded):
    """Rows of groups with an inadmissible action get their advantages from here; verl has one for a whole episode."""
    turns = recorded[1].trajectories[0].turns
    odd = replace(recorded[1].trajectories[0], turns=(replace(turns[0], admissible=False), *turns[1:]))
    mixed = [recorded[0], Group(recorded[1].task, (odd, *recorded[1].trajectories[1:])), *recorded[2:]]
    rows = as_verl_has_them(mixed, 0)
    batch = read_groups([(key, tag, row.extra) for key, tag, row, _ in rows], 4, 6)
    settings = AdvantageConfig(normalise="group")
    found = penalised_advantages(batch, credit.hindsight(batch.groups), REWARD, settings)
    whole = credit.policy_batch([mixed[1]], credit.hindsight([mixed[1]]), REWARD, settings)
    places = [place for place, row in enumerate(rows) if row[3] and row[3][0] == 1]
    assert sorted(found) == sorted(places)
    assert sorted(found.values()) == sorted(row.advantage for row in whole)
    by_episode = REWARD.model_copy(update={"penalty": "trajectory"})
    assert penalised_advantages(batch, credit.hindsight(batch.groups), by_episode, settings) == {}
