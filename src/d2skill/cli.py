"""The command line. Every mistake of a user is one sentence and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text
from threadpoolctl import threadpool_limits
from tyro.conf import Positional

from d2skill import checkpoint, settings_files
from d2skill.bank.store import read as read_bank
from d2skill.config import Config, EnvConfig
from d2skill.errors import ConfigError, D2SkillError, RunError
from d2skill.evaluation import arms_of, evaluate_panel, select_panel
from d2skill.files import read_json, write_json
from d2skill.flags import parse_settings
from d2skill.runfolder import RunFolder
from d2skill.tracking import LiveDisplay, print_summary, result_table
from d2skill.types import Granularity, Skill

_OVERVIEW = """\
d2skill trains an agent's policy together with a bank of skills (D2Skill, arXiv 2603.28716).

  d2skill train                     train on generated houses with the laptop defaults
  d2skill train --env alfworld --data FOLDER
                                    train on real ALFWorld games
  d2skill resume RUN                go on with a run that was stopped
  d2skill evaluate RUN              play its panel again, with skills and without
  d2skill bank list RUN             list its skills; `d2skill bank show RUN ID` shows one
  d2skill config list               list presets; `d2skill config show NAME` prints one in full
  d2skill check-env KIND            check an environment of your own against the protocol

`d2skill COMMAND --help` explains a command and its options."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; exits with status 2 and one sentence on bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        _out().print(_OVERVIEW, markup=False, highlight=False)
        return
    if given[0] == "--version":
        from d2skill import __version__

        _out().print(f"d2skill {__version__}", highlight=False)
        return
    try:
        _dispatch(given)
    except D2SkillError as error:
        _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(f"{error.filename or 'writing a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _fail("interrupted", status=130)


def _dispatch(given: list[str]) -> None:
    command, rest = given[0], given[1:]
    if command in ("bank", "config"):
        if not rest or rest[0] in ("-h", "--help"):
            names = ", ".join(f"d2skill {name}" for name in COMMANDS if name.startswith(command))
            _out().print(f"{command} has these commands: {names}", markup=False, highlight=False)
            return
        command, rest = f"{command} {rest[0]}", rest[1:]
    if command not in COMMANDS:
        raise ConfigError(f'there is no command "{command}": `d2skill --help` lists them')
    if command == "train":
        _train(rest)
    else:
        tyro.cli(COMMANDS[command], prog=f"d2skill {command}", args=rest)


def _train(rest: list[str]) -> None:
    config = _found_from_anywhere(parse_settings(rest, "d2skill train")).resolved()
    folder = config.out or Path("runs") / f"{_name(config.env.kind)}-{datetime.now():%Y%m%d-%H%M%S}"
    from d2skill.trainer import Parts, Trainer

    parts = Parts.make(config)
    console = _out()
    with _writing(folder), _one_core(config), LiveDisplay(config, console) as display:
        trainer = Trainer(config, folder, parts, [display])
        summary = trainer.start()
    print_summary(console, summary, trainer.bank.skills(), folder)


def _resume(run: Positional[Path]) -> None:
    """Go on with a run from its last checkpoint, as if it had never stopped.

    Args:
        run: Run folder.
    """
    from d2skill.trainer import Trainer, restore

    folder = RunFolder.open(run)
    config = folder.config()
    latest = checkpoint.latest(run)
    parts, progress = restore(config, latest)
    console = _out()
    summary = read_json(folder.summary) if folder.summary.exists() else None
    if summary and summary["iterations"] == progress.iteration:
        console.print(f"{run} has ended; this is its summary.", highlight=False)
    else:
        console.print(f"Going on with {run} after iteration {progress.iteration}.", highlight=False)
        with _writing(run), _one_core(config), LiveDisplay(config, console) as display:
            summary = Trainer(config, run, parts, [display]).resume(progress)
    print_summary(console, summary, parts.bank.skills(), run)


def _evaluate(
    run: Positional[Path],
    split: str | None = None,
    tasks: int | None = None,
    temperature: float | None = None,
    seed: int = 0,
    json: Path | None = None,
) -> None:
    """Play tasks with a run's last policy, its bank frozen: with skills and without, from the same states and seeds.

    Args:
        run: Run folder.
        split: Split to draw tasks from; without one, the run's own validation panel.
        tasks: Tasks to play, at most; a panel of that size is the same every time.
        temperature: Sampling temperature; without one, the run's validation temperature.
        seed: Seed of the sampling.
        json: File to write the result to.
    """
    from d2skill.rollout import Rollouts
    from d2skill.trainer import restore

    folder = RunFolder.open(run)
    config = folder.config()
    parts, progress = restore(config, checkpoint.latest(run))
    if split is None and tasks is None:
        panel, name = folder.panel(), config.env.validation_split
    else:
        name = split or config.env.validation_split
        panel = select_panel(parts.environment, name, tasks or config.validation.tasks)
    rollouts = Rollouts(parts.environment, parts.policy, parts.bank, config.prompt, config.env.max_steps)
    with _one_core(config):
        result = evaluate_panel(
            rollouts,
            panel,
            arms=arms_of(config.rollout.with_skills),
            temperature=config.validation.temperature if temperature is None else temperature,
            seed=seed,
        )
    record = {"split": name, "seed": seed, "iteration": progress.iteration, "validation": result.record()}
    if json is not None:
        write_json(json, record)
    _out().print(f"{run} after iteration {progress.iteration} on {name}", highlight=False)
    _out().print(result_table(record))


def _bank_list(
    run: Positional[Path],
    granularity: Granularity | None = None,
    sort: Literal["utility", "retrievals", "created"] = "utility",
    evicted: bool = False,
    limit: int = 50,
) -> None:
    """List the skills of a run's bank.

    Args:
        run: Run folder, or a bank file.
        granularity: Task skills or step skills only.
        sort: What to sort by, highest first.
        evicted: Show those that were evicted as well.
        limit: Lines, at most.
    """
    skills = [
        skill
        for skill in _read_skills(run)
        if granularity in (None, skill.granularity) and (evicted or skill.evicted is None)
    ]
    skills.sort(key=lambda skill: (-getattr(skill, sort), skill.id))
    table = Table(show_edge=False)
    for column in ("id", "utility", "credits", "shown", "created", "skill"):
        table.add_column(column, justify="left" if column in ("id", "skill") else "right")
    for skill in skills[:limit]:
        title = skill.text.title if skill.evicted is None else f"{skill.text.title} (evicted in {skill.evicted})"
        figures = (f"{skill.utility:+.3f}", str(skill.credits), str(skill.retrievals), str(skill.created))
        table.add_row(skill.id, *figures, Text(title))
    _out().print(table)
    if len(skills) > limit:
        _out().print(f"{len(skills) - limit} more: --limit {len(skills)} shows all.", highlight=False)


def _bank_show(run: Positional[Path], id: Positional[str]) -> None:
    """Show one skill: what it says, when it is retrieved, what it is worth, where it is from.

    Args:
        run: Run folder, or a bank file.
        id: Id of the skill, such as s12.
    """
    skill = next((skill for skill in _read_skills(run) if skill.id == id), None)
    if skill is None:
        raise RunError(f"the bank of {run} has no skill {id}: `d2skill bank list {run} --evicted` lists all")
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("id", f"{skill.id} ({skill.granularity} skill)"),
        ("title", skill.text.title),
        ("principle", skill.text.principle),
        ("when to apply", skill.text.when_to_apply),
        ("key: task", skill.task_text),
        ("key: observation", skill.observation or "-"),
        ("utility", f"{skill.utility:+.3f} after {skill.credits} credits"),
        ("shown", f"{skill.retrievals} times"),
        ("written", f"in iteration {skill.created}, from a failure in {skill.evidence}"),
        ("evicted", "no" if skill.evicted is None else f"in iteration {skill.evicted}"),
    ):
        table.add_row(Text(name, style="dim"), Text(value))
    _out().print(table)


def _read_skills(run: Path) -> tuple[Skill, ...]:
    path = RunFolder.open(run).bank if run.is_dir() else run
    if not path.is_file():
        raise RunError(f"{path} does not exist: is {run} a run folder or a bank file?")
    return read_bank(path).skills


def _config_list() -> None:
    """List the presets."""
    for name, purpose in settings_files.presets().items():
        _out().print(f"{name:16} {purpose}", highlight=False, soft_wrap=True)


def _config_show(name: Positional[str] = "laptop") -> None:
    """Print all settings of a preset or a file as TOML, to start a file of one's own from.

    Args:
        name: Preset or TOML file.
    """
    _out().print(settings_files.dump(settings_files.load(name)), markup=False, highlight=False, soft_wrap=True)


def _check_env(
    kind: Positional[str],
    data: Path | None = None,
    split: str = "train",
    episodes: Annotated[int, tyro.conf.arg(help="Episodes to play.")] = 5,
) -> None:
    """Check an environment against the protocol and say in words what is wrong; exit status 1 if anything is.

    Args:
        kind: As --env: houses, alfworld, package.module:Class, gymnasium:package.module:Class.
        data: Folder with its data.
        split: Split whose tasks are played.
        episodes: Episodes to play.
    """
    from d2skill.envs import make_environment
    from d2skill.envs.check import check_environment

    findings = check_environment(make_environment(EnvConfig(kind=kind, data=data)), split, episodes)
    for finding in findings:
        mark = "ok   " if finding.ok else "WRONG"
        detail = f": {finding.detail}" if finding.detail else ""
        _out().print(f"{mark} {finding.what}{detail}", markup=False, highlight=False, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        sys.exit(1)


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": _train,
    "resume": _resume,
    "evaluate": _evaluate,
    "bank list": _bank_list,
    "bank show": _bank_show,
    "config list": _config_list,
    "config show": _config_show,
    "check-env": _check_env,
}


def _found_from_anywhere(config: Config) -> Config:
    """Makes the data folder absolute, so that the run can be resumed from another folder."""
    if config.env.data is None:
        return config
    return config.model_copy(update={"env": config.env.model_copy(update={"data": config.env.data.absolute()})})


@contextmanager
def _writing(run: Path) -> Iterator[None]:
    """Says how to go on after an interruption, a full disk, or whatever else keeps a run's files from being written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{run} cannot be written ({error.strerror or error}): make room, and {_way_on(run)}") from None
    except KeyboardInterrupt:
        _fail(f"interrupted: {_way_on(run)}", status=130)


def _way_on(run: Path) -> str:
    """Says how to go on with a run that stopped; one without a checkpoint has left nothing behind."""
    return f"go on by `d2skill resume {run}`" if run.exists() else "start again, as there was no checkpoint yet"


def _one_core(config: Config) -> AbstractContextManager[Any]:
    """Keeps NumPy on one core for the scorer, whose products are too small to share."""
    return threadpool_limits(1, user_api="blas") if config.policy.kind == "scorer" else nullcontext()


def _name(kind: str) -> str:
    """Returns an environment's kind as part of a folder name."""
    return kind.rpartition(":")[2].lower()


def _out() -> Console:
    return Console()


def _fail(sentence: str, status: int = 2) -> None:
    Console(stderr=True).print(f"d2skill: {sentence}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)
