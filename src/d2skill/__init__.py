"""d2skill: train language-model agents together with a dynamic bank of skills (D2Skill, arXiv 2603.28716)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2skill.api import resume, train
    from d2skill.bank import Draft, SkillBank
    from d2skill.components import Components
    from d2skill.config import Config
    from d2skill.config.overrides import load_config
    from d2skill.credit import outcome_signals
    from d2skill.errors import (
        BankError,
        ConfigError,
        D2SkillError,
        DataError,
        EndpointFault,
        EnvironmentFault,
        ReflectionFault,
        RunError,
    )
    from d2skill.evaluation.evaluate import evaluate
    from d2skill.learner import reflect
    from d2skill.prompts import render_skills
    from d2skill.protocols import (
        Embedder,
        Environment,
        Expert,
        GroupReflector,
        Policy,
        Reflector,
        Session,
        SupportsExpert,
        Tracker,
    )
    from d2skill.runs.run import Run
    from d2skill.trainer import Trainer
    from d2skill.types import (
        Decision,
        Edit,
        Group,
        Observation,
        Prompt,
        Reflection,
        Retrieved,
        Row,
        Skill,
        SkillText,
        Task,
        Trajectory,
        Turn,
    )

    __version__: str

_NAMES = {
    "api": "resume train",
    "bank": "Draft SkillBank",
    "components": "Components",
    "config": "Config",
    "config.overrides": "load_config",
    "credit": "outcome_signals",
    "errors": "BankError ConfigError D2SkillError DataError EndpointFault EnvironmentFault ReflectionFault RunError",
    "evaluation.evaluate": "evaluate",
    "learner": "reflect",
    "prompts": "render_skills",
    "protocols": "Embedder Environment Expert GroupReflector Policy Reflector Session SupportsExpert Tracker",
    "runs.run": "Run",
    "trainer": "Trainer",
    "types": "Decision Edit Group Observation Prompt Reflection Retrieved Row Skill SkillText Task Trajectory Turn",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "BankError",
    "Components",
    "Config",
    "ConfigError",
    "D2SkillError",
    "DataError",
    "Decision",
    "Draft",
    "Edit",
    "Embedder",
    "EndpointFault",
    "Environment",
    "EnvironmentFault",
    "Expert",
    "Group",
    "GroupReflector",
    "Observation",
    "Policy",
    "Prompt",
    "Reflection",
    "ReflectionFault",
    "Reflector",
    "Retrieved",
    "Row",
    "Run",
    "RunError",
    "Session",
    "Skill",
    "SkillBank",
    "SkillText",
    "SupportsExpert",
    "Task",
    "Tracker",
    "Trainer",
    "Trajectory",
    "Turn",
    "__version__",
    "evaluate",
    "load_config",
    "outcome_signals",
    "reflect",
    "render_skills",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """Imports a name, or the module it is from, when it is first used: a command needs few of them."""
    if name == "__version__":
        from importlib.metadata import version

        return version("d2skill")
    if name in _MODULES:
        return getattr(import_module(f"d2skill.{_MODULES[name]}"), name)
    if name in _MODULES.values():
        return import_module(f"d2skill.{name}")
    raise AttributeError(f"module d2skill has no attribute {name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
