"""Evaluation: validation on fixed panels, arms, ablations, learning curves, and the intervals of all of them."""

from d2skill.evaluation.arms import ARMS
from d2skill.evaluation.episodes import EpisodeBatch, EpisodePlayer, Outcome, PlayedBatch, episode_batches
from d2skill.evaluation.outcome_summary import summarize_outcomes
from d2skill.evaluation.panel import (
    ArmResult,
    Validation,
    adopt_start_bank,
    evaluate_panel,
    require_unseen_tasks,
    summarize_validation,
    validation_arms,
)

__all__ = [
    "ARMS",
    "ArmResult",
    "EpisodeBatch",
    "EpisodePlayer",
    "Outcome",
    "PlayedBatch",
    "Validation",
    "adopt_start_bank",
    "episode_batches",
    "evaluate_panel",
    "require_unseen_tasks",
    "summarize_outcomes",
    "summarize_validation",
    "validation_arms",
]
