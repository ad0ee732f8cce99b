"""Settings for a program: `load_config` lays some values over a preset, a TOML file or the settings of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from d2skill.config import Config
from d2skill.config.key_hosts import allow_named
from d2skill.config.toml_files import explain, load, presets, read_settings
from d2skill.errors import ConfigError
from d2skill.utils.arguments import path_of


def load_config(source: str | PathLike[str] = "laptop", **overrides: Any) -> Config:
    """Returns the settings of a preset, a TOML file or a run folder, with some values laid over them.

    An override is a setting by its dotted name, or a section with some of its settings. The settings of a run are for
    another run: its folder `out` is left out.

    >>> from d2skill import load_config
    >>> config = load_config("laptop", seed=3, train={"iterations": 5}, **{"bank.skills": "paper"})
    >>> config.seed, config.train.iterations, config.bank.skills
    (3, 5, 'paper')
    >>> load_config("laptop", train={"iteration": 5})
    Traceback (most recent call last):
    d2skill.errors.ConfigError: there is no setting train.iteration: did you mean train.iterations?

    Args:
        source: Name of a preset, or path of a TOML file or of a run folder.
        overrides: Values to lay over it.

    Raises:
        ConfigError: There is no such source or setting, or a value is out of range.
    """
    values = _load(source).model_dump()
    _lay_over(values, overrides)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None
    allow_named(config, set(_names(overrides)))
    return config


def _load(source: str | PathLike[str]) -> Config:
    file = path_of(source, "a source of settings") / "config.toml"
    if file.is_file():
        return read_settings(file).model_copy(update={"out": None})
    known = presets()
    if str(source) in known or Path(source).is_file():
        return load(str(source))
    near = get_close_matches(str(source), known, 1)
    meant = f": did you mean {near[0]}?" if near else ""
    raise ConfigError(f'"{source}" is no preset ({", ".join(known)}), TOML file or run folder{meant}')


def _lay_over(values: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Replaces values by those of overrides, whose names may be dotted; tables are laid over tables."""
    for name, value in overrides.items():
        first, _, rest = name.partition(".")
        value, below = {rest: value} if rest else value, values.get(first)
        if isinstance(value, Mapping) and isinstance(below, dict):
            _lay_over(below, value)
        else:
            values[first] = value


def _names(overrides: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yields the dotted names of the settings in overrides."""
    for name, value in overrides.items():
        yield path + name
        if isinstance(value, Mapping):
            yield from _names(value, f"{path}{name}.")
