"""Environments that agents act in; `make_environment` makes one of its kind.

Beside the built-in kinds there are your own classes, `package.module:Class`; text environments with Gymnasium's
interface, `gymnasium:package.module:Class`; and entry points of installed packages in the group
`d2skill.environments`. Only the module of the kind that is asked for is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from inspect import signature
from pathlib import Path
from typing import cast

from d2skill.config import EnvConfig
from d2skill.errors import ConfigError, D2SkillError
from d2skill.protocols import Environment

KINDS = {
    "houses": "d2skill.envs.houses.environment:HousesEnvironment",
    "alfworld": "d2skill.envs.alfworld.environment:AlfworldEnvironment",
    "webshop": "d2skill.envs.webshop.environment:WebshopEnvironment",
}
"""Kind to "module:Class" of the built-in environments."""

ENTRY_POINTS = "d2skill.environments"
"""Entry point group in which an installed package declares its environments."""

_GYMNASIUM = "gymnasium:"


def make_environment(settings: EnvConfig) -> Environment:
    """Returns the environment that the settings ask for.

    A class is called with no argument, or with `data=settings.data` if that is set. Raises `ConfigError` for a kind
    that does not exist, cannot be imported or made, or is no environment, and for a data folder that nothing reads.
    """
    kind, data = settings.kind, settings.data
    if kind in KINDS:
        return _make_builtin(settings)
    if kind.startswith(_GYMNASIUM):
        from d2skill.envs.gymnasium import GymnasiumEnvironment

        make = _constructor(kind.removeprefix(_GYMNASIUM), data)
        return cast(Environment, _make(kind, lambda: GymnasiumEnvironment(make)))
    environment = _make(kind, _constructor(kind if ":" in kind else _entry_point(kind), data))
    missing = [name for name in ("task_ids", "start") if not callable(getattr(environment, name, None))]
    if missing:
        gymnasium = all(callable(getattr(environment, name, None)) for name in ("reset", "step"))
        way_out = f"env.kind gymnasium:{kind} adapts it" if gymnasium else "see d2skill.protocols.Environment"
        raise ConfigError(f"{kind} is no environment, it lacks {' and '.join(missing)}: {way_out}")
    return cast(Environment, environment)


def _make_builtin(settings: EnvConfig) -> Environment:
    """Returns an environment of a built-in kind. Its code is ours, so that errors in it pass unchanged."""
    if settings.kind == "houses" and settings.data is not None:
        raise ConfigError(
            f"env.data is {settings.data}, but houses are generated and read no data: leave it out, or set "
            "env.kind to alfworld"
        )
    arguments: dict[str, tuple[object, ...]] = {
        "houses": (settings.houses,),
        "alfworld": (settings.data,),
        "webshop": (settings.data, settings.webshop),
    }
    module, _, name = KINDS[settings.kind].partition(":")
    return cast(Environment, getattr(import_module(module), name)(*arguments[settings.kind]))


def _entry_point(kind: str) -> str:
    """Returns the "module:Class" that an installed package declares for a kind."""
    declared = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    if kind not in declared:
        known = ", ".join([*KINDS, *sorted(declared)])
        raise ConfigError(
            f'there is no environment "{kind}": set env.kind to one of {known}, or to package.module:Class or '
            "gymnasium:package.module:Class"
        )
    return declared[kind].partition("[")[0].strip()


def _constructor(path: str, data: Path | None) -> Callable[[], object]:
    """Returns the class that `path` names, bound to the data folder if there is one."""
    target = _import(path)
    if data is None:
        return target
    try:
        takes_data = "data" in signature(target).parameters
    except (TypeError, ValueError):  # some classes written in C have no signature
        takes_data = False
    if not takes_data:
        raise ConfigError(
            f"env.data is {data}, but {path} takes no data: leave it out, or give the class a parameter named data"
        )
    return partial(target, data=data)


def _import(path: str) -> Callable[..., object]:
    """Imports "module:Class". The current directory is put on `sys.path` and stays: the module may import later."""
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ConfigError(f'"{path}" names no class: write package.module:Class')
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        target: object = import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"module {module_name} of environment {path} cannot be imported ({type(error).__name__}: {error}): "
            f"run from the folder it lies in (this is {here}), or install its package"
        ) from error
    for part in name.split("."):
        if not hasattr(target, part):
            raise ConfigError(f"module {module_name} has no {name}: env.kind is package.module:Class")
        target = getattr(target, part)
    if not callable(target):
        raise ConfigError(f"{path} is a {type(target).__name__}, not a class: name the class, not an object of it")
    return target


def _make(kind: str, constructor: Callable[[], object]) -> object:
    """Calls a constructor that is not ours; whatever it raises becomes a sentence for the user, who can fix it."""
    try:
        return constructor()
    except D2SkillError:
        raise
    except Exception as error:
        raise ConfigError(
            f"environment {kind} could not be made ({type(error).__name__}: {error}): its class is called without "
            "arguments, or with data=FOLDER if env.data is set"
        ) from error
