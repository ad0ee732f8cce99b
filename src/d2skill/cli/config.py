"""`d2skill config list` and `d2skill config show`: the presets."""

from __future__ import annotations

from functools import partial

from tyro.conf import Positional

from d2skill.cli.bank.tables import say
from d2skill.cli.output import Output
from d2skill.config import toml_files


def config_list() -> Output:
    """List the presets."""
    presets = toml_files.presets()
    return Output({"presets": presets}, partial(say, *(f"{name:16} {purpose}" for name, purpose in presets.items())))


def config_show(name: Positional[str] = "laptop") -> Output:
    """Print all settings of a preset or a file as TOML, to start a file of one's own from.

    Args:
        name: Preset or TOML file.
    """
    config = toml_files.load(name)
    return Output(config.model_dump(mode="json"), partial(say, toml_files.dump(config)))
