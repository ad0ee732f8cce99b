"""Environments: what the agent acts in. `make_environment` finds one by its kind.

Beside the built-in kinds there are classes of one's own, `package.module:Class`; text environments with Gymnasium's
interface, `gymnasium:package.module:Class`; and what installed packages declare as entry points of the group
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

    A class is made with no argument, or with `data=settings.data` if that is set. Raises `ConfigError` for a kind that
    does not exist, cannot be imported or made, or is no environment, and for a data folder that nothing would read.
    """
    if settings.kind == "houses":
        if settings.data is not None:
            raise ConfigError(
                f"env.data is {settings.data}, but houses are generated and read no data: leave it out, or set "
                "env.kind to alfworld"
            )
        return cast(Environment, _builtin("houses")(settings.houses))
    if settings.kind == "alfworld":
        return cast(Environment, _builtin("alfworld")(settings.data))
    if settings.kind == "webshop":
        return cast(Environment, _builtin("webshop")(settings.data, settings.webshop))
    if settings.kind.startswith(_GYMNASIUM):
        from d2skill.envs.gymnasium import GymnasiumEnvironment

        make = _maker(settings.kind.removeprefix(_GYMNASIUM), settings.data)
        return cast(Environment, _made(settings.kind, lambda: GymnasiumEnvironment(make)))
    path = settings.kind if ":" in settings.kind else _declared(settings.kind)
    environment = _made(settings.kind, _maker(path, settings.data))
    _verify(environment, settings.kind)
    return cast(Environment, environment)


def _builtin(kind: str) -> Callable[..., object]:
    """Returns the class of a built-in kind. It is our own code, so whatever goes wrong in it is not dressed up."""
    module, name = KINDS[kind].split(":")
    return cast(Callable[..., object], getattr(import_module(module), name))


def _declared(kind: str) -> str:
    """Returns the "module:Class" that an installed package declares for a kind."""
    declared = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    if kind not in declared:
        known = ", ".join([*KINDS, *sorted(declared)])
        raise ConfigError(
            f'there is no environment "{kind}": set env.kind to one of {known}, or to package.module:Class or '
            "gymnasium:package.module:Class"
        )
    return declared[kind].partition("[")[0].strip()


def _maker(path: str, data: Path | None) -> Callable[[], object]:
    """Returns a call without arguments that makes what `path` names, with the data folder if there is one."""
    target = _imported(path)
    if data is None:
        return target
    if not _takes_data(target):
        raise ConfigError(
            f"env.data is {data}, but {path} takes no data: leave it out, or give the class a parameter named data"
        )
    return partial(target, data=data)


def _imported(path: str) -> Callable[..., object]:
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


def _takes_data(target: Callable[..., object]) -> bool:
    try:
        return "data" in signature(target).parameters
    except (TypeError, ValueError):  # some classes written in C have no signature
        return False


def _made(kind: str, make: Callable[[], object]) -> object:
    """Calls a constructor that is not ours. What it raises is the user's to mend, so it is told in a sentence."""
    try:
        return make()
    except D2SkillError:
        raise
    except Exception as error:
        raise ConfigError(
            f"environment {kind} could not be made ({type(error).__name__}: {error}): its class is called without "
            "arguments, or with data=FOLDER if env.data is set"
        ) from error


def _verify(environment: object, kind: str) -> None:
    """Raises `ConfigError` for an object that is not an `Environment`."""
    missing = [name for name in ("task_ids", "start") if not callable(getattr(environment, name, None))]
    if not missing:
        return
    gymnasium = all(callable(getattr(environment, name, None)) for name in ("reset", "step"))
    way_out = f"env.kind gymnasium:{kind} adapts it" if gymnasium else "see d2skill.protocols.Environment"
    raise ConfigError(f"{kind} is no environment, it lacks {' and '.join(missing)}: {way_out}")
