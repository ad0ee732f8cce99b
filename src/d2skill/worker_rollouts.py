"""Rollouts by several processes of this machine, for a policy that decides on CPUs: the same numbers for any number.

This process leads: it has the trainer, the bank, the policy that learns and all files. Workers have replicas: they know
the bank by its events and the policy by the weights that they are sent, play their share of the tasks, and send back
what they played together with the features that were computed for it. A decision depends on its own prompt and seed,
so it does not matter who makes it.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from d2skill.bank import SkillBank
from d2skill.bank.consolidation import fill
from d2skill.bank.journal import Event
from d2skill.components import restore_bank
from d2skill.config import Config, PromptConfig
from d2skill.envs import make_environment
from d2skill.errors import ConfigError
from d2skill.knowledge.situations import at_place, place_of
from d2skill.policies import make_policy
from d2skill.protocols import Environment, SupportsReplicas
from d2skill.rollout import Member, Rollouts
from d2skill.types import Decision, Prompt, Skill, Trajectory, Turn
from d2skill.utils.child_process import ChildProcess
from d2skill.utils.process_group import shard_whole_groups
from d2skill.utils.runtime import available_cores, tuned_process

_MOST = 8
_MANY_EPISODES = 2000  # in training; some hundreds are played in the second that a process takes to start

Packed = tuple[Any, ...]
"""A trajectory as plain tuples: prompts without their histories, skills as ids"""


@dataclass(frozen=True, slots=True)
class _Order:
    """An order to a worker: episodes to play, and what changed since the last order.

    That is the bank's events and the state of the policy, None if it is the same. `features` asks for the features of
    the prompts: "new" ones or the "whole" table.
    """

    members: list[Member]
    temperature: float
    features: Literal["", "new", "whole"]
    news: list[Event]
    state: Any


def process_count(config: Config) -> int:
    """Returns the number of processes that play: `processes`, or one for each core if there is enough to play.

    Raises `ConfigError` when several are asked for and the policy or the environment allows one only.
    """
    alone = f"policy.kind {config.policy.kind}" if config.policy.kind != "scorer" else ""
    if config.env.kind.startswith("__main__:"):
        alone = f"env.kind {config.env.kind}, which other processes cannot import,"
    if alone and (config.processes or 1) > 1:
        raise ConfigError(f"processes is {config.processes}, but {alone} works in one: leave processes out")
    few = config.train.iterations * config.rollout.tasks * config.rollout.group_size < _MANY_EPISODES
    return config.processes or (1 if alone or few else min(_MOST, available_cores()))


@contextmanager
def rollout_workers(config: Config, checkpoint: Path | None = None) -> Iterator[list[ChildProcess]]:
    """Starts the workers of a run, none for one process, and ends them.

    Args:
        config: Settings of the run.
        checkpoint: The checkpoint that it goes on from.
    """
    with ExitStack() as stack:
        workers = []
        for _ in range(process_count(config) - 1):
            workers.append(ChildProcess(partial(_make_player, config, checkpoint)))
            stack.callback(workers[-1].close)
        yield workers


class WorkerRollouts(Rollouts):
    """Plays episodes here and in workers, the members of a task in one process. Its timing is that of this process."""

    def __init__(
        self,
        workers: Sequence[ChildProcess],
        environment: Environment,
        policy: Any,
        bank: SkillBank,
        prompt: PromptConfig,
        max_steps: int,
    ) -> None:
        """Plays nothing yet.

        Args:
            workers: Processes that play a share.
            environment: See `Rollouts`, as the following.
            policy: The policy, which has to support replicas.
            bank: The bank, whose events go to the workers.
            prompt: Length of the history and token budget of prompts.
            max_steps: Decisions after which an episode ends without success.
        """
        super().__init__(environment, policy, bank, prompt, max_steps)
        assert isinstance(policy, SupportsReplicas)
        self._replicas: SupportsReplicas = policy
        self._workers = workers
        self._skills = bank
        self._learning = False
        self._version = -1
        self._adopted = [True] * len(workers)
        self._news: list[Event] = []
        bank.subscribe(self._news.append)

    def groups(self, *args: Any, **settings: Any) -> Any:
        """See Rollouts. The policy will learn from them, so their features are asked for."""
        self._learning = True
        try:
            return super().groups(*args, **settings)
        finally:
            self._learning = False

    def play_shard(self, members: Sequence[Member], temperature: float) -> list[Trajectory]:
        """See Rollouts."""
        shares = shard_whole_groups([member.task_id for member in members], len(self._workers) + 1)
        version, state = self._replicas.replica_state()
        state = None if version == self._version else state
        for worker, share, adopted in zip(self._workers, shares[1:], self._adopted, strict=True):
            features: Literal["", "new", "whole"] = ("new" if adopted else "whole") if self._learning else ""
            worker.send(_Order([members[i] for i in share], temperature, features, self._news, state))
        self._version = version
        self._news.clear()
        played = dict(zip(shares[0], super().play_shard([members[i] for i in shares[0]], temperature), strict=True))
        skills = _Skills(self._skills)
        for number, (worker, share) in enumerate(zip(self._workers, shares[1:], strict=True)):
            packed, computed = worker.receive()
            trajectories = [_unpack(one, skills) for one in packed]
            if computed is not None:
                prompts = [turn.prompt for trajectory in trajectories for turn in trajectory.turns]
                self._adopted[number] = self._replicas.adopt_features(prompts, computed)
            played |= zip(share, trajectories, strict=True)
        return [played[i] for i in range(len(members))]


def _make_player(config: Config, checkpoint: Path | None) -> Callable[[_Order], tuple[list[Packed], Any]]:
    """Returns the function of a worker that carries out orders."""
    environment = make_environment(config.env)
    policy = make_policy(config, tuple)
    assert isinstance(policy, SupportsReplicas)
    bank = restore_bank(config, checkpoint)
    rollouts = Rollouts(environment, policy, bank, config.prompt, config.env.max_steps)
    tuned = ExitStack()
    tuned.enter_context(tuned_process(config.policy.kind))
    atexit.register(tuned.close)  # as long as the process lives

    def play(order: _Order) -> tuple[list[Packed], Any]:
        for event in order.news:
            bank.apply(event)
        if order.state is not None:
            policy.set_replica_state(order.state)
        played = rollouts.play_shard(order.members, order.temperature)
        prompts = [turn.prompt for trajectory in played for turn in trajectory.turns]
        features = policy.export_features(prompts, whole=order.features == "whole") if order.features else None
        return [_pack(trajectory) for trajectory in played], features

    return play


class _Skills(dict[tuple[str, str, str], Skill]):
    """Skills of a bank by id, place and task, as prompts about the task show them, each looked up once."""

    def __init__(self, bank: SkillBank) -> None:
        self._bank = bank

    def __missing__(self, key: tuple[str, str, str]) -> Skill:
        skill_id, place, task = key
        skill = fill(self._bank.get(skill_id), task)
        skill = self[key] = at_place(skill, place) if place and place != place_of(skill) else skill
        return skill


def _pack(trajectory: Trajectory) -> Packed:
    turns = [
        (
            prompt.observation,
            prompt.actions,
            prompt.forms,
            prompt.labels,
            len(prompt.history),
            tuple([skill.id for skill in prompt.task_skills]),
            tuple([(skill.id, place_of(skill)) for skill in prompt.step_skills]),
            (prompt.acts_done, prompt.got),
            (decision.text, decision.action, decision.tokens, decision.log_probs),
            turn.admissible,
        )
        for turn in trajectory.turns
        for prompt, decision in [(turn.prompt, turn.decision)]
    ]
    rest = trajectory.final, trajectory.success, trajectory.fault, trajectory.score
    return trajectory.task, trajectory.arm, trajectory.index, turns, rest


def _unpack(packed: Packed, skills: _Skills) -> Trajectory:
    task, arm, index, packed_turns, rest = packed
    past: list[tuple[str, str]] = []
    turns: list[Turn] = []
    for observation, actions, forms, labels, kept, task_skills, step_skills, done, decided, admissible in packed_turns:
        prompt = Prompt(
            task.text,
            observation,
            actions,
            tuple(past[len(past) - kept :]),
            tuple([skills[one, "", task.text] for one in task_skills]),
            tuple([skills[*one, task.text] for one in step_skills]),
            forms,
            labels,
            *done,
        )
        decision = Decision(*decided)
        turns.append(Turn(prompt, decision, admissible))
        past.append((observation, decision.action or decision.text))
    return Trajectory(task, arm, index, tuple(turns), *rest)
