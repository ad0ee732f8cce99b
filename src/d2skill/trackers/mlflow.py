"""MLflow: at MLFLOW_TRACKING_URI, or in the database that is its default."""

from __future__ import annotations

import os
from time import time
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from d2skill.trackers.base import PROJECT, TrackedRun, numbers

_PARAMS = 100  # in one request


class MlflowTracker:
    """Logs metrics by iteration, and the settings as params, to the experiment d2skill or MLFLOW_EXPERIMENT_NAME."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = run

    def __enter__(self) -> MlflowTracker:
        self._client = MlflowClient()
        known = self._run.id
        if known is not None and self._has(known):
            self.id = known
            self._client.update_run(known, status="RUNNING")
        else:
            self.id = self._begin()
        return self

    def __exit__(self, *error: Any) -> None:
        self._client.set_terminated(self.id, "FINISHED" if error[0] is None else "FAILED")

    def log(self, metrics: dict[str, Any]) -> None:
        """See Tracker."""
        now, step = int(1000 * time()), metrics["iteration"]
        self._client.log_batch(self.id, [Metric(name, value, now, step) for name, value in numbers(metrics).items()])

    def _has(self, id: str) -> bool:
        try:
            self._client.get_run(id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def _begin(self) -> str:
        """Makes a run with its params and returns its id."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        id: str = self._client.create_run(experiment, run_name=self._run.folder.name).info.run_id
        params = [Param(name, str(value)) for name, value in self._run.settings().items()]
        for start in range(0, len(params), _PARAMS):
            self._client.log_batch(id, params=params[start : start + _PARAMS])
        return id
