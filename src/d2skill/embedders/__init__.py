"""Texts to unit vectors: `make_embedder` builds the one that the settings name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from d2skill.config import EmbedderConfig
from d2skill.embedders.cache import CachedEmbedder, DiskCache, default_folder
from d2skill.embedders.gates import Gates
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.errors import ConfigError
from d2skill.protocols import Embedder

KINDS = {
    "transformers": "d2skill.embedders.transformers:TransformersEmbedder",
    "openai": "d2skill.embedders.openai:EndpointEmbedder",
}
"""Kind to "module:Class" of those that need more than NumPy; a class has `from_settings`."""


def make_embedder(settings: EmbedderConfig) -> Embedder:
    """Returns the embedder of `settings.kind`, loading only its own module.

    One that is a model comes behind its caches. Raises `ConfigError` for a model that is not to be had, and when its
    gates are asked for and neither set nor known.
    """
    if settings.kind == "hashed":
        return HashedEmbedder(settings.dimension, settings.task_gate, settings.step_gate)
    module, name = KINDS[settings.kind].split(":")
    try:
        maker = getattr(import_module(module), name)
    except ImportError as error:
        raise ConfigError(
            f'embedder "{settings.kind}" needs the package {error.name}: pip install "d2skill[train]"'
        ) from None  # an endpoint's own package is asked for where it is connected
    model: Any = maker.from_settings(settings)
    remote = settings.kind == "openai"
    named = settings.endpoint.model if remote else settings.model
    disk = None
    if settings.cache != "none":
        folder = Path(settings.cache).expanduser() if settings.cache else default_folder()
        told_apart = f"{model.fingerprint} at {model.url}" if remote else model.fingerprint
        disk = DiskCache(folder, told_apart, model.dimension, settings.cache_mb)
    return CachedEmbedder(model, disk, Gates(named, settings.task_gate, settings.step_gate))
