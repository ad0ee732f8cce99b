"""Trackio: a database of this machine, or what its environment variables name."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

import trackio

from d2skill.trackers.base import PROJECT, TrackedRun, numbers


class TrackioTracker:
    """Logs metrics by iteration, and the settings as config, to the project d2skill."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = run

    def __enter__(self) -> TrackioTracker:
        settings = {"project": PROJECT, "config": self._run.config.model_dump(mode="json"), "embed": False}
        self.id = self._run.id or self._new_name()
        try:
            self._trackio = trackio.init(name=self.id, resume="must" if self._run.id else "never", **settings)
        except ValueError:
            if self._run.id is None:
                raise
            self.id = self._new_name()  # the run that it was is not in this database
            self._trackio = trackio.init(name=self.id, resume="never", **settings)
        return self

    def __exit__(self, *error: Any) -> None:
        self._trackio.finish()

    def log(self, metrics: dict[str, Any]) -> None:
        """See Tracker."""
        self._trackio.log(numbers(metrics), step=metrics["iteration"])

    def _new_name(self) -> str:
        """Returns a name of its own: Trackio finds a run by its name."""
        return f"{self._run.folder.name}-{token_hex(3)}"
