"""`d2skill train` and `d2skill resume`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from d2skill import api
from d2skill.cli.output import JSON, Output, json_alone
from d2skill.config import Config
from d2skill.config.cli_flags import TRAIN_DESCRIPTION, parse_with
from d2skill.errors import D2SkillError, RunError
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.runs.run import Run
from d2skill.trackers.terminal import LiveDisplay, print_summary
from d2skill.utils.foreign_files import explained
from d2skill.utils.process_group import launched_processes
from d2skill.utils.terminal import Terminal

_RESUME_IF_BEGUN = (
    "resume_if_begun",
    Annotated[
        bool,
        tyro.conf.arg(help="Go on with the run in --out if it has begun, for a job that is queued again"),
        tyro.conf.FlagCreatePairsOff,
    ],
    False,
)


def train(arguments: list[str]) -> None:
    """Train a policy together with its skill bank; every setting is a flag."""
    with _only_first_process_prints():
        flags, config = parse_with(arguments, "d2skill train", TRAIN_DESCRIPTION, [JSON, _RESUME_IF_BEGUN])
        with json_alone(flags.json):
            folder = api.new_folder(config)
            again = flags.resume_if_begun
            displays = _displays(config, folder, goes_on=again)
            given = config.out if again else folder
            output = _output(api.train(config, trackers=displays, folder=given, resume_if_begun=again), folder)
        output.print(flags.json)


def resume(run: Positional[Path], processes: int | None = None, track: str | None = None) -> Output:
    """Go on with a run from its last checkpoint, as if it had never stopped.

    Its settings stay; for a longer run, begin one with more iterations.

    Args:
        run: Run folder.
        processes: Processes that play, of the scorer, as of `train`; the results do not depend on it.
        track: Trackers from now on, such as tensorboard,wandb; without it, those of the run.
    """
    with _only_first_process_prints():
        folder = RunFolder.open(run)
        displays = _displays(folder.config(), run, goes_on=True)
        trackers = None if track is None else [name.strip() for name in track.split(",") if name.strip()]
        return _output(api.resume(run, trackers=displays, processes=processes, track=trackers), run)
    raise SystemExit  # the others of several processes have nothing to print


def _displays(config: Config, run: Path, *, goes_on: bool) -> list[LiveDisplay]:
    """Returns the display of a run that begins or goes on, none for one that has ended, or has an output of its own."""
    console, folder = Terminal(), RunFolder(run)
    if config.engine == "verl":
        return []
    if not goes_on or not folder.has_begun():
        if folder.is_beginning():
            console.print(f"{run} holds only the beginning of a run: it begins again.", soft_wrap=True)
        return [LiveDisplay(config, console, run)]
    progress = checkpoint.read_progress(checkpoint.latest(run))
    if api.has_ended(folder, progress):
        console.print(f"{run} has ended; this is its summary.", soft_wrap=True)
        return []
    earlier = [line for line in folder.whole_metrics() if line["iteration"] <= progress.iteration]
    return [LiveDisplay(config, console, run, earlier)]


def _output(run: Run, folder: Path) -> Output:
    summary = run.summary
    bank = run.bank
    suspected = {"held": [skill.id for skill in bank.skills(status="held")], "flagged": bank.flagged()}

    def show() -> None:
        with explained(folder / "summary.json", RunError, "restore it from a copy"):
            print_summary(Terminal(), summary | suspected, run.metrics, bank.skills(), folder)

    return Output({"run": str(folder), **summary, **suspected}, show)


@contextmanager
def _only_first_process_prints() -> Iterator[None]:
    """Silences all but the first of several processes, mistakes of the user included."""
    if launched_processes() == 1 or os.environ.get("RANK", "0") == "0":
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except (D2SkillError, KeyboardInterrupt, SystemExit):
            return
