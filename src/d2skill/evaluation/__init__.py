"""Evaluation on fixed panels: which tasks, which arms, and how sure one can be of the difference."""

from d2skill.evaluation.panel import ArmResult, Validation, arms_of, evaluate_panel, require_unseen
from d2skill.evaluation.statistics import paired_difference, wilson

__all__ = ["ArmResult", "Validation", "arms_of", "evaluate_panel", "paired_difference", "require_unseen", "wilson"]
