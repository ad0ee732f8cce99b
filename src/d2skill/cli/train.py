"""`d2skill train` and `d2skill resume`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from d2skill import api
from d2skill.cli.output import JSON, Output, json_alone
from d2skill.config.cli_flags import TRAIN_DESCRIPTION, parse_with
from d2skill.errors import D2SkillError
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.runs.run import Run
from d2skill.trackers.terminal import LiveDisplay, print_summary
from d2skill.utils.process_group import launched_processes


def train(arguments: list[str]) -> None:
    """Train a policy together with its skill bank; every setting is a flag."""
    with _only_first_process_prints():
        flags, config = parse_with(arguments, "d2skill train", TRAIN_DESCRIPTION, [JSON])
        with json_alone(flags.json):
            folder = api.new_folder(config)
            # verl has its own output
            displays = [] if config.engine == "verl" else [LiveDisplay(config, Console(), folder)]
            output = _output(api.train(config, trackers=displays, folder=folder), folder)
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
        config, console = folder.config(), Console()
        displays: list[LiveDisplay] = []
        if config.engine == "local":
            progress = checkpoint.read_progress(checkpoint.latest(run))
            if api.has_ended(folder, progress):
                console.print(f"{run} has ended; this is its summary.", highlight=False, soft_wrap=True)
            else:
                earlier = [line for line in Run(run).metrics if line["iteration"] <= progress.iteration]
                displays = [LiveDisplay(config, console, run, earlier)]
        trackers = None if track is None else [name.strip() for name in track.split(",") if name.strip()]
        return _output(api.resume(run, trackers=displays, processes=processes, track=trackers), run)
    raise SystemExit  # the others of several processes have nothing to print


def _output(run: Run, folder: Path) -> Output:
    summary = run.summary
    show = partial(print_summary, Console(), summary, run.metrics, run.bank.skills(), folder)
    return Output({"run": str(folder), **summary}, show)


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
