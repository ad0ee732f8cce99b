"""d2skill: train language-model agents together with a dynamic bank of skills (D2Skill, arXiv 2603.28716)."""

from importlib.metadata import version

from d2skill.bank import Draft, SkillBank
from d2skill.config import Config
from d2skill.errors import D2SkillError
from d2skill.types import Observation, Prompt, Skill, SkillText, Task, Trajectory

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
]
