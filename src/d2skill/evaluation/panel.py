"""A fixed panel of tasks, played with the bank frozen: with skills and without, from the same states and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from d2skill.bank import SkillBank
from d2skill.config import BankConfig
from d2skill.errors import ConfigError
from d2skill.rollout import Member, Rollouts
from d2skill.runs.folder import RunFolder
from d2skill.types import Arm, Trajectory
from d2skill.utils.rng import derive
from d2skill.utils.statistics import Interval, paired_difference, wilson


@dataclass(frozen=True, slots=True)
class ArmResult:
    """Outcome of one arm over the panel; `success` is a share, `steps` the mean number of decisions.

    `score` is the mean score, of an episode without one 0; None if the environment gives none.
    """

    success: float
    ci95: Interval
    n: int
    steps: float
    score: float | None = None

    def record(self) -> dict[str, Any]:
        """Returns what summary.json holds of it."""
        known = {"success": self.success, "ci95": list(self.ci95), "n": self.n, "steps": self.steps}
        return known if self.score is None else known | {"score": self.score}


@dataclass(frozen=True, slots=True)
class Validation:
    """Both arms on the same tasks; without skills in the method there is no first arm and no difference."""

    with_skills: ArmResult | None
    without_skills: ArmResult
    difference: tuple[float, Interval] | None
    trajectories: tuple[Trajectory, ...]

    def record(self) -> dict[str, Any]:
        """Returns what summary.json holds of it."""
        gap = self.difference
        return {
            "with_skills": self.with_skills.record() if self.with_skills else None,
            "without_skills": self.without_skills.record(),
            "difference": {"mean": gap[0], "ci95": list(gap[1])} if gap else None,
        }

    def metrics(self) -> dict[str, float]:
        """Returns what metrics.jsonl has of it."""
        arms = {"without": self.without_skills, "with": self.with_skills}
        found: dict[str, float] = {}
        for name, arm in arms.items():
            if arm is not None:
                found |= {f"validation/{name}_skills": arm.success, f"validation/steps_{name}_skills": arm.steps}
                if arm.score is not None:
                    found[f"validation/score_{name}_skills"] = arm.score
        return found | ({"validation/difference": self.difference[0]} if self.difference else {})


def require_unseen(bank: SkillBank, panel: Sequence[str]) -> None:
    """Raises `ConfigError` if the evidence of a bank is from tasks of a panel.

    Skills that were written or credited there may hold the answers, so what they achieve there says nothing.
    """
    if seen := sorted(bank.seen(panel)):
        raise ConfigError(
            f"skills of the bank were written or credited in {len(seen)} of these {len(panel)} tasks, first {seen[0]}: "
            "choose other tasks, or play what was seen by --seen-tasks (--bank.seen-tasks in training)"
        )


def begin_with(bank: SkillBank, settings: BankConfig, panel: Sequence[str]) -> None:
    """Gives an empty bank the skills of the run or journal that settings name, if they do.

    Raises `BankError` for a bank of another embedder, and what `require_unseen` raises unless that is allowed.
    """
    if (start := settings.start) is None:
        return
    bank.adopt(RunFolder.open(start).bank if start.is_dir() else start)
    if not settings.seen_tasks:
        require_unseen(bank, panel)


def arms_of(with_skills: int) -> tuple[Arm, ...]:
    """Returns the arms to evaluate a run in: a run whose rollouts show no skills has one."""
    return ("skills", "none") if with_skills else ("none",)


def evaluate_panel(
    rollouts: Rollouts, panel: Sequence[str], *, arms: Sequence[Arm], temperature: float, seed: int
) -> Validation:
    """Plays each task of the panel once per arm, both arms with the same sampling seeds; the bank is only read."""
    members = [Member(task_id, arm, 0, derive(seed, "validate", task_id)) for arm in arms for task_id in panel]
    played = rollouts.play(members, temperature)
    count = len(panel)
    return validation_of({arm: played[i * count : (i + 1) * count] for i, arm in enumerate(arms)})


def validation_of(by_arm: Mapping[Arm, Sequence[Trajectory]]) -> Validation:
    """Returns what came of a panel in each arm, the arms with the same tasks in the same order."""
    results = {arm: _summarise(trajectories) for arm, trajectories in by_arm.items()}
    difference = None
    if "skills" in by_arm:
        difference = paired_difference([t.success for t in by_arm["skills"]], [t.success for t in by_arm["none"]])
    everything = tuple(t for trajectories in by_arm.values() for t in trajectories)
    return Validation(results.get("skills"), results["none"], difference, everything)


def _summarise(trajectories: Sequence[Trajectory]) -> ArmResult:
    successes = sum(t.success for t in trajectories)
    n = len(trajectories)
    steps = float(np.mean([len(t.turns) for t in trajectories]))
    scores = [t.score for t in trajectories if t.score is not None]
    return ArmResult(successes / n, wilson(successes, n), n, steps, sum(scores) / n if scores else None)
