"""Learning curves: the validations of runs while they trained, grouped by method and compared over seeds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from d2skill.config import Config
from d2skill.errors import ConfigError, RunError
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks
from d2skill.utils.foreign_text import command
from d2skill.utils.statistics import band_over_seeds, difference_over_seeds, mean_over_seeds
from d2skill.utils.text import short

HEADLINE = 3
"""Number of validations, the last ones of a run, whose mean is its headline."""

Axis = Literal["env_steps", "seconds"]

_NO_METHOD = (  # settings that are no part of a method
    *("seed", "out", "processes", "train.", "bank.wait", "embedder.cache"),
    *("env.folder", "policy.folder", "embedder.folder", "reflect.folder"),
)
_ROUNDING = 1e-9
_QUARTERS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One validation: its time, and success rates with and without skills.

    In a run that shows no skills, `success` is the rate without them.
    """

    iteration: int
    env_steps: int
    seconds: float
    success: float
    without: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The validations of one run, the first before training."""

    run: Path
    config: Config
    panel: tuple[str, ...]
    points: tuple[CurvePoint, ...]
    ended: bool

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config.seed

    @property
    def in_training(self) -> tuple[CurvePoint, ...]:
        """The validations after training began, at least one."""
        return tuple(point for point in self.points if point.iteration)

    @property
    def headline(self) -> float:
        """Mean success of the last validations."""
        return fmean(point.success for point in self.in_training[-HEADLINE:])

    @property
    def headline_without_skills(self) -> float:
        """Mean success without skills of the last validations."""
        return fmean(point.without for point in self.in_training[-HEADLINE:])

    @property
    def best(self) -> float:
        """Success of the best validation, which is partly luck: the more there are, the higher it is."""
        return max(point.success for point in self.in_training)

    def success_at(self, axis: Axis, places: Sequence[float]) -> npt.NDArray[np.float64]:
        """Returns the success at some places of an axis, interpolated linearly between the validations."""
        known = [getattr(point, axis) for point in self.points]
        return np.asarray(np.interp(places, known, [point.success for point in self.points]), dtype=np.float64)

    def mean_until(self, env_steps: float) -> float:
        """Returns the mean success from the start until some environment steps (area under the curve)."""
        places = sorted({0.0, env_steps, *(float(p.env_steps) for p in self.points if p.env_steps < env_steps)})
        return float(np.trapezoid(self.success_at("env_steps", places), places) / env_steps)

    def until(self, env_steps: int) -> Curve:
        """Returns the curve up to some environment steps, with the success there between the validations around."""
        kept = [point for point in self.points if point.env_steps <= env_steps]
        if len(kept) < len(self.points) and kept[-1].env_steps < env_steps:
            before, after = kept[-1], self.points[len(kept)]
            share = (env_steps - before.env_steps) / (after.env_steps - before.env_steps)
            between = {
                name: (1 - share) * getattr(before, name) + share * getattr(after, name)
                for name in ("seconds", "success", "without")
            }
            kept.append(CurvePoint(after.iteration, env_steps, **between))
        return replace(self, points=tuple(kept))

    def first_at(self, level: float) -> CurvePoint | None:
        """Returns the first validation with success at or above a level, None if there is none."""
        return next((point for point in self.points if point.success >= level - _ROUNDING), None)

    def record(self) -> dict[str, Any]:
        """Returns the curve as plain data for a report."""
        return {
            "run": str(self.run),
            "seed": self.seed,
            "headline": self.headline,
            "without_skills": self.headline_without_skills,
            "best_evaluation_not_comparable": self.best,
            "env_steps": self.points[-1].env_steps,
            "wall_seconds": self.points[-1].seconds,
            "ended": self.ended,
            "evaluations": [asdict(point) for point in self.points],
        }


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Runs of one method, one for each seed."""

    name: str
    curves: tuple[Curve, ...]

    @property
    def headlines(self) -> dict[int, float]:
        """Headlines by seed."""
        return {curve.seed: curve.headline for curve in self.curves}


def read_curve(run: Path) -> Curve:
    """Returns the validations of a run.

    Raises `RunError` for a folder that is no run, a run without a validation since training began, and a metrics.jsonl
    that is damaged.
    """
    folder = RunFolder.open(run)
    config = folder.config()
    success_key = "validation/with_skills" if config.rollout.with_skills else "validation/without_skills"
    try:
        points = tuple(
            CurvePoint(
                success=line[success_key],
                without=line["validation/without_skills"],
                iteration=line["iteration"],
                env_steps=line["env_steps"],
                seconds=line["time/seconds"],
            )
            for line in folder.read_metrics()
            if "validation/without_skills" in line
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder.metrics} is damaged ({type(error).__name__}: {error}): restore it from a copy, or leave {run} out"
        ) from None
    if not any(point.iteration for point in points):
        raise RunError(
            f"{run} has no evaluation since training began: go on with it by {command('resume', run)}, or leave it out"
        )
    panel = RunTasks.read(folder.tasks).validation.task_ids
    return Curve(run, config, panel, points, folder.summary.exists())


def group_by_method(curves: Sequence[Curve], names: Sequence[str] = ()) -> list[RunGroup]:
    """Returns the curves grouped by method, in the order in which the methods come first.

    A method is all settings but seed, folder, length of the run and those that do not change the result. Without names
    a group is named after the folders of its runs. Raises `ConfigError` for two runs of one method and seed, and
    for a wrong number of names.
    """
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        group = groups.setdefault(json.dumps(method_settings(curve.config)), [])
        if twin := next((other for other in group if other.seed == curve.seed), None):
            raise ConfigError(
                f"{twin.run} and {curve.run} have the same settings and seed {curve.seed}, so they count once: "
                "leave one out"
            )
        group.append(curve)
    made_up = _group_names(list(groups.values()))
    if names and len(names) != len(groups):
        raise ConfigError(
            f"--names has {len(names)} and needs {len(groups)}, one for each group of runs: {'; '.join(made_up)}"
        )
    if len({*names}) < len(names):
        raise ConfigError("--names has a name twice: name each group of runs differently")
    return [RunGroup(name, tuple(group)) for name, group in zip(names or made_up, groups.values(), strict=True)]


def method_settings(config: Config) -> dict[str, Any]:
    """Returns the settings that decide the result of a run, as "section.name": all but seed, folder and length."""
    return {name: value for name, value in flat_settings(config).items() if not name.startswith(_NO_METHOD)}


def flat_settings(config: Config) -> dict[str, Any]:
    """Returns all settings as "section.name"."""
    return _flatten(config.model_dump(mode="json"))


def changed_settings(there: Config, wanted: Config) -> str:
    """Returns the first setting of a run that is another one now, in words, "" if there is none.

    The folder and the number of processes are none of a run's method.
    """
    old, new = flat_settings(there), flat_settings(wanted)
    for name in old | new:
        before, now = old.get(name), new.get(name)
        if before != now and name not in ("out", "processes"):
            return f"{name} {short(before)}, not {short(now)}"
    return ""


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _group_names(groups: Sequence[Sequence[Curve]]) -> list[str]:
    """Returns a name for each group, what the folders of its runs have in common; the whole paths if that is no name.

    Runs full-0 and full-1 are full-*.
    """
    for parts in (1, 2, 3):
        named = [_common_name(["/".join(curve.run.parts[-parts:]) for curve in curves]) for curves in groups]
        if len({*named}) == len(named):
            return named
    return [", ".join(str(curve.run) for curve in curves) for curves in groups]


def _common_name(names: Sequence[str]) -> str:
    common = os.path.commonprefix(names)  # noqa: RUF071 - of letters
    return common if len(names) == 1 else f"{common}*" if common else f"{names[0]} and {len(names) - 1} more"


def mean_band(curves: Sequence[Curve], axis: Axis) -> dict[str, Any]:
    """Returns mean and band (`band_over_seeds`) of some curves, over the part of an axis that all of them reach."""
    first, last = (pick(getattr(c.points[i], axis) for c in curves) for pick, i in ((max, 0), (min, -1)))
    places = {getattr(point, axis) for curve in curves for point in curve.points}
    where = sorted(float(place) for place in places if first <= place <= last)
    values = np.stack([curve.success_at(axis, where) for curve in curves])
    kind, low, high = band_over_seeds(values)
    return {"where": where, "mean": values.mean(axis=0).tolist(), "shows": kind, "low": low, "high": high}


def compare_groups(groups: Sequence[RunGroup], level: float | None = None) -> dict[str, Any]:
    """Returns a comparison of groups of runs as plain data; differences are to the first group.

    All figures but the time to a level and the best evaluation are of equal environment steps: those that all runs
    reach. `level` is the success whose first time is reported; without it, the lowest headline of a group.
    """
    common = min(curve.points[-1].env_steps for group in groups for curve in group.curves)
    whole, groups = groups, [RunGroup(g.name, tuple(curve.until(common) for curve in g.curves)) for g in groups]
    estimates = [mean_over_seeds(list(group.headlines.values())) for group in groups]
    level = min(one.mean for one in estimates) if level is None else level
    report: dict[str, Any] = {
        "version": version("d2skill"),
        "headline": f"mean of the last {HEADLINE} evaluations of each run up to {common:,} environment steps",
        "level": level,
        "common_env_steps": common,
        "groups": [],
        "not_comparable": _not_comparable(whole),
        "notes": _notes(whole, common),
    }
    for number, (group, estimate) in enumerate(zip(groups, estimates, strict=True)):
        curves, whole_curves = group.curves, whole[number].curves
        gap = difference_over_seeds(group.headlines, groups[0].headlines).record() if number else None
        report["groups"].append(
            {
                "name": group.name,
                "seeds": [curve.seed for curve in curves],
                "headline": estimate.record(),
                "difference": gap,
                "without_skills": mean_over_seeds([c.headline_without_skills for c in curves]).record(),
                "mean_to_common_env_steps": mean_over_seeds([c.mean_until(common) for c in curves]).record(),
                "at_env_steps": [_mean_at(curves, round(share * common)) for share in _QUARTERS],
                "to_level": _time_to_level(whole_curves, level),
                "best_evaluation_not_comparable": fmean(curve.best for curve in whole_curves),
                "by_env_steps": mean_band(whole_curves, "env_steps"),
                "by_seconds": mean_band(whole_curves, "seconds"),
                "runs": [curve.record() for curve in whole_curves],
            }
        )
    return report


def _mean_at(curves: Sequence[Curve], env_steps: int) -> dict[str, Any]:
    mean = mean_over_seeds([float(curve.success_at("env_steps", [env_steps])[0]) for curve in curves])
    return {"env_steps": env_steps} | mean.record()


def _time_to_level(curves: Sequence[Curve], level: float) -> dict[str, Any]:
    """Returns how many runs reach a level, and their mean time if all do: the mean of some would flatter."""
    reached = [point for curve in curves if (point := curve.first_at(level))]
    all_reach = len(reached) == len(curves)
    return {
        "reached": len(reached),
        "of": len(curves),
        "env_steps": fmean(point.env_steps for point in reached) if all_reach else None,
        "seconds": fmean(point.seconds for point in reached) if all_reach else None,
    }


_MEASURE = ("env.", "validation.")  # settings that decide what a success rate is a rate of


def _not_comparable(groups: Sequence[RunGroup]) -> list[str]:
    """Returns what keeps groups from being compared with the first one, a sentence for each thing."""
    first, sentences = groups[0], []
    settings = [method_settings(group.curves[0].config) for group in groups]
    for group, own in zip(groups[1:], settings[1:], strict=True):
        follow = first.curves[0].config.following & group.curves[0].config.following
        other = [
            f"{name} {_shown(value)}, not {_shown(settings[0].get(name))}"
            for name, value in own.items()
            if value != settings[0].get(name) and name not in follow
        ]
        if measured := [text for text in other if text.startswith(_MEASURE)]:
            sentences.append(f"{group.name} is measured otherwise than {first.name}: {'; '.join(measured)}.")
        if len(trained := [text for text in other if text not in measured]) > 1:
            sentences.append(f"{group.name} differs from {first.name} in more than one setting: {'; '.join(trained)}.")
        if {*group.headlines} != {*first.headlines}:
            seeds = [", ".join(map(str, sorted(one.headlines))) for one in (group, first)]
            sentences.append(
                f"{group.name} has seeds {seeds[0]} and {first.name} {seeds[1]}, so the difference is not paired but "
                "Welch's."
            )
    curves = [curve for group in groups for curve in group.curves]
    if other := [str(curve.run) for curve in curves if curve.panel != curves[0].panel]:
        sentences.append(f"Validated on other tasks than {curves[0].run}: {', '.join(other)}.")
    return sentences


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _notes(groups: Sequence[RunGroup], common: int) -> list[str]:
    """Returns the caveats of a comparison up to some environment steps, a sentence each."""
    curves = [curve for group in groups for curve in group.curves]
    notes = []
    if single := [group.name for group in groups if len(group.curves) == 1]:
        notes.append(f"One seed, so no interval over seeds: {', '.join(single)}.")
    notes += headline_notes([curve.until(common) for curve in curves])
    for curve in curves:
        if not curve.ended:
            notes.append(f"{curve.run} has not ended: its curve stops after iteration {curve.points[-1].iteration}.")
    return notes


def headline_notes(curves: Sequence[Curve]) -> list[str]:
    """Returns a sentence about runs with fewer validations than a headline is the mean of, if there are any."""
    short = [str(curve.run) for curve in curves if len(curve.in_training) < HEADLINE]
    return [f"Fewer than {HEADLINE} evaluations, so a mean of those there are: {', '.join(short)}."] if short else []
