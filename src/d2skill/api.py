"""Training from Python: `train` begins a run, `resume` goes on with one; the command line calls the same functions.

    from d2skill import Config, train
    run = train(Config())
    run.summary["validation"]["with_skills"]["success"]

An engine trains: `local` on this machine, alone or in the processes of a launcher, or `verl` on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from d2skill.bank import SkillBank
from d2skill.components import Components, restore
from d2skill.config import Config
from d2skill.data_parallel import Worker, joined_processes, make_components, split_work
from d2skill.embedders import make_embedder
from d2skill.errors import RunError
from d2skill.protocols import Tracker
from d2skill.runs import checkpoint
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.trainer import Trainer
from d2skill.utils.atomic_files import read_json
from d2skill.worker_rollouts import rollout_workers


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that has ended: its folder, its summary (docs/metrics.md) and its skill bank."""

    folder: Path
    summary: dict[str, Any]
    bank: SkillBank


def train(config: Config, trackers: Sequence[Tracker] = ()) -> FinishedRun:
    """Trains a policy together with its skill bank, in the new run folder `config.out`.

    Without `out` the folder is runs/ENVIRONMENT-DATE-TIME. `trackers` are told the metrics of each iteration; engine
    verl has trackers of its own and takes none here. In the processes of a launcher the first one trains and reports;
    in the others this exits once the first has ended.

    Raises `ConfigError` for settings that cannot work, `DataError` for an environment's broken files, and `RunError`
    when the folder is in use or cannot be written.
    """
    folder = config.out or Path("runs") / f"{_folder_name(config.env.kind)}-{datetime.now():%Y%m%d-%H%M%S}"
    config = config.resolved()
    if config.engine == "verl":
        from d2skill.verl import launch

        with _says_how_to_go_on(folder):
            return _read_back(folder, launch.start(config, folder))
    return _train_locally(
        config,
        folder,
        trackers,
        lambda is_first: Components.make(config, check=is_first),
        lambda trainer: trainer.start(),
    )


def resume(run: Path | str, trackers: Sequence[Tracker] = (), processes: int | None = None) -> FinishedRun:
    """Goes on with a run from its last checkpoint, as if it had never stopped; a run that has ended is only read.

    The number of `processes` may be another one than before, as `Config.processes` says.

    Raises `RunError` when the folder is not a run or has no checkpoint, and as `train` does.
    """
    run = Path(run)
    folder = RunFolder.open(run)
    config, latest = folder.config().model_copy(update={"processes": processes}), checkpoint.latest(run)
    if config.engine == "verl":
        from d2skill.verl import launch

        with _says_how_to_go_on(run):
            return _read_back(run, launch.resume(run))
    progress = checkpoint.read_progress(latest)
    if has_ended(folder, progress):
        return _read_back(run, read_json(folder.summary), progress.bank_event)
    return _train_locally(
        config,
        run,
        trackers,
        lambda _: restore(config, latest)[0],
        lambda trainer: trainer.resume(progress),
        latest,
    )


def has_ended(folder: RunFolder, progress: Progress) -> bool:
    """Returns True if a run, whose last checkpoint is at `progress`, has nothing left to do."""
    return folder.summary.exists() and bool(read_json(folder.summary)["iterations"] == progress.iteration)


def _train_locally(
    config: Config,
    folder: Path,
    trackers: Sequence[Tracker],
    make: Callable[[bool], Components],
    run: Callable[[Trainer], dict[str, Any]],
    latest: Path | None = None,
) -> FinishedRun:
    """Trains on this machine.

    Args:
        config: Settings of the run; the number of processes is not recorded, as the results do not depend on it.
        folder: Run folder.
        trackers: Receivers of the metrics.
        make: Makes the components; it gets True in the first process of a launcher, which leads the others.
        run: Starts the trainer, or resumes.
        latest: The checkpoint to go on from.
    """
    recorded = config.model_copy(update={"processes": None})
    with joined_processes(config) as processes, rollout_workers(config, latest) as workers:
        components = make_components(processes, lambda: make(processes.rank == 0))
        if processes.rank:
            Worker(processes, config, components).serve()
        else:
            components, rollouts = split_work(processes, config, components, workers)
            with _says_how_to_go_on(folder):
                summary = run(Trainer(recorded, folder, components, trackers, rollouts))
    if processes.rank:
        raise SystemExit
    return FinishedRun(folder, summary, components.bank)


def _read_back(folder: Path, summary: dict[str, Any], event: int | None = None) -> FinishedRun:
    """Returns a run that has ended, as its folder has it; the bank as it was after `event`, or as it is."""
    run = RunFolder(folder)
    config = run.config()
    settings = config.bank, config.retrieval, config.credit
    bank = SkillBank.open(run.bank, make_embedder(config.embedder), *settings, event=event)
    return FinishedRun(folder, summary, bank)


@contextmanager
def _says_how_to_go_on(run: Path) -> Iterator[None]:
    """Adds to an interruption, and to a disk that is full or fails, how to go on with the run."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{run} cannot be written ({error.strerror or error}): make room, and {_way_on(run)}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_way_on(run)) from None


def _way_on(run: Path) -> str:
    """Returns how to go on with a run that stopped; one without a checkpoint has left nothing behind."""
    return f"go on by `d2skill resume {run}`" if run.exists() else "start again, as there was no checkpoint yet"


def _folder_name(kind: str) -> str:
    """Returns an environment's kind as part of a folder name."""
    return kind.rpartition(":")[2].lower()
