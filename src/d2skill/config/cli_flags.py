"""Settings as command-line flags: tyro parses them, pydantic validates them.

tyro could build the pydantic models itself, but would print a value out of range as a page of pydantic's own. So
it gets dataclasses of the same shape, made from the models; parsed values go through `Config` as a file's do.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import lru_cache
from itertools import pairwise
from operator import attrgetter
from typing import Annotated, Any, TypeVar

import tyro
from pydantic import BaseModel, ValidationError
from rich.table import Column, Table
from tyro.conf import Positional

from d2skill.config import Config, HousesConfig, toml_files
from d2skill.config.base import ShortFlag
from d2skill.config.key_hosts import allow_named
from d2skill.config.parts import Kind
from d2skill.errors import ConfigError
from d2skill.utils.annotations import plain_union
from d2skill.utils.foreign_files import parse_json
from d2skill.utils.foreign_text import screened, visible
from d2skill.utils.terminal import Terminal

Field = tuple[str, Any, Any]
"""Name, type and default of an argument; `tyro.MISSING` as default for one that has to be given."""

_Model = TypeVar("_Model", bound=BaseModel)
_CONFIG_HELP = (
    "Preset (`d2skill config list`) or TOML file that the flags are laid over; without one, the preset named as the "
    "environment is, such as webshop, else laptop"
)
_GROUP_SIZE = ("--rollout.group-size", "--rollout.group_size")
_WITH_SKILLS = ("--rollout.with-skills", "--rollout.with_skills")
TRAIN_DESCRIPTION = """Train a policy together with its skill bank.

Settings come from a preset or a TOML file (--config), and each of them can be set by a flag.

  d2skill train --seed 1
  d2skill train --env alfworld --data FOLDER --policy causal-lm
  d2skill train --config webshop --train.iterations 300 --out runs/shop"""
_SHOWN = (
    *("config", "env.kind", "env.data", "policy.kind", "out", "seed", "train.iterations"),
    *("bank.skills", "rollout.group_size", "validation.every", "engine"),
)
"""Settings on the first page of the help."""


def parse_settings(arguments: Sequence[str], prog: str) -> Config:
    """Returns the settings of a preset or file, with flags laid over them.

    Raises `ConfigError` for a value out of range; tyro itself ends the program with status 2 at an unknown flag.
    """
    return _parse(arguments, prog, TRAIN_DESCRIPTION, lambda config: config)[1]


def parse_with(arguments: Sequence[str], prog: str, description: str, own: Sequence[Field]) -> tuple[Any, Config]:
    """Parses a command that has arguments of its own beside the settings.

    Args:
        arguments: Words of the command line.
        prog: Name of the command in its help.
        description: Text of its help.
        own: The command's own arguments.

    Returns: the own arguments as attributes of one object, and the settings. Errors are those of `parse_settings`.
    """
    return _parse(arguments, prog, description, lambda config: config, own)


def parse_houses(
    arguments: Sequence[str], prog: str, description: str, own: Sequence[Field], without: Collection[str]
) -> tuple[Any, HousesConfig]:
    """Parses a command whose settings are those of houses alone.

    Args:
        arguments: Words of the command line.
        prog: Name of the command in its help.
        description: Text of its help.
        own: The command's own arguments.
        without: Names of settings that get no flag.

    Returns: the own arguments as attributes of one object, and the settings. Errors are those of `parse_settings`.
    """
    return _parse(arguments, prog, description, lambda config: config.env.houses, own, without)


def _parse(
    arguments: Sequence[str],
    prog: str,
    description: str,
    section: Callable[[Config], _Model],
    own: Sequence[Field] = (),
    without: Collection[str] = (),
) -> tuple[Any, _Model]:
    """Returns a command's own arguments as attributes of one object, and a section of the settings."""
    name = _named_config(arguments)
    base = section(toml_files.load(name))
    if {"-h", "--help"} & {*arguments}:
        _print_short_help(prog, description, own, name, base, without)
        sys.exit(0)
    if "--help-all" in arguments:
        arguments = ["--help"]
    config: Field = ("config", Annotated[str, tyro.conf.arg(help=_CONFIG_HELP)], "laptop")
    flags = [field for field in fields_of(type(base)) if field[0] not in without]
    shape = dataclasses.make_dataclass("Arguments", [*own, config, *flags], frozen=True)
    values = _values(base)
    shown = {field[0]: values[field[0]] for field in flags}
    default = shape(**{field[0]: field[2] for field in own}, config=name, **shown)
    words = _spelled(arguments, _switches(type(base)), _switches(type(base), bool | None))
    spelled = _with_tables(words, _tables(base))
    with screened(name not in toml_files.presets() or any(word != visible(word) for word in arguments)):
        given: Any = tyro.cli(shape, prog=prog, description=description, args=spelled, default=default)
    values = base.model_dump() | {name: dataclasses.asdict(given)[name] for name in shown}
    if "rollout" in values and values["rollout"]["with_skills"] and _follows(arguments):
        del values["rollout"]["with_skills"]  # half of the new group
    try:
        settings = type(base).model_validate(values)
    except ValidationError as error:
        raise ConfigError(toml_files.explain(error)) from None
    if isinstance(settings, Config):
        allow_named(settings, {word.partition("=")[0][2:].replace("-", "_") for word in arguments if word[:2] == "--"})
    return given, settings


def flags_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields the path, the annotation and the default of each setting, sections inside too: "rollout.tasks"."""
    for (name, kind, default), info in zip(fields_of(model), model.model_fields.values(), strict=True):
        if isinstance(info.default, BaseModel):
            yield from flags_of(type(info.default), f"{path}{name}.")
        else:
            yield path + name, kind, default


def spelling(path: str, kind: Any) -> str:
    """Returns the flag of a setting: the short one, if it has one."""
    aliases = next((extra.aliases for extra in getattr(kind, "__metadata__", ()) if hasattr(extra, "aliases")), None)
    return aliases[0] if aliases else "--" + path.replace("_", "-")


def _print_short_help(
    prog: str, description: str, own: Sequence[Field], config: str, base: BaseModel, without: Collection[str]
) -> None:
    """Prints a command's own arguments and the settings that matter, with their values in a preset or file."""
    fields = [("config", Annotated[str, tyro.conf.arg(help=_CONFIG_HELP)], config), *flags_of(type(base))]
    chosen = [field for field in fields if field[0] in _SHOWN or (type(base) is not Config and field[0] not in without)]
    chosen.sort(key=lambda field: _SHOWN.index(field[0]) if field[0] in _SHOWN else len(_SHOWN))
    console = Terminal()
    paragraphs = re.sub(r"(?<!\n)\n(?=\S)", " ", description)
    console.print(f"usage: {prog} [FLAGS]\n\n{paragraphs}\n")
    table = Table.grid("", Column(overflow="fold"), padding=(0, 2))
    first, last = ([field for field in own if (field[0] == "json") == is_json] for is_json in (False, True))
    for path, kind, default in first:
        table.add_row(*_explained(path, kind, default))
    if first:
        table.add_row("", "")
    for path, kind, default in chosen:
        table.add_row(*_explained(path, kind, default if path == "config" else attrgetter(path)(base)))
    for path, kind, default in last:
        table.add_row(*_explained(path, kind, default))
    console.print(table)
    console.print(f"\n`{prog} --help-all` shows all {len(fields) + len(own)} flags, by section.")


def _explained(path: str, kind: Any, value: Any) -> tuple[str, str]:
    """Returns a flag, or the name of a positional argument, and its help with its value if that says anything."""
    marks = kind.__metadata__
    argument = next(extra for extra in marks if hasattr(extra, "metavar") and hasattr(extra, "help"))
    is_positional = any(mark in marks for mark in Positional[int].__metadata__)  # type: ignore[attr-defined]
    shown = "" if value is None or value is False or value in (tyro.MISSING, {}, "{}") else f" (default: {value})"
    return f"  {argument.metavar if is_positional else spelling(path, kind)}", f"{argument.help}{shown}"


def _named_config(arguments: Sequence[str]) -> str:
    """Returns the preset or file that --config names: the other flags have their defaults from it.

    Without --config it is the preset named like the environment, else laptop.
    """
    kind = _last(arguments, "--env", "--env.kind")
    return _last(arguments, "--config") or (kind if kind in toml_files.presets() else "laptop")


def _follows(arguments: Sequence[str]) -> bool:
    """Returns True if the group gets a size and its skill half none."""
    size, half = (_last(arguments, *flags) for flags in (_GROUP_SIZE, _WITH_SKILLS))
    return bool(size) and not half


def _last(arguments: Sequence[str], *flags: str) -> str:
    """Returns the value of the last of some flags, "" without one."""
    found = ""
    for word, following in pairwise([*arguments, ""]):
        flag, equals, value = word.partition("=")
        if flag in flags:
            found = value if equals else following
    return found


def _switches(model: type[BaseModel], kind: Any = bool, path: str = "") -> set[str]:
    """Returns the names of a model's boolean settings, such as bank.retire, or of those of another kind."""
    found: set[str] = set()
    for name, info in model.model_fields.items():
        if isinstance(info.default, BaseModel):
            found |= _switches(type(info.default), kind, f"{path}{name}.")
        elif info.annotation == kind:
            found.add(path + name)
    return found


def _spelled(arguments: Sequence[str], switches: Collection[str], optional: Collection[str]) -> list[str]:
    """Returns the arguments with --policy.train false written as --policy.no-train, tyro's form.

    `optional` are the names of booleans that may be unset, for which tyro wants True or False.
    """
    spelled: list[str] = []
    words = list(arguments)
    while words:
        flag, equals, value = words.pop(0).partition("=")
        name = flag[2:].replace("-", "_") if flag.startswith("--") else ""
        if name in optional:
            value = value if equals else words.pop(0) if words else ""
            spelled += [flag, value.capitalize()] if value else [flag]
            continue
        is_switch = name in switches
        if not is_switch or (equals and value.lower() not in ("true", "false")):
            spelled.append(flag + equals + value)
            continue
        if not equals and words and words[0].lower() in ("true", "false"):
            value = words.pop(0)
        path, dot, name = flag[2:].rpartition(".")
        spelled.append(f"--{path}{dot}no-{name}" if value.lower() == "false" else flag)
    return spelled


def _tables(settings: BaseModel, path: str = "") -> dict[str, dict[str, Any]]:
    """Returns the settings that are tables, such as policy.settings, by name."""
    found: dict[str, dict[str, Any]] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            found |= _tables(value, f"{path}{name}.")
        elif isinstance(value, dict):
            found[path + name] = deepcopy(value)
    return found


def _with_tables(arguments: Sequence[str], tables: dict[str, dict[str, Any]]) -> list[str]:
    """Returns the arguments with --policy.settings.depth 3 laid over the table, which one flag gives as JSON."""
    kept: list[str] = []
    given: dict[str, dict[str, Any]] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        name = next((name for name in tables if f"{flag}.".startswith(f"--{name}.")), "")
        if not name:
            kept.append(word)
            continue
        if not equals and (not words or words[0].startswith("--")):
            raise ConfigError(f"{flag} needs a value: write it as in {flag} 3")
        text = value if equals else words.pop(0)
        try:
            value = parse_json(text)
        except ValueError:
            value = text  # a text needs no quotes
        if flag != f"--{name}":
            *path, last = flag.removeprefix(f"--{name}.").replace("-", "_").split(".")
            table = given.setdefault(name, tables[name])
            for key in path:
                table = table.setdefault(key, {})
            table[last] = value
        elif isinstance(value, dict):
            given[name] = tables[name] = value
        else:
            kept += [flag, text]  # the settings say what is wrong with it
    return kept + [word for name, table in given.items() for word in (f"--{name}", json.dumps(table))]


@lru_cache
def _shape(model: type[BaseModel]) -> type:
    """Returns a dataclass with the fields of a model, their flags and their help."""
    return dataclasses.make_dataclass(model.__name__, fields_of(model), frozen=True)


def fields_of(model: type[BaseModel]) -> list[Field]:
    """Returns the settings of a model as arguments, with their docstrings as help."""
    fields: list[Field] = []
    docs = _docs(model.__module__).get(model.__name__, {})
    for name, info in model.model_fields.items():
        if isinstance(info.default, BaseModel):
            section = type(info.default)
            help = tyro.conf.arg(help=section.__doc__)  # else tyro looks for it in source code that is not there
            shape: Any = Annotated[_shape(section), help]
            fields.append((name, shape, dataclasses.field(default=_plain(info.default))))
            continue
        aliases = tuple(str(extra) for extra in info.metadata if isinstance(extra, ShortFlag))
        is_table = isinstance(info.default, dict)
        marks = [extra for extra in info.metadata if isinstance(extra, Kind)]
        metavar = "JSON" if is_table else next((mark.metavar for mark in marks), None)
        argument = tyro.conf.arg(help=docs.get(name), aliases=aliases or None, metavar=metavar)
        kind, default = (str, json.dumps(info.default)) if is_table else (info.annotation, info.default)
        annotated: Any = Annotated[plain_union(kind), argument]
        for mark in marks:  # for completion
            annotated = Annotated[annotated, mark]
        fields.append((name, annotated, default))
    return fields


@lru_cache
def _docs(module: str) -> dict[str, dict[str, str]]:
    """Returns the strings below the fields of a module's classes, by class and field; none without source code.

    pydantic could collect them, but does so for all models whenever they are imported, which takes as long as the rest.
    """
    found: dict[str, dict[str, str]] = {}
    with suppress(OSError):
        tree = ast.parse(inspect.getsource(sys.modules[module]))
        for kind in [node for node in tree.body if isinstance(node, ast.ClassDef)]:
            for place in pairwise(kind.body):
                match place:
                    case ast.AnnAssign(target=ast.Name(field)), ast.Expr(ast.Constant(str(text))):
                        found.setdefault(kind.name, {})[field] = " ".join(text.split())
    return found


def _plain(settings: BaseModel) -> Any:
    """Returns a model's values in the dataclass of its shape."""
    return _shape(type(settings))(**_values(settings))


def _values(settings: BaseModel) -> dict[str, Any]:
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    plain = {name: _plain(value) for name, value in values.items() if isinstance(value, BaseModel)}
    return values | plain | {name: json.dumps(value) for name, value in values.items() if isinstance(value, dict)}
