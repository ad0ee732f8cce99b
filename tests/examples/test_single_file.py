"""The single file is short, imports next to nothing, and finds the same numbers as the trainer."""

from __future__ import annotations

import ast
import runpy
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2skill.bank.journal import Change, Credit, Event
from d2skill.components import Components
from d2skill.config import Config, EnvConfig
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.rollout import Rollouts
from d2skill.trainer import Trainer
from d2skill.types import Group, Row, Skill

FILE = Path(__file__).parents[2] / "examples" / "single_file.py"
ENV = EnvConfig.model_validate(
    {"max_steps": 16, "houses": {"floor_plans": 1, "games_per_plan": 40, "receptacles": 10, "distractors": 4}}
)
SIZES = {"seed": 1, "iterations": 6, "tasks": 6, "group_size": 4, "warm_start_tasks": 40, "validate_every": 2}
SIZES |= {"validation_tasks": 8, "capacity": 4, "protect": 1}
CONFIG = Config.model_validate(
    {
        "seed": SIZES["seed"],
        "env": ENV,
        "train": {"iterations": SIZES["iterations"], "checkpoint_every": 100},
        "rollout": {"tasks": SIZES["tasks"], "group_size": SIZES["group_size"], "with_skills": 2},
        "warm_start": {"tasks": SIZES["warm_start_tasks"]},
        "validation": {"every": SIZES["validate_every"], "tasks": SIZES["validation_tasks"]},
        "bank": {
            "skills": "paper",
            "task_capacity": SIZES["capacity"],
            "step_capacity": SIZES["capacity"],
            "protect": SIZES["protect"],
        },
    }
)
close = pytest.approx


@pytest.fixture(scope="module")
def single_file() -> dict[str, Any]:
    """The names that the file defines."""
    return runpy.run_path(str(FILE))


@dataclass
class TrainerRun:
    """The record of a trainer: what it played, learned from and reported, and what happened to its bank."""

    groups: list[list[Group]] = field(default_factory=list)
    rows: list[list[Row]] = field(default_factory=list)
    events: list[list[Event]] = field(default_factory=lambda: [[]])
    banks: list[list[Skill]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    skills: dict[str, Skill] = field(default_factory=dict)
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainerRun:
    folder, run, parts = tmp_path_factory.mktemp("trained"), TrainerRun(), Components.make(CONFIG)
    policy, bank = parts.policy, parts.bank
    rollouts = Rollouts(parts.environment, policy, bank, CONFIG.prompt, CONFIG.env.max_steps)
    play, update = rollouts.groups, policy.update

    def noted_groups(*args: Any, **settings: Any) -> list[Group]:
        run.groups.append(play(*args, **settings))
        return run.groups[-1]

    def noted_update(rows: list[Row], seed: int) -> dict[str, float]:
        run.rows.append(rows)
        return update(rows, seed)

    class Noting:
        def log(self, metrics: dict[str, Any]) -> None:
            run.banks.append(bank.skills())
            run.metrics.append(metrics)
            run.events.append([])

    rollouts.groups, policy.update = noted_groups, noted_update
    bank.subscribe(lambda event: run.events[-1].append(event))
    Trainer(CONFIG, folder / "run", parts, [Noting()], rollouts).start()
    policy.save(folder)
    run.weights = np.load(folder / "scorer.npz")["weights"]
    run.skills = {skill.id: skill for skill in bank.skills(status=None)}
    return run


@pytest.fixture(scope="module")
def records(single_file: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The records of the single file, of the warm start and of each iteration, with copies of what changes."""
    found = []
    for groups, signals, advantages, validation, policy, bank in single_file["train"](
        single_file["Settings"](env=ENV, **SIZES)
    ):
        skills = {name_of(skill): (skill.u, skill.n, skill.created) for pool in bank.pools.values() for skill in pool}
        credits = {name_of(skill): sorted(own) for skill, own in signals.items()}
        found.append((groups, credits, advantages, validation, policy.weights.copy(), skills))
    return found


def name_of(skill: Any) -> tuple[str, ...]:
    """Returns what a skill is told from all others by, in the file and in the package."""
    text, kind = skill.text, skill.granularity if isinstance(skill, Skill) else skill.kind
    task = skill.task_text if isinstance(skill, Skill) else skill.task
    return kind, text.title, text.principle, text.when_to_apply, task, skill.observation


# the same numbers


def test_the_same_skills_are_retrieved_for_every_decision(trained: TrainerRun, records: list[tuple[Any, ...]]) -> None:
    shown = Counter[str]()
    for theirs, (ours, *_) in zip(trained.groups, records[1:], strict=True):
        for group, episodes in zip(theirs, ours, strict=True):
            for trajectory, episode in zip(group.trajectories, episodes, strict=True):
                assert (trajectory.task.id, trajectory.success) == (episode.task.id, episode.success)
                assert (trajectory.arm == "skills") == episode.with_skills
                for turn, own in zip(trajectory.turns, episode.turns, strict=True):
                    for part in ("task_skills", "step_skills"):
                        expected = [name_of(skill) for skill in getattr(turn.prompt, part)]
                        assert [name_of(skill) for skill in getattr(own.prompt, part)] == expected
                        shown[part] += len(expected)
    assert shown["task_skills"] > 100 and shown["step_skills"] > 100


def test_decisions_and_their_probabilities_are_the_same(trained: TrainerRun, records: list[tuple[Any, ...]]) -> None:
    for theirs, (ours, *_) in zip(trained.groups, records[1:], strict=True):
        turns = [turn for group in theirs for trajectory in group.trajectories for turn in trajectory.turns]
        own = [turn for episodes in ours for episode in episodes for turn in episode.turns]
        assert [turn.action for turn in own] == [turn.decision.action for turn in turns]
        assert [turn.log_prob for turn in own] == close([turn.decision.log_probs[0] for turn in turns], abs=1e-9)


def test_credits_are_the_same(trained: TrainerRun, records: list[tuple[Any, ...]]) -> None:
    for events, (_, ours, *_) in zip(trained.events[:-1], records, strict=True):
        theirs = {
            name_of(trained.skills[skill_id]): sorted(own)
            for event in events
            if isinstance(event, Credit)
            for skill_id, own in event.signals.items()
        }
        assert ours.keys() == theirs.keys()
        assert all(ours[name] == close(own, abs=1e-9) for name, own in theirs.items())
    assert sum(len(own) for _, ours, *_ in records for own in ours.values()) > 50


def test_utilities_and_counts_are_the_same(trained: TrainerRun, records: list[tuple[Any, ...]]) -> None:
    for theirs, (*_, ours) in zip(trained.banks, records, strict=True):
        assert sorted(ours) == sorted(map(name_of, theirs))
        for skill in theirs:
            utility, count, created = ours[name_of(skill)]
            assert utility == close(skill.utility, abs=1e-9)
            assert (count, created) == (skill.retrievals, skill.created)
    assert any(skill.utility for skill in trained.banks[-1])


def test_advantages_of_all_rows_are_the_same(trained: TrainerRun, records: list[tuple[Any, ...]]) -> None:
    for rows, (groups, _, ours, *_) in zip(trained.rows, records[1:], strict=True):
        own = np.repeat(np.concatenate(ours), [len(episode.turns) for episodes in groups for episode in episodes])
        assert own == close(np.array([row.advantage for row in rows]), abs=1e-9)
        assert np.ptp(own) > 1, "there are better and worse episodes"


def test_weights_and_success_are_the_same(trained: TrainerRun, records: list[tuple[Any, ...]]) -> None:
    assert np.abs(records[-1][4] - trained.weights).max() < 1e-9 < np.abs(trained.weights).max()
    for metrics, (groups, _, _, validation, *_) in zip(trained.metrics, records, strict=True):
        for with_skills, name in ((True, "skill"), (False, "baseline")):
            half = [
                episode.success for episodes in groups for episode in episodes if episode.with_skills == with_skills
            ]
            assert not half or np.mean(half) == close(metrics[f"rollout/{name}_half_success"], abs=1e-9)
        expected = [metrics.get("validation/with_skills"), metrics.get("validation/without_skills")]
        assert validation == close(expected, abs=1e-9) if validation else expected == [None, None]


def test_the_compared_run_has_all_that_the_file_is_about(trained: TrainerRun) -> None:
    evicted = [event for events in trained.events for event in events if isinstance(event, Change)]
    assert {event.status for event in evicted} == {"evicted"}, "skills that are held or on trial would not be compared"
    assert sum("validation/with_skills" in metrics for metrics in trained.metrics) == 4
    assert sum(metrics.get("bank/refused", 0) for metrics in trained.metrics) > 0, "duplicates"
    principles = " ".join(skill.text.principle for skill in trained.skills.values())
    assert ", then " in principles and "Look for" in principles, "reflections beside a success and without one"
    assert {skill.granularity for skill in trained.skills.values()} == {"task", "step"}


# the file


def test_it_is_one_file_to_read() -> None:
    method, stand_ins = FILE.read_text().split("# ---- Embedder")
    assert len(method.splitlines()) < 330 and len(stand_ins.splitlines()) < 160
    assert all(f"Eq. {number}" in method for number in range(1, 10))


def test_only_the_environment_and_the_features_are_imported() -> None:
    imports = [node for node in ast.walk(ast.parse(FILE.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name for node in imports for name in (getattr(node, "module", None), *(a.name for a in node.names)) if name
    }
    ours = {name for name in names if name.startswith("d2skill")}
    assert ours == {"d2skill.config", "d2skill.envs", "d2skill.policies.scorer.features", "d2skill.utils.text"}
    (config,) = [node for node in imports if getattr(node, "module", None) == "d2skill.config"]
    assert [alias.name for alias in config.names] == ["EnvConfig"]


def test_its_settings_are_those_of_the_default_run_with_the_papers_skills(single_file: dict[str, Any]) -> None:
    file, run = single_file, Config.model_validate({"bank": {"skills": "paper"}}).resolved()
    flags = file["Settings"]()
    assert (flags.seed, flags.env, flags.iterations) == (run.seed, run.env, run.train.iterations)
    assert (flags.tasks, flags.group_size, flags.group_size // 2) == (
        *(run.rollout.tasks, run.rollout.group_size, run.rollout.with_skills),
    )
    assert (flags.validate_every, flags.validation_tasks) == (run.validation.every, run.validation.tasks)
    assert flags.warm_start_tasks == run.warm_start.tasks
    assert (flags.capacity, flags.capacity, flags.protect) == (
        *(run.bank.capacity("task"), run.bank.capacity("step"), run.bank.protect),
    )
    retrieval, optim, start = run.retrieval, run.optim, run.warm_start
    assert (file["K"], file["K"], file["CANDIDATES"]) == (retrieval.k_task, retrieval.k_step, retrieval.candidates)
    assert (file["ALPHA"], file["ETA"]) == (retrieval.alpha, retrieval.eta)
    assert (file["BETA"], file["BETA"]) == (run.credit.beta_task, run.credit.beta_step)
    assert (file["INTRINSIC"], file["SUCCESS"]) == (run.reward.intrinsic, run.reward.success)
    assert (file["CLIP"], file["KL"], file["BUCKETS"]) == (optim.clip, optim.kl, run.policy.scorer.buckets)
    assert file["UPDATE"] == (optim.minibatch_rows, optim.learning_rate) and optim.max_grad_norm == 1
    assert file["IMITATION"] == (start.minibatch_rows, start.learning_rate) and file["EPOCHS"] == start.epochs
    assert (file["ADVISED"], file["MISLED"]) == (start.advised, start.misled)
    assert (file["THRESHOLD"], file["REFLECTIONS"]) == (run.reflect.threshold, run.reflect.max_groups)
    assert (file["DUPLICATE"], file["HISTORY"]) == (run.bank.duplicate, run.prompt.history)
    assert (1.0, file["TEMPERATURE"]) == (run.rollout.temperature, run.validation.temperature)
    assert file["GATES"] == {"task": HashedEmbedder.task_gate, "step": HashedEmbedder.step_gate}
    assert file["DIMENSION"] == run.embedder.dimension


def test_it_prints_a_line_for_each_iteration(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    flags = "--iterations 2 --tasks 2 --group-size 2 --warm-start-tasks 4 --validation-tasks 2 --env.max-steps 5"
    monkeypatch.setattr(sys, "argv", [str(FILE), *flags.split()])
    runpy.run_path(str(FILE), run_name="__main__")
    start, first, last = capsys.readouterr().out.splitlines()
    assert "rollouts" not in start and "validation" in start
    assert "rollouts" in first and "validation" not in first
    assert "rollouts" in last and "validation" in last
