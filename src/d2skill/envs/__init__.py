"""Environments that agents act in; `make_environment` makes one of its kind.

Beside the built-in kinds there are your own classes and entry points (`config.parts`), and text environments with
Gymnasium's interface, `gymnasium:package.module:Class`.
"""

from __future__ import annotations

from typing import Any, cast

from d2skill.config import EnvConfig
from d2skill.config.parts import ENVIRONMENT, GYMNASIUM, bound, find_part, require_protocol, takes
from d2skill.errors import ConfigError
from d2skill.protocols import Environment, KnowsAnswers


def make_environment(settings: EnvConfig) -> Environment:
    """Returns the environment that the settings ask for.

    A class of one's own is called with `settings.args`, and with `data=settings.data` if that is set. Raises
    `ConfigError` for a kind that does not exist, cannot be imported or made, or is no environment, and for a data
    folder that nothing reads.
    """
    kind, data = settings.kind, settings.data
    if kind in ENVIRONMENT.built_in:
        return _make_builtin(settings)
    path = kind.removeprefix(GYMNASIUM)
    if path != kind and ":" not in path:
        raise ConfigError(f'"{path}" names no class: write {GYMNASIUM}package.module:Class')
    target = find_part(ENVIRONMENT, path, settings.folder)
    if data is not None and not takes(target, "data"):
        raise ConfigError(
            f"env.data is {data}, but {path} takes no data: leave it out, or give the class a parameter named data"
        )
    more = {} if data is None else {"data": data}
    make = bound(ENVIRONMENT, kind, target, settings.args, **more)
    if path != kind:
        from d2skill.envs.gymnasium import GymnasiumEnvironment

        return cast(Environment, bound(ENVIRONMENT, kind, GymnasiumEnvironment, {"make": make})())
    made = make()
    gymnasium = all(callable(getattr(made, name, None)) for name in ("reset", "step"))
    adapts = f"env.kind {GYMNASIUM}{kind} adapts it" if gymnasium else ""
    require_protocol(ENVIRONMENT, kind, made, adapts)
    return cast(Environment, made)


def answers_of(settings: EnvConfig) -> KnowsAnswers | None:
    """Returns the environment of the settings if it tells its answers; it is made only then. Else None."""
    target = None if settings.kind.startswith(GYMNASIUM) else find_part(ENVIRONMENT, settings.kind, settings.folder)
    tells = isinstance(target, type) and issubclass(target, KnowsAnswers)
    return cast(KnowsAnswers, make_environment(settings)) if tells else None


def _make_builtin(settings: EnvConfig) -> Environment:
    """Returns an environment of a built-in kind. Its code is ours, so that errors in it pass unchanged."""
    if settings.kind == "houses" and settings.data is not None:
        raise ConfigError(
            f"env.data is {settings.data}, but houses are generated and read no data: leave it out, or set "
            "env.kind to alfworld"
        )
    arguments: dict[str, tuple[Any, ...]] = {
        "houses": (settings.houses,),
        "alfworld": (settings.data,),
        "webshop": (settings.data, settings.webshop),
        "search-qa": (settings.data, settings.search_qa),
    }
    return cast(Environment, find_part(ENVIRONMENT, settings.kind)(*arguments[settings.kind]))
