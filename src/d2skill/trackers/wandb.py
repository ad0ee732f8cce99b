"""Weights & Biases. Without a network, WANDB_MODE=offline keeps the run for `wandb sync`."""

from __future__ import annotations

import os
from typing import Any

import wandb

from d2skill.trackers.base import PROJECT, TrackedRun, numbers


class WandbTracker:
    """Logs metrics by iteration, and the settings as config, to the project d2skill or WANDB_PROJECT."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = run

    def __enter__(self) -> WandbTracker:
        self._wandb = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=self._run.folder.name,
            id=self._run.id,
            resume=None if self._run.id is None else "allow",
            dir=os.environ.get("WANDB_DIR", str(self._run.folder)),
            config=self._run.config.model_dump(mode="json"),
            settings=wandb.Settings(console="off"),  # the display redraws itself all the time
            reinit="create_new",
        )
        self.id: str = self._wandb.id
        return self

    def __exit__(self, *error: Any) -> None:
        self._wandb.finish(exit_code=0 if error[0] is None else 1)

    def log(self, metrics: dict[str, Any]) -> None:
        """See Tracker."""
        self._wandb.log(numbers(metrics), step=metrics["iteration"])
