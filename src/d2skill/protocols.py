"""Interfaces of the parts that can be swapped: environment, policy, embedder, reflector, tracker.

A part of your own that keeps one of these protocols works with the rest of d2skill. The `Supports...` protocols are
optional abilities of a part: they are looked for with `isinstance`, and a part without one is used without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from d2skill.types import (
    AnswerScore,
    Decision,
    Edit,
    Group,
    Observation,
    Prompt,
    Reflection,
    Retrieved,
    Row,
    Skill,
    Task,
    Trajectory,
)


class Session(Protocol):
    """One episode of one task.

    >>> from d2skill.config import EnvConfig
    >>> from d2skill.envs import make_environment
    >>> session = make_environment(EnvConfig()).start("train/0000")
    >>> session.step(session.observation.actions[0]).done
    False
    """

    @property
    def task(self) -> Task:
        """The task that is being played."""

    @property
    def observation(self) -> Observation:
        """The current observation; right after `Environment.start`, the first one."""

    def step(self, action: str) -> Observation:
        """Plays an action and returns the next observation.

        An action that is not admissible changes nothing but the text. Raises `EnvironmentFault` when the
        environment itself fails. Not called after `observation.done`.
        """


@runtime_checkable
class Environment(Protocol):
    """A family of tasks, played in text, in this process. Sessions are cheap; many run at once.

    >>> from d2skill import Environment
    >>> from d2skill.config import EnvConfig
    >>> from d2skill.envs import make_environment
    >>> houses = make_environment(EnvConfig())
    >>> isinstance(houses, Environment), len(houses.task_ids("train"))
    (True, 480)
    """

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns the ids of a split's tasks, always in the same order. Raises `ConfigError` for an unknown split."""

    def start(self, task_id: str) -> Session:
        """Starts a fresh episode of a task; always from the same start state for the same id."""


class Expert(Protocol):
    """A scripted player that reads the text alone; a policy can imitate its episodes before training.

    >>> from d2skill.config import EnvConfig
    >>> from d2skill.envs import make_environment
    >>> session = (houses := make_environment(EnvConfig())).start("train/0000")
    >>> houses.expert(session.task, hints=[], seed=0).act(session.observation) in session.observation.actions
    True
    """

    def act(self, observation: Observation) -> str:
        """Returns the admissible action to play next."""


@runtime_checkable
class SupportsExpert(Protocol):
    """An environment with an expert for the warm start. Without one, training starts from an untrained policy.

    >>> from d2skill import SupportsExpert
    >>> from d2skill.config import EnvConfig
    >>> from d2skill.envs import make_environment
    >>> isinstance(make_environment(EnvConfig()), SupportsExpert)
    True
    """

    def expert(self, task: Task, hints: Sequence[str], seed: int) -> Expert:
        """Returns an expert for one episode. It searches as an agent must, and tries first what the hints name."""


@runtime_checkable
class FindsBrokenTasks(Protocol):
    """An environment that can tell before a run which of its tasks cannot be played, as their files are broken."""

    def broken_tasks(self, task_ids: Sequence[str]) -> Mapping[str, str]:
        """Returns the broken ones among some tasks, by id with the reason."""


@runtime_checkable
class KnowsAnswers(Protocol):
    """An environment whose tasks have answers, so that skills can be kept free of them.

    >>> from d2skill.protocols import KnowsAnswers
    >>> class Quiz:
    ...     def golden_answers(self, task_id):
    ...         return ["Paris"]
    >>> isinstance(Quiz(), KnowsAnswers)
    True
    """

    def golden_answers(self, task_id: str) -> Sequence[str]:
        """Returns the answers of a task, any of which is right. Raises `ConfigError` for a task that is none."""


@runtime_checkable
class SupportsShortestPlan(Protocol):
    """A session that knows the whole state of its game, and so the shortest plan."""

    def shortest_plan(self) -> Sequence[str] | None:
        """Returns the fewest actions that win from here; None if no actions do."""


@runtime_checkable
class HumanReadable(Protocol):
    """A session with a display of its own for people. What agents see and what is recorded stay the observations."""

    @property
    def display_text(self) -> str:
        """The observation for people, in lines, without the `action_notes`."""

    @property
    def action_notes(self) -> Mapping[str, str]:
        """Explanations beside the admissible actions in a menu, by action, for actions whose names are not enough."""


class Policy(Protocol):
    """A policy over the actions of a prompt. All randomness comes in as seeds.

    >>> from d2skill import Components, Prompt, load_config
    >>> policy = Components.make(load_config("laptop")).policy
    >>> prompt = Prompt("take the ruby", "You stand before two chests.", ("open chest 1", "open chest 2"))
    >>> [decision] = policy.act([prompt], seeds=[0], temperature=1.0)
    >>> decision.action in prompt.actions
    True
    """

    def count_tokens(self, text: str) -> int:
        """Returns the number of prompt tokens of a text."""

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
class SupportsScoring(Protocol):
    """A policy that can also tell the log-probability of an answer. Without it, the skill probe is left out."""

    def score_answers(self, decided: Sequence[tuple[Prompt, Decision]]) -> list[AnswerScore]:
        """Returns the score of each decision under the prompt beside it.

        That may be another prompt than the decision was made on, but with the same admissible actions; `ValueError`
        where it does not admit the decision. A decision without tokens has the log-probability 0. The policy does
        not change, and a score does not depend on the rest of the batch, but for rounding.
        """


class Slots(Protocol):
    """Decoding slots for running episodes: an episode holds one, which may keep state (a KV cache) between steps."""

    @property
    def capacity(self) -> int:
        """Number of episodes that can hold a slot at once."""

    def submit(self, episode: int, prompt: Prompt, seed: int) -> None:
        """Queues the prompt of an episode, which takes a slot if it has none.

        `episode` is any number that names it. An episode has one open prompt at a time.
        """

    def collect(self) -> list[tuple[int, Decision]]:
        """Waits for some decisions and returns them with their episodes; an empty list only if none is due."""

    def release(self, episode: int) -> None:
        """Frees the slot of an episode that is over."""

    def close(self) -> None:
        """Frees all slots."""


@runtime_checkable
class SupportsSlots(Protocol):
    """A policy that decides asynchronously: some episodes go on while others wait (continuous batching)."""

    def slots(self, temperature: float) -> Slots:
        """Returns free slots for decisions as `Policy.act` makes them; valid until the policy changes."""


@runtime_checkable
class SupportsChat(Protocol):
    """A policy that can also answer a chat in free text, so that it can reflect on its own failures."""

    def generate_chat(self, chats: Sequence[Sequence[dict[str, str]]], tokens: int) -> list[str]:
        """Returns the greedy answer to each chat (messages with "role" and "content"), of at most `tokens` tokens."""


@runtime_checkable
class SupportsReplicas(Protocol):
    """A policy whose replicas can decide in other processes, and hand over what acting computed for the update."""

    def replica_state(self) -> tuple[int, Any]:
        """Returns a version, which changes with the policy, and what a replica needs to decide as this policy does."""

    def set_replica_state(self, state: Any) -> None:
        """Makes this policy, a replica, decide as the one that the state is of."""

    def export_features(self, prompts: Sequence[Prompt], *, whole: bool) -> Any:
        """Returns what a replica computed of prompts, `whole` if what was exported before may be unknown."""

    def adopt_features(self, prompts: Sequence[Prompt], features: Any) -> bool:
        """Keeps what a replica computed, for the update; returns False if it asks for all of it the next time."""


class SkillSource(Protocol):
    """A source of skills for episodes: a bank, or a view of one.

    Of a consolidated one, `advise` is asked once for each episode; of any other, the other two at each step.
    """

    @property
    def consolidated(self) -> bool:
        """True if skills are consolidated and shown until they are done or refuted."""

    def advise(
        self, pairs: Sequence[tuple[str, str]], *, trial: bool = False
    ) -> list[tuple[tuple[Retrieved, ...], tuple[Retrieved, ...]]]:
        """Returns for each (task, first observation) the procedure, and for its things the situations, best first."""

    def retrieve_task(self, task_texts: Sequence[str], *, trial: bool = False) -> list[tuple[Retrieved, ...]]:
        """Returns the task skills to show for each task, best first; with `trial`, skills on trial as well."""

    def retrieve_step(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> list[tuple[Retrieved, ...]]:
        """Returns the step skills to show for each (task, observation), best first; with `trial`, as above."""


class Embedder(Protocol):
    """A map from texts to unit vectors.

    >>> from d2skill.config import EmbedderConfig
    >>> from d2skill.embedders import make_embedder
    >>> embedder = make_embedder(EmbedderConfig())
    >>> embedder.embed(["take the ruby", "find the pearl"]).shape == (2, embedder.dimension)
    True
    """

    fingerprint: str
    """Name of the model and its settings; a bank refuses vectors of another one."""
    dimension: int

    @property
    def task_gate(self) -> float:
        """The similarity gate τ_sim of task keys: a lower cosine means that two keys are unrelated.

        Raises `ConfigError` if it was never measured for this embedder.
        """

    @property
    def step_gate(self) -> float:
        """The similarity gate of step keys, which have two parts."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns unit vectors, shape [len(texts), dimension]."""


class Reflector(Protocol):
    """A writer of skills from failures.

    >>> from d2skill import Reflection, SkillText, Task, Trajectory
    >>> class AskAgain:
    ...     def reflect(self, failure, success):
    ...         return Reflection(0, task_skill=SkillText("Look", "Look everywhere.", "when " + failure.task.text))
    >>> failure = Trajectory(Task("train/0007", "you take the ruby", "train"), "skills", 0, (), "", success=False)
    >>> AskAgain().reflect(failure, None).task_skill.when_to_apply
    'when you take the ruby'
    """

    def reflect(self, failure: Trajectory, success: Trajectory | None) -> Reflection:
        """Compares a failed trajectory with a success of the same group, if there is one (Eq. 7).

        Raises `ReflectionFault` when there is no answer.
        """


@runtime_checkable
class BatchReflector(Protocol):
    """A reflector that takes many failures at once."""

    @property
    def runs_beside_update(self) -> bool:
        """True if it works elsewhere and is slow, so that the policy should be updated meanwhile."""

    def reflect_batch(self, pairs: Sequence[tuple[Trajectory, Trajectory | None]]) -> list[Reflection | None]:
        """Returns the reflection on each (failure, success), in their order; None where there is no answer.

        There is one call at a time; beside an update it comes from a thread of its own.
        """


@runtime_checkable
class GroupReflector(Protocol):
    """A reflector that is given whole groups and what the bank says about them, and answers with edits of the bank.

    >>> from d2skill import Edit, Group, GroupReflector, Task
    >>> class Doubter:
    ...     def reflect_groups(self, questions):
    ...         return [[Edit("refute", skill_id=skill.id) for skill in skills] for group, skills in questions]
    >>> isinstance(Doubter(), GroupReflector)
    True
    >>> Doubter().reflect_groups([(Group(Task("train/0007", "take the ruby", "train"), ()), ())])
    [[]]
    """

    def reflect_groups(self, questions: Sequence[tuple[Group, tuple[Skill, ...]]]) -> list[list[Edit] | None]:
        """Returns the edits for each (group, skills about it), in their order; None where there is no answer.

        There is one call at a time; beside an update it comes from a thread of its own.
        """


@runtime_checkable
class BudgetedReflector(Protocol):
    """A reflector behind a server: it may be out of reach, its calls are recorded, and it has a budget."""

    def check(self) -> None:
        """Finds out, before any work, if it can be used; raises `ConfigError` with the way out if not."""

    def drain_calls(self) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Returns the calls since the last time, in an order that is always the same, and metrics of them."""

    def restore_usage(self, calls: Iterable[Mapping[str, Any]]) -> None:
        """Counts recorded calls of this run against the budget, after a resume."""

    def stop(self) -> None:
        """Cancels open requests and closes connections."""


@runtime_checkable
class HasOrigin(Protocol):
    """A reflector that names, for the bank's journal, where its texts come from."""

    @property
    def origin(self) -> Mapping[str, str]:
        """Names of the source: "model", and as "prompt" a hash of the prompt's template."""


class Tracker(Protocol):
    """A receiver of a run's metrics.

    >>> import d2skill
    >>> class Curve:
    ...     def __init__(self): self.points = []
    ...     def log(self, metrics): self.points.append(metrics["validation/with_skills"])
    >>> small = {"train": {"iterations": 1}, "warm_start": {"tasks": 10}, "validation": {"tasks": 4}}
    >>> run = d2skill.train(d2skill.load_config("laptop", out="run", **small), trackers=[curve := Curve()])
    >>> len(curve.points)
    2
    """

    def log(self, metrics: dict[str, Any]) -> None:
        """Takes the metrics of one iteration, flat names `group/name`."""


@runtime_checkable
class SupportsImitation(Protocol):
    """A tracker that also shows how far the imitation before the first iteration is, which takes a large model long."""

    def imitation_step(self, step: int, steps: int) -> None:
        """Takes the number of the optimiser step that was made, and that of all steps."""
