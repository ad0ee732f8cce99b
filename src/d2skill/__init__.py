"""d2skill: train language-model agents together with a dynamic bank of skills (D2Skill, arXiv 2603.28716)."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from d2skill.bank import Draft, SkillBank
from d2skill.config import Config
from d2skill.errors import D2SkillError
from d2skill.types import Observation, Prompt, Skill, SkillText, Task, Trajectory

if TYPE_CHECKING:
    from d2skill.api import resume, train

__version__ = version("d2skill")

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
    """Imports `train` and `resume` when they are first used: the bank alone does not need them."""
    if name in ("resume", "train"):
        from d2skill import api

        return getattr(api, name)
    raise AttributeError(f"module d2skill has no attribute {name}")
