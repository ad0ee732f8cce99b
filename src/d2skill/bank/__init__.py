"""The skill bank: `SkillBank` is the one way in."""

from d2skill.bank.bank import SkillBank
from d2skill.bank.draft import Draft, Insertion

__all__ = ["Draft", "Insertion", "SkillBank"]
