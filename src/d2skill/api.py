"""Training from Python: `train` begins a run, `resume` goes on with one; the command line calls the same functions.

    from d2skill import load_config, train
    run = train(load_config("laptop"))
    run.summary["validation"]["with_skills"]["success"]

An engine trains: `local` on this machine, alone or in the processes of a launcher, or `verl` on a cluster.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Unpack

from d2skill.components import Components, OwnParts, own_classes, require_own_parts, restore
from d2skill.config import Config
from d2skill.config.key_hosts import decide_keys
from d2skill.config.overrides import load_config
from d2skill.config.toml_files import read_settings
from d2skill.data_parallel import Worker, joined_processes, make_components, split_work
from d2skill.errors import BankError, ConfigError, RunError
from d2skill.evaluation.curves import changed_settings
from d2skill.protocols import Tracker
from d2skill.runs import checkpoint
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.runs.run import Run
from d2skill.trackers import make_trackers
from d2skill.trainer import Callback, Trainer, require_listeners
from d2skill.utils.arguments import path_of, whole_of
from d2skill.utils.foreign_text import command, logger, shown_path
from d2skill.utils.text import short
from d2skill.worker_rollouts import rollout_workers

_log = logger(__name__)


def train(
    config: Config,
    *,
    folder: Path | str | None = None,
    trackers: Sequence[Tracker] = (),
    callbacks: Sequence[Callback] = (),
    resume_if_begun: bool = False,
    **own: Unpack[OwnParts],
) -> Run:
    """Trains a policy together with its skill bank, in the new run folder `config.out`.

    Without `out` the folder is runs/ENVIRONMENT-DATE-TIME. In the processes of a launcher the first one trains and
    reports; in the others this exits once the first has ended.

    >>> import d2skill
    >>> small = {"train": {"iterations": 2}, "warm_start": {"tasks": 10}, "validation": {"tasks": 4}}
    >>> config = d2skill.load_config("laptop", out="run", **small)
    >>> run = d2skill.train(config)
    >>> run.summary["iterations"], len(run.metrics)
    (2, 3)

    Args:
        config: Settings (`load_config`).
        folder: Run folder in place of `config.out`.
        trackers: Objects that are told the metrics of each iteration, beside the trackers that `config.track` names;
            engine verl takes only those.
        callbacks: Functions to call after each iteration with the trainer, the metrics and the groups of trajectories.
            One may add metrics, or end the run by `trainer.stop()`; an error of one ends it as well, and the run can be
            resumed from there.
        resume_if_begun: Whether to go on with a run of the same settings that is in the folder, for a job that is
            queued again.
        own: Objects of one's own in place of what the settings would make: `environment`, `policy`, `reflector`,
            `embedder` (docs/python.md). With another part than a reflector, one process plays.

    Raises:
        ConfigError: Settings that cannot work.
        DataError: Broken files of an environment.
        RunError: The folder is in use or cannot be written.
    """
    if not isinstance(config, Config):
        raise ConfigError(f"config is {short(config)}: make settings by d2skill.load_config(...)")
    decide_keys(config)
    require_listeners(trackers, callbacks)
    if resume_if_begun and not (folder or config.out):
        raise ConfigError("to go on with a run that has begun needs its folder: give it by --out")
    folder = path_of(folder or new_folder(config, **own), "a run folder", RunError).absolute()
    config = config.resolved()
    if resume_if_begun and RunFolder(folder).has_begun():
        if changed := changed_settings(RunFolder(folder).config().resolved(), config):
            raise RunError(
                f"{shown_path(folder)} was begun with {changed}: choose another --out, or give the settings that it "
                "was begun with"
            )
        return resume(folder, trackers=trackers, processes=config.processes, callbacks=callbacks, **own)
    named = make_trackers(config, folder)
    if config.engine == "verl":
        _require_none(callbacks, own)
        from d2skill.verl import launch

        with _says_how_to_go_on(folder), _names_full_disk(folder):
            launch.start(config, folder)
        return Run(folder)
    return _train_locally(config, folder, [*named, *trackers], callbacks, own)


def new_folder(config: Config, **own: Unpack[OwnParts]) -> Path:
    """Returns the folder for a run that begins now: `config.out`, or a new one by environment, date and time."""
    name = f"{_folder_name(config, own)}-{datetime.now():%Y%m%d-%H%M%S}"
    more = (Path("runs") / f"{name}-{number}" for number in count(2))  # several runs may begin in one second
    return config.out or next(folder for folder in chain([Path("runs") / name], more) if not folder.exists())


def resume(
    run: Run | Path | str,
    *,
    trackers: Sequence[Tracker] = (),
    processes: int | None = None,
    track: Sequence[str] | None = None,
    callbacks: Sequence[Callback] = (),
    **own: Unpack[OwnParts],
) -> Run:
    """Goes on with a run from its last checkpoint, as if it had never stopped; a run that has ended is only read.

    One that was stopped before its first checkpoint begins again, with its settings.

    >>> import d2skill
    >>> small = {"train": {"iterations": 2}, "warm_start": {"tasks": 10}, "validation": {"tasks": 4}}
    >>> config = d2skill.load_config("laptop", out="run", **small)
    >>> with d2skill.Trainer(config, "run") as trainer:
    ...     metrics = trainer.step()  # and leave before the end
    >>> d2skill.resume("run").summary["iterations"]
    2

    Args:
        run: A run or its folder.
        trackers: See `train`.
        processes: Processes that play; the number may be another one than before, as `Config.processes` says.
        track: Trackers to use from now on (`Config.track`); without it, those of the run.
        callbacks: See `train`.
        own: The parts of one's own that the run was trained with, if any; a `Run` that still has them need not be given
            them again.

    Raises:
        RunError: The folder is not a run or has no checkpoint, or a part of one's own is missing.
        ConfigError: As `train` does, and so DataError.
    """
    if isinstance(run, Run):
        own = OwnParts(**{**run.own, **own})
    require_listeners(trackers, callbacks)
    processes = processes and whole_of(processes, "processes", 1)
    run = path_of(run, "a run folder", RunError).absolute()
    folder = RunFolder.open(run)
    config = folder.config()
    if track is not None:
        config = config.model_copy(update={"track": load_config(track=track).track})
    if folder.is_beginning():
        require_own_parts(run, own)
        config = config.model_copy(update={"processes": processes})
        return train(config, folder=run, trackers=trackers, callbacks=callbacks, **own)
    latest = checkpoint.latest(run)
    _warn_of_edits(config, latest)
    named = make_trackers(config, run)
    if track is not None:
        folder.write_config(config)
    if config.engine == "verl":
        _require_none(callbacks, own)
        from d2skill.verl import launch

        with _says_how_to_go_on(run), _names_full_disk(run):
            launch.resume(run)
        return Run(run)
    if has_ended(folder, checkpoint.read_progress(latest)):
        return Run(run, **own)
    require_own_parts(run, own)
    config = config.model_copy(update={"processes": processes})
    return _train_locally(config, run, [*named, *trackers], callbacks, own, latest)


def _warn_of_edits(config: Config, latest: Path) -> None:
    """Warns if the settings of a run are not those that it had at a checkpoint."""
    written = latest / "config.toml"
    if not written.exists():  # of an earlier version
        return
    then = read_settings(written)
    if changed := changed_settings(then, config.model_copy(update={"track": then.track})):
        _log.warning(
            "%s was edited: until now the run had %s; it goes on with the new value, and is no run of either alone",
            *(shown_path(latest.parents[1]) / "config.toml", changed),
        )


def has_ended(folder: RunFolder, progress: Progress) -> bool:
    """Returns True if a run, whose last checkpoint is at `progress`, has nothing left to do."""
    return folder.summary.exists() and bool(folder.read_summary()["iterations"] == progress.iteration)


def _train_locally(
    config: Config,
    folder: Path,
    trackers: Sequence[Tracker],
    callbacks: Sequence[Callback],
    own: OwnParts,
    latest: Path | None = None,
) -> Run:
    """Trains on this machine.

    Args:
        config: Settings of the run; the number of processes is not recorded, as the results do not depend on it.
        folder: Run folder.
        trackers: Receivers of the metrics.
        callbacks: Functions to call after each iteration.
        own: Parts of one's own; other processes cannot make an environment, a policy or an embedder again.
        latest: The checkpoint to go on from; without one the run begins.
    """
    if alone := sorted(own_classes(own).keys() - {"reflector"}):
        if (config.processes or 1) > 1:
            raise ConfigError(
                f"processes is {config.processes}, but the {alone[0]} is an object of your own, which other processes "
                "do not have: leave processes out"
            )
        config = config.model_copy(update={"processes": 1})
    recorded = config.model_copy(update={"processes": None})
    with _says_how_to_go_on(folder), joined_processes(config) as processes, rollout_workers(config, latest) as workers:
        check, progress = processes.rank == 0, latest and checkpoint.read_progress(latest)
        components = make_components(
            processes,
            lambda: restore(config, latest, **own)[0] if latest else Components.make(config, check, **own),
        )
        if processes.rank:
            Worker(processes, config, components).serve()
        else:
            components, rollouts = split_work(processes, config, components, workers)
            with _names_full_disk(folder):
                trainer = Trainer(recorded, folder, components, trackers, rollouts, callbacks)
                trainer.resume(progress) if progress else trainer.start()
    if processes.rank:
        raise SystemExit
    return Run(folder, components.bank, **own)


def _require_none(callbacks: Sequence[Callback], own: OwnParts) -> None:
    """Raises `ConfigError` for what only this process has, as engine verl trains in others."""
    if given := ["callbacks"] * bool(callbacks) + sorted(own_classes(own)):
        raise ConfigError(f"engine verl trains in other processes and takes no {given[0]}: set engine to local")


@contextmanager
def _names_full_disk(run: Path) -> Iterator[None]:
    """Turns an error of a disk that is full or fails into how to go on with the run."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{shown_path(run)} cannot be written ({error.strerror or error}): make room, and {_way_on(run)}"
        ) from error
    except BankError as error:
        if not isinstance(error.__context__, sqlite3.OperationalError):  # the disk, as the journal met it
            raise
        raise BankError(f"{error}; then {_way_on(run)}") from error


@contextmanager
def _says_how_to_go_on(run: Path) -> Iterator[None]:
    """Adds to an interruption how to go on with the run."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_way_on(run)) from None


def _way_on(run: Path) -> str:
    """Returns how to go on with a run that stopped; one without a checkpoint has left nothing behind."""
    if not checkpoint.folders(run):
        return "start again, as there was no checkpoint yet"
    done = checkpoint.read_progress(checkpoint.latest(run)).iteration
    return f"go on by {command('resume', shown_path(run))}, after the checkpoint of iteration {done}"


def _folder_name(config: Config, own: OwnParts) -> str:
    """Returns the kind of an environment as part of a folder name."""
    return own_classes(own).get("environment", config.env.kind).rpartition(":")[2].rpartition(".")[2].lower()
