"""evaluate: a run's policy on fixed tasks, with its bank, without, and with what a bank is compared to."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import Progress
from tyro.conf import Positional

from d2skill.bank import SkillBank
from d2skill.bank.journal import BankState, Journal
from d2skill.bank.safety import objection
from d2skill.cli.train import at_full_speed
from d2skill.config import Config, ServedConfig
from d2skill.embedders import make_embedder
from d2skill.errors import BankError, ConfigError
from d2skill.evaluation import (
    UNRETRIEVED,
    Outcome,
    Played,
    Player,
    Unit,
    arm_names,
    figures,
    in_processes,
    require_unseen,
    units_of,
)
from d2skill.protocols import Environment, Policy
from d2skill.rollout import require_played
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks, TaskSet, select_panel
from d2skill.runs.trajectories import write as write_trajectories
from d2skill.trackers.terminal import evaluation_tables
from d2skill.utils.atomic_files import write_json

_SHARES = 4  # for each process, so that none waits long for the last
_WORTH_A_PROCESS = 2000  # episodes of the scorer, which plays some hundreds in the second that a process takes to start


def evaluate(
    run: Positional[Path],
    bank: Path | None = None,
    arms: str | None = None,
    panel: Annotated[str | None, tyro.conf.arg(metavar="FILE|SPLIT", aliases=["--split"])] = None,
    tasks: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    temperature: float | None = None,
    workers: int | None = None,
    json: Path | None = None,
    trajectories: Path | None = None,
    seen_tasks: bool = False,
    model: str | None = None,
    url: str | None = None,
    key_env: str = "OPENAI_API_KEY",
) -> None:
    """Play tasks with a run's policy and a bank, both frozen, in several arms from the same states and seeds.

    Arms: none (no skills), bank (retrieval as trained), task and step (the skills of one granularity only), shuffled
    (other skills in place of those retrieved, a placebo) and top (no retrieval: those of highest utility everywhere).

    With --model, a model behind an OpenAI-compatible server plays in place of the run's own policy.

    Args:
        run: Run folder, for its last checkpoint, or one of its checkpoints, RUN/checkpoints/000060.
        bank: Another run, or its bank.db, whose skills are shown in place of the run's own.
        arms: Arms to play, such as none,bank,shuffled,task,step,top; without it bank,none.
        panel: The tasks.json of another run, to play its panel, or a split; without one, the run's own panel.
        tasks: Tasks of the split to play, at most; a panel of that size is the same every time.
        seeds: Seeds to sample from: this many from --seed on.
        seed: The first seed of the sampling.
        temperature: Sampling temperature; without one, the run's validation temperature.
        workers: Processes that play; the result does not depend on it.
        json: File to write the result to, with the outcome of each episode.
        trajectories: File to save what is played to, for `d2skill play --replay`; a name in .gz is compressed.
        seen_tasks: Play tasks even if skills were written from failures in them, which flatters the skills.
        model: Model of a server that plays instead of the run's policy.
        url: Base URL of that server, such as http://localhost:8000/v1; without one, OpenAI's own.
        key_env: Environment variable with its key; a local server needs none.
    """
    _require_positive(seeds=seeds, workers=workers, tasks=tasks)
    if url is not None and model is None:
        raise ConfigError(f"--url {url} needs --model, the name of the model there")
    folder, point = _opened(run)
    config = folder.config()
    names = arm_names(arms) if arms is not None else _default_arms(config, bank)
    heat = config.validation.temperature if temperature is None else temperature
    source = _Source(point, bank, model, url, key_env, heat, trajectories is not None)
    player = source.player()
    played = _panel(folder, config, player.environment, panel, tasks)
    _require_fit(player.bank, source, names, played.task_ids, seen_tasks)
    every = range(seed, seed + seeds)
    count = workers or _processes(config, model, len(names) * seeds * len(played.task_ids))
    units = units_of(names, every, played.task_ids, shares=1 if count == 1 else _SHARES * count)
    with at_full_speed(config):
        found = _play(units, source, player, count)
    outcomes = [outcome for one in found for outcome in one.outcomes]
    require_played([(one.task, one.fault) for one in outcomes])
    options = {
        "bank": bank,
        "arms": arms,
        "panel": panel,
        "tasks": tasks,
        "seeds": seeds if seeds > 1 else None,
        "seed": seed or None,
        "temperature": temperature,
        "seen-tasks": seen_tasks or None,
        "model": model,
        "url": url,
    }
    record = {
        "command": _command(run, options),
        "version": version("d2skill"),
        **source.record(),
        "split": played.split,
        "tasks": len(played.task_ids),
        "seeds": list(every),
        "temperature": heat,
        **figures(outcomes),
        "outcomes": [_kept(outcome) for outcome in outcomes],
    }
    if json is not None:
        write_json(json, record)
    if trajectories is not None:
        write_trajectories(trajectories, (saved for one in found for saved in one.saved))
    _show(record)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a process gets what plays: a checkpoint, another bank, a served model."""

    point: Path
    bank: Path | None
    model: str | None
    url: str | None
    key_env: str
    temperature: float
    keep: bool

    def __call__(self) -> Callable[[Unit], Played]:
        """Returns what plays in a process of its own."""
        player = self.player()
        config = _config_of(self.point)

        def play(unit: Unit) -> Played:
            with at_full_speed(config):
                return player.play(unit)

        return play

    def record(self) -> dict[str, Any]:
        """Returns what a result says of it."""
        run, iteration = self.point.parents[1], checkpoint.read_progress(self.point).iteration
        known = {"run": str(run), "iteration": iteration, "bank": str(self.bank or run)}
        return known | {"model": self.model} if self.model else known

    def player(self) -> Player:
        """Returns what plays. Raises `BankError` for a bank of another embedder, `ConfigError` without the server."""
        from d2skill.components import restore

        config = _config_of(self.point)
        components, _ = restore(config, self.point)
        bank, policy = components.bank, components.policy
        if self.bank is not None:
            bank = SkillBank(make_embedder(config.embedder), config.bank, config.retrieval, config.credit)
            bank.adopt(RunFolder.open(self.bank).bank if self.bank.is_dir() else self.bank)
        if self.model is not None:
            policy = _served(config.policy.served, self.model, self.url, self.key_env)
            served = config.policy.model_copy(update={"kind": "served"})
            config = config.model_copy(update={"policy": served})
        return Player(components.environment, policy, bank, config, temperature=self.temperature, keep=self.keep)


def _require_positive(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ConfigError(f"--{name} is {number}: it is 1 or more")


def _opened(run: Path) -> tuple[RunFolder, Path]:
    """Returns a run and the checkpoint that a path names, or else its last one."""
    if not (run / "progress.json").is_file():
        return RunFolder.open(run), checkpoint.latest(run)
    point = run if (run.parent.parent / "config.toml").is_file() else run.resolve()
    return RunFolder.open(point.parents[1]), point


def _config_of(point: Path) -> Config:
    return RunFolder.open(point.parents[1]).config()


def _default_arms(config: Config, bank: Path | None) -> tuple[str, ...]:
    """Returns bank,none, or none for a run without skills if no bank is named."""
    showing = config.rollout.with_skills or bank is not None
    return ("bank", "none") if showing else ("none",)


def _panel(
    folder: RunFolder, config: Config, environment: Environment, panel: str | None, tasks: int | None
) -> TaskSet:
    """Returns the tasks that the options name. Raises `ConfigError` if there are none, or not in this environment."""
    if panel is None and tasks is None:
        return RunTasks.read(folder.tasks).validation
    path = Path(panel or "")
    if panel is not None and (path.is_file() or path.suffix == ".json"):
        if tasks is not None:
            raise ConfigError(f"--panel already says which tasks to play: leave --tasks out, or {panel}")
        listed = RunTasks.read(path).validation
        _require_known(listed, environment, path)
        return listed
    split = panel or config.env.validation_split
    known = environment.task_ids(split)
    if not known:
        raise ConfigError(f'split "{split}" has no tasks: choose another with --panel')
    return TaskSet(split=split, task_ids=tuple(known if tasks is None else select_panel(environment, split, tasks)))


def _require_known(listed: TaskSet, environment: Environment, path: Path) -> None:
    known = set(environment.task_ids(listed.split))
    if unknown := [task for task in listed.task_ids if task not in known]:
        raise ConfigError(
            f'{path} lists {len(unknown)} tasks that split "{listed.split}" of this run does not have, first '
            f"{unknown[0]}: is it of a run in another environment or on other data?"
        )


def _require_fit(bank: SkillBank, source: _Source, arms: Sequence[str], tasks: Sequence[str], seen_tasks: bool) -> None:
    """Raises `ConfigError` for tasks that the bank has seen, `BankError` for a text that no bank would have taken.

    Retrieval looks at texts itself, and so does what takes over another bank.
    """
    if set(arms) > {"none"} and not seen_tasks:
        require_unseen(bank, tasks)
    if source.bank is not None or not UNRETRIEVED.intersection(arms):
        return
    journal = RunFolder(source.point.parents[1]).bank
    state = Journal(journal).replay(BankState(), seq=checkpoint.read_progress(source.point).bank_event)
    for skill in bank.skills():
        if why := objection(skill.text, vouched=skill.id in state.vouched):
            raise BankError(
                f"{journal}: the text of skill {skill.id} is not one that a bank takes ({why}): hold it back by "
                f"`d2skill bank hold`, or leave the arms {' and '.join(sorted(UNRETRIEVED))} out"
            )


def _served(settings: ServedConfig, model: str, url: str | None, key_env: str) -> Policy:
    """Returns a policy behind a server; raises `ConfigError` if it cannot be reached."""
    from d2skill.policies.served import ServedPolicy

    endpoint = settings.endpoint.model_copy(update={"model": model, "url": url, "key_env": key_env})
    return ServedPolicy(settings.model_copy(update={"endpoint": endpoint}))


def _processes(config: Config, model: str | None, episodes: int) -> int:
    """Returns how many processes play if nobody says: one, or two for much work of the small policy."""
    small = config.policy.kind == "scorer" and model is None
    return min(2, os.cpu_count() or 1) if small and episodes >= _WORTH_A_PROCESS else 1


def _play(units: Sequence[Unit], source: _Source, player: Player, count: int) -> list[Played]:
    """Plays all units, here or in processes, and shows on a terminal how far that is."""
    found: dict[int, Played] = {}
    console = Console(stderr=True)
    here = ((at, player.play(unit)) for at, unit in enumerate(units))
    results = in_processes(count, source, units) if count > 1 else here
    with closing(results), Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task("Episodes", total=sum(len(unit.tasks) for unit in units))
        for at, played in results:
            found[at] = played
            bar.advance(shown, len(played.outcomes))
    return [found[at] for at in range(len(units))]


def _command(run: Path, options: dict[str, Any]) -> str:
    """Returns the command line of an evaluation, without what does not change its result."""
    words = ["d2skill", "evaluate", str(run)]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(words)


def _kept(outcome: Outcome) -> dict[str, Any]:
    """Returns an outcome as it is kept, without what it does not have."""
    absent = {"generated": None, "score": None, "fault": ""}
    return {name: value for name, value in asdict(outcome).items() if name not in absent or value != absent[name]}


def _show(record: dict[str, Any]) -> None:
    console = Console()
    player = f" with {record['model']}" if "model" in record else ""
    first, last = record["seeds"][0], record["seeds"][-1]
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
    console.print(
        f"{record['run']} after iteration {record['iteration']}{player} on {record['split']}: {record['tasks']} tasks, "
        f"{seeds}, temperature {record['temperature']:g}",
        highlight=False,
        soft_wrap=True,
    )
    if record["bank"] != record["run"]:
        console.print(f"Skills are those of {record['bank']}.", highlight=False, soft_wrap=True)
    for table in evaluation_tables(record):
        console.print()
        console.print(table)
