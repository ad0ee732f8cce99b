"""Settings as command-line flags: tyro parses them, pydantic validates them.

tyro could build the pydantic models itself, but would print a value out of range as a page of pydantic's own. So
it gets dataclasses of the same shape, made from the models; parsed values go through `Config` as a file's do.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import tyro
from pydantic import BaseModel, ValidationError

from d2skill.config import Config, HousesConfig, toml_files
from d2skill.config.base import ShortFlag
from d2skill.errors import ConfigError
from d2skill.utils.annotations import plain_union

Field = tuple[str, Any, Any]
"""Name, type and default of an argument; `tyro.MISSING` as default for one that has to be given."""

_Model = TypeVar("_Model", bound=BaseModel)
_CONFIG_HELP = (
    "Preset (`d2skill config list`) or TOML file that the flags are laid over; without one, the preset named as the "
    "environment is, such as webshop, else laptop"
)
_DESCRIPTION = """Train a policy together with its skill bank.

Settings come from a preset or a TOML file (--config), and each of them can be set by a flag."""


def parse_settings(arguments: Sequence[str], prog: str) -> Config:
    """Returns the settings of a preset or file, with flags laid over them.

    Raises `ConfigError` for a value out of range; tyro itself ends the program with status 2 at an unknown flag.
    """
    return _parse(arguments, prog, _DESCRIPTION, lambda config: config)[1]


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
    config: Field = ("config", Annotated[str, tyro.conf.arg(help=_CONFIG_HELP)], "laptop")
    flags = [field for field in fields_of(type(base)) if field[0] not in without]
    shape = dataclasses.make_dataclass("Arguments", [*own, config, *flags], frozen=True)
    values = _values(base)
    shown = {field[0]: values[field[0]] for field in flags}
    default = shape(**{field[0]: field[2] for field in own}, config=name, **shown)
    spelled = _spelled(arguments, _switches(type(base)))
    given: Any = tyro.cli(shape, prog=prog, description=description, args=spelled, default=default)
    values = base.model_dump() | {name: dataclasses.asdict(given)[name] for name in shown}
    try:
        return given, type(base).model_validate(values)
    except ValidationError as error:
        raise ConfigError(toml_files.explain(error)) from None


def _named_config(arguments: Sequence[str]) -> str:
    """Returns the preset or file that --config names: the other flags have their defaults from it.

    Without --config it is the preset named like the environment, else laptop.
    """
    kind = _last(arguments, "--env", "--env.kind")
    return _last(arguments, "--config") or (kind if kind in toml_files.presets() else "laptop")


def _last(arguments: Sequence[str], *flags: str) -> str:
    """Returns the value of the last of some flags, "" without one."""
    found = ""
    for word, following in pairwise([*arguments, ""]):
        flag, equals, value = word.partition("=")
        if flag in flags:
            found = value if equals else following
    return found


def _switches(model: type[BaseModel], path: str = "") -> set[str]:
    """Returns the names of a model's boolean settings, such as bank.retire."""
    found: set[str] = set()
    for name, info in model.model_fields.items():
        if isinstance(info.default, BaseModel):
            found |= _switches(type(info.default), f"{path}{name}.")
        elif info.annotation is bool:
            found.add(path + name)
    return found


def _spelled(arguments: Sequence[str], switches: Collection[str]) -> list[str]:
    """Returns the arguments with --policy.train false written as --policy.no-train, tyro's form."""
    spelled: list[str] = []
    words = list(arguments)
    while words:
        flag, equals, value = words.pop(0).partition("=")
        is_switch = flag.startswith("--") and flag[2:].replace("-", "_") in switches
        if not is_switch or (equals and value.lower() not in ("true", "false")):
            spelled.append(flag + equals + value)
            continue
        if not equals and words and words[0].lower() in ("true", "false"):
            value = words.pop(0)
        path, dot, name = flag[2:].rpartition(".")
        spelled.append(f"--{path}{dot}no-{name}" if value.lower() == "false" else flag)
    return spelled


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
        argument = tyro.conf.arg(help=docs.get(name), aliases=aliases or None)
        fields.append((name, Annotated[plain_union(info.annotation), argument], info.default))
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
    return {
        name: _plain(value) if isinstance(value := getattr(settings, name), BaseModel) else value
        for name in type(settings).model_fields
    }
