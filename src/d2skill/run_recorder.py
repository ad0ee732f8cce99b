"""Writes the files of a run while it trains, for every engine: metrics, episodes, reflections, the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from d2skill.config import Config
from d2skill.errors import ConfigError
from d2skill.evaluation import Validation
from d2skill.iteration_metrics import make_plain, peak_memory_mb
from d2skill.protocols import Tracker
from d2skill.runs import trajectories
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.types import Granularity, Group


class RunRecorder:
    """Writer of the run folder's records; it also tells the trackers."""

    def __init__(self, run: RunFolder, config: Config, trackers: Sequence[Tracker] = ()) -> None:
        self._run, self._config, self._trackers = run, config, trackers
        self._validation: Validation | None = None

    def cut_back(self, iteration: int) -> None:
        """Removes records after iteration `iteration`, for a run that goes on from its checkpoint."""
        self._run.cut_metrics(iteration)
        self._run.cut_rollouts(iteration)
        self._run.cut_reflections(iteration)

    def save_rollouts(self, groups: Sequence[Group], iteration: int) -> None:
        """Saves the trajectories of an iteration, if train.keep_rollouts is set."""
        if self._config.train.keep_rollouts:
            self._run.rollouts.mkdir(exist_ok=True)
            trajectories.write(self._run.rollout(iteration), (t for group in groups for t in group.trajectories))

    def save_validation(self, result: Validation) -> dict[str, Any]:
        """Saves the trajectories of a validation and returns its metrics."""
        self._validation = result
        trajectories.write(self._run.trajectories, result.trajectories)
        return result.metrics()

    def save_reflections(self, iteration: int, calls: Sequence[dict[str, Any]]) -> None:
        """Saves the calls of a reflector's model in an iteration."""
        self._run.append_reflections(iteration, calls)

    def report(
        self, progress: Progress, counts: Mapping[Granularity, int], utility: float, metrics: Mapping[str, Any]
    ) -> None:
        """Adds a line to metrics.jsonl and tells the trackers.

        Args:
            progress: See `metrics_line`, as the following.
            counts: Active skills by granularity.
            utility: Mean utility of the active skills.
            metrics: Other metrics of the iteration.
        """
        self.write(metrics_line(progress, counts, utility, metrics))

    def write(self, line: dict[str, Any]) -> None:
        """Adds a line (`metrics_line`) to metrics.jsonl and tells the trackers.

        Raises `ConfigError`, and writes nothing, for a value that JSON cannot hold.
        """
        if unwritable := make_plain(line):
            raise ConfigError(unwritable)
        self._run.append_metrics(line)
        for tracker in self._trackers:
            tracker.log(line)

    def summarise(self, progress: Progress, counts: Mapping[Granularity, int]) -> dict[str, Any]:
        """Writes summary.json, the result of the last validation, and returns it."""
        assert self._validation is not None
        summary = {
            "validation": self._validation.record(),
            "bank": dict(counts),
            "iterations": progress.iteration,
            "env_steps": progress.env_steps,
            "wall_seconds": round(progress.seconds, 1),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            "seed": self._config.seed,
            "version": version("d2skill"),
        }
        self._run.write_summary(summary)
        return summary


def metrics_line(
    progress: Progress, counts: Mapping[Granularity, int], utility: float, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a line of metrics.jsonl.

    Args:
        progress: Iterations, environment steps and seconds so far.
        counts: Active skills by granularity.
        utility: Mean utility of the active skills.
        metrics: Other metrics of the iteration, flat names `group/name`.
    """
    line: dict[str, Any] = {"iteration": progress.iteration, "env_steps": progress.env_steps}
    line |= {"bank/task": counts["task"], "bank/step": counts["step"], "bank/mean_utility": utility}
    return line | {**metrics, "time/seconds": progress.seconds}
