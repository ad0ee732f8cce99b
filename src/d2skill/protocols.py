"""What can be swapped. Keep one of these protocols and the rest of d2skill works with your part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from d2skill.types import Decision, Observation, Prompt, Reflection, Retrieved, Row, Task, Trajectory, Weight


class Session(Protocol):
    """One episode of one task."""

    @property
    def task(self) -> Task:
        """The task that is being played."""

    @property
    def observation(self) -> Observation:
        """The current observation; right after `Environment.start`, the first one."""

    def step(self, action: str) -> Observation:
        """Plays an action and returns what is seen then.

        An action that is not admissible changes nothing but the text. Raises `EnvironmentFault` when the
        environment itself fails. Not called after `observation.done`.
        """


@runtime_checkable
class Environment(Protocol):
    """A family of tasks, played in text, in this process. Sessions are cheap; many run at once."""

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns the ids of a split's tasks, always in the same order. Raises `ConfigError` for an unknown split."""

    def start(self, task_id: str) -> Session:
        """Starts a fresh episode of a task; always from the same start state for the same id."""


class Expert(Protocol):
    """A scripted player, by text alone, whose episodes a policy can imitate before training."""

    def act(self, observation: Observation) -> str:
        """Returns the admissible action to play next."""


@runtime_checkable
class Teaches(Protocol):
    """An environment that also has an expert. Without one, training starts from an untrained policy."""

    def expert(self, task: Task, hints: Sequence[str], seed: int) -> Expert:
        """Returns an expert for one episode that searches as an agent must, trying first what the hints name."""


@runtime_checkable
class Plans(Protocol):
    """A session that sees everything and so knows the shortest way."""

    def shortest_plan(self) -> Sequence[str] | None:
        """Returns the fewest actions that win from here, None where nothing does."""


@runtime_checkable
class Shows(Protocol):
    """A session that shows itself to people in other words than to agents; its observations and records stay."""

    @property
    def shown(self) -> str:
        """What is seen, in lines, but for what `described` tells."""

    @property
    def described(self) -> Mapping[str, str]:
        """What a menu says beside admissible actions whose names are not enough, by action."""


class Policy(Protocol):
    """A policy over the actions of a prompt. All randomness comes in as seeds."""

    def count_tokens(self, text: str) -> int:
        """Returns how many prompt tokens a text takes."""

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        """Samples one decision per prompt; temperature 0 is greedy.

        A decision depends on its own prompt, seed and temperature only, never on the rest of the batch.
        """

    def update(self, rows: Sequence[Row], seed: int) -> dict[str, float]:
        """Takes one pass of policy-gradient steps over the rows (Eq. 6) and returns metrics."""

    def imitate(self, demonstrations: Sequence[tuple[Prompt, str]], seed: int) -> dict[str, float]:
        """Learns to answer each prompt with its action, as warm start, and returns metrics."""

    def freeze_reference(self) -> None:
        """Makes the present weights the reference policy of the KL term."""

    def save(self, folder: Path) -> None:
        """Writes weights, reference and optimiser state into an existing folder."""

    def load(self, folder: Path) -> None:
        """Restores exactly what `save` wrote. Raises `RunError` for files of another policy."""


@runtime_checkable
class Weighs(Protocol):
    """A policy that can also say how probable an answer is. Without it, what skills do to answers is not probed."""

    def weigh(self, decided: Sequence[tuple[Prompt, Decision]]) -> list[Weight]:
        """Returns what it makes of each decision under the prompt beside it.

        That may be another prompt than the decision was made on, but with the same admissible actions; `ValueError`
        where it does not admit the decision. A decision without tokens has the log-probability 0. Nothing about the
        policy changes, and a value does not depend on the rest of the batch, but for rounding.
        """


class Places(Protocol):
    """Where a policy plays some episodes at a time: each holds a place, which may keep what was read there."""

    @property
    def size(self) -> int:
        """How many episodes can hold a place at once."""

    def ask(self, episode: int, prompt: Prompt, seed: int) -> None:
        """Puts the prompt of an episode, any number that names it, before the policy; it takes a place if it has none.

        An episode that was asked is not asked again before its answer.
        """

    def answers(self) -> list[tuple[int, Decision]]:
        """Waits for some of the answers and returns them with their episodes; none only if nothing was asked."""

    def leave(self, episode: int) -> None:
        """Frees the place of an episode that is over."""

    def close(self) -> None:
        """Frees all there is."""


@runtime_checkable
class HasPlaces(Protocol):
    """A policy that need not be asked for all of its decisions at once: some episodes go on while others wait."""

    def places(self, temperature: float) -> Places:
        """Returns places, all free, for decisions as `Policy.act` makes them; good until the policy changes."""


@runtime_checkable
class Writes(Protocol):
    """A policy that can also write a text, so that it can reflect on its own failures."""

    def write(self, chats: Sequence[Sequence[dict[str, str]]], tokens: int) -> list[str]:
        """Returns the likeliest answer to each chat (messages with "role" and "content"), of so many tokens at most."""


class Retrieves(Protocol):
    """What shows skills in episodes: a bank, or a view of one."""

    def retrieve_task(self, task_texts: Sequence[str], *, trial: bool = False) -> list[tuple[Retrieved, ...]]:
        """Returns the task skills to show for each task, best first; on a `trial` those on trial as well."""

    def retrieve_step(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> list[tuple[Retrieved, ...]]:
        """Returns the step skills to show for each task and observation, as `retrieve_task` does for tasks."""


class Embedder(Protocol):
    """Texts to unit vectors."""

    fingerprint: str
    """Names the model and its settings; a bank refuses vectors of another one."""
    dimension: int

    @property
    def task_gate(self) -> float:
        """The similarity τ_sim that separates related from unrelated task keys for this embedder.

        Raises `ConfigError` if nobody has measured it.
        """

    @property
    def step_gate(self) -> float:
        """The same for step keys, which have two parts."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns unit vectors, shape [len(texts), dimension]."""


class Reflector(Protocol):
    """Writes skills from failures."""

    def reflect(self, failure: Trajectory, success: Trajectory | None) -> Reflection:
        """Compares a failed trajectory with a success of the same group, if there is one (Eq. 7).

        Raises `ReflectionFault` when no answer can be had.
        """


@runtime_checkable
class ReflectsMany(Protocol):
    """A reflector that takes many failures at once."""

    @property
    def beside_update(self) -> bool:
        """Whether it works elsewhere and takes its time, so that the policy is updated meanwhile."""

    def reflect_many(self, pairs: Sequence[tuple[Trajectory, Trajectory | None]]) -> list[Reflection | None]:
        """Returns what `reflect` would of each failure and success, in their order; None where no answer can be had.

        Called one at a time; beside an update in a thread of its own.
        """


@runtime_checkable
class Accounts(Protocol):
    """A reflector that works elsewhere: it may be out of reach, each of its calls is kept, and it has a budget."""

    def check(self) -> None:
        """Finds out whether it can work; raises `ConfigError` with the way out if not. Called before any work."""

    def account(self) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Returns the calls since the last account, in an order that is always the same, and metrics of them."""

    def spent(self, calls: Iterable[Mapping[str, Any]]) -> None:
        """Takes calls of an account as those of the run so far, whose budget they have used."""

    def stop(self) -> None:
        """Gives up what is on its way, and lets go of its connections."""


@runtime_checkable
class Signs(Protocol):
    """A reflector that says for the record of the bank who writes."""

    @property
    def origin(self) -> Mapping[str, str]:
        """What tells where its texts come from, by name: "model", and as "prompt" a hash of the prompt's template."""


class Tracker(Protocol):
    """Receives what a run reports."""

    def log(self, metrics: dict[str, Any]) -> None:
        """Takes the metrics of one iteration, flat names `group/name`."""
