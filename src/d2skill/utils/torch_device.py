"""Choice of the torch device for a model."""

from __future__ import annotations

import os
from typing import Any

from d2skill.errors import ConfigError


def device_named(name: str, setting: str) -> Any:
    """Returns a torch device; "auto" is a GPU if there is one, in each of several processes one of its own.

    Raises `ConfigError` for a device that is not available.
    """
    import torch

    if name == "auto":
        own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if int(os.environ.get("WORLD_SIZE") or 1) > 1 else "cuda"
        name = own if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'{setting} is "{name}", not to be had here: use cpu or auto') from error
