"""Ablation: the full method and its reduced variants, trained with several seeds each and compared (the paper's table).

Runs are ordinary run folders, FOLDER/VARIANT-SEED, each trained by a process of its own. An ablation has no other
state: begun again it skips the runs that have ended, resumes those with a checkpoint and starts the others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import Any, Literal

from filelock import lock_descriptor
from pydantic import ValidationError

from d2skill.config import Config
from d2skill.config.key_hosts import decide_keys
from d2skill.config.toml_files import dump, explain
from d2skill.errors import ConfigError, RunError
from d2skill.evaluation import plots
from d2skill.evaluation.curves import HEADLINE, Curve, changed_settings, flat_settings, headline_notes, read_curve
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.utils.atomic_files import write_json, write_text
from d2skill.utils.links import open_new, open_unlinked
from d2skill.utils.runtime import available_cores
from d2skill.utils.statistics import mean_over_seeds, paired_over_seeds

RunState = Literal["ended", "stopped", "new", "broken"]

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no-task-skills": {"retrieval.k_task": 0},
    "no-step-skills": {"retrieval.k_step": 0},
    "no-pruning": {"bank.task_capacity": 1_000_000, "bank.step_capacity": 1_000_000, "bank.retire": False},
    "no-baseline-group": {"rollout.with_skills": "rollout.group_size"},
    "no-utility-in-retrieval": {"retrieval.alpha": 1.0},
    "no-utility": {"retrieval.alpha": 1.0, "retrieval.eta": 0.0, "bank.worth": "none"},
    "no-skills": {"rollout.with_skills": 0},
    "shown-once": {"prompt.until_done": False},
    "paper-skills": {"bank.skills": "paper"},
}
"""Rows of the table, as changes of settings; a text with a dot stands for that setting's value."""
_LEFT_OUT = {
    "paper": ("shown-once", "paper-skills"),
    "consolidated": ("no-utility-in-retrieval", "no-utility"),
}
"""Rows that change nothing with each kind of skills: consolidated ones are not ranked by utility."""


def default_variants(base: Config) -> tuple[str, ...]:
    """Returns the rows that change something with the kind of skills in some settings."""
    return tuple(name for name in VARIANTS if name not in _LEFT_OUT[base.bank.skills])


_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 10.0
_STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True, slots=True)
class AblationRun:
    """One run of an ablation, with its complete settings."""

    variant: str
    folder: Path
    config: Config = field(hash=False)

    @property
    def name(self) -> str:
        """Variant and seed, which is the folder's name."""
        return self.folder.name

    @property
    def settings_file(self) -> Path:
        """File with the variant's settings, shared by its seeds."""
        return self.folder.with_name(f"{self.variant}.toml")

    @property
    def error_file(self) -> Path:
        """File with the error output of the run's process."""
        return self.folder.with_name(f"{self.name}.stderr")


@dataclass(frozen=True, slots=True)
class RunResult:
    """End of a run: seconds that it took in this ablation, and its error, "" without one."""

    run: AblationRun
    seconds: float
    error: str


def variant_config(variant: str, base: Config) -> Config:
    """Returns the settings of a variant. Raises `ConfigError` if they contradict each other or change nothing."""
    values, known = base.model_dump(), flat_settings(base)
    for path, value in VARIANTS[variant].items():
        section, name = path.split(".")
        values[section][name] = known[value] if isinstance(value, str) and value in known else value
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"row {variant}: {explain(error)}, or leave the row out by --rows") from None
    if VARIANTS[variant] and config == base:
        raise ConfigError(f"row {variant} is the same as full with these settings: leave it out by --rows")
    return config


def planned_runs(base: Config, variants: Sequence[str], seeds: int, folder: Path) -> list[AblationRun]:
    """Returns the runs of an ablation, seed by seed, so that all variants advance together.

    Args:
        base: Settings of the full method; its seed is the first one.
        variants: Names from `VARIANTS`, each once.
        seeds: Number of seeds, at least 1.
        folder: Folder of all runs.

    Raises:
        ConfigError: An argument is out of range, the settings show no skills, or as `variant_config` does.
    """
    if unknown := [name for name in variants if name not in VARIANTS]:
        raise ConfigError(f'there is no row "{unknown[0]}": --rows takes {", ".join(VARIANTS)}')
    if not variants or len({*variants}) < len(variants):
        raise ConfigError(f"--rows takes each of some rows once, with commas between: {', '.join(VARIANTS)}")
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds} gives no run: it is the number of seeds, at least 1")
    if not base.rollout.with_skills:
        raise ConfigError(
            "rollout.with_skills is 0 in the settings, so no row would show skills: set it for the full row"
        )
    configs = {variant: variant_config(variant, base) for variant in variants}
    return [
        AblationRun(
            variant, folder / f"{variant}-{seed}", config.model_copy(update={"seed": seed, "out": None}).resolved()
        )
        for seed in range(base.seed, base.seed + seeds)
        for variant, config in configs.items()
    ]


def run_ablation(
    base: Config,
    folder: Path,
    *,
    seeds: int,
    variants: Sequence[str] | None = None,
    jobs: int | None = None,
    command: str = "",
    on_start: Callable[[Sequence[AblationRun], int, int], None] = lambda runs, left, jobs: None,
    on_result: Callable[[RunResult], None] = lambda result: None,
) -> dict[str, Any]:
    """Trains the variants that have not ended, writes ablation.json and, with matplotlib, ablation.svg.

    An interrupt, or a signal to end, stops all runs; the same call goes on with them. Call it in the main thread, which
    is the one that is interrupted.

    Args:
        base: Settings of the full method; its seed is the first one.
        folder: Folder of all runs.
        seeds: Number of seeds, so of runs of each variant; with one there are no intervals.
        variants: Names from `VARIANTS`; without it, those of `default_variants`.
        jobs: Runs at a time, each on one core; without it, as many as there are cores.
        command: Command line that is noted in the report.
        on_start: Called first, with all runs, the number of those left to do, and the jobs.
        on_result: Called at the end of each run.

    Returns:
        The report, which ablation.json holds: settings, raw numbers, means with intervals, and runs that failed.

    Raises:
        ConfigError: As `planned_runs` does.
        RunError: The folder holds a run of other settings, or is in use.
    """
    jobs = available_cores() if jobs is None else jobs
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs} runs nothing: it is the number of runs at a time, at least 1")
    decide_keys(base)
    runs = planned_runs(base, default_variants(base) if variants is None else variants, seeds, folder)
    for run in runs:
        run_state(run)  # before anything is begun, runs of other settings are refused
    with claim_folder(folder) as lock:
        waiting = [run for run in runs if run_state(run) != "ended"]
        on_start(runs, len(waiting), jobs)
        failed = _train(waiting, jobs, lock, on_result)
        report = _report(runs, base, failed, command)
        write_json(folder / "ablation.json", report)
        if plots.has_matplotlib():
            plots.plot_ablation(report, folder / "ablation.svg")
    return report


def run_state(run: AblationRun) -> RunState:
    """Returns the state of a run; a "broken" one has a folder that cannot be resumed.

    Raises `RunError` if there is a run of other settings in its folder.
    """
    if not run.folder.exists():
        return "new"
    folder = RunFolder(run.folder)
    has_ended, can_resume = folder.summary.exists(), bool(checkpoint.folders(run.folder))
    if not (run.folder / "config.toml").is_file() or not (has_ended or can_resume):
        new = run.folder.is_dir() and (folder.is_beginning() or not any(run.folder.iterdir()))
        return "new" if new else "broken"
    if changed := changed_settings(folder.config(), run.config):
        raise RunError(
            f"{run.folder} was made with {changed}: choose another --out, or give the settings that it was made with"
        )
    return "ended" if has_ended else "stopped"


@contextmanager
def claim_folder(folder: Path) -> Iterator[int]:
    """Locks a folder against other ablations; raises `RunError` if it is locked.

    Yields the lock's file descriptor, for runs to inherit: one that outlives this process keeps the folder locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = open_unlinked(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        if not lock_descriptor(lock, blocking=False):
            raise RunError(
                f"another `d2skill ablate`, or a run that one has left, is at work in {folder}: wait for it, or stop it"
            )
        yield lock
    finally:
        os.close(lock)


def _train(
    runs: Sequence[AblationRun], jobs: int, lock: int, on_result: Callable[[RunResult], None]
) -> list[RunResult]:
    """Starts or resumes runs, at most `jobs` at a time, and returns the results of those that failed."""
    waiting, failed = deque(runs), list[RunResult]()
    running: dict[AblationRun, tuple[subprocess.Popen[bytes], float]] = {}
    with _stop_signals_interrupt():
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    run = waiting.popleft()
                    running[run] = _start(run, lock), time.monotonic()
                ended = [run for run, (process, _) in running.items() if process.poll() is not None]
                for run in ended:
                    process, began = running.pop(run)
                    result = RunResult(run, time.monotonic() - began, _error(run, process.returncode))
                    failed += [result] if result.error else []
                    on_result(result)
                if not ended:
                    time.sleep(_POLL_SECONDS)
        finally:
            _stop([process for process, _ in running.values()])
            for run in running:
                run.error_file.unlink(missing_ok=True)
    return failed


def _start(run: AblationRun, lock: int) -> subprocess.Popen[bytes]:
    """Starts or resumes a run in a process session of its own, so that Ctrl-C here does not reach it directly."""
    state = run_state(run)
    if state == "broken":
        _move_aside(run.folder)
    if state == "stopped":
        arguments = ["resume", str(run.folder)]
    else:
        write_text(run.settings_file, dump(run.config.model_copy(update={"seed": 0})))
        settings = ["--config", str(run.settings_file), "--seed", str(run.config.seed)]
        arguments = ["train", *settings, "--out", str(run.folder)]
    with open_new(run.error_file) as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "d2skill", *arguments, "--processes", "1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={"OMP_NUM_THREADS": "1"} | os.environ,
            start_new_session=True,
            pass_fds=[lock],
        )


def _move_aside(folder: Path) -> None:
    """Renames a folder that is in the way of a run."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.aside-{number}")).exists():
        number += 1
    folder.rename(aside)


def _error(run: AblationRun, status: int) -> str:
    """Returns the last line of a failed run's errors and their file; "" for a success, whose file is removed."""
    if status == 0:
        run.error_file.unlink(missing_ok=True)
        return ""
    lines = run.error_file.read_text("utf-8", "replace").strip().splitlines()
    last = lines[-1].removeprefix("d2skill: ") if lines else f"it ended with status {status} and said nothing"
    return last if len(lines) < 2 else f"{last} (all of it in {run.error_file})"


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupts processes, so that they can tidy up, and kills those that take too long."""
    try:
        for process in processes:
            process.send_signal(signal.SIGINT)
        until = time.monotonic() + _PATIENCE_SECONDS
        while any(process.poll() is None for process in processes) and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def _stop_signals_interrupt() -> Iterator[None]:
    """Turns signals that would end this process at once, and leave its children alone, into `KeyboardInterrupt`."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt)
        for number in _STOP_SIGNALS
        if signal.getsignal(number) == signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(runs: Sequence[AblationRun], base: Config, failed: Sequence[RunResult], command: str) -> dict[str, Any]:
    """Returns the results of an ablation as plain data; runs that have not failed have ended."""
    curves: dict[str, dict[int, Curve]] = {run.variant: {} for run in runs}
    left_out = {result.run for result in failed}
    for run in runs:
        if run not in left_out:
            curves[run.variant][run.config.seed] = read_curve(run.folder)
    full = curves.get("full", {})
    paths = base.resolved()
    base = base.model_copy(update={"env": paths.env, "bank": paths.bank})
    return {
        "version": version("d2skill"),
        "command": command,
        "headline": f"mean of the last {HEADLINE} evaluations of each run",
        "settings": base.model_dump(mode="json", exclude={"out"}),
        "seeds": sorted({run.config.seed for run in runs}),
        "rows": [_row(variant, by_seed, full) for variant, by_seed in curves.items()],
        "failed": [{"run": str(result.run.folder), "error": result.error} for result in failed],
        "notes": headline_notes([curve for by_seed in curves.values() for curve in by_seed.values()]),
    }


def _row(variant: str, curves: Mapping[int, Curve], full: Mapping[int, Curve]) -> dict[str, Any]:
    """Returns one variant's row of the report, from its curves and those of the full method, by seed."""
    runs = [_run_record(curve) for curve in curves.values()]
    row: dict[str, Any] = {"row": variant, "changes": VARIANTS[variant], "runs": runs}
    if not curves:
        return row | {"headline": None}
    headlines = {seed: curve.headline for seed, curve in curves.items()}
    full_headlines = {seed: curve.headline for seed, curve in full.items()}
    gap = paired_over_seeds(headlines, full_headlines) if variant != "full" else None
    return row | {
        "headline": mean_over_seeds(list(headlines.values())).record(),
        "difference_to_full": gap.record() if gap else None,
        "without_skills": mean_over_seeds([curve.headline_without_skills for curve in curves.values()]).record(),
        "bank": {kind: fmean(run["bank"][kind] for run in runs) for kind in ("task", "step")},
        "env_steps": fmean(curve.points[-1].env_steps for curve in curves.values()),
        "best_evaluation_not_comparable": fmean(curve.best for curve in curves.values()),
    }


def _run_record(curve: Curve) -> dict[str, Any]:
    last = RunFolder.open(curve.run).read_metrics()[-1]
    return curve.record() | {"bank": {kind: last[f"bank/{kind}"] for kind in ("task", "step")}}
