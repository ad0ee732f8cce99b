"""TensorBoard: event files in the run folder, tensorboard/, by the package `tensorboard` alone.

Its own writer, the one below torch's `SummaryWriter`, needs neither torch nor TensorFlow; tensorboardX would load torch
wherever it is installed, and only write.
"""

from __future__ import annotations

from time import time
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from d2skill.trackers.base import TrackedRun, numbers


class TensorBoardTracker:
    """Writes a scalar for each metric, and the settings as hyperparameters."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._folder = run.folder / "tensorboard"

    def __enter__(self) -> TensorBoardTracker:
        known = self._run.id is not None and (self._folder / self._run.id).exists()
        self._writer = EventFileWriter(str(self._folder))
        self.id = min(path.name for path in self._folder.glob("events.out.*"))
        if not known:
            self._write(summary=hparams_pb(self._run.settings()))
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.close()

    def log(self, metrics: dict[str, Any]) -> None:
        """See Tracker."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers(metrics).items()]
        self._write(step=metrics["iteration"], summary=Summary(value=values))

    def _write(self, **event: Any) -> None:
        self._writer.add_event(Event(wall_time=time(), **event))
        self._writer.flush()
