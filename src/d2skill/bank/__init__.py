"""Skill bank: `SkillBank` and the drafts that it takes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2skill.bank.bank import SkillBank
    from d2skill.bank.draft import Draft, Insertion

__all__ = ["Draft", "Insertion", "SkillBank"]


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used: a journal is read without them."""
    if name in __all__:
        return getattr(import_module("d2skill.bank.bank" if name == "SkillBank" else "d2skill.bank.draft"), name)
    raise AttributeError(f"module d2skill.bank has no attribute {name}")
