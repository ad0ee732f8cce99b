"""Evidence over seeds: ablate, compare."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from d2skill.cli.bank.tables import say, table_of
from d2skill.cli.train import found_from_anywhere
from d2skill.config import cli_flags
from d2skill.errors import ConfigError
from d2skill.evaluation import ablation, plots
from d2skill.evaluation.curves import comparison, grouped, read_curve
from d2skill.utils.atomic_files import write_json

_BEST = "best evaluation (not comparable)"
_INTERVALS = "After ± is half the 95 % interval over seeds; differences are paired by seed."
_WIDE = 1000

_ABLATE = """Train the paper's eight rows with several seeds each and set them side by side.

The rows: full; no task skills; no step skills; no pruning; no baseline group; no utility in retrieval; no utility at
all; no skills.

Settings are flags, as in train, and those of the full row; --seed is the first seed and --out the folder of all runs
(runs/ablation-ENV without it). The same command goes on after a stop: what has ended is not run again."""


def _own(name: str, kind: Any, default: Any, text: str) -> cli_flags.Field:
    return (name, Annotated[kind, tyro.conf.arg(help=text)], default)


_OWN = [
    _own("seeds", int, tyro.MISSING, "Number of seeds, so of runs of each row; without two there are no intervals"),
    _own("jobs", int | None, None, "Runs at a time, each on one core; without it, as many as there are cores"),
    _own("rows", str, ",".join(ablation.ROWS), "Rows to run, with commas between"),
]


def ablate(arguments: list[str]) -> None:
    """Trains rows and seeds and prints the table; the settings are flags, see `flags`. Status 1 if a run failed."""
    given, config = cli_flags.parse_with(arguments, "d2skill ablate", _ABLATE, _OWN)
    jobs = _cores() if given.jobs is None else given.jobs
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs} runs nothing: it is the number of runs at a time, at least 1")
    base = found_from_anywhere(config)
    folder = config.out or Path("runs") / f"ablation-{config.env.kind.rpartition(':')[2].lower()}"
    command = shlex.join(["d2skill", "ablate", *arguments])
    runs = ablation.plan(base, [row.strip() for row in given.rows.split(",") if row.strip()], given.seeds, folder)
    for run in runs:
        ablation.state_of(run)  # before anything is begun: settings of other runs are refused
    with ablation.claimed(folder) as lock:
        todo = [run for run in runs if ablation.state_of(run) != "ended"]
        say(f"{len(runs)} runs in {folder}, {len(runs) - len(todo)} of them ended; at most {jobs} at a time.")
        try:
            failed = ablation.carry_out(todo, jobs, lock, _Progress(len(todo), jobs).tell)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"go on by the same command, `{command}`") from None
        report = ablation.report(runs, base, failed, command)
        write_json(folder / "ablation.json", report)
        _print_rows(report)
        if plots.has_matplotlib():
            plots.plot_rows(report, folder / "ablation.svg")
            say(f"Plotted in {folder / 'ablation.svg'}, all numbers are in {folder / 'ablation.json'}.")
        else:
            say(f"All numbers are in {folder / 'ablation.json'}; {plots.NEEDED}.")
    if failed:
        say(f"{len(failed)} runs failed and are left out: {', '.join(outcome.run.name for outcome in failed)}.")
        sys.exit(1)


def compare(
    runs: Positional[tuple[Path, ...]],
    names: str | None = None,
    level: float | None = None,
    plot: Path | None = None,
    json: Path | None = None,
) -> None:
    """Set runs side by side: success against environment steps and wall time, over seeds.

    Runs whose settings differ in nothing but seed, folder and length are one group. The first is what others are held
    against.

    Args:
        runs: Run folders.
        names: Names of the groups, with commas between, in the order in which they come; else what they differ in.
        level: Share of success whose first time is told; without one, the lowest headline of a group.
        plot: File for a plot, in .svg, .png or .pdf.
        json: File for all numbers.
    """
    if not runs:
        raise ConfigError("there is nothing to compare: name run folders, `d2skill compare RUN RUN`")
    if level is not None and not 0 < level <= 1:
        raise ConfigError(f"--level {level} is no share of success: give one above 0 and up to 1")
    if plot is not None:
        plots.require_plots(plot)
    named = [name.strip() for name in names.split(",")] if names is not None else []
    report = comparison(grouped([read_curve(run) for run in runs], named), level)
    _print_groups(report)
    if json is not None:
        write_json(json, report)
    if plot is not None:
        plots.plot_curves(report, plot)


class _Progress:
    """Says how each run ended, how many are left, and about how long they take."""

    def __init__(self, runs: int, jobs: int) -> None:
        self._left, self._jobs = runs, jobs
        self._seconds: list[float] = []

    def tell(self, outcome: ablation.Outcome) -> None:
        """Prints the line of a run."""
        self._left -= 1
        self._seconds.append(outcome.seconds)
        more = f"{self._left} left"
        if self._left:
            more += f", about {_duration(fmean(self._seconds) * self._left / min(self._jobs, self._left))}"
        if outcome.error:
            say(f"{outcome.run.name} failed after {_duration(outcome.seconds)}: {outcome.error}; {more}")
        else:
            curve = read_curve(outcome.run.folder)
            success = f"{_percent(curve.headline)} %, without skills {_percent(curve.without)} %"
            say(f"{outcome.run.name}: {success}, after {_duration(outcome.seconds)}; {more}")


def _print_rows(report: Mapping[str, Any]) -> None:
    columns = ["row", "seeds", "success %", "to full", "without skills", "bank", "steps", _BEST]
    table = table_of(columns, ["row"])
    table.columns[0].no_wrap = True
    for row in report["rows"]:
        if row["headline"] is None:
            table.add_row(row["row"], "0")
            continue
        table.add_row(
            row["row"],
            str(row["headline"]["n"]),
            _shown(row["headline"]),
            _shown(row["difference_to_full"], "+"),
            _shown(row["without_skills"]),
            f"{row['bank']['task']:.0f} + {row['bank']['step']:.0f}",
            f"{row['env_steps']:,.0f}",
            _percent(row["best_evaluation_not_comparable"]),
        )
    _print_table(table)
    say(
        f"Success: {report['headline']}, with skills in all rows but no-skills. Bank: task + step skills. "
        "Steps: of the environment, in training.",
        _INTERVALS,
    )
    for note in (["One seed, so no interval over seeds."] if len(report["seeds"]) == 1 else []) + report["notes"]:
        say(note)


def _print_groups(report: Mapping[str, Any]) -> None:
    goal = f"{_percent(report['level'])} %"
    columns = [
        "group",
        "seeds",
        "success %",
        "to the first",
        "without skills",
        f"steps to {goal}",
        f"seconds to {goal}",
    ]
    table = table_of([*columns, _BEST], ["group"])
    curves = table_of(["success % at steps", *_steps(report), "mean up to there"], ["success % at steps"])
    for group in report["groups"]:
        reached = group["to_level"]
        partly = f"{reached['reached']} of {reached['of']} get there"
        table.add_row(
            group["name"],
            str(len(group["seeds"])),
            _shown(group["headline"]),
            _shown(group["difference"], "+"),
            _shown(group["without_skills"]),
            *(partly if when is None else f"{when:,.0f}" for when in (reached["env_steps"], reached["seconds"])),
            _percent(group["best_evaluation_not_comparable"]),
        )
        curves.add_row(
            group["name"],
            *(_shown(place) for place in group["at_env_steps"]),
            _shown(group["mean_to_common_env_steps"]),
        )
    _print_table(table)
    say(
        f"Success: {report['headline']}, with skills in runs that have them. Steps: of the environment, in training.",
        _INTERVALS,
        "",
    )
    _print_table(curves)
    if unpaired := [g["name"] for g in report["groups"] if g["difference"] and not g["difference"]["paired"]]:
        say(f"Other seeds than in the first group, so the difference is Welch's: {', '.join(unpaired)}.")
    for note in report["notes"]:
        say(note)


def _steps(report: Mapping[str, Any]) -> list[str]:
    return [f"{place['env_steps']:,}" for place in report["groups"][0]["at_env_steps"]]


def _print_table(table: Table) -> None:
    """Prints a table and cuts nothing off: a terminal gets more lines, a file longer ones."""
    for column in table.columns:
        column.overflow = "fold"
    console = Console()
    if not console.is_terminal:
        console = Console(
            width=max(console.width, console.measure(table, options=console.options.update(width=_WIDE)).maximum)
        )
    console.print(table)


def _shown(estimate: Mapping[str, Any] | None, sign: str = "") -> str:
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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
