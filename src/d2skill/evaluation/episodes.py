"""The episodes of an evaluation: which there are, and what becomes of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from d2skill.bank import SkillBank
from d2skill.config import Config
from d2skill.evaluation.arms import group_of, view_of
from d2skill.prompts import Answer, render
from d2skill.protocols import Environment, Policy
from d2skill.rollout import Member, Rollouts
from d2skill.runs.trajectories import Saved
from d2skill.types import Decision, Trajectory
from d2skill.utils.rng import derive

_TOGETHER = 128  # episodes that are played together, at most


@dataclass(frozen=True, slots=True)
class Unit:
    """Episodes that are played together: tasks in one arm, sampled from one seed, all as the same member."""

    arm: str
    seed: int
    member: int
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an episode: of how many steps it was, and in how many of them a skill was shown.

    `prompt_tokens` are those of all its prompts, `generated` those of all its answers, None for a policy that writes
    none. `score` and `fault` are those of its trajectory.
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


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a unit; the trajectories if they are kept."""

    outcomes: list[Outcome]
    saved: list[Saved]


def units_of(arms: Sequence[str], seeds: Sequence[int], tasks: Sequence[str], shares: int) -> list[Unit]:
    """Returns all episodes, each task in each arm from each seed, in at least so many units as far as tasks go.

    How they are cut changes nothing about an episode.
    """
    members = [(arm, seed) for arm in arms for seed in seeds]
    size = min(_TOGETHER, max(1, len(members) * len(tasks) // shares))
    return [
        Unit(arm, seed, member, tuple(tasks[start : start + size]))
        for member, (arm, seed) in enumerate(members)
        for start in range(0, len(tasks), size)
    ]


class Player:
    """Plays units of an evaluation with one policy and one bank, which is only read."""

    def __init__(
        self,
        environment: Environment,
        policy: Policy,
        bank: SkillBank,
        config: Config,
        *,
        temperature: float,
        keep: bool = False,
    ) -> None:
        """Takes the settings of the run, with the policy that plays; `keep` keeps trajectories."""
        self.environment = environment
        self.bank = bank
        self._policy = policy
        self._config = config
        self._temperature = temperature
        self._keep = keep
        self._rollouts: dict[tuple[str, int], Rollouts] = {}
        self._answer: Answer = config.policy.lm.answer if config.policy.kind == "causal-lm" else "free"
        self._generated = _GENERATED[config.policy.kind]

    def play(self, unit: Unit) -> Played:
        """Returns what becomes of the episodes of a unit, in their order."""
        arm = group_of(unit.arm)
        members = [Member(task, arm, unit.member, derive(unit.seed, "validate", task)) for task in unit.tasks]
        trajectories = self._of(unit).play_share(members, self._temperature)
        outcomes = [self._outcome(unit, task, t) for task, t in zip(unit.tasks, trajectories, strict=True)]
        return Played(outcomes, list(map(Saved.of, trajectories)) if self._keep else [])

    def _of(self, unit: Unit) -> Rollouts:
        key = unit.arm, unit.seed
        if key not in self._rollouts:
            config = self._config
            view = view_of(unit.arm, self.bank, config.retrieval, unit.seed)
            self._rollouts[key] = Rollouts(self.environment, self._policy, view, config.prompt, config.env.max_steps)
        return self._rollouts[key]

    def _outcome(self, unit: Unit, task: str, trajectory: Trajectory) -> Outcome:
        turns = trajectory.turns
        prompts = (render(turn.prompt, self._answer)[0]["content"] for turn in turns)
        generated = self._generated(self._policy, [turn.decision for turn in turns]) if self._generated else None
        return Outcome(
            unit.arm,
            unit.seed,
            task,
            trajectory.task.kind,
            trajectory.success,
            len(turns),
            sum(bool(turn.skill_ids) for turn in turns),
            sum(map(self._policy.count_tokens, prompts)),
            generated,
            trajectory.score,
            trajectory.fault,
        )


def _sampled(policy: Policy, decisions: Sequence[Decision]) -> int:
    return sum(len(decision.tokens) for decision in decisions)


def _answered(policy: Policy, decisions: Sequence[Decision]) -> int:
    return sum(policy.count_tokens(decision.text) for decision in decisions)


_GENERATED: dict[str, Callable[[Policy, Sequence[Decision]], int] | None] = {
    "scorer": None,
    "causal-lm": _sampled,
    "served": _answered,
}
