"""A run to look at from Python: its settings, metrics, trajectories, bank and policy."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any, Self, Unpack

from d2skill.bank import SkillBank
from d2skill.components import OwnParts, require_own_parts, restore, restore_bank
from d2skill.config import Config
from d2skill.errors import ConfigError, RunError
from d2skill.protocols import Policy
from d2skill.runs import checkpoint, trajectories
from d2skill.runs.folder import RunFolder
from d2skill.runs.trajectories import Saved
from d2skill.utils.arguments import path_of
from d2skill.utils.foreign_text import shown_path, visible


class Run(PathLike[str]):
    """A run and what is in its folder; wherever d2skill takes a run folder, it takes this as well.

    >>> import d2skill
    >>> small = {"train": {"iterations": 1}, "warm_start": {"tasks": 10}, "validation": {"tasks": 4}}
    >>> config = d2skill.load_config("laptop", out="run", **small)
    >>> run = d2skill.train(config)
    >>> run.summary["iterations"], [line["iteration"] for line in run.metrics], len(run.trajectories())
    (1, [0, 1], 8)
    >>> d2skill.Run.open("run").config.train.iterations
    1
    """

    def __init__(self, folder: Path | str, bank: SkillBank | None = None, **own: Unpack[OwnParts]) -> None:
        """Opens a run; parts of one's own that it was trained with are needed for its policy and its bank.

        Args:
            folder: Run folder.
            bank: The bank of the run; without it, it is read when it is first asked for.
            own: Those parts: environment, policy, reflector, embedder.
        """
        self.folder = path_of(folder, "a run folder", RunError).absolute()
        self.own = own
        self._files = RunFolder.open(self.folder)
        if bank is not None:
            self.bank = bank

    @classmethod
    def open(cls, folder: Path | str, **own: Unpack[OwnParts]) -> Self:
        """Opens a run; see `Run`. Raises `RunError` if the folder is not one."""
        return cls(folder, **own)

    def __fspath__(self) -> str:
        return str(self.folder)

    @cached_property
    def config(self) -> Config:
        """The complete settings of the run."""
        return self._files.config()

    @property
    def summary(self) -> dict[str, Any]:
        """The result (docs/metrics.md). Raises `RunError` for a run that has not ended."""
        if not self._files.summary.exists():
            raise RunError(
                f"{shown_path(self.folder)} has not ended: go on with it by d2skill.resume, or look at its metrics"
            )
        return self._files.read_summary()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The metrics of each iteration (docs/metrics.md), iteration 0 being the state after the warm start."""
        return self._files.read_metrics()

    def metrics_frame(self) -> Any:
        """Returns the metrics as a pandas data frame, a row for each iteration."""
        return _pandas().DataFrame(self.metrics)

    def trajectories(self, iteration: int | None = None) -> list[Saved]:
        """Returns the trajectories of the last validation, or those of a training iteration, counted from 0.

        Raises `RunError` if they are not kept (`train.keep_rollouts`).
        """
        if iteration is None:
            return trajectories.read(self._files.trajectories)
        kept = self._files.kept_rollouts()
        if iteration not in kept:
            there = f"those of {kept[0]} to {kept[-1]}, counted from 0" if kept else "none (train.keep_rollouts)"
            raise RunError(
                f"{shown_path(self.folder)} keeps no trajectories of iteration {iteration}: there are {there}"
            )
        return trajectories.read(self._files.rollout(iteration))

    def trajectories_frame(self, iteration: int | None = None) -> Any:
        """Returns the trajectories as a pandas data frame, a row for each; `skills` are the ids of those shown."""
        rows = []
        for one in self.trajectories(iteration):
            row: dict[str, Any] = {field.name: getattr(one.task, field.name) for field in fields(one.task)}
            row = {"task" if name == "id" else name: value for name, value in row.items()}
            row |= {"arm": one.arm, "index": one.index, "success": one.success, "score": one.score}
            row |= {"steps": len(one.turns), "invalid_actions": sum(not turn.admissible for turn in one.turns)}
            row |= {"skills": tuple(dict.fromkeys(id for turn in one.turns for id in turn.skills)), "fault": one.fault}
            rows.append(row)
        return _pandas().DataFrame(rows)

    @cached_property
    def bank(self) -> SkillBank:
        """The skill bank after the last checkpoint, to read: it takes no changes."""
        require_own_parts(self.folder, self.own, ("embedder",))
        return restore_bank(self.config, checkpoint.latest(self.folder), self.own.get("embedder"))

    @cached_property
    def policy(self) -> Policy:
        """The policy, as it was at the last checkpoint."""
        require_own_parts(self.folder, self.own, ("environment", "policy", "embedder"))
        return restore(self.config, checkpoint.latest(self.folder), **self.own)[0].policy

    def __repr__(self) -> str:
        said = "; ".join(f"{name}: {value}" for name, value in self._rows())
        return visible(f"<Run {shown_path(self.folder)}; {said}>")

    def _repr_html_(self) -> str:
        rows = [*self._rows(), ("folder", str(shown_path(self.folder)))]
        cells = "".join(f"<tr><th>{name}</th><td>{escape(visible(value))}</td></tr>" for name, value in rows)
        return f"<table><tbody>{cells}</tbody></table>"

    def _rows(self) -> list[tuple[str, str]]:
        """Returns the result in words: iterations, success of both arms, skills."""
        lines = self.metrics
        if not lines:
            return [("iterations", "none yet")]
        last, rows = lines[-1], []
        done = last["iteration"]
        rows.append(("iterations", f"{done}" if self._files.summary.exists() else f"{done} so far"))
        for name in ("with", "without"):
            found = [line[key] for line in lines if (key := f"validation/{name}_skills") in line]
            if found:
                rows.append((f"success {name} skills", f"{100 * found[-1]:.1f} %"))
        return [*rows, ("skills", f"{last['bank/task']} task, {last['bank/step']} step")]


def _pandas() -> Any:
    """Imports pandas; raises `ConfigError` without it."""
    try:
        import pandas
    except ImportError:
        raise ConfigError('data frames need the package pandas: pip install "d2skill[frames]"') from None
    return pandas
