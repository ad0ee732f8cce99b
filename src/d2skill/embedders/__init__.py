"""Embedders: maps from texts to unit vectors. `make_embedder` builds the one that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from d2skill.config import EmbedderConfig
from d2skill.config.parts import EMBEDDER, find_part, make_part
from d2skill.embedders.cache import CachedEmbedder, DiskCache, default_cache_folder
from d2skill.embedders.gates import ModelGates
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.protocols import Embedder


def make_embedder(settings: EmbedderConfig) -> Embedder:
    """Returns the embedder of the settings, with caches if it is a model, or one of your own (`config.parts`).

    Raises `ConfigError` for a model that cannot be loaded or reached. The gates of a model raise it when they are asked
    for and neither set nor known.
    """
    if settings.kind not in EMBEDDER.built_in:
        own = cast(Embedder, make_part(EMBEDDER, settings.kind, settings.settings, settings.folder))
        if settings.task_gate is None and settings.step_gate is None:
            return own
        task = own.task_gate if settings.task_gate is None else settings.task_gate
        step = own.step_gate if settings.step_gate is None else settings.step_gate
        return CachedEmbedder(own, None, ModelGates(settings.kind, task, step))
    if settings.kind == "hashed":
        return HashedEmbedder(settings.dimension, settings.task_gate, settings.step_gate)
    model: Any = find_part(EMBEDDER, settings.kind)(settings)  # the package of an endpoint is loaded when it connects
    remote = settings.kind == "openai"
    disk = None
    if settings.cache != "none":
        folder = Path(settings.cache).expanduser() if settings.cache else default_cache_folder()
        model_key = f"{model.fingerprint} at {model.url}" if remote else model.fingerprint
        disk = DiskCache(folder, model_key, model.dimension, settings.cache_mb)
    name = settings.endpoint.model if remote else settings.model
    return CachedEmbedder(model, disk, ModelGates(name, settings.task_gate, settings.step_gate))
