"""What a run writes down while it trains, whatever engine trains it: metrics, episodes, reflections, the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from d2skill.config import Config
from d2skill.evaluation import Validation
from d2skill.iteration_metrics import peak_memory_mb
from d2skill.protocols import Tracker
from d2skill.runs import trajectories
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.types import Granularity, Group


class RunRecorder:
    """Writes the files of a run that say how it went, and tells its trackers."""

    def __init__(self, run: RunFolder, config: Config, trackers: Sequence[Tracker] = ()) -> None:
        self._run, self._config, self._trackers = run, config, trackers
        self._validation: Validation | None = None

    def back_to(self, iteration: int) -> None:
        """Removes what was written after so many iterations, for a run that goes on from its checkpoint."""
        self._run.cut_metrics(iteration)
        self._run.cut_rollouts(iteration)
        self._run.cut_reflections(iteration)

    def played(self, groups: Sequence[Group], iteration: int) -> None:
        """Keeps what was played in an iteration, in the order of groups and members, unless the settings forbid it."""
        if self._config.train.keep_rollouts:
            self._run.rollouts.mkdir(exist_ok=True)
            trajectories.write(self._run.rollout(iteration), (t for group in groups for t in group.trajectories))

    def validated(self, result: Validation) -> dict[str, Any]:
        """Keeps what was played on the panel; returns its metrics."""
        self._validation = result
        trajectories.write(self._run.trajectories, result.trajectories)
        return result.metrics()

    def reflected(self, iteration: int, calls: Sequence[dict[str, Any]]) -> None:
        """Keeps what a reflector elsewhere was asked in an iteration, and what it answered."""
        self._run.append_reflections(iteration, calls)

    def report(
        self, progress: Progress, counts: Mapping[Granularity, int], utility: float, metrics: Mapping[str, Any]
    ) -> None:
        """Adds the line of an iteration: how far the run is, the bank, and metrics; tells the trackers."""
        line: dict[str, Any] = {"iteration": progress.iteration, "env_steps": progress.env_steps}
        line |= {"bank/task": counts["task"], "bank/step": counts["step"], "bank/mean_utility": utility}
        line |= {**metrics, "time/seconds": progress.seconds}
        self._run.append_metrics(line)
        for tracker in self._trackers:
            tracker.log(line)

    def summarise(self, progress: Progress, counts: Mapping[Granularity, int]) -> dict[str, Any]:
        """Writes the result of a run, that of its last validation, and returns it."""
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
