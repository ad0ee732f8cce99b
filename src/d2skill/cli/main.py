"""The command line. Every mistake of a user is one sentence and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro
from rich.console import Console

from d2skill.cli import ablate, bank, calibrate, config, doctor, environments, evaluate, plan, train
from d2skill.errors import ConfigError, D2SkillError
from d2skill.utils.process_group import report_to_launcher

_OVERVIEW = """\
d2skill trains an agent's policy together with a bank of skills (D2Skill, arXiv 2603.28716).

  d2skill train                     train on generated houses with the laptop defaults
  d2skill train --env alfworld --data FOLDER
                                    train on real ALFWorld games
  d2skill resume RUN                go on with a run that was stopped
  d2skill evaluate RUN              play its panel or a split: with skills, without, with a placebo or another bank
  d2skill ablate --seeds 3          train the paper's ablation, the full method and seven variants: a table, a plot
  d2skill compare RUN RUN           curves of runs against environment steps and wall time, with bands
  d2skill bank list RUN             list its skills; `d2skill bank show RUN ID` shows one
  d2skill play                      play a task yourself; with --replay RUN, see what the agent did
  d2skill houses OUT                write generated houses as ALFWorld game files
  d2skill bank blame RUN ID         show the history of a skill; `d2skill bank` lists more
  d2skill bank hold RUN ID          hold a skill back; `bank admit` undoes it; `bank merge` joins duplicates
  d2skill bank export RUN OUT       write skills as SKILL.md folders or others; `d2skill bank import` reads them
  d2skill doctor                    list what is installed and what is missing, with the fix
  d2skill plan                      estimate memory, tokens, hours and money of a run
  d2skill config list               list presets; `d2skill config show NAME` prints one in full
  d2skill calibrate                 measure the similarity gates of an embedder
  d2skill check-env KIND            check an environment of your own against the protocol

`d2skill COMMAND --help` explains a command and its options."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; exits with status 2 and one sentence on bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        Console().print(_OVERVIEW, markup=False, highlight=False)
        return
    if given[0] == "--version":
        from d2skill import __version__

        Console().print(f"d2skill {__version__}", highlight=False)
        return
    try:
        with report_to_launcher():
            _dispatch(given)
    except D2SkillError as error:
        _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(f"{error.filename or 'writing a file'}: {error.strerror or error}")
    except KeyboardInterrupt as interrupt:
        _fail(": ".join(("interrupted", *map(str, interrupt.args))), status=130)


def _dispatch(given: list[str]) -> None:
    command, rest = given[0], given[1:]
    if command in ("bank", "config"):
        if not rest or rest[0] in ("-h", "--help"):
            names = ", ".join(f"d2skill {name}" for name in COMMANDS if name.startswith(command))
            Console().print(f"{command} has these commands: {names}", markup=False, highlight=False)
            return
        command, rest = f"{command} {rest[0]}", rest[1:]
    if command not in COMMANDS:
        raise ConfigError(f'there is no command "{command}": `d2skill --help` lists them')
    if command in ("train", "plan", "houses", "ablate"):
        COMMANDS[command](rest)  # their flags are made from the settings
    else:
        tyro.cli(COMMANDS[command], prog=f"d2skill {command}", args=rest)


COMMANDS: dict[str, Callable[..., Any]] = {
    "doctor": doctor.doctor,
    "plan": plan.plan,
    "train": train.train,
    "resume": train.resume,
    "evaluate": evaluate.evaluate,
    "ablate": ablate.ablate,
    "compare": ablate.compare,
    "bank list": bank.bank_list,
    "bank show": bank.bank_show,
    "bank search": bank.bank_search,
    "bank blame": bank.bank_blame,
    "bank diff": bank.bank_diff,
    "bank stats": bank.bank_stats,
    "bank merge": bank.bank_merge,
    "bank admit": bank.bank_admit,
    "bank hold": bank.bank_hold,
    "bank note": bank.bank_note,
    "bank undo": bank.bank_undo,
    "bank export": bank.bank_export,
    "bank import": bank.bank_import,
    "bank reembed": calibrate.bank_reembed,
    "bank verify": bank.bank_verify,
    "bank salvage": bank.bank_salvage,
    "config list": config.config_list,
    "config show": config.config_show,
    "play": environments.play,
    "houses": environments.houses,
    "calibrate": calibrate.calibrate_gates,
    "check-env": environments.check_env,
}


def _fail(sentence: str, status: int = 2) -> None:
    Console(stderr=True).print(f"d2skill: {sentence}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)
