"""Runs: train and resume."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from threadpoolctl import threadpool_limits
from tyro.conf import Positional

from d2skill.bank import SkillBank
from d2skill.config import Config
from d2skill.config.cli_flags import parse_settings
from d2skill.embedders import make_embedder
from d2skill.errors import D2SkillError, RunError
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.trackers.terminal import LiveDisplay, print_summary
from d2skill.utils.atomic_files import read_json
from d2skill.utils.process_group import launched_processes


def train(arguments: list[str]) -> None:
    """Trains; the settings are flags, see `flags`."""
    with _first_speaks():
        config = found_from_anywhere(parse_settings(arguments, "d2skill train")).resolved()
        folder = config.out or Path("runs") / f"{_name(config.env.kind)}-{datetime.now():%Y%m%d-%H%M%S}"
        if config.engine == "verl":
            from d2skill.verl import launch

            with _writing(folder):
                _print_ended(launch.start(config, folder), folder)
            return
        from d2skill.components import Components
        from d2skill.data_parallel import Worker, joined, make_components, share
        from d2skill.trainer import Trainer

        with joined(config) as processes:
            components = make_components(processes, lambda: Components.make(config, check=processes.rank == 0))
            if processes.rank:
                Worker(processes, config, components).serve()
                return
            console = Console()
            components, rollouts = share(processes, config, components)
            with _writing(folder), at_full_speed(config), LiveDisplay(config, console) as display:
                summary = Trainer(config, folder, components, [display], rollouts).start()
        print_summary(console, summary, components.bank.skills(), folder)


def resume(run: Positional[Path]) -> None:
    """Go on with a run from its last checkpoint, as if it had never stopped.

    Args:
        run: Run folder.
    """
    from d2skill.components import restore
    from d2skill.data_parallel import Worker, joined, make_components, share
    from d2skill.trainer import Trainer

    with _first_speaks():
        folder = RunFolder.open(run)
        config = folder.config()
        if config.engine == "verl":
            from d2skill.verl import launch

            with _writing(run):
                _print_ended(launch.resume(run), run)
            return
        latest = checkpoint.latest(run)
        progress = checkpoint.read_progress(latest)
        with joined(config) as processes:
            components = make_components(processes, lambda: restore(config, latest)[0])
            if processes.rank:
                Worker(processes, config, components).serve()
                return
            console = Console()
            summary = read_json(folder.summary) if folder.summary.exists() else None
            if summary and summary["iterations"] == progress.iteration:
                console.print(f"{run} has ended; this is its summary.", highlight=False)
            else:
                console.print(f"Going on with {run} after iteration {progress.iteration}.", highlight=False)
                components, rollouts = share(processes, config, components)
                with _writing(run), at_full_speed(config), LiveDisplay(config, console) as display:
                    summary = Trainer(config, run, components, [display], rollouts).resume(progress)
        print_summary(console, summary, components.bank.skills(), run)


def _print_ended(summary: dict[str, Any], run: Path) -> None:
    """Prints the result of a run whose bank is in other hands."""
    bank = SkillBank.open(RunFolder(run).bank, make_embedder(RunFolder(run).config().embedder))
    print_summary(Console(), summary, bank.skills(), run)


def found_from_anywhere(config: Config) -> Config:
    """Returns settings with absolute paths, so that the run can be resumed from another folder."""
    return config.model_copy(
        update={
            "env": config.env.model_copy(update=_absolute(data=config.env.data, tasks=config.env.tasks)),
            "bank": config.bank.model_copy(update=_absolute(start=config.bank.start)),
        }
    )


def _absolute(**paths: Path | None) -> dict[str, Path]:
    return {name: path.absolute() for name, path in paths.items() if path is not None}


@contextmanager
def _first_speaks() -> Iterator[None]:
    """Lets the first of several processes alone say what there is to say, mistakes of the user included."""
    if launched_processes() == 1 or os.environ.get("RANK", "0") == "0":
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except (D2SkillError, KeyboardInterrupt, SystemExit):
            return


@contextmanager
def _writing(run: Path) -> Iterator[None]:
    """Says how to go on after an interruption, a full disk, or whatever else keeps a run's files from being written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{run} cannot be written ({error.strerror or error}): make room, and {_way_on(run)}") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_way_on(run)) from None


def _way_on(run: Path) -> str:
    """Says how to go on with a run that stopped; one without a checkpoint has left nothing behind."""
    return f"go on by `d2skill resume {run}`" if run.exists() else "start again, as there was no checkpoint yet"


@contextmanager
def at_full_speed(config: Config) -> Iterator[None]:
    """Sets the process up for the scorer, for as long as a run takes; for other policies as is.

    NumPy keeps to one core, as the products are too small to share. Python seldom looks for cycles to free: such a run
    makes hardly any, and looking for them after every 700 records took 15 % of its time.
    """
    if config.policy.kind != "scorer":
        yield
        return
    threshold = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        gc.set_threshold(*threshold)


def _name(kind: str) -> str:
    """Returns an environment's kind as part of a folder name."""
    return kind.rpartition(":")[2].lower()
