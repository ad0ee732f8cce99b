"""Small real implementations that tests share: an environment with an expert, a policy, builders of records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d2skill.bank import Draft, SkillBank
from d2skill.config import BankConfig, Config, CreditConfig, OptimConfig, RetrievalConfig, ScorerConfig, WarmStartConfig
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.errors import ConfigError, EnvironmentFault, ReflectionFault
from d2skill.policies.scorer.policy import ScorerPolicy
from d2skill.types import (
    Arm,
    Decision,
    Group,
    Observation,
    Prompt,
    Reflection,
    Row,
    Skill,
    SkillText,
    Task,
    Trajectory,
    Turn,
)
from d2skill.utils.text import entities

GEMS = "ruby opal pearl topaz garnet jade amber onyx".split()
SIZES = {"train": 24, "valid_seen": 16, "valid_unseen": 8}
START = "You stand before a row of chests, all of them shut."


class TreasureEnvironment:
    """A row of chests and a gem in one of them, for the same gem always the same one; keeps `SupportsExpert` as well.

    A gem can be taken while its chest stands open, and opening a chest shuts the one before.
    """

    def __init__(self, chests: int = 6) -> None:
        self.chests = chests

    def task_ids(self, split: str) -> Sequence[str]:
        if split not in SIZES:
            raise ConfigError(f"there is no split {split}")
        return tuple(f"{split}/{number:03d}" for number in range(SIZES[split]))

    def start(self, task_id: str) -> TreasureSession:
        split, _, number = task_id.partition("/")
        gem = GEMS[int(number) % len(GEMS)]
        return TreasureSession(Task(task_id, f"take the {gem}", split, "take"), gem, self.chest_of(gem), self.chests)

    def expert(self, task: Task, hints: Sequence[str], seed: int) -> TreasureExpert:
        return TreasureExpert(hints, seed)

    def chest_of(self, gem: str) -> int:
        return 1 + (5 * GEMS.index(gem) + 2) % self.chests


class TreasureSession:
    def __init__(self, task: Task, gem: str, chest: int, chests: int) -> None:
        self.task = task
        self._take = f"take {gem} 1 from chest {chest}"
        self._gem, self._chest = gem, chest
        self._opens = tuple(f"open chest {number}" for number in range(1, chests + 1))
        self.observation = Observation(START, self._opens)

    def step(self, action: str) -> Observation:
        seen = self.observation
        if action not in seen.actions:
            self.observation = Observation("Nothing happens.", seen.actions)
        elif action == self._take:
            self.observation = Observation(f"You have the {self._gem} 1.", (), done=True, success=True)
        elif action == f"open chest {self._chest}":
            text = f"You open the {action[5:]}. In it is a {self._gem} 1."
            self.observation = Observation(text, (*self._opens, self._take))
        else:
            self.observation = Observation(f"You open the {action[5:]}. It is empty.", self._opens)
        return self.observation


class TreasureExpert:
    """Opens the chests that its hints name, then the others in an order of its own, and takes what it finds."""

    def __init__(self, hints: Sequence[str], seed: int) -> None:
        self._hinted = [e.name for hint in hints for e in entities(hint) if e.kind == "chest" and e.name != e.kind]
        self._seed = seed
        self._tried: set[str] = set()

    def act(self, observation: Observation) -> str:
        take = next((a for a in observation.actions if a.startswith("take ")), "")
        if take:
            return take
        others = np.random.default_rng(self._seed).permutation(list(observation.actions)).tolist()
        wanted = [f"open {name}" for name in self._hinted] + others
        action = next(a for a in wanted if a in observation.actions and a not in self._tried)
        self._tried.add(action)
        return action


class FaultyEnvironment:
    """Another environment that fails when `breaks` says so of a task and an action."""

    def __init__(self, inner: TreasureEnvironment, breaks: Callable[[Task, str], bool]) -> None:
        self._inner, self._breaks = inner, breaks

    def task_ids(self, split: str) -> Sequence[str]:
        return self._inner.task_ids(split)

    def start(self, task_id: str) -> FaultySession:
        return FaultySession(self._inner.start(task_id), self._breaks)


class FaultySession:
    def __init__(self, inner: TreasureSession, breaks: Callable[[Task, str], bool]) -> None:
        self._inner, self._breaks = inner, breaks
        self.task = inner.task

    @property
    def observation(self) -> Observation:
        return self._inner.observation

    def step(self, action: str) -> Observation:
        if self._breaks(self.task, action):
            raise EnvironmentFault("the lid fell")
        return self._inner.step(action)


class ScriptedPolicy:
    """Plays what `choose` says of a prompt, and keeps every batch of prompts it was given."""

    def __init__(self, choose: Callable[[Prompt], str]) -> None:
        self.choose = choose
        self.batches: list[tuple[Prompt, ...]] = []
        self.updates: list[list[Row]] = []

    @property
    def prompts(self) -> list[Prompt]:
        return [prompt for batch in self.batches for prompt in batch]

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        assert len(prompts) == len(seeds)
        self.batches.append(tuple(prompts))
        return [decision(self.choose(prompt), prompt.actions) for prompt in prompts]

    def update(self, rows: Sequence[Row], seed: int) -> dict[str, float]:
        self.updates.append(list(rows))
        return {}

    def imitate(self, demonstrations: Sequence[tuple[Prompt, str]], seed: int) -> dict[str, float]:
        return {}

    def freeze_reference(self) -> None: ...

    def save(self, folder: Path) -> None:
        (folder / "scripted").write_text("nothing to learn")

    def load(self, folder: Path) -> None: ...


class NotingReflector:
    """Answers every failure with `answer`, or fails itself, and keeps what it was asked."""

    def __init__(self, answer: Reflection | None = None) -> None:
        self.answer = answer
        self.asked: list[tuple[Trajectory, Trajectory | None]] = []

    def reflect(self, failure: Trajectory, success: Trajectory | None) -> Reflection:
        self.asked.append((failure, success))
        if self.answer is None:
            raise ReflectionFault("no answer")
        return self.answer


def decision(action: str, actions: Sequence[str] = ()) -> Decision:
    known = (actions.index(action),) if action in actions else ()
    return Decision(action, action, known, (0.0,) * len(known))


def skill(skill_id: str, title: str = "Look twice", principle: str = "Look again.", **fields: Any) -> Skill:
    """A skill of either granularity: ids start with t or s."""
    granularity = "task" if skill_id.startswith("t") else "step"
    return Skill(skill_id, granularity, SkillText(title, principle, "always"), "take the ruby", **fields)


def prompt(**fields: Any) -> Prompt:
    return Prompt(**({"task": "take the ruby", "observation": START, "actions": ("left", "right")} | fields))


def turn(action: str = "left", skills: Sequence[Skill] = (), **fields: Any) -> Turn:
    """A turn whose prompt shows skills of either granularity."""
    asked = prompt(
        task_skills=tuple(s for s in skills if s.granularity == "task"),
        step_skills=tuple(s for s in skills if s.granularity == "step"),
        **fields,
    )
    return Turn(asked, decision(action, asked.actions), not asked.actions or action in asked.actions)


def task(task_id: str = "train/000", text: str = "take the ruby") -> Task:
    return Task(task_id, text, "train")


def trajectory(
    arm: Arm = "skills", index: int = 0, success: bool = False, turns: Sequence[Turn] | None = None, **fields: Any
) -> Trajectory:
    own = (turn(),) if turns is None else tuple(turns)
    return Trajectory(
        **({"task": task(), "final": "The end."} | fields), arm=arm, index=index, turns=own, success=success
    )


def group(skilled: Sequence[bool], baseline: Sequence[bool], of: Task | None = None, **fields: Any) -> Group:
    """A group with the given successes of its halves, one turn each unless `turns` is given."""
    own = of or task()
    members: list[tuple[Arm, bool]] = [("skills", y) for y in skilled] + [("none", y) for y in baseline]
    return Group(own, tuple(trajectory(arm, i, y, task=own, **fields) for i, (arm, y) in enumerate(members)))


def make_bank(*drafts: Draft, retrieval: dict[str, Any] | None = None, bank: dict[str, Any] | None = None) -> SkillBank:
    """A bank of the paper's skills."""
    settings = BankConfig(**({"skills": "paper"} | (bank or {})))
    made = SkillBank(HashedEmbedder(256), settings, RetrievalConfig(**(retrieval or {})), CreditConfig())
    assert all(inserted.skill for inserted in made.insert(drafts, 0))
    return made


def task_draft(title: str, principle: str = "Open it.", task_text: str = "take the ruby") -> Draft:
    return Draft("task", SkillText(title, principle, "always"), task_text)


def step_draft(title: str, principle: str = "Open it.", task_text: str = "take the ruby", seen: str = START) -> Draft:
    return Draft("step", SkillText(title, principle, "always"), task_text, seen)


def make_scorer(buckets: int = 2**14, epochs: int = 4, imitation_rate: float = 0.05, **optim: Any) -> ScorerPolicy:
    warm_start = WarmStartConfig(epochs=epochs, learning_rate=imitation_rate)
    return ScorerPolicy(ScorerConfig(buckets=buckets), OptimConfig(**optim), warm_start)


def tiny_config(**sections: dict[str, Any]) -> Config:
    """Settings of a run over chests that takes a fraction of a second, with the paper's skills."""
    values: dict[str, Any] = {
        "env": {"kind": "toys:TreasureEnvironment", "max_steps": 4},
        "policy": {"scorer": {"buckets": 4096}},
        "train": {"iterations": 3, "checkpoint_every": 1},
        "rollout": {"tasks": 4, "group_size": 4, "with_skills": 2},
        "warm_start": {"tasks": 6},
        "bank": {"skills": "paper"},
        "validation": {"every": 1, "tasks": 8},
    }
    for name, section in sections.items():
        values[name] = values[name] | section if isinstance(values.get(name), dict) else section
    return Config.model_validate(values)
