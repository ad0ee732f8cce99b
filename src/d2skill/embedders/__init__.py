"""Embedders: maps from texts to unit vectors. `make_embedder` builds the one that the settings name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from d2skill.config import EmbedderConfig
from d2skill.embedders.cache import CachedEmbedder, DiskCache, default_cache_folder
from d2skill.embedders.gates import ModelGates
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.errors import ConfigError
from d2skill.protocols import Embedder

KINDS = {
    "transformers": "d2skill.embedders.transformers:TransformersEmbedder",
    "openai": "d2skill.embedders.openai:EndpointEmbedder",
}
"""Kind to "module:Class" of those that need more than NumPy; a class takes `EmbedderConfig`."""


def make_embedder(settings: EmbedderConfig) -> Embedder:
    """Returns the embedder of `settings.kind`, with caches if it is a model; only its own module is loaded.

    Raises `ConfigError` for a model that cannot be loaded or reached. The gates of a model raise it when they are asked
    for and neither set nor known.
    """
    if settings.kind == "hashed":
        return HashedEmbedder(settings.dimension, settings.task_gate, settings.step_gate)
    module, class_name = KINDS[settings.kind].split(":")
    try:
        embedder_class = getattr(import_module(module), class_name)
    except ImportError as error:
        raise ConfigError(
            f'embedder "{settings.kind}" needs the package {error.name}: pip install "d2skill[train]"'
        ) from None  # the package of an endpoint is loaded when it is connected
    model: Any = embedder_class(settings)
    remote = settings.kind == "openai"
    disk = None
    if settings.cache != "none":
        folder = Path(settings.cache).expanduser() if settings.cache else default_cache_folder()
        model_key = f"{model.fingerprint} at {model.url}" if remote else model.fingerprint
        disk = DiskCache(folder, model_key, model.dimension, settings.cache_mb)
    name = settings.endpoint.model if remote else settings.model
    return CachedEmbedder(model, disk, ModelGates(name, settings.task_gate, settings.step_gate))
