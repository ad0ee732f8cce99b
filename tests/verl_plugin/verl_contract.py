"""What the contract tests share: settings of verl as ours become them, and its source."""

import inspect
from pathlib import Path

from hydra import compose, initialize_config_module

from d2skill.config import Config
from d2skill.config.toml_files import load
from d2skill.verl.overrides import overrides


def changed(**sections) -> Config:
    """The preset alfworld-verl with some settings changed."""
    return Config.model_validate(merged(load("alfworld-verl").model_dump(), sections))


def merged(tree, changes):
    inner = {name: merged(tree[name], value) for name, value in changes.items() if isinstance(value, dict)}
    return tree | changes | inner


def composed(config: Config, run="/runs/one", resume=None):
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=overrides(config, Path(run), resume=resume))


def source(what) -> str:
    return " ".join(inspect.getsource(what).split())
