"""Builds environment, policy, bank and reflector from a `Config`, or restores them from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from d2skill.bank import SkillBank
from d2skill.config import Config
from d2skill.embedders import make_embedder
from d2skill.envs import make_environment
from d2skill.policies import make_policy
from d2skill.protocols import Environment, Policy, Reflector
from d2skill.reflectors import make_reflector
from d2skill.runs import checkpoint
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.utils.rng import generator

_SAMPLE_TASKS = 200


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a run that its settings choose: environment, policy, bank, reflector."""

    environment: Environment
    policy: Policy
    bank: SkillBank
    reflector: Reflector

    @classmethod
    def make(cls, config: Config, check: bool = True) -> Components:
        """Makes all components, untrained and empty.

        To find mistakes early, a language model has to fit into memory and a reflector behind a server is reached first
        of all; not so without `check`.
        """
        fitted = config
        if config.policy.kind == "causal-lm":
            from d2skill.planning.memory_report import fit_to_memory

            fitted = fit_to_memory(config, check=check, download=True)
        remote = make_reflector(config.reflect, check) if config.reflect.kind != "policy" else None
        environment = make_environment(config.env)
        embedder = make_embedder(config.embedder)
        policy = make_policy(fitted, lambda: sample_texts(environment, config.env.train_split))
        return cls(
            environment,
            policy,
            SkillBank(embedder, config.bank, config.retrieval, config.credit),
            remote or make_reflector(config.reflect, check, policy),
        )


def restore(config: Config, folder: Path) -> tuple[Components, Progress]:
    """Returns the components of a run as they were at a checkpoint; a reflector behind a server is not reached yet."""
    progress = checkpoint.read_progress(folder)
    fresh = Components.make(config, check=False)
    fresh.policy.load(folder / "policy")
    return replace(fresh, bank=restore_bank(config, folder)), progress


def restore_bank(config: Config, folder: Path | None) -> SkillBank:
    """Returns the bank of a run as it was at a checkpoint, or an empty one without a checkpoint."""
    settings = make_embedder(config.embedder), config.bank, config.retrieval, config.credit
    if folder is None:
        return SkillBank(*settings)
    return SkillBank.open(
        RunFolder(folder.parents[1]).bank, *settings, event=checkpoint.read_progress(folder).bank_event
    )


def sample_texts(environment: Environment, split: str) -> list[str]:
    """Returns sample texts of an environment: starts of some tasks, and a few random steps on."""
    ids = environment.task_ids(split)
    rng = generator("sample-texts", split)
    texts: list[str] = []
    for i in rng.permutation(len(ids))[:_SAMPLE_TASKS]:
        session = environment.start(ids[i])
        texts.append(session.task.text)
        observation = session.observation
        for _ in range(10):
            texts += [observation.text, *observation.actions]
            if observation.done or not observation.actions:
                break
            observation = session.step(observation.actions[int(rng.integers(len(observation.actions)))])
    return texts
