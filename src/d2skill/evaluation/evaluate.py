"""Evaluation of a run: its policy plays fixed tasks in several arms, with its bank, without, and with placebos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Unpack

from d2skill.bank import SkillBank
from d2skill.bank.safety import objection
from d2skill.components import OwnParts, own_classes, require_own_parts, restore
from d2skill.config import Config
from d2skill.config.key_hosts import allow
from d2skill.embedders import make_embedder
from d2skill.errors import BankError, ConfigError, RunError
from d2skill.evaluation.arms import UNRETRIEVED, require_arms
from d2skill.evaluation.episodes import EpisodeBatch, EpisodePlayer, PlayedBatch, episode_batches
from d2skill.evaluation.outcome_summary import summarize_outcomes
from d2skill.evaluation.panel import require_unseen_tasks
from d2skill.evaluation.worker_processes import map_in_processes
from d2skill.protocols import Environment
from d2skill.rollout import require_played
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.runs.run import Run
from d2skill.runs.tasks import RunTasks, TaskSet, select_panel
from d2skill.runs.trajectories import write as write_trajectories
from d2skill.utils.arguments import number_of, path_of, text_of, whole_of
from d2skill.utils.runtime import available_cores, tuned_process

_PARTS = ("environment", "policy", "embedder")  # an evaluation does not reflect
_BATCHES_PER_PROCESS = 4  # so that none waits long for the last
_MANY_EPISODES = 2000  # of the scorer, which plays some hundreds in the second that a process takes to start


def evaluate(
    run: Run | Path | str,
    *,
    arms: Sequence[str] | None = None,
    bank: Run | Path | str | None = None,
    panel: str | None = None,
    tasks: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    temperature: float | None = None,
    workers: int | None = None,
    seen_tasks: bool = False,
    model: str | None = None,
    url: str | None = None,
    key_env: str = "OPENAI_API_KEY",
    trajectories: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    **own: Unpack[OwnParts],
) -> dict[str, Any]:
    """Plays tasks with a run's policy and a bank, both frozen, in several arms from the same states and seeds.

    >>> import d2skill
    >>> small = {"train": {"iterations": 1}, "warm_start": {"tasks": 10}, "validation": {"tasks": 4}}
    >>> config = d2skill.load_config("laptop", out="run", **small)
    >>> run = d2skill.train(config)
    >>> result = d2skill.evaluate(run, arms=["none", "bank"], tasks=6)
    >>> list(result["arms"]), len(result["outcomes"])
    (['none', 'bank'], 12)

    Args:
        run: A run or its folder, for its last checkpoint, or one of its checkpoints.
        arms: Names from `ARMS`; without it bank and none, or none alone for a run without skills.
        bank: Another run, or its bank.db, whose skills are shown in place of the run's own, in the way of that run.
        panel: The tasks.json of another run, or a split; without one, the run's own panel.
        tasks: Tasks of the split to play, at most; a panel of that size is the same every time.
        seeds: Number of sampling seeds.
        seed: First sampling seed.
        temperature: Sampling temperature; without one, the run's validation temperature.
        workers: Processes that play; the result does not depend on it.
        seen_tasks: Whether to play tasks even if skills were written from failures in them, which flatters the skills.
        model: Model of a server that plays in place of the run's policy.
        url: Base URL of that server; without one, OpenAI's own.
        key_env: Environment variable with its key.
        trajectories: File to save the trajectories to; a name in .gz is compressed.
        on_progress: Called with the numbers of episodes that are done and of all.
        own: The environment, policy and embedder, if the run was trained with objects of one's own; one process plays
            then. A `Run` that has them still need not be given them again.

    Returns:
        Figures of each arm, paired differences and types of task (docs/evaluation.md), and the outcome of each episode.

    Raises:
        ConfigError: Arguments do not fit each other or the run, the tasks were seen, or the server is not there.
        BankError: The bank is of another embedder, or holds a text that no bank would have taken.
        RunError: The folder is not a run, or a part of one's own is missing.
    """
    if isinstance(run, Run):
        own = OwnParts(**{**run.own, **own})
    run, bank = path_of(run, "a run folder", RunError), None if bank is None else path_of(bank, "--bank")
    for name, number in {"seeds": seeds, "workers": workers, "tasks": tasks}.items():
        if number is not None or name == "seeds":
            whole_of(number, f"--{name}", 1)
    whole_of(seed, "--seed")
    for name, text in {"model": model, "url": url, "key-env": key_env}.items():
        if text is not None:
            text_of(text, f"--{name}")
    panel = None if panel is None else str(path_of(panel, "--panel"))
    if trajectories is not None:
        trajectories = path_of(trajectories, "--trajectories")
    if url is not None and model is None:
        raise ConfigError(f"--url {url} needs --model, the name of the model there")
    if model is not None:
        allow(key_env, url)
    folder, point = _open(run)
    require_own_parts(folder.path, own, _PARTS)
    config = folder.config()
    shows_skills = config.rollout.with_skills or bank is not None
    names = require_arms(arms if arms is not None else ("bank", "none") if shows_skills else ("none",))
    temperature = config.validation.temperature if temperature is None else temperature
    temperature = number_of(temperature, "--temperature", 0)
    server = {"model": model, "url": url, "key_env": key_env}
    make_player = partial(_make_player, point, bank, server, temperature, trajectories is not None, own)
    player = make_player()
    task_set = _select_tasks(folder, config, player.environment, panel, tasks)
    if set(names) != {"none"} and not seen_tasks:
        require_unseen_tasks(player.bank, task_set.task_ids)
    if bank is None and UNRETRIEVED.intersection(names):
        _require_safe_texts(player.bank, point)
    every_seed = range(seed, seed + seeds)
    alone = not own_classes(own).keys().isdisjoint(_PARTS)
    if alone and (workers or 1) > 1:
        raise ConfigError(f"workers is {workers}, but objects of one's own are in this process alone: leave it out")
    many = len(names) * seeds * len(task_set.task_ids)
    processes = workers or (1 if alone else _default_processes(config, model, many))
    at_least = 1 if processes == 1 else _BATCHES_PER_PROCESS * processes
    batches = episode_batches(names, every_seed, task_set.task_ids, at_least)
    if processes == 1:
        results = ((at, player.play(batch)) for at, batch in enumerate(batches))
    else:
        results = map_in_processes(processes, partial(_make_worker, make_player, config.policy.kind), batches)
    with tuned_process(config.policy.kind), closing(results):
        played = _collect(results, batches, on_progress)
    outcomes = [outcome for batch in played for outcome in batch.outcomes]
    require_played([(outcome.task, outcome.fault) for outcome in outcomes])
    if trajectories is not None:
        write_trajectories(trajectories, (saved for batch in played for saved in batch.saved))
    run_path = point.parents[1]
    return {
        "version": version("d2skill"),
        "run": str(run_path),
        "iteration": checkpoint.read_progress(point).iteration,
        "bank": str(bank or run_path),
        **({"model": model} if model else {}),
        "split": task_set.split,
        "tasks": len(task_set.task_ids),
        "seeds": list(every_seed),
        "temperature": temperature,
        **summarize_outcomes(outcomes),
        "outcomes": [outcome.record() for outcome in outcomes],
    }


def _make_player(
    point: Path, bank_path: Path | None, server: Mapping[str, Any], temperature: float, keep: bool, own: OwnParts
) -> EpisodePlayer:
    """Returns a player with the checkpoint's policy, or with the model of a server, and its bank, or another one.

    Args:
        point: The checkpoint.
        bank_path: Another run or journal, for its skills.
        server: Settings of the server's model.
        temperature: Sampling temperature.
        keep: Whether to keep the trajectories.
        own: Parts of one's own.

    Raises `BankError` for a bank of another embedder, `ConfigError` without the server.
    """
    config = RunFolder.open(point.parents[1]).config()
    components, _ = restore(config, point, **own)
    bank, policy = components.bank, components.policy
    if bank_path is not None:
        journal = RunFolder.open(bank_path).bank if bank_path.is_dir() else bank_path
        source = RunFolder(journal.parent)
        of_source = source.config().bank if (source.path / "config.toml").is_file() else config.bank
        settings = config.bank.model_copy(update={"skills": of_source.skills})
        embedder = own.get("embedder") or make_embedder(config.embedder)
        bank = SkillBank(embedder, settings, config.retrieval, config.credit)
        bank.copy_from(journal)
    if server["model"] is not None:
        from d2skill.policies.served import ServedPolicy

        served = config.policy.served
        served = served.model_copy(update={"endpoint": served.endpoint.model_copy(update=server)})
        policy = ServedPolicy(served, config.prompt.max_tokens)
        config = config.model_copy(update={"policy": config.policy.model_copy(update={"kind": "served"})})
    return EpisodePlayer(components.environment, policy, bank, config, temperature=temperature, keep=keep)


def _make_worker(make_player: Callable[[], EpisodePlayer], kind: str) -> Callable[[EpisodeBatch], PlayedBatch]:
    """Returns the function that plays batches in a worker process; `kind` is that of the run's policy."""
    player = make_player()

    def play(batch: EpisodeBatch) -> PlayedBatch:
        with tuned_process(kind):
            return player.play(batch)

    return play


def _open(run: Path) -> tuple[RunFolder, Path]:
    """Returns a run and the checkpoint that a path names, or else its last one."""
    if not (run / "progress.json").is_file():
        return RunFolder.open(run), checkpoint.latest(run)
    point = run if (run.parent.parent / "config.toml").is_file() else run.resolve()
    return RunFolder.open(point.parents[1]), point


def _select_tasks(
    folder: RunFolder, config: Config, environment: Environment, panel: str | None, tasks: int | None
) -> TaskSet:
    """Returns the tasks to play. Raises `ConfigError` if there are none, or if this environment does not have them."""
    if panel is None and tasks is None:
        return RunTasks.read(folder.tasks).validation
    path = Path(panel or "")
    if panel is not None and (path.is_file() or path.suffix == ".json"):
        if tasks is not None:
            raise ConfigError(f"--panel already says which tasks to play: leave --tasks out, or {panel}")
        listed = RunTasks.read(path).validation
        known = set(environment.task_ids(listed.split))
        if unknown := [task for task in listed.task_ids if task not in known]:
            raise ConfigError(
                f'{path} lists {len(unknown)} tasks that split "{listed.split}" of this run does not have, first '
                f"{unknown[0]}: is it of a run in another environment or on other data?"
            )
        return listed
    split = panel or config.env.validation_split
    ids = environment.task_ids(split)
    if not ids:
        raise ConfigError(f'split "{split}" has no tasks: choose another with --panel')
    return TaskSet(split=split, task_ids=tuple(ids if tasks is None else select_panel(environment, split, tasks)))


def _require_safe_texts(bank: SkillBank, point: Path) -> None:
    """Raises `BankError` for a skill whose text no bank would have taken.

    Retrieval checks texts itself, and so does a bank that adopts another one; arms without retrieval need this check.
    """
    journal = RunFolder(point.parents[1]).bank
    for skill in bank.skills():
        if why := objection(skill.text):
            raise BankError(
                f"{journal}: the text of skill {skill.id} is not one that a bank takes ({why}): hold it back by "
                f"`d2skill bank hold`, or leave the arms {' and '.join(sorted(UNRETRIEVED))} out"
            )


def _default_processes(config: Config, model: str | None, episodes: int) -> int:
    """Returns the number of processes that play: one, or for many episodes of the scorer one a core, at most 8."""
    small = config.policy.kind == "scorer" and model is None
    return min(8, available_cores()) if small and episodes >= _MANY_EPISODES else 1


def _collect(
    results: Iterator[tuple[int, PlayedBatch]],
    batches: Sequence[EpisodeBatch],
    on_progress: Callable[[int, int], None],
) -> list[PlayedBatch]:
    """Returns the results in the order of the batches, and reports the episodes done as they come."""
    total, done = sum(len(batch.tasks) for batch in batches), 0
    on_progress(0, total)
    played: dict[int, PlayedBatch] = {}
    for at, result in results:
        played[at] = result
        done += len(result.outcomes)
        on_progress(done, total)
    return [played[at] for at in range(len(batches))]
