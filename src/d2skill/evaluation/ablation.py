"""The paper's ablation: eight rows of settings, a run for each row and seed, several at a time, resumed after a stop.

Runs are ordinary run folders, FOLDER/ROW-SEED, made by processes of their own. So an ablation has no state but these:
whoever begins it again skips the runs that have ended, resumes those that have a checkpoint and starts the others.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import Any, Literal

from pydantic import ValidationError

from d2skill.config import Config
from d2skill.config.toml_files import dump, explain
from d2skill.errors import ConfigError, RunError
from d2skill.evaluation.curves import HEADLINE, Curve, flat, headline_notes, read_curve
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.utils.atomic_files import write_text
from d2skill.utils.statistics import mean_over_seeds, paired

Row = dict[str, Any]
State = Literal["ended", "stopped", "new", "broken"]

ROWS: dict[str, Row] = {
    "full": {},
    "no-task-skills": {"retrieval.k_task": 0},
    "no-step-skills": {"retrieval.k_step": 0},
    "no-pruning": {"bank.task_capacity": 1_000_000, "bank.step_capacity": 1_000_000, "bank.retire": False},
    "no-baseline-group": {"rollout.with_skills": "rollout.group_size"},
    "no-utility-in-retrieval": {"retrieval.alpha": 1.0},
    "no-utility": {"retrieval.alpha": 1.0, "retrieval.eta": 0.0, "bank.worth": "none"},
    "no-skills": {"rollout.with_skills": 0},
}
"""The rows of the paper's table, as what they change; a text with a dot stands for that setting's value."""

_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 10.0
_STOPS = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an ablation, with its complete settings."""

    row: str
    folder: Path
    config: Config

    @property
    def name(self) -> str:
        """Row and seed, as the folder is named."""
        return self.folder.name

    @property
    def settings(self) -> Path:
        """Where the settings of the row are written, whatever the seed."""
        return self.folder.with_name(f"{self.row}.toml")

    @property
    def errors(self) -> Path:
        """Where the run writes its errors."""
        return self.folder.with_name(f"{self.name}.stderr")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: after so many seconds in this ablation, and with which error, "" without one."""

    run: Run
    seconds: float
    error: str


def settings_of(row: str, base: Config) -> Config:
    """Returns the settings of a row. Raises `ConfigError` if they contradict each other or change nothing."""
    values, known = base.model_dump(), flat(base)
    for path, given in ROWS[row].items():
        section, name = path.split(".")
        values[section][name] = known[given] if isinstance(given, str) and given in known else given
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"row {row}: {explain(error)}, or leave the row out by --rows") from None
    if ROWS[row] and config == base:
        raise ConfigError(f"row {row} is the same as full with these settings: leave it out by --rows")
    return config


def plan(base: Config, rows: Sequence[str], seeds: int, folder: Path) -> list[Run]:
    """Returns the runs of an ablation, seed by seed from that of the settings on, so that all rows advance together.

    Raises `ConfigError` for an unknown row, for none, for less than one seed, for settings that show no skills, and as
    `settings_of` does.
    """
    if unknown := [row for row in rows if row not in ROWS]:
        raise ConfigError(f'there is no row "{unknown[0]}": --rows takes {", ".join(ROWS)}')
    if not rows or len({*rows}) < len(rows):
        raise ConfigError(f"--rows takes each of some rows once, with commas between: {', '.join(ROWS)}")
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds} gives no run: it is the number of seeds, at least 1")
    if not base.rollout.with_skills:
        raise ConfigError(
            "rollout.with_skills is 0 in the settings, so no row would show skills: set it for the full row"
        )
    settings = {row: settings_of(row, base) for row in rows}
    return [
        Run(row, folder / f"{row}-{seed}", config.model_copy(update={"seed": seed, "out": None}).resolved())
        for seed in range(base.seed, base.seed + seeds)
        for row, config in settings.items()
    ]


def state_of(run: Run) -> State:
    """Returns how far a run is; "broken" is one of which nothing can be gone on with.

    Raises `RunError` if there is a run of other settings in its folder.
    """
    if not run.folder.exists():
        return "new"
    folder = RunFolder(run.folder)
    has_ended, can_go_on = folder.summary.exists(), bool(checkpoint.folders(run.folder))
    if not (run.folder / "config.toml").is_file() or not (has_ended or can_go_on):
        return "broken" if not run.folder.is_dir() or any(run.folder.iterdir()) else "new"
    found, wanted = flat(folder.config()), flat(run.config)
    for name in wanted:
        if name != "out" and found[name] != wanted[name]:
            raise RunError(
                f"{run.folder} was made with {name} {found[name]}, not {wanted[name]}: choose another --out, or give "
                "the settings that it was made with"
            )
    return "ended" if has_ended else "stopped"


@contextmanager
def claimed(folder: Path) -> Iterator[int]:
    """Keeps others from working in a folder; gives what runs have to inherit, so that one left alone keeps it claimed.

    Raises `RunError` if the folder is claimed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another `d2skill ablate`, or a run that one has left, is at work in {folder}: wait for it, or stop it"
            ) from None
        yield lock
    finally:
        os.close(lock)


def carry_out(runs: Sequence[Run], jobs: int, lock: int, tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Starts or resumes runs, at most `jobs` at a time, and tells of each that ends; returns those that failed.

    An interrupt, or a request of the system to end, stops all of them; they can be gone on with. It has to be called in
    the main thread, which is the one that is interrupted.
    """
    waiting, failed = deque(runs), list[Outcome]()
    at_work: dict[Run, tuple[subprocess.Popen[bytes], float]] = {}
    with _ended_as_if_interrupted():
        try:
            while waiting or at_work:
                while waiting and len(at_work) < jobs:
                    run = waiting.popleft()
                    at_work[run] = _start(run, lock), time.monotonic()
                ended = [run for run, (process, _) in at_work.items() if process.poll() is not None]
                for run in ended:
                    process, began = at_work.pop(run)
                    outcome = Outcome(run, time.monotonic() - began, _error(run, process.returncode))
                    failed += [outcome] if outcome.error else []
                    tell(outcome)
                if not ended:
                    time.sleep(_POLL_SECONDS)
        finally:
            _stop([process for process, _ in at_work.values()])
            for run in at_work:
                run.errors.unlink(missing_ok=True)
    return failed


def _start(run: Run, lock: int) -> subprocess.Popen[bytes]:
    """Starts or resumes a run. It leads a session of its own, so that what interrupts this process is not its end."""
    state = state_of(run)
    if state == "broken":
        _put_aside(run.folder)
    if state == "stopped":
        words = ["resume", str(run.folder)]
    else:
        write_text(run.settings, dump(run.config.model_copy(update={"seed": 0})))
        words = ["train", "--config", str(run.settings), "--seed", str(run.config.seed), "--out", str(run.folder)]
    with run.errors.open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "d2skill", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={"OMP_NUM_THREADS": "1"} | os.environ,
            start_new_session=True,
            pass_fds=[lock],
        )


def _put_aside(folder: Path) -> None:
    """Renames what is in the way of a run."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.aside-{number}")).exists():
        number += 1
    folder.rename(aside)


def _error(run: Run, status: int) -> str:
    """Returns what a run that failed said last, and where the rest is; "" for one that did not, whose file goes."""
    if status == 0:
        run.errors.unlink(missing_ok=True)
        return ""
    said = run.errors.read_text("utf-8", "replace").strip().splitlines()
    last = said[-1].removeprefix("d2skill: ") if said else f"it ended with status {status} and said nothing"
    return last if len(said) < 2 else f"{last} (all of it in {run.errors})"


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupts processes, which then tidy up; those that take too long are killed."""
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
def _ended_as_if_interrupted() -> Iterator[None]:
    """Makes an interrupt of what would end this process at once and leave its children alone."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {stop: signal.signal(stop, interrupt) for stop in _STOPS if signal.getsignal(stop) != signal.SIG_IGN}
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)


def report(runs: Sequence[Run], base: Config, failed: Sequence[Outcome], command: str) -> dict[str, Any]:
    """Returns what the runs of an ablation that have ended say: settings, raw numbers, and means with intervals."""
    curves: dict[str, dict[int, Curve]] = {run.row: {} for run in runs}
    bad = {outcome.run for outcome in failed}
    for run in runs:
        if run not in bad:
            curves[run.row][run.config.seed] = read_curve(run.folder)
    full = curves.get("full", {})
    ended = [curve for own in curves.values() for curve in own.values()]
    return {
        "version": version("d2skill"),
        "command": command,
        "headline": f"mean of the last {HEADLINE} evaluations of each run",
        "settings": base.model_dump(mode="json", exclude={"out"}),
        "seeds": sorted({run.config.seed for run in runs}),
        "rows": [_row(row, own, full) for row, own in curves.items()],
        "failed": [{"run": str(outcome.run.folder), "error": outcome.error} for outcome in failed],
        "notes": headline_notes(ended),
    }


def _row(row: str, curves: Mapping[int, Curve], full: Mapping[int, Curve]) -> dict[str, Any]:
    known: dict[str, Any] = {"row": row, "changes": ROWS[row], "runs": [_record(own) for own in curves.values()]}
    if not curves:
        return known | {"headline": None}
    headlines = {seed: curve.headline for seed, curve in curves.items()}
    gap = paired(headlines, {seed: curve.headline for seed, curve in full.items()}) if row != "full" else None
    last = [run["bank"] for run in known["runs"]]
    return known | {
        "headline": mean_over_seeds(list(headlines.values())).record(),
        "difference_to_full": gap.record() if gap else None,
        "without_skills": mean_over_seeds([curve.without for curve in curves.values()]).record(),
        "bank": {kind: fmean(bank[kind] for bank in last) for kind in ("task", "step")},
        "env_steps": fmean(curve.points[-1].env_steps for curve in curves.values()),
        "best_evaluation_not_comparable": fmean(curve.best for curve in curves.values()),
    }


def _record(curve: Curve) -> dict[str, Any]:
    line = RunFolder.open(curve.run).read_metrics()[-1]
    return curve.record() | {"bank": {kind: line[f"bank/{kind}"] for kind in ("task", "step")}}
