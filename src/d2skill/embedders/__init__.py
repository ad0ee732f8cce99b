"""Texts to unit vectors: `make_embedder` builds the one that the settings name."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from d2skill.config import EmbedderConfig
from d2skill.protocols import Embedder

KINDS = {"hashed": "d2skill.embedders.hashed:HashedEmbedder"}
"""Kind to "module:Class"; a class takes the dimension."""


def make_embedder(settings: EmbedderConfig) -> Embedder:
    """Returns the embedder of `settings.kind`, loading only its own module."""
    module, name = KINDS[settings.kind].split(":")
    return cast(Embedder, getattr(import_module(module), name)(settings.dimension))
