"""Builds environment, policy, bank and reflector from a `Config`, or restores them from a checkpoint."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypedDict, Unpack

from d2skill.bank import SkillBank
from d2skill.config import Config
from d2skill.config.parts import EMBEDDER, ENVIRONMENT, POLICY, REFLECTOR, require_protocol
from d2skill.embedders import make_embedder
from d2skill.envs import make_environment
from d2skill.errors import ConfigError, RunError
from d2skill.policies import make_policy
from d2skill.protocols import Embedder, Environment, GroupReflector, Policy, Reflector
from d2skill.reflectors import ContrastReflector, make_reflector
from d2skill.runs import checkpoint
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.utils.rng import generator

_SAMPLE_TASKS = 200
_PART_TYPES = {part.name: part for part in (ENVIRONMENT, POLICY, REFLECTOR, EMBEDDER)}


class OwnParts(TypedDict, total=False):
    """Objects of one's own that take the place of what the settings would make; None is the same as leaving it out."""

    environment: Environment | None
    policy: Policy | None
    reflector: Reflector | None
    embedder: Embedder | None


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a run: environment, policy, bank, reflector. `own` are those that the settings did not choose.

    >>> from d2skill import Components, load_config
    >>> components = Components.make(load_config("laptop"))
    >>> len(components.environment.task_ids("train")), len(components.bank)
    (480, 0)
    """

    environment: Environment
    policy: Policy
    bank: SkillBank
    reflector: Reflector
    own: OwnParts = field(default_factory=OwnParts)

    @classmethod
    def make(
        cls,
        config: Config,
        check: bool = True,
        *,
        environment: Environment | None = None,
        policy: Policy | None = None,
        reflector: Reflector | None = None,
        embedder: Embedder | None = None,
    ) -> Components:
        """Makes all components, untrained and empty.

        To find mistakes early, a language model has to fit into memory and a reflector behind a server is reached first
        of all; not so without `check`.

        Args:
            config: Settings, which choose the parts that are not given.
            check: Whether to find such mistakes now.
            environment: An environment of one's own.
            policy: A policy of one's own.
            reflector: A reflector of one's own.
            embedder: An embedder of one's own.
        """
        own = OwnParts(environment=environment, policy=policy, reflector=reflector, embedder=embedder)
        _require_objects(own)
        fitted = config
        if policy is None and config.policy.kind == "causal-lm":
            from d2skill.planning.memory_report import fit_to_memory

            fitted = fit_to_memory(config, check=check, download=True)
        if reflector is None and config.reflect.kind != "policy":
            reflector = make_reflector(config.reflect, check)
        if environment is None:
            environment = make_environment(config.env)
        if embedder is None:
            embedder = make_embedder(config.embedder)
        if policy is None:
            policy = make_policy(fitted, partial(sample_texts, environment, config.env.train_split))
        if reflector is None:
            reflector = make_reflector(config.reflect, check, policy)
        require_asked(config, reflector)
        bank = SkillBank(embedder, config.bank, config.retrieval, config.credit)
        return cls(environment, policy, bank, reflector, own)


def _require_objects(own: OwnParts) -> None:
    """Raises `ConfigError` for an object that is no such part, and for a class in place of an object."""
    for name, part in own.items():
        if isinstance(part, type):
            raise ConfigError(f"{name} is the class {part.__name__}: give an object of it, {part.__name__}(...)")
        if part is not None:
            require_protocol(_PART_TYPES[name], class_name(part), part)


def require_asked(config: Config, reflector: Reflector) -> None:
    """Raises `ConfigError` for a reflector that lacks the method for the skills of the settings."""
    does, other, method = "writes the paper's skills", "paper", "reflect_groups"
    fits = type(reflector) is ContrastReflector or isinstance(reflector, GroupReflector)
    if config.bank.skills == "paper":
        does, other, method = "edits consolidated skills", "consolidated", "reflect"
        fits = hasattr(reflector, "reflect")
    if not fits:
        raise ConfigError(
            f"reflector {class_name(reflector)} {does}, and bank.skills is {config.bank.skills}: set bank.skills to "
            f"{other}, or give it the method {method} (docs/reflection.md)"
        )


def class_name(part: object) -> str:
    """Returns "module:Class" of a part."""
    return f"{type(part).__module__}:{type(part).__qualname__}"


def own_classes(own: OwnParts) -> dict[str, str]:
    """Returns "module:Class" of the parts of one's own, by name of the part."""
    return {name: class_name(part) for name, part in own.items() if part is not None}


def require_own_parts(run: Path, own: OwnParts, names: Collection[str] = tuple(OwnParts.__annotations__)) -> None:
    """Raises `RunError` if the parts that are given are not those that the run was trained with.

    Args:
        run: Run folder.
        own: The parts that are given.
        names: Names of the parts that matter now.
    """
    had, given = RunFolder(run).own_parts(), own_classes(own)
    for name in names:
        if name in had and name not in given:
            raise RunError(
                f"{run} was trained with an object of {had[name]} as its {name}, which settings cannot make: give one "
                f"again from Python, as {name}=..."
            )


def restore(config: Config, folder: Path, **own: Unpack[OwnParts]) -> tuple[Components, Progress]:
    """Returns the components of a run as they were at a checkpoint; a reflector behind a server is not reached yet."""
    progress = checkpoint.read_progress(folder)
    fresh = Components.make(config, check=False, **own)
    fresh.policy.load(folder / "policy")
    return replace(fresh, bank=restore_bank(config, folder, own.get("embedder"))), progress


def restore_bank(config: Config, folder: Path | None, embedder: Embedder | None = None) -> SkillBank:
    """Returns the bank of a run as it was at a checkpoint, or an empty one without a checkpoint."""
    settings = embedder or make_embedder(config.embedder), config.bank, config.retrieval, config.credit
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
