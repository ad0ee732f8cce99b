"""What a bank's journal tells: the story of a skill, what changed between two banks, a bank in numbers, and searches.

Pure functions of journals, skills and saved trajectories; the commands only put into words what they return.
"""

from d2skill.bank.history.audits import Audit, audit, objections
from d2skill.bank.history.differences import Difference, Left, Shift, compare, named, told
from d2skill.bank.history.episodes import Episode, Training, Use, training, use
from d2skill.bank.history.figures import PoolStatistics, Quantiles, Recorded, Statistics, recorded, statistics, undone
from d2skill.bank.history.searches import by_meaning, by_words
from d2skill.bank.history.stories import (
    Credited,
    Entry,
    Joined,
    Moved,
    Parted,
    Probed,
    Repeated,
    Said,
    Shown,
    Signal,
    Story,
    Undid,
    What,
    Written,
    story,
)

__all__ = [
    "Audit",
    "Credited",
    "Difference",
    "Entry",
    "Episode",
    "Joined",
    "Left",
    "Moved",
    "Parted",
    "PoolStatistics",
    "Probed",
    "Quantiles",
    "Recorded",
    "Repeated",
    "Said",
    "Shift",
    "Shown",
    "Signal",
    "Statistics",
    "Story",
    "Training",
    "Undid",
    "Use",
    "What",
    "Written",
    "audit",
    "by_meaning",
    "by_words",
    "compare",
    "named",
    "objections",
    "recorded",
    "statistics",
    "story",
    "told",
    "training",
    "undone",
    "use",
]
