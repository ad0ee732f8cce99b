"""Episodes of an evaluation: cut into batches, played with policy and bank frozen, one outcome each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from d2skill.bank import SkillBank
from d2skill.config import Config
from d2skill.evaluation.arms import arm_view, half_of_arm
from d2skill.policies.answers import require_actions
from d2skill.prompts import AnswerFormat, render
from d2skill.protocols import Environment, Policy
from d2skill.rollout import Member, Rollouts
from d2skill.runs.trajectories import Saved
from d2skill.types import Decision, Trajectory
from d2skill.utils.rng import derive

_LARGEST_BATCH = 128  # episodes


@dataclass(frozen=True, slots=True)
class EpisodeBatch:
    """Episodes that are played together: tasks in one arm, sampled from one seed, all as the same member."""

    arm: str
    seed: int
    member: int
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one episode: its number of steps, and the number of those in whose prompt a skill was shown.

    `prompt_tokens` are those of all its prompts, `generated` those of all its answers, None for a policy that writes
    none. `score` and `fault` are those of the trajectory.
    """

    arm: str
    seed: int
    task: str
    kind: str
    success: bool
    steps: int
    shown: int
    prompt_tokens: int
    generated: int | None = None
    score: float | None = None
    fault: str = ""

    def record(self) -> dict[str, Any]:
        """Returns the outcome as plain data, without the last three fields where they have their default."""
        absent = {"generated": None, "score": None, "fault": ""}
        return {name: value for name, value in asdict(self).items() if name not in absent or value != absent[name]}


@dataclass(frozen=True, slots=True)
class PlayedBatch:
    """Outcomes of a batch, one for each task, and its trajectories if they are kept."""

    outcomes: list[Outcome]
    saved: list[Saved]


def episode_batches(
    arms: Sequence[str], seeds: Sequence[int], tasks: Sequence[str], at_least: int
) -> list[EpisodeBatch]:
    """Returns all episodes of an evaluation in batches; how they are cut changes nothing about an episode.

    Args:
        arms: Arms to play.
        seeds: Sampling seeds; each task is played once in each arm from each of them.
        tasks: Ids of the tasks.
        at_least: Number of batches that is wanted at least, as far as there are tasks for it.
    """
    members = [(arm, seed) for arm in arms for seed in seeds]
    size = min(_LARGEST_BATCH, max(1, len(members) * len(tasks) // at_least))
    return [
        EpisodeBatch(arm, seed, member, tuple(tasks[start : start + size]))
        for member, (arm, seed) in enumerate(members)
        for start in range(0, len(tasks), size)
    ]


@dataclass(slots=True)
class EpisodePlayer:
    """Plays batches of an evaluation with one policy and one bank, which is only read; `keep` keeps trajectories.

    `config` has the settings of the run; its `policy.kind` is the kind of `policy`.
    """

    environment: Environment
    policy: Policy
    bank: SkillBank
    config: Config
    temperature: float = field(kw_only=True)
    keep: bool = field(default=False, kw_only=True)
    _rollouts: dict[tuple[str, int], Rollouts] = field(default_factory=dict, init=False)

    def play(self, batch: EpisodeBatch) -> PlayedBatch:
        """Plays a batch; outcomes and trajectories are in the order of its tasks."""
        half = half_of_arm(batch.arm)
        members = [Member(task, half, batch.member, derive(batch.seed, "validate", task)) for task in batch.tasks]
        trajectories = self._rollouts_of(batch).play_shard(members, self.temperature)
        require_actions(trajectories)
        outcomes = [self._outcome(batch, task, t) for task, t in zip(batch.tasks, trajectories, strict=True)]
        return PlayedBatch(outcomes, list(map(Saved.of, trajectories)) if self.keep else [])

    def _rollouts_of(self, batch: EpisodeBatch) -> Rollouts:
        key = batch.arm, batch.seed
        if key not in self._rollouts:
            config = self.config
            view = arm_view(batch.arm, self.bank, config.retrieval, batch.seed)
            self._rollouts[key] = Rollouts(self.environment, self.policy, view, config.prompt, config.env.max_steps)
        return self._rollouts[key]

    def _outcome(self, batch: EpisodeBatch, task: str, trajectory: Trajectory) -> Outcome:
        turns = trajectory.turns
        policy = self.config.policy
        formats: dict[str, AnswerFormat] = {"causal-lm": policy.lm.answer, "served": policy.served.answer}
        answer = formats.get(policy.kind, "free")
        prompts = (render(turn.prompt, answer)[0]["content"] for turn in turns)
        return Outcome(
            batch.arm,
            batch.seed,
            task,
            trajectory.task.kind,
            trajectory.success,
            len(turns),
            sum(bool(turn.skill_ids) for turn in turns),
            sum(map(self.policy.count_tokens, prompts)),
            self._generated([turn.decision for turn in turns]),
            trajectory.score,
            trajectory.fault,
        )

    def _generated(self, decisions: Sequence[Decision]) -> int | None:
        """Returns the number of tokens that a language model generated: sampled here, or counted in its answers."""
        if self.config.policy.kind == "scorer":
            return None
        if self.config.policy.kind == "causal-lm":
            return sum(len(decision.tokens) for decision in decisions)
        return sum(self.policy.count_tokens(decision.text) for decision in decisions)
