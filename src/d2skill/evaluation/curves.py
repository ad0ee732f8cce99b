"""What runs measured while they trained, and what groups of them, a method each, say of each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from d2skill.utils.statistics import Bounds, bounds, difference, mean_over_seeds

HEADLINE = 3
"""Evaluations, the last ones of a run, that its headline is the mean of."""

Axis = Literal["env_steps", "seconds"]

_NO_METHOD = ("seed", "out", "train.", "bank.wait", "embedder.cache")  # settings that say nothing of what is compared
_ROUNDING = 1e-9
_QUARTERS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation: when it was, and success with skills, in a run that shows none that without; and without."""

    iteration: int
    env_steps: int
    seconds: float
    success: float
    without: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The evaluations of a run, the first before training."""

    run: Path
    config: Config
    panel: tuple[str, ...]
    points: tuple[Point, ...]
    ended: bool

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config.seed

    @property
    def trained(self) -> tuple[Point, ...]:
        """The evaluations after training began, of which there is one at least."""
        return tuple(point for point in self.points if point.iteration)

    @property
    def headline(self) -> float:
        """Mean success of the last three evaluations."""
        return fmean(point.success for point in self.trained[-HEADLINE:])

    @property
    def without(self) -> float:
        """Mean success without skills of the last three evaluations."""
        return fmean(point.without for point in self.trained[-HEADLINE:])

    @property
    def best(self) -> float:
        """The best evaluation, which is luck in part: the more there are, the higher it is."""
        return max(point.success for point in self.trained)

    def at(self, axis: Axis, where: Sequence[float]) -> npt.NDArray[np.float64]:
        """Returns success at some places of an axis, on lines between the evaluations."""
        places = [getattr(point, axis) for point in self.points]
        return np.asarray(np.interp(where, places, [point.success for point in self.points]), dtype=np.float64)

    def mean_to(self, env_steps: float) -> float:
        """Returns the area under the curve up to some environment steps, over their number."""
        places = sorted({0.0, env_steps, *(float(p.env_steps) for p in self.points if p.env_steps < env_steps)})
        return float(np.trapezoid(self.at("env_steps", places), places) / env_steps)

    def reaches(self, level: float) -> Point | None:
        """Returns the first evaluation at or above a level, None if there is none."""
        return next((point for point in self.points if point.success >= level - _ROUNDING), None)

    def record(self) -> dict[str, Any]:
        """Returns what a report holds of it."""
        return {
            "run": str(self.run),
            "seed": self.seed,
            "headline": self.headline,
            "without_skills": self.without,
            "best_evaluation_not_comparable": self.best,
            "env_steps": self.points[-1].env_steps,
            "wall_seconds": self.points[-1].seconds,
            "ended": self.ended,
            "evaluations": [asdict(point) for point in self.points],
        }


@dataclass(frozen=True, slots=True)
class Series:
    """Runs of one method, a seed each."""

    name: str
    curves: tuple[Curve, ...]

    @property
    def headlines(self) -> dict[int, float]:
        """The headline of each seed."""
        return {curve.seed: curve.headline for curve in self.curves}


@dataclass(frozen=True, slots=True)
class Band:
    """Mean success of some runs along an axis, and what lies around it."""

    where: list[float]
    mean: list[float]
    shows: Bounds
    low: list[float]
    high: list[float]


def read_curve(run: Path) -> Curve:
    """Returns the evaluations of a run.

    Raises `RunError` for a folder that is no run, a run without an evaluation since training began, and a metrics.jsonl
    that is damaged.
    """
    folder = RunFolder.open(run)
    config = folder.config()
    try:
        lines = [line for line in folder.read_metrics() if "validation/without_skills" in line]
        points = tuple(_point(line, shows_skills=config.rollout.with_skills > 0) for line in lines)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder.metrics} is damaged ({type(error).__name__}: {error}): restore it from a copy, or leave {run} out"
        ) from None
    if not any(point.iteration for point in points):
        raise RunError(
            f"{run} has no evaluation since training began: go on with it by `d2skill resume {run}`, or leave it out"
        )
    panel = RunTasks.read(folder.tasks).validation.task_ids
    return Curve(run, config, panel, points, folder.summary.exists())


def _point(line: Mapping[str, Any], *, shows_skills: bool) -> Point:
    without = line["validation/without_skills"]
    success = line["validation/with_skills"] if shows_skills else without
    return Point(line["iteration"], line["env_steps"], line["time/seconds"], success, without)


def grouped(curves: Sequence[Curve], names: Sequence[str] = ()) -> list[Series]:
    """Returns the curves by method, in the order in which these come first; without names, named by what differs.

    A method is all settings but seed, folder, length of the run and what has no part in its result. Raises
    `ConfigError` for two runs of one method and seed, and for another number of names than groups.
    """
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        own = groups.setdefault(json.dumps(method(curve.config)), [])
        if twin := next((other for other in own if other.seed == curve.seed), None):
            raise ConfigError(
                f"{twin.run} and {curve.run} have the same settings and seed {curve.seed}, so they count once: "
                "leave one out"
            )
        own.append(curve)
    found = _named([json.loads(key) for key in groups])
    if names and len(names) != len(groups):
        raise ConfigError(f"--names has {len(names)} names for {len(groups)} groups of runs: {'; '.join(found)}")
    if len({*names}) < len(names):
        raise ConfigError("--names has a name twice: name each group of runs differently")
    return [Series(name, tuple(own)) for name, own in zip(names or found, groups.values(), strict=True)]


def method(config: Config) -> dict[str, Any]:
    """Returns the settings that decide what a run does, as "section.name": all but seed, folder and length."""
    return {name: value for name, value in flat(config).items() if not name.startswith(_NO_METHOD)}


def flat(config: Config) -> dict[str, Any]:
    """Returns all settings as "section.name"."""
    return _flat(config.model_dump(mode="json"))


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {path + name: value}
    return found


def _named(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a name for each method: the settings that it does not share with more than half of them."""
    if len(methods) == 1:
        return ["all runs"]
    told: list[list[str]] = [[] for _ in methods]
    for key in methods[0]:
        values = [json.dumps(one[key]) for one in methods]
        value, count = Counter(values).most_common(1)[0]
        usual = value if 2 * count > len(values) else None
        for own, one in zip(told, values, strict=True):
            if one != usual:
                own.append(f"{key}={json.loads(one)}")
    return [" ".join(own) or "base" for own in told]


def band(curves: Sequence[Curve], axis: Axis) -> Band:
    """Returns the mean of some curves where all of them have been, with the interval over seeds or what stands for it.

    See `bounds`.
    """
    first, last = (pick(getattr(c.points[i], axis) for c in curves) for pick, i in ((max, 0), (min, -1)))
    places = {getattr(point, axis) for curve in curves for point in curve.points}
    where = sorted(float(place) for place in places if first <= place <= last)
    values = np.stack([curve.at(axis, where) for curve in curves])
    shows, low, high = bounds(values)
    return Band(where, values.mean(axis=0).tolist(), shows, low, high)


def comparison(groups: Sequence[Series], level: float | None = None) -> dict[str, Any]:
    """Returns what groups of runs say of each other, the first being what the others are held against.

    Without a level to reach it is the lowest headline of a group.
    """
    estimates = [mean_over_seeds(list(series.headlines.values())) for series in groups]
    reach = min(one.mean for one in estimates) if level is None else level
    common = min(curve.points[-1].env_steps for series in groups for curve in series.curves)
    report: dict[str, Any] = {
        "version": version("d2skill"),
        "headline": f"mean of the last {HEADLINE} evaluations of each run",
        "level": reach,
        "common_env_steps": common,
        "groups": [],
        "notes": _notes(groups),
    }
    for number, (series, estimate) in enumerate(zip(groups, estimates, strict=True)):
        gap = difference(series.headlines, groups[0].headlines).record() if number else None
        report["groups"].append(
            {
                "name": series.name,
                "seeds": [curve.seed for curve in series.curves],
                "headline": estimate.record(),
                "difference": gap,
                "without_skills": mean_over_seeds([curve.without for curve in series.curves]).record(),
                "mean_to_common_env_steps": mean_over_seeds([c.mean_to(common) for c in series.curves]).record(),
                "at_env_steps": [_at(series.curves, round(share * common)) for share in _QUARTERS],
                "to_level": _to_level(series.curves, reach),
                "best_evaluation_not_comparable": fmean(curve.best for curve in series.curves),
                "by_env_steps": asdict(band(series.curves, "env_steps")),
                "by_seconds": asdict(band(series.curves, "seconds")),
                "runs": [curve.record() for curve in series.curves],
            }
        )
    return report


def _at(curves: Sequence[Curve], env_steps: int) -> dict[str, Any]:
    found = mean_over_seeds([float(curve.at("env_steps", [env_steps])[0]) for curve in curves])
    return {"env_steps": env_steps} | found.record()


def _to_level(curves: Sequence[Curve], level: float) -> dict[str, Any]:
    """Returns when runs are first at a level, means only if all get there: the mean of those that do would flatter."""
    reached = [point for curve in curves if (point := curve.reaches(level))]
    whole = len(reached) == len(curves)
    return {
        "reached": len(reached),
        "of": len(curves),
        "env_steps": fmean(point.env_steps for point in reached) if whole else None,
        "seconds": fmean(point.seconds for point in reached) if whole else None,
    }


def _notes(groups: Sequence[Series]) -> list[str]:
    """Returns what has to be known to read the numbers, a sentence each."""
    curves = [curve for series in groups for curve in series.curves]
    said = []
    if lone := [series.name for series in groups if len(series.curves) == 1]:
        said.append(f"One seed, so no interval over seeds: {', '.join(lone)}.")
    said += headline_notes(curves)
    for curve in curves:
        if not curve.ended:
            said.append(f"{curve.run} has not ended: its curve stops after iteration {curve.points[-1].iteration}.")
    other = [str(curve.run) for curve in curves if curve.panel != curves[0].panel]
    if other:
        said.append(f"Validated on other tasks than {curves[0].run}, so not comparable: {', '.join(other)}.")
    return said


def headline_notes(curves: Sequence[Curve]) -> list[str]:
    """Returns a sentence about runs that have fewer evaluations than a headline is the mean of."""
    short = [str(curve.run) for curve in curves if len(curve.trained) < HEADLINE]
    return [f"Fewer than {HEADLINE} evaluations, so a mean of those there are: {', '.join(short)}."] if short else []
