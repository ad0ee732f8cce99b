"""`d2skill config list` and `d2skill config show`: the presets."""

from __future__ import annotations

from rich.console import Console
from tyro.conf import Positional

from d2skill.config import toml_files


def config_list() -> None:
    """List the presets."""
    for name, purpose in toml_files.presets().items():
        Console().print(f"{name:16} {purpose}", highlight=False, soft_wrap=True)


def config_show(name: Positional[str] = "laptop") -> None:
    """Print all settings of a preset or a file as TOML, to start a file of one's own from.

    Args:
        name: Preset or TOML file.
    """
    Console().print(toml_files.dump(toml_files.load(name)), markup=False, highlight=False, soft_wrap=True)
