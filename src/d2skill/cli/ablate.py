"""`d2skill ablate` and `d2skill compare`: methods side by side, with intervals over seeds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from d2skill.cli.bank.tables import print_table, say, table_of
from d2skill.cli.output import JSON, Output, json_alone
from d2skill.config import cli_flags
from d2skill.errors import ConfigError
from d2skill.evaluation import plots
from d2skill.evaluation.ablation import VARIANTS, AblationRun, RunResult, run_ablation
from d2skill.evaluation.curves import HEADLINE, compare_groups, group_by_method, read_curve
from d2skill.utils.text import counted

_SUCCESS = f"success % (mean of the last {HEADLINE} validations)"
_BEST = "best evaluation (not comparable)"
_INTERVALS = "After ± is half the 95 % interval over seeds; differences are paired by seed."

_ABLATE_HELP = """Train the full method and reduced variants, with several seeds each, and set them side by side.

The paper's rows: full; no task skills; no step skills; no pruning; no baseline group; no utility in retrieval; no
utility at all; no skills. Consolidated skills are not ranked by utility, so with them the two on utility are left out.
Instead there are shown-once, advice that is not shown until it is done, and paper-skills.

Settings are flags, as in train, and those of the full row; --seed is the first seed and --out the folder of all runs
(runs/ablation-ENV without it). The same command goes on after a stop: runs that have ended are not run again."""


def _flag(name: str, kind: Any, default: Any, text: str) -> cli_flags.Field:
    return (name, Annotated[kind, tyro.conf.arg(help=text)], default)


_ABLATE_FLAGS = [
    _flag("seeds", int, tyro.MISSING, "Number of seeds, so of runs of each row; without two there are no intervals"),
    _flag("jobs", int | None, None, "Runs at a time, each on one core; without it, as many as there are cores"),
    _flag("rows", str | None, None, f"Rows to run, with commas between, of {','.join(VARIANTS)}"),
    JSON,
]


def ablate(arguments: list[str]) -> None:
    """Train the full method and variants of it with several seeds, and compare them; status 1 if a run failed."""
    flags, config = cli_flags.parse_with(arguments, "d2skill ablate", _ABLATE_HELP, _ABLATE_FLAGS)
    folder = config.out or Path("runs") / f"ablation-{config.env.kind.rpartition(':')[2].lower()}"
    command = shlex.join(["d2skill", "ablate", *arguments])
    progress = _Progress(folder)
    try:
        with json_alone(flags.json):
            report = run_ablation(
                config,
                folder,
                seeds=flags.seeds,
                variants=None if flags.rows is None else _split(flags.rows),
                jobs=flags.jobs,
                command=command,
                on_start=progress.start,
                on_result=progress.print_result,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on by the same command, `{command}`") from None
    failed = [Path(run["run"]).name for run in report["failed"]]

    def show() -> None:
        _print_rows(report)
        if plots.has_matplotlib():
            say(f"Plotted in {folder / 'ablation.svg'}, all numbers are in {folder / 'ablation.json'}.")
        else:
            say(f"All numbers are in {folder / 'ablation.json'}; {plots.NEEDS_MATPLOTLIB}.")
        if failed:
            were = "run failed and is" if len(failed) == 1 else "runs failed and are"
            say(f"{len(failed)} {were} left out: {', '.join(failed)}.")

    Output(report, show, status=bool(failed)).print(flags.json)


def compare(
    runs: Positional[tuple[Path, ...]],
    names: str | None = None,
    level: float | None = None,
    plot: Path | None = None,
) -> Output:
    """Set runs side by side at equal environment steps: success, and time to a level, over seeds.

    Runs whose settings differ only in seed, folder and length are one group, named after their folders. Differences are
    to the first group. Said first is what cannot be compared.

    Args:
        runs: Run folders.
        names: Names of the groups, with commas between, in their order; without it, the names of the folders.
        level: Success rate whose first time is reported; without one, the lowest headline of a group.
        plot: File for a plot, in .svg, .png or .pdf.
    """
    if not runs:
        raise ConfigError("there is nothing to compare: name run folders, `d2skill compare RUN RUN`")
    if level is not None and not 0 < level <= 1:
        raise ConfigError(f"--level {level} is no share of success: give one above 0 and up to 1")
    if plot is not None:
        plots.require_plottable(plot)
    given_names = [name.strip() for name in names.split(",")] if names is not None else []
    report = compare_groups(group_by_method([read_curve(run) for run in runs], given_names), level)
    if plot is not None:
        plots.plot_curves(report, plot)
    return Output(report, partial(_print_groups, report))


class _Progress:
    """Progress of an ablation: the end of each run, the number of those left, and about how long they take."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = self._jobs = 0
        self._seconds: list[float] = []

    def start(self, runs: Sequence[AblationRun], left: int, jobs: int) -> None:
        """Prints how many runs there are."""
        self._left, self._jobs = left, jobs
        ended = len(runs) - left
        say(f"{counted(len(runs), 'run')} in {self._folder}, {ended} of them ended; at most {jobs} at a time.")

    def print_result(self, result: RunResult) -> None:
        """Prints the line of a run that ended."""
        self._left -= 1
        self._seconds.append(result.seconds)
        more = f"{self._left} left"
        if self._left:
            more += f", about {_duration(fmean(self._seconds) * self._left / min(self._jobs, self._left))}"
        name, seconds = result.run.name, _duration(result.seconds)
        if result.error:
            say(f"{name} failed after {seconds}: {result.error}; {more}")
        else:
            curve = read_curve(result.run.folder)
            success, without = _percent(curve.headline), _percent(curve.headline_without_skills)
            say(f"{name}: {success} %, without skills {without} %, after {seconds}; {more}")


def _print_rows(report: Mapping[str, Any]) -> None:
    """Prints the table of an ablation."""
    columns = ["row", "seeds", _SUCCESS, "to full", "without skills", "bank", "steps", _BEST]
    table = table_of(columns, ["row"])
    for row in report["rows"]:
        if row["headline"] is None:
            table.add_row(row["row"], "0")
            continue
        table.add_row(
            row["row"],
            str(row["headline"]["n"]),
            _with_interval(row["headline"]),
            _with_interval(row["difference_to_full"], "+"),
            _with_interval(row["without_skills"]),
            f"{row['bank']['task']:.0f} + {row['bank']['step']:.0f}",
            f"{row['env_steps']:,.0f}",
            _percent(row["best_evaluation_not_comparable"]),
        )
    print_table(table)
    say(
        f"Success: {report['headline']}, with skills in all rows but no-skills. Bank: task + step skills. "
        "Steps: of the environment, in training.",
        _INTERVALS,
    )
    one_seed = ["One seed, so no interval over seeds."] if len(report["seeds"]) == 1 else []
    for note in [*one_seed, *_without_interval(report["rows"]), *report["notes"]]:
        say(note)


def _print_groups(report: Mapping[str, Any]) -> None:
    """Prints what cannot be compared, then two tables: headlines, and success along the environment steps."""
    for sentence in report["not_comparable"]:
        say(f"Not comparable: {sentence}")
    goal = f"{_percent(report['level'])} %"
    columns = ["group", "seeds", _SUCCESS, "to the first", "without skills", f"steps to {goal}"]
    table = table_of([*columns, f"seconds to {goal}", _BEST], ["group"])
    steps = [f"{place['env_steps']:,}" for place in report["groups"][0]["at_env_steps"]]
    curves = table_of(["success % at steps", *steps, "mean up to there"], ["success % at steps"])
    for group in report["groups"]:
        reached = group["to_level"]
        partly = f"{reached['reached']} of {reached['of']} get there"
        table.add_row(
            group["name"],
            str(len(group["seeds"])),
            _with_interval(group["headline"]),
            _with_interval(group["difference"], "+"),
            _with_interval(group["without_skills"]),
            *(partly if when is None else f"{when:,.0f}" for when in (reached["env_steps"], reached["seconds"])),
            _percent(group["best_evaluation_not_comparable"]),
        )
        curves.add_row(
            group["name"],
            *(_with_interval(place) for place in group["at_env_steps"]),
            _with_interval(group["mean_to_common_env_steps"]),
        )
    print_table(table)
    say(
        f"Success: {report['headline']}, with skills in runs that have them. Steps: of the environment, in training.",
        _INTERVALS,
        "",
    )
    print_table(curves)
    for note in [*_without_interval(report["groups"]), *report["notes"]]:
        say(note)


def _without_interval(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the note about means without an interval because all seeds gave the same, if there are any."""
    estimates = [one for row in rows for one in row.values() if isinstance(one, Mapping) and "ci95" in one]
    same = any(one["ci95"] is None and one["n"] > 1 for one in estimates)
    return ["No interval where all seeds gave the same: that does not tell how far others would be."] if same else []


def _with_interval(estimate: Mapping[str, Any] | None, sign: str = "") -> str:
    """Returns a mean in percent, with half its interval if there is one."""
    if estimate is None:
        return "-"
    mean = f"{100 * estimate['mean']:{sign}.1f}"
    ci = estimate["ci95"]
    return f"{mean} ±{100 * (ci[1] - ci[0]) / 2:.1f}" if ci else mean


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
