"""Trackers: they are told the metrics of every iteration (protocols.Tracker).

`terminal.py` shows them; one of `Config.track` sends them on by the library of its name (docs/trackers.md).
"""

from pathlib import Path

from d2skill.config import Config
from d2skill.runs.folder import RunFolder
from d2skill.trackers.named import NamedTracker


def make_trackers(config: Config, folder: Path) -> list[NamedTracker]:
    """Returns the trackers of `track`; raises `ConfigError` for one that is not there or lacks its package."""
    return [NamedTracker(kind, RunFolder(folder.absolute()), config) for kind in config.track]
