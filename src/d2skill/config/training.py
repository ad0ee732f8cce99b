"""Settings of the training loop and of its validation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from d2skill.config.base import Settings

_MOST_EPISODES = 10**6


class RolloutConfig(Settings):
    """Paired rollouts."""

    tasks: int = Field(16, ge=1, le=10**5)
    """B, tasks in one iteration"""
    group_size: int = Field(8, ge=1, le=10**4)
    """N, trajectories of each task"""
    with_skills: int = Field(4, ge=0, le=10**4)
    """Members of each group that are shown skills, half of them if only the group's size is set; the others are the
    baseline half. 0 is plain GRPO; with all of them there is no baseline: signals are the successes themselves, and
    there is no intrinsic reward"""
    temperature: float = Field(1.0, gt=0, le=100)
    """Sampling temperature in training"""

    @model_validator(mode="before")
    @classmethod
    def _half_the_group(cls, values: Any) -> Any:
        """Fills in the skill half of a group whose size alone is set."""
        if not isinstance(values, dict) or "with_skills" in values or type(size := values.get("group_size")) is not int:
            return values
        return values | {"with_skills": max(1, size // 2)}

    @model_validator(mode="after")
    def _fits_memory(self) -> RolloutConfig:
        if self.tasks * self.group_size > _MOST_EPISODES:
            raise ValueError(
                f"rollout.tasks {self.tasks} and rollout.group_size {self.group_size} are more than {_MOST_EPISODES:,} "
                "episodes in one iteration: lower one"
            )
        return self


class RewardConfig(Settings):
    """Returns of trajectories."""

    success: float = Field(10.0, ge=-(10**6), le=10**6)
    """Return of a solved task"""
    score: float = Field(0.0, ge=0, le=10**6)
    """Return of the score, 0 to 1, of a task that can be solved in part; 0 counts solved tasks only, as the paper"""
    invalid_penalty: float = Field(1.0, ge=0, le=10**6)
    """Penalty for each action that is not admissible"""
    penalty: Literal["row", "trajectory"] = "row"
    """row: such an action lowers the advantage of its own row alone (the released code); trajectory: the return, and so
    the advantages of all rows of the episode"""
    intrinsic: float = Field(1.0, ge=0, le=10**6)
    """λ of Eq. 4: weight of the gain over the baseline half, given to the skill half only"""


class AdvantageConfig(Settings):
    """Advantages (Eq. 5)."""

    def chosen(self, skills: Literal["consolidated", "paper"]) -> Literal["group", "half", "rows"]:
        """Returns the sample to normalise over, given the kind of skills."""
        return self.normalise or ("half" if skills == "consolidated" else "group")

    normalise: Literal["group", "half", "rows"] | None = None
    """group: over the trajectories of both halves (the paper); half: within each half; rows: over step rows. Without
    one, half for consolidated skills and group for the paper's"""


class ValidationConfig(Settings):
    """Evaluation on a fixed panel with the bank frozen."""

    every: int = Field(20, ge=1, le=10**6)
    """V, iterations between evaluations; eviction follows each of them"""
    tasks: int = Field(128, ge=1, le=10**6)
    """Tasks in the panel, the same in every run"""
    temperature: float = Field(0.4, ge=0, le=100)
    """Sampling temperature; 0 is greedy"""


class TrainConfig(Settings):
    """Length of the run."""

    iterations: int = Field(160, ge=1, le=10**6)
    """Iterations"""
    max_env_steps: int | None = Field(None, ge=1, le=10**12)
    """Stops after the iteration that reaches this many environment steps in training"""
    checkpoint_every: int = Field(20, ge=1, le=10**6)
    """Iterations between checkpoints, from which `resume` goes on"""
    keep_rollouts: bool = True
    """Keep all episodes of training in the run folder, for `play --replay RUN --iteration N` and `bank show`"""
