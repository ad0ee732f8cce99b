"""Data-parallel training: several processes, each with a replica of the policy, share episodes and updates.

The first process leads: it has the trainer, the bank, the reflector and all files. The others are workers, which play
their share of the episodes and take part in updates. All members of a task are played by one process, and each knows
the bank by the events that made it. A minibatch is the one that a single process would take, each process has the
gradients of its share of it, and all step by the sum; so the result is that of one process, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

from d2skill.bank import SkillBank
from d2skill.bank.journal import Event
from d2skill.components import Components
from d2skill.config import Config, PromptConfig
from d2skill.errors import ConfigError, RunError
from d2skill.protocols import Environment, Policy, SupportsChat, SupportsScoring
from d2skill.rollout import Member, Rollouts
from d2skill.types import AnswerScore, Decision, Prompt, Row, Trajectory
from d2skill.utils.child_process import ChildProcess
from d2skill.utils.process_group import LaunchedProcessGroup, ProcessGroup, launched_processes, shard_whole_groups
from d2skill.worker_rollouts import WorkerRollouts


class Replica(Policy, SupportsScoring, SupportsChat, Protocol):
    """A policy that several processes can hold a replica of, and train together."""

    processes: ProcessGroup

    def checksum(self) -> str:
        """Returns a checksum of all weights that train; equal replicas have equal checksums."""


@contextmanager
def joined_processes(config: Config) -> Iterator[ProcessGroup]:
    """Yields the process group that a launcher started; at the end the workers stop.

    Raises `ConfigError` for settings that allow one process only.
    """
    if launched_processes() == 1:
        yield ProcessGroup()
        return
    processes = LaunchedProcessGroup(on_cpu=_require_shareable(config) == "cpu")
    try:
        yield processes
    except BaseException as error:
        processes.lost = processes.lost or not isinstance(error, Exception)
        raise
    finally:
        processes.close()


def _require_shareable(config: Config) -> str:
    """Returns the device setting of several processes; raises `ConfigError` for settings that allow one only."""
    count = launched_processes()
    if (kind := config.policy.kind) != "causal-lm":
        raise ConfigError(
            f"{count} processes were started, but policy.kind {kind} works in one: start d2skill without a launcher"
        )
    if (device := config.policy.lm.device) not in ("auto", "cuda", "cpu"):
        raise ConfigError(f"policy.lm.device is {device} in all {count} processes: leave it at auto, one GPU for each")
    return device


def make_components(processes: ProcessGroup, make: Callable[[], Components]) -> Components:
    """Returns the components, made by each process for itself; an error of one process is raised in all."""
    with processes.synchronized():
        components = make()
        if processes.world_size > 1:
            _replica(components).processes = processes
            _require_equal(processes, _replica(components))
    return components


def split_work(
    processes: ProcessGroup, config: Config, components: Components, workers: Sequence[ChildProcess] = ()
) -> tuple[Components, Rollouts]:
    """Returns the components and the rollouts of the first process, which hand work to the others.

    Args:
        processes: Processes of a launcher.
        config: Settings of the run.
        components: Components of the first process.
        workers: Processes that only play; there are none beside those of a launcher.
    """
    given = components.environment, components.policy, components.bank, config.prompt, config.env.max_steps
    if processes.world_size == 1:
        return components, WorkerRollouts(workers, *given) if workers else Rollouts(*given)
    return replace(components, policy=SharedPolicy(processes, _replica(components))), SharedRollouts(processes, *given)


def _replica(components: Components) -> Replica:
    return cast(Replica, components.policy)


def _require_equal(processes: ProcessGroup, policy: Replica) -> None:
    """Raises `RunError` in all processes if their replicas differ."""
    found = processes.all_gather(policy.checksum())
    if others := [number for number, one in enumerate(found) if one != found[0]]:
        raise RunError(
            f"process {others[0]} of {processes.world_size} no longer has the weights of process 0: go on from "
            "the last checkpoint by `d2skill resume`, and use devices of one kind"
        )


@dataclass(frozen=True, slots=True)
class _PlayOrder:
    """An order to all processes: episodes to play, by rank, and the bank's events since the last order."""

    shares: list[list[Member]]
    temperature: float
    news: list[Event]


@dataclass(frozen=True, slots=True)
class _UpdateOrder:
    """An order to all processes: a method of the policy to call."""

    method: str
    given: tuple[Any, ...]

    def do(self, processes: ProcessGroup, policy: Replica) -> Any:
        """Calls it, and checks that the replicas are still equal."""
        result = getattr(policy, self.method)(*self.given)
        _require_equal(processes, policy)
        return result


class SharedRollouts(Rollouts):
    """Plays episodes in all processes, the members of a task in one. Its timing is that of the first process."""

    def __init__(
        self,
        processes: ProcessGroup,
        environment: Environment,
        policy: Policy,
        bank: SkillBank,
        prompt: PromptConfig,
        max_steps: int,
    ) -> None:
        """Plays nothing yet.

        Args:
            processes: The process group; this is its first process.
            environment: See `Rollouts`, as the following.
            policy: The policy of this process.
            bank: The bank, whose events go to the others.
            prompt: Length of the history and token budget of prompts.
            max_steps: Decisions after which an episode ends without success.
        """
        super().__init__(environment, policy, bank, prompt, max_steps)
        self._processes = processes
        self._news: list[Event] = []
        bank.subscribe(self._news.append)

    def play_shard(self, members: Sequence[Member], temperature: float) -> list[Trajectory]:
        """See Rollouts."""
        indices = shard_whole_groups([member.task_id for member in members], self._processes.world_size)
        order = _PlayOrder([[members[i] for i in own] for own in indices], temperature, list(self._news))
        self._news.clear()
        self._processes.broadcast(order)
        with self._processes.synchronized():
            shares: list[list[Trajectory]] = self._processes.gather(super().play_shard(order.shares[0], temperature))
        found: dict[int, Trajectory] = {}
        for own, played in zip(indices, shares, strict=True):
            found |= zip(own, played, strict=True)
        return [found[i] for i in range(len(members))]


class SharedPolicy:
    """A policy that learns in all processes and decides in the first one (see Policy)."""

    def __init__(self, processes: ProcessGroup, policy: Replica) -> None:
        self._processes = processes
        self._policy = policy

    def count_tokens(self, text: str) -> int:
        """See Policy."""
        return self._policy.count_tokens(text)

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        """See Policy."""
        return self._policy.act(prompts, seeds, temperature)

    def score_answers(self, decided: Sequence[tuple[Prompt, Decision]]) -> list[AnswerScore]:
        """See SupportsScoring."""
        return self._policy.score_answers(decided)

    def generate_chat(self, chats: Sequence[Sequence[dict[str, str]]], tokens: int) -> list[str]:
        """See SupportsChat."""
        return self._policy.generate_chat(chats, tokens)

    def update(self, rows: Sequence[Row], seed: int) -> dict[str, float]:
        """See Policy."""
        metrics: dict[str, float] = self._everywhere("update", list(rows), seed)
        return metrics

    def imitate(self, demonstrations: Sequence[tuple[Prompt, str]], seed: int) -> dict[str, float]:
        """See Policy."""
        metrics: dict[str, float] = self._everywhere("imitate", list(demonstrations), seed)
        return metrics

    def freeze_reference(self) -> None:
        """See Policy."""
        self._everywhere("freeze_reference")

    def save(self, folder: Path) -> None:
        """See Policy."""
        self._policy.save(folder)

    def load(self, folder: Path) -> None:
        """See Policy."""
        self._everywhere("load", folder)

    def _everywhere(self, method: str, *given: Any) -> Any:
        order = _UpdateOrder(method, given)
        self._processes.broadcast(order)
        with self._processes.synchronized():
            return order.do(self._processes, self._policy)


class Worker:
    """A process of the group other than the first: it carries out the first one's orders."""

    def __init__(self, processes: ProcessGroup, config: Config, components: Components) -> None:
        self._processes = processes
        self._policy = _replica(components)
        self._bank = components.bank
        self._rollouts = Rollouts(
            components.environment, components.policy, components.bank, config.prompt, config.env.max_steps
        )

    def serve(self) -> None:
        """Carries out orders until the first process stops or is gone; errors are reported there."""
        with suppress(RunError):
            while not self._processes.lost and (order := self._processes.broadcast()) is not None:
                with suppress(Exception):
                    self._do(order)

    def _do(self, order: _PlayOrder | _UpdateOrder) -> None:
        with self._processes.synchronized():
            if isinstance(order, _UpdateOrder):
                order.do(self._processes, self._policy)
                return
            for event in order.news:
                self._bank.apply(event)
            played = self._rollouts.play_shard(order.shares[self._processes.rank], order.temperature)
            self._processes.gather(played)
