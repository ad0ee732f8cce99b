"""Completion of a command line: at each Tab the scripts of `d2skill completion` ask here for words that may follow."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from d2skill.cli.main import COMMANDS, WITH_SETTINGS, find_command
from d2skill.errors import D2SkillError
from d2skill.utils.foreign_text import visible

_OF_RUNS = {"evaluate", "resume", "compare", *(name for name in COMMANDS if name.startswith("bank "))}
_RUN_FLAGS = {"--replay", "--bank", "--run", "--like", "--bank.start"}
_OF_IDS = {"bank show", "bank blame", "bank admit", "bank hold", "bank note"}
_LISTS = {"--arms", "--track"}  # flags that take several values with commas between them
_DEPTH = 3  # folders below runs/


def print_completions(words: Sequence[str]) -> None:
    """Prints what the last word may be completed to, one a line; nothing where the shell knows better."""
    with suppress(D2SkillError, OSError):
        sys.stdout.write("".join(f"{one}\n" for one in complete(words)))


def complete(words: Sequence[str]) -> list[str]:
    """Returns what the last of some words after `d2skill` may be completed to."""
    *before, last = [word for word in words if word != "="] or [""]  # bash splits at each "="
    if words and words[-1] == "=":
        before, last = [*before, last], ""
    flag, equals, value = last.partition("=")
    if equals and flag.startswith("--"):
        return [f"{flag}={found}" for found in complete([*before, flag, value])]
    listed = last.rpartition(",")[0] + "," if before and before[-1] in _LISTS and "," in last else ""
    candidates = (listed + found for found in _candidates(list(before), last))
    return [found for found in candidates if found.startswith(last) and found == visible(found) and "\n" not in found]


def _candidates(before: list[str], last: str) -> Iterable[str]:
    """Returns all that may follow some words."""
    if not before:
        return dict.fromkeys(name.partition(" ")[0] for name in COMMANDS)
    if before[0] in ("bank", "config", "models"):
        if len(before) == 1:
            return [name.partition(" ")[2] for name in COMMANDS if name.startswith(f"{before[0]} ")]
        before[:2] = [" ".join(before[:2])]
    command, given = before[0], before[1:]
    if command not in COMMANDS:
        return []
    if last.startswith("-"):
        return _flags(command)
    flag = given[-1] if given and given[-1].startswith("--") else ""
    if flag in _RUN_FLAGS:
        return _runs()
    if flag == "--config" or (command == "config show" and not given):
        from d2skill.config.toml_files import presets

        return presets()
    if flag:
        return _flags(command).get(flag) or _names(flag)
    if command in _OF_IDS and given:
        from d2skill.cli.bank.open import read

        return [skill.id for skill in read(Path(given[0])).skills]
    return _runs() if command in _OF_RUNS else _choices(command)


def _names(flag: str) -> Iterable[str]:
    """Returns the values of a flag whose annotation does not tell them."""
    if flag == "--arms":
        from d2skill.evaluation.arms import ARMS

        return ARMS
    from d2skill.config.parts import ENVIRONMENT, TRACKER

    part = {"--env": ENVIRONMENT, "--track": TRACKER}.get(flag)
    return part.built_in if part else ()


def _runs() -> list[str]:
    """Returns the run folders below ./runs."""
    patterns = ("runs/" + "*/" * depth + "config.toml" for depth in range(1, _DEPTH + 1))
    return sorted({str(file.parent) for pattern in patterns for file in Path().glob(pattern)})


def _flags(command: str) -> dict[str, Sequence[str]]:
    """Returns the flags of a command, each with its choices, if it has some."""
    flags: dict[str, Sequence[str]] = {"--help": ()}
    if command in WITH_SETTINGS:
        from d2skill.config import Config, HousesConfig
        from d2skill.config.cli_flags import flags_of, spelling

        flags |= {"--help-all": (), "--config": ()} | ({} if command == "train" else {"--json": ()})
        settings = flags_of(HousesConfig if command == "houses" else Config)
        return flags | {spelling(path, kind): _literals(kind) for path, kind, _ in settings}
    from d2skill.cli.output import with_json

    for name, kind in with_json(find_command(command)).__annotations__.items():
        if name == "return" or _is_positional(kind):
            continue
        inner = next((one for one in get_args(kind) if is_dataclass(one) and isinstance(one, type)), None)
        for flag, of_flag in get_type_hints(inner).items() if inner else [(name, kind)]:
            flags["--" + flag.strip("_").replace("_", "-")] = _literals(of_flag)
    return flags


def _choices(command: str) -> Sequence[str]:
    """Returns the choices of a command's first argument, if it has some."""
    if command in WITH_SETTINGS:
        return ()
    kind = next(iter(find_command(command).__annotations__.values()))
    return _literals(kind) if _is_positional(kind) else ()


def _is_positional(kind: Any) -> bool:
    from tyro.conf import Positional

    return any(mark in getattr(kind, "__metadata__", ()) for mark in getattr(Positional[int], "__metadata__", ()))


def _literals(kind: Any) -> Sequence[str]:
    """Returns the choices in an annotation, those of a Literal inside too."""
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    if "|" in (metavar := getattr(kind, "metavar", None) or ""):  # kinds of a part
        return [choice for choice in metavar.split("|") if choice.islower()]
    for mark in getattr(kind, "__metadata__", ()):
        if built_in := getattr(getattr(mark, "part", None), "built_in", None):  # of `config.parts.Kind`
            return [*built_in]
    return [choice for part in get_args(kind) for choice in _literals(part)]
