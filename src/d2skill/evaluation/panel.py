"""Validation on a fixed panel of tasks: with skills and without, from the same states and seeds, the bank frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from d2skill.bank import SkillBank
from d2skill.bank.display import flagged
from d2skill.bank.journal import Journal
from d2skill.config import BankConfig
from d2skill.errors import BankError, ConfigError
from d2skill.rollout import Member, Rollouts
from d2skill.runs.folder import RunFolder
from d2skill.types import Arm, Trajectory
from d2skill.utils.foreign_text import command
from d2skill.utils.rng import derive
from d2skill.utils.statistics import Interval, paired_difference, wilson


@dataclass(frozen=True, slots=True)
class ArmResult:
    """Result of one arm on the panel: success rate with its interval, tasks, mean number of steps, mean score.

    An episode without a score counts as 0; `score` is None if the environment gives none at all.
    """

    success: float
    ci95: Interval
    n: int
    steps: float
    score: float | None = None

    def record(self) -> dict[str, Any]:
        """Returns the result as it is written to summary.json."""
        known = {"success": self.success, "ci95": list(self.ci95), "n": self.n, "steps": self.steps}
        return known if self.score is None else known | {"score": self.score}


@dataclass(frozen=True, slots=True)
class Validation:
    """Results of both arms on the same tasks; a method without skills has no first arm and no difference."""

    with_skills: ArmResult | None
    without_skills: ArmResult
    difference: tuple[float, Interval] | None
    trajectories: tuple[Trajectory, ...]

    def record(self) -> dict[str, Any]:
        """Returns the results as they are written to summary.json."""
        gap = self.difference
        return {
            "with_skills": self.with_skills.record() if self.with_skills else None,
            "without_skills": self.without_skills.record(),
            "difference": {"mean": gap[0], "ci95": list(gap[1])} if gap else None,
        }

    def metrics(self) -> dict[str, float]:
        """Returns the metrics of metrics.jsonl."""
        metrics: dict[str, float] = {}
        for name, arm in {"without": self.without_skills, "with": self.with_skills}.items():
            if arm is not None:
                metrics |= {f"validation/{name}_skills": arm.success, f"validation/steps_{name}_skills": arm.steps}
                if arm.score is not None:
                    metrics[f"validation/score_{name}_skills"] = arm.score
        return metrics | ({"validation/difference": self.difference[0]} if self.difference else {})


def require_unseen_tasks(bank: SkillBank, panel: Sequence[str]) -> None:
    """Raises `ConfigError` if skills of a bank were written or credited in tasks of a panel.

    Such skills may hold the answers, so success there would say nothing.
    """
    if seen := sorted(bank.seen_tasks(panel)):
        raise ConfigError(
            f"skills of the bank were written or credited in {len(seen)} of these {len(panel)} tasks, first {seen[0]}: "
            "choose other tasks, or play what was seen by --seen-tasks (--bank.seen-tasks in training)"
        )


def adopt_start_bank(bank: SkillBank, settings: BankConfig, panel: Sequence[str]) -> None:
    """Gives an empty bank the skills of the run or journal that `bank.start` names, if it is set.

    Raises `BankError` for what is no bank yet, for a bank of another embedder, and as `require_unseen_tasks` does
    unless `bank.seen_tasks` is set.
    """
    if (start := settings.start) is None:
        return
    if not (start / "config.toml").is_file() if start.is_dir() else start.is_file() and not Journal.is_journal(start):
        made = command("bank", "import", start, "bank.db")
        raise BankError(f"bank.start {start} is no run and no journal: {made} makes a bank of skills in it, name that")
    bank.copy_from(RunFolder.open(start).bank if start.is_dir() else start)
    if settings.suspicion == "hold":
        for skill_id, why in flagged(bank).items():
            bank.hold(skill_id, reason=why)
    if not settings.seen_tasks:
        require_unseen_tasks(bank, panel)


def validation_arms(with_skills: int) -> tuple[Arm, ...]:
    """Returns the arms to validate a run in: one without skills only, if its rollouts show none."""
    return ("skills", "none") if with_skills else ("none",)


def evaluate_panel(
    rollouts: Rollouts, panel: Sequence[str], *, arms: Sequence[Arm], temperature: float, seed: int
) -> Validation:
    """Plays each task of a panel once per arm; the arms share start states and sampling seeds.

    Args:
        rollouts: Player of the episodes; its bank is only read.
        panel: Ids of the tasks.
        arms: Arms to play (`validation_arms`).
        temperature: Sampling temperature.
        seed: Seed that those of the episodes are derived from.
    """
    members = [Member(task_id, arm, 0, derive(seed, "validate", task_id)) for arm in arms for task_id in panel]
    played = rollouts.play(members, temperature)
    count = len(panel)
    return summarize_validation({arm: played[i * count : (i + 1) * count] for i, arm in enumerate(arms)})


def summarize_validation(by_arm: Mapping[Arm, Sequence[Trajectory]]) -> Validation:
    """Returns the results of a panel from the trajectories of each arm, which have the same tasks in the same order."""
    results = {arm: _arm_result(trajectories) for arm, trajectories in by_arm.items()}
    difference = None
    if "skills" in by_arm:
        difference = paired_difference([t.success for t in by_arm["skills"]], [t.success for t in by_arm["none"]])
    everything = tuple(t for trajectories in by_arm.values() for t in trajectories)
    return Validation(results.get("skills"), results["none"], difference, everything)


def _arm_result(trajectories: Sequence[Trajectory]) -> ArmResult:
    successes = sum(t.success for t in trajectories)
    n = len(trajectories)
    steps = float(np.mean([len(t.turns) for t in trajectories]))
    scores = [t.score for t in trajectories if t.score is not None]
    return ArmResult(successes / n, wilson(successes, n), n, steps, sum(scores) / n if scores else None)
