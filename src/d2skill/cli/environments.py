"""Commands on environments without training: play, houses."""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich.progress import Progress
from tyro.conf import Positional

from d2skill.bank.consolidation import fill
from d2skill.cli.bank.open import read as read_bank
from d2skill.cli.bank.tables import say
from d2skill.cli.output import JSON, Output, json_alone
from d2skill.config import EnvConfig, toml_files
from d2skill.config.cli_flags import Field, parse_houses
from d2skill.envs import make_environment
from d2skill.errors import ConfigError
from d2skill.play import line_reader, load_trajectories, print_overview
from d2skill.play import play as play_task
from d2skill.play import replay as replay_trajectory
from d2skill.protocols import Environment
from d2skill.runs import trajectories
from d2skill.runs.folder import RunFolder
from d2skill.utils.foreign_text import command
from d2skill.utils.terminal import Terminal


def play(
    task: Annotated[Positional[str], tyro.conf.arg(metavar="TASK")] = "",
    env: str | None = None,
    data: Path | None = None,
    split: str = "train",
    config: str = "laptop",
    max_steps: int | None = None,
    save: Path | None = None,
    replay: Path | None = None,
    iteration: int | None = None,
    number: int | None = None,
    member: int | None = None,
) -> Output:
    """Play a task in the terminal, or look at a saved trajectory turn by turn.

    `d2skill play` plays a generated house, `d2skill play --env alfworld --data FOLDER` a game of ALFWorld,
    `d2skill play game.tw-pddl` that file, `d2skill play --env webshop --data FOLDER` shops in WebShop,
    `d2skill play --env search-qa --data FOLDER` looks answers up.
    `d2skill play --replay RUN` shows what the agent did at a run's last validation, with `--iteration 12` what it did
    in that iteration of training.

    Args:
        task: Id of the task, or a game.tw-pddl file; without it, a task of the split at random.
        env: Kind of environment, as in training.
        data: Folder with its data.
        split: Split that the random task is from.
        config: Preset or TOML file with the settings of the environment, such as config.toml of a run.
        max_steps: Steps after which the game ends; without it, it goes on.
        save: File to save the trajectory to; compressed if its name ends in .gz.
        replay: Run folder or file of saved trajectories to show; TASK and --member, or --number, tell which of them.
        iteration: Training iteration of the run folder to replay, counted from 0; without it, the last validation.
        number: Number of the saved trajectory to show.
        member: Member of its task's group, of the saved trajectory to show.
    """
    console = Terminal()
    if replay is not None:
        return _replay(replay, iteration, task or None, number, member, console)
    for name, value in (("--iteration", iteration), ("--number", number), ("--member", member)):
        if value is not None:
            raise ConfigError(f"{name} tells which saved trajectory to show: name their file or run with --replay")
    if save is not None and not save.absolute().parent.is_dir():
        raise ConfigError(f"--save {save}: the folder {save.parent} does not exist")
    changes = {name: value for name, value in (("kind", env), ("data", data)) if value is not None}
    environment, task_id = _choose_task(toml_files.load(config).env.model_copy(update=changes), task, split)
    saved = play_task(environment, task_id, console, line_reader(console), max_steps=max_steps)

    def say_saved() -> None:
        if save is not None:
            say(f"Saved: {command('play', '--replay', save)} shows it.")

    if save is not None:
        trajectories.write(save, [saved])
    return Output({"trajectories": [saved]}, say_saved)


def _choose_task(settings: EnvConfig, task: str, split: str) -> tuple[Environment, str]:
    """Returns the environment and the id of the task to play in it."""
    if Path(task).is_file():
        from d2skill.envs.alfworld import GameFile

        return GameFile(Path(task)), task
    environment = make_environment(settings)
    if task:
        return environment, task
    ids = environment.task_ids(split)
    if not ids:
        raise ConfigError(f'split "{split}" has no tasks: choose another with --split')
    return environment, random.choice(ids)


def _replay(
    path: Path, iteration: int | None, task: str | None, number: int | None, member: int | None, console: Terminal
) -> Output:
    saved = load_trajectories(path, iteration)
    if len(saved) > 1 and all(choice is None for choice in (task, number, member)):

        def show() -> None:
            print_overview(saved, console)
            say("--number, or a task id with --member, shows one of them.")

        return Output({"trajectories": saved}, show)
    bank = RunFolder(path).bank
    chosen = trajectories.choose(saved, task, number, member)
    skills = read_bank(bank).skills if bank.exists() else ()
    titles = {skill.id: fill(skill, chosen.task.text).text.title for skill in skills}
    read_line = line_reader(console) if sys.stdin.isatty() and console.is_terminal else None
    show_one = partial(replay_trajectory, chosen, console, titles=titles, read_line=read_line)
    return Output({"trajectories": [chosen]}, show_one)


def houses(arguments: list[str]) -> None:
    """Write generated houses as ALFWorld game files; the settings of houses are flags."""
    from d2skill.envs.houses import PANEL
    from d2skill.envs.houses.alfworld_files import write_houses

    fields: list[Field] = [
        ("out", Annotated[Positional[Path], tyro.conf.arg(metavar="OUT", help="New or empty folder")], tyro.MISSING),
        ("count", Annotated[int, tyro.conf.arg(help="Training games")], 480),
        ("panel", Annotated[int, tyro.conf.arg(help="Games in valid_seen and in valid_unseen each")], PANEL),
        JSON,
    ]
    options, settings = parse_houses(arguments, "d2skill houses", _HOUSES, fields, without=["games_per_plan"])
    counts = {"train": options.count, "valid_seen": options.panel, "valid_unseen": options.panel}
    with (
        json_alone(options.json),
        Progress(console=Terminal(), transient=True, disable=options.json) as progress,
    ):
        bar = progress.add_task("Writing houses")
        write_houses(options.out, settings, counts, lambda done, of: progress.update(bar, completed=done, total=of))
    games = ", ".join(f"{count} in {split}" for split, count in counts.items())
    told = f"Games written: {games}. Try {command('train', '--env', 'alfworld', '--data', options.out)}."
    Output({"out": options.out, "games": counts}, partial(say, told)).print(options.json)


_HOUSES = """Write generated houses as game files in ALFWorld's layout, which the official loader takes as well.

The same settings and seed give the same files. valid_seen has other games in the floor plans of train, valid_unseen
has floor plans of its own."""
