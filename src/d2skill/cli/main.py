"""The command line. Every mistake of a user is one sentence and exit status 2."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, get_type_hints

from d2skill.errors import ConfigError, D2SkillError
from d2skill.utils.annotations import plain_union

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
    if arguments is None:
        gc.disable()  # until the command is imported: what imports make is no garbage
    if not given or given[0] in ("-h", "--help", "help"):
        _print(_OVERVIEW)
        return
    if given[0] == "--version":
        from d2skill import __version__

        _print(f"d2skill {__version__}")
        return
    try:
        run = _load(given)
        if arguments is None:
            gc.freeze()
            gc.enable()
        run()
    except D2SkillError as error:
        from d2skill.utils.process_group import report_to_launcher

        report_to_launcher(error)
        _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(f"{error.filename or 'writing a file'}: {error.strerror or error}")
    except KeyboardInterrupt as interrupt:
        _fail(": ".join(("interrupted", *map(str, interrupt.args))), status=130)


def _load(given: list[str]) -> Callable[[], Any]:
    """Imports a command and returns the call of it. Raises `ConfigError` if there is none of this name."""
    command, rest = given[0], given[1:]
    if command in ("bank", "config"):
        if not rest or rest[0] in ("-h", "--help"):
            names = ", ".join(f"d2skill {name}" for name in COMMANDS if name.startswith(command))
            return partial(_print, f"{command} has these commands: {names}")
        command, rest = f"{command} {rest[0]}", rest[1:]
    if command not in COMMANDS:
        raise ConfigError(f'there is no command "{command}": `d2skill --help` lists them')
    function = find_command(command)
    if command in ("train", "plan", "houses", "ablate"):
        return partial(function, rest)  # their flags are made from the settings
    import tyro

    return partial(tyro.cli, function, prog=f"d2skill {command}", args=rest)


COMMANDS = {
    "doctor": "doctor:doctor",
    "plan": "plan:plan",
    "train": "train:train",
    "resume": "train:resume",
    "evaluate": "evaluate:evaluate",
    "ablate": "ablate:ablate",
    "compare": "ablate:compare",
    "bank list": "bank.list:bank_list",
    "bank show": "bank.show:bank_show",
    "bank search": "bank.search:bank_search",
    "bank blame": "bank.blame:bank_blame",
    "bank diff": "bank.diff:bank_diff",
    "bank stats": "bank.stats:bank_stats",
    "bank merge": "bank.edit:bank_merge",
    "bank admit": "bank.edit:bank_admit",
    "bank hold": "bank.edit:bank_hold",
    "bank note": "bank.edit:bank_note",
    "bank undo": "bank.edit:bank_undo",
    "bank export": "bank.import_export:bank_export",
    "bank import": "bank.import_export:bank_import",
    "bank reembed": "calibrate:bank_reembed",
    "bank verify": "bank.verify:bank_verify",
    "bank salvage": "bank.import_export:bank_salvage",
    "config list": "config:config_list",
    "config show": "config:config_show",
    "play": "environments:play",
    "houses": "environments:houses",
    "calibrate": "calibrate:calibrate_gates",
    "check-env": "environments:check_env",
}
"""Name to "module:function" below `d2skill.cli`; a command is imported when it is called."""


def find_command(name: str) -> Callable[..., Any]:
    """Imports a command and returns its function, with annotations for tyro."""
    module, function = COMMANDS[name].split(":")
    command: Callable[..., Any] = getattr(import_module(f"d2skill.cli.{module}"), function)
    hints = get_type_hints(command, include_extras=True)
    command.__annotations__ = {parameter: plain_union(hint) for parameter, hint in hints.items()}
    return command


def _fail(sentence: str, status: int = 2) -> None:
    _print(f"d2skill: {sentence}", to_stderr=True)
    sys.exit(status)


def _print(text: str, *, to_stderr: bool = False) -> None:
    """Prints a text, wrapped at the width of the terminal, or a sentence in one line to stderr."""
    from rich.console import Console

    Console(stderr=to_stderr).print(text, markup=False, highlight=False, soft_wrap=to_stderr)
