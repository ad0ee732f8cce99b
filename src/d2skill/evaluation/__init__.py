"""Evaluation on fixed panels: which tasks, which arms, and how sure one can be of the difference."""

from d2skill.evaluation.arms import ARMS, UNRETRIEVED, arm_names, view_of
from d2skill.evaluation.episodes import Outcome, Played, Player, Unit, units_of
from d2skill.evaluation.panel import (
    ArmResult,
    Validation,
    arms_of,
    begin_with,
    evaluate_panel,
    require_unseen,
    validation_of,
)
from d2skill.evaluation.report import figures
from d2skill.evaluation.worker_processes import in_processes
from d2skill.utils.statistics import mcnemar, mean_with_interval, paired_difference, wilson

__all__ = [
    "ARMS",
    "UNRETRIEVED",
    "ArmResult",
    "Outcome",
    "Played",
    "Player",
    "Unit",
    "Validation",
    "arm_names",
    "arms_of",
    "begin_with",
    "evaluate_panel",
    "figures",
    "in_processes",
    "mcnemar",
    "mean_with_interval",
    "paired_difference",
    "require_unseen",
    "units_of",
    "validation_of",
    "view_of",
    "wilson",
]
