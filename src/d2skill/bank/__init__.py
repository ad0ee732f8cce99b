"""Skill bank: `SkillBank` and the drafts that it takes."""

from d2skill.bank.bank import SkillBank
from d2skill.bank.draft import Draft, Insertion

__all__ = ["Draft", "Insertion", "SkillBank"]
