"""Training by several processes, each with a replica of the policy: episodes and updates are shared.

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
from typing import Any, Protocol

from d2skill.bank import SkillBank
from d2skill.bank.journal import Event
from d2skill.components import Parts
from d2skill.config import Config, PromptConfig
from d2skill.errors import ConfigError, RunError
from d2skill.protocols import Environment, Policy, Weighs, Writes
from d2skill.rollout import Member, Rollouts
from d2skill.types import Decision, Prompt, Row, Trajectory, Weight
from d2skill.utils.process_group import Processes, Ranks, launched, whole_groups


class Replica(Policy, Weighs, Writes, Protocol):
    """A policy of which several processes can have a replica each, and learn together."""

    ranks: Ranks

    def checksum(self) -> str:
        """Returns what is equal in replicas that are: a checksum of all that trains."""


@contextmanager
def joined(config: Config) -> Iterator[Ranks]:
    """Gives the processes that a launcher started; at the end those that follow the first one stop.

    Raises `ConfigError` for settings that more than one process cannot work by.
    """
    if launched() == 1:
        yield Ranks()
        return
    ranks = Processes(on_cpu=_require_shareable(config) == "cpu")
    try:
        yield ranks
    except BaseException as error:
        ranks.lost = ranks.lost or not isinstance(error, Exception)
        raise
    finally:
        ranks.close()


def _require_shareable(config: Config) -> str:
    """Returns the device of several processes; raises `ConfigError` for settings that they cannot work by."""
    count = launched()
    if (kind := config.policy.kind) != "causal-lm":
        raise ConfigError(
            f"{count} processes were started, but policy.kind {kind} works in one: start d2skill without a launcher"
        )
    if (device := config.policy.lm.device) not in ("auto", "cuda", "cpu"):
        raise ConfigError(f"policy.lm.device is {device} in all {count} processes: leave it at auto, one GPU for each")
    return device


def make_parts(ranks: Ranks, make: Callable[[], Parts]) -> Parts:
    """Returns the parts that each process makes for itself; raises what goes wrong in one of them in all."""
    with ranks.together():
        parts = make()
        if ranks.count > 1:
            _replica(parts).ranks = ranks
            _require_equal(ranks, _replica(parts))
    return parts


def share(ranks: Ranks, config: Config, parts: Parts) -> tuple[Parts, Rollouts]:
    """Returns the parts as the first process uses them, and what plays its episodes, with the help of the others."""
    given = parts.environment, parts.policy, parts.bank, config.prompt, config.env.max_steps
    if ranks.count == 1:
        return parts, Rollouts(*given)
    return replace(parts, policy=SharedPolicy(ranks, _replica(parts))), SharedRollouts(ranks, *given)


def _replica(parts: Parts) -> Replica:
    policy: Any = parts.policy
    found: Replica = policy
    return found


def _require_equal(ranks: Ranks, policy: Replica) -> None:
    """Raises `RunError` in all processes if their replicas are not the same."""
    found = ranks.exchange(policy.checksum())
    if others := [number for number, one in enumerate(found) if one != found[0]]:
        raise RunError(
            f"the weights of process {others[0]} of {ranks.count} are no longer those of process 0: go on from the "
            "last checkpoint by `d2skill resume`, and use devices of one kind"
        )


@dataclass(frozen=True, slots=True)
class _Play:
    """Episodes to play, by process, and what has happened to the bank since the last ones."""

    shares: list[list[Member]]
    temperature: float
    news: list[Event]


@dataclass(frozen=True, slots=True)
class _Learn:
    """A method of the policy to call in all processes."""

    method: str
    given: tuple[Any, ...]

    def do(self, ranks: Ranks, policy: Replica) -> Any:
        """Calls it, and finds out whether the replicas are still the same."""
        result = getattr(policy, self.method)(*self.given)
        _require_equal(ranks, policy)
        return result


class SharedRollouts(Rollouts):
    """Plays episodes in all processes, the members of a task in one. Its timing is that of the first process."""

    def __init__(
        self,
        ranks: Ranks,
        environment: Environment,
        policy: Policy,
        bank: SkillBank,
        prompt: PromptConfig,
        max_steps: int,
    ) -> None:
        super().__init__(environment, policy, bank, prompt, max_steps)
        self._ranks = ranks
        self._news: list[Event] = []
        bank.watch(self._news.append)

    def play_share(self, members: Sequence[Member], temperature: float) -> list[Trajectory]:
        """See Rollouts."""
        places = whole_groups([member.task_id for member in members], self._ranks.count)
        order = _Play([[members[i] for i in own] for own in places], temperature, list(self._news))
        self._news.clear()
        self._ranks.tell(order)
        with self._ranks.together():
            shares: list[list[Trajectory]] = self._ranks.gather(super().play_share(order.shares[0], temperature))
        found: dict[int, Trajectory] = {}
        for own, played in zip(places, shares, strict=True):
            found |= zip(own, played, strict=True)
        return [found[i] for i in range(len(members))]


class SharedPolicy:
    """A policy that learns in all processes; what it is asked besides, the first one answers (see Policy)."""

    def __init__(self, ranks: Ranks, policy: Replica) -> None:
        self._ranks = ranks
        self._policy = policy

    def count_tokens(self, text: str) -> int:
        """See Policy."""
        return self._policy.count_tokens(text)

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        """See Policy."""
        return self._policy.act(prompts, seeds, temperature)

    def weigh(self, decided: Sequence[tuple[Prompt, Decision]]) -> list[Weight]:
        """See Weighs."""
        return self._policy.weigh(decided)

    def write(self, chats: Sequence[Sequence[dict[str, str]]], tokens: int) -> list[str]:
        """See Writes."""
        return self._policy.write(chats, tokens)

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
        order = _Learn(method, given)
        self._ranks.tell(order)
        with self._ranks.together():
            return order.do(self._ranks, self._policy)


class Worker:
    """A process that follows the first one."""

    def __init__(self, ranks: Ranks, config: Config, parts: Parts) -> None:
        self._ranks = ranks
        self._policy = _replica(parts)
        self._bank = parts.bank
        self._rollouts = Rollouts(parts.environment, parts.policy, parts.bank, config.prompt, config.env.max_steps)

    def serve(self) -> None:
        """Does what the first process asks for until that one stops or is gone; what goes wrong is told there."""
        with suppress(RunError):
            while not self._ranks.lost and (order := self._ranks.tell()) is not None:
                with suppress(Exception):
                    self._do(order)

    def _do(self, order: _Play | _Learn) -> None:
        with self._ranks.together():
            if isinstance(order, _Learn):
                order.do(self._ranks, self._policy)
                return
            for event in order.news:
                self._bank.follow(event)
            played = self._rollouts.play_share(order.shares[self._ranks.number], order.temperature)
            self._ranks.gather(played)
