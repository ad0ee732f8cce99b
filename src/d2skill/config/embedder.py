"""Settings of the embedder: vectors for retrieval keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from d2skill.config.base import EndpointConfig, Settings
from d2skill.config.parts import EMBEDDER, Kind, Table, require_own_kind


class EmbedderConfig(Settings):
    """Vectors for retrieval keys."""

    kind: Annotated[str, Kind(EMBEDDER)] = "hashed"
    """hashed: words and word pairs, needs nothing; transformers: an embedding model on this machine; openai: one
    behind a server; or package.module:Class"""
    settings: Table = Field({})
    """Settings of an embedder of your own; also one by one, as in --embedder.settings.size 3"""
    folder: Path | None = None
    """Folder that the module of your own embedder lies in, beside the current one; a run records it"""
    dimension: int = Field(512, ge=16, le=2**16)
    """Length of a hashed vector; models have their own"""
    model: str = "Qwen/Qwen3-Embedding-0.6B"
    """Model id or folder (transformers)"""
    prompt: str | None = None
    """Text that a model gets before each text to embed; without one, the model's own default, if it has one"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights (transformers); vectors are float32 always"""
    device: str = "auto"
    """cpu, cuda, cuda:1, or auto, a GPU if there is one (transformers)"""
    batch_tokens: int | None = Field(None, ge=64, le=10**8)
    """Tokens in one forward pass (transformers), longer texts excepted; without one, 1024 on a CPU, 16384 on a GPU"""
    endpoint: EndpointConfig = EndpointConfig()
    batch_texts: int = Field(128, ge=1, le=10**4)
    """Texts in one request (openai), at most"""
    cache: str | None = None
    """Folder of the cache of vectors; without one, in the user's cache folder; none turns it off"""
    cache_mb: int = Field(512, ge=1, le=10**6)
    """Size of the cache of vectors for one model in MB, at most; least recently used vectors go first"""
    task_gate: float | None = Field(None, ge=-1, le=1)
    """Similarity gate τ_sim of task keys; without one, the embedder's own (`d2skill calibrate` measures it)"""
    step_gate: float | None = Field(None, ge=-1, le=1)
    """Similarity gate τ_sim of step keys; without one, the embedder's own"""

    @model_validator(mode="after")
    def _settings_are_used(self) -> EmbedderConfig:
        require_own_kind(EMBEDDER, self.kind, self.settings)
        if self.endpoint.thinking is not None:
            raise ValueError("embedder.endpoint.thinking is for a model that chats: leave it out")
        return self
