"""d2skill: train language-model agents together with a dynamic bank of skills (D2Skill, arXiv 2603.28716)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2skill.api import resume, train
    from d2skill.bank import Draft, SkillBank
    from d2skill.config import Config
    from d2skill.errors import D2SkillError
    from d2skill.types import Observation, Prompt, Skill, SkillText, Task, Trajectory

    __version__: str

_MODULES = {
    **dict.fromkeys(("resume", "train"), "api"),
    **dict.fromkeys(("Draft", "SkillBank"), "bank"),
    "Config": "config",
    "D2SkillError": "errors",
    **dict.fromkeys(("Observation", "Prompt", "Skill", "SkillText", "Task", "Trajectory"), "types"),
}

__all__ = [
    "Config",
    "D2SkillError",
    "Draft",
    "Observation",
    "Prompt",
    "Skill",
    "SkillBank",
    "SkillText",
    "Task",
    "Trajectory",
    "__version__",
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
