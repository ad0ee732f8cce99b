"""`d2skill train` and `d2skill resume`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from d2skill import api
from d2skill.config.cli_flags import parse_settings
from d2skill.errors import D2SkillError
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.trackers.terminal import LiveDisplay, print_summary
from d2skill.utils.process_group import launched_processes


def train(arguments: list[str]) -> None:
    """Trains; the settings are flags (`config.cli_flags`)."""
    with _only_first_process_prints():
        config = parse_settings(arguments, "d2skill train")
        console = Console()
        displays = [] if config.engine == "verl" else [LiveDisplay(config, console)]  # verl has its own output
        _print(console, api.train(config, displays))


def resume(run: Positional[Path], processes: int | None = None) -> None:
    """Go on with a run from its last checkpoint, as if it had never stopped.

    Args:
        run: Run folder.
        processes: Processes that play, of the scorer, as of `train`; the results do not depend on it.
    """
    with _only_first_process_prints():
        folder = RunFolder.open(run)
        config, console = folder.config(), Console()
        displays: list[LiveDisplay] = []
        if config.engine == "local":
            progress = checkpoint.read_progress(checkpoint.latest(run))
            if api.has_ended(folder, progress):
                console.print(f"{run} has ended; this is its summary.", highlight=False)
            else:
                console.print(f"Going on with {run} after iteration {progress.iteration}.", highlight=False)
                displays = [LiveDisplay(config, console)]
        _print(console, api.resume(run, displays, processes))


def _print(console: Console, run: api.FinishedRun) -> None:
    print_summary(console, run.summary, run.bank.skills(), run.folder)


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
