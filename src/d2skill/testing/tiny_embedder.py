"""A tiny embedder: hashed words."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field


class TinyEmbedder:
    """Counts words in hashed buckets. `d2skill calibrate` measures good gates for an embedder."""

    task_gate = 0.3
    step_gate = 0.6

    class Settings(BaseModel, extra="forbid"):
        """Settings of the embedder: `--embedder.settings.dimension 64`, or [embedder.settings] in TOML."""

        dimension: int = Field(256, ge=16)

    def __init__(self, settings: Settings | None = None) -> None:
        self.dimension = (settings or self.Settings()).dimension
        self.fingerprint = f"tiny-embedder-v1/{self.dimension}"

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns unit vectors, shape [texts, dimension]; the empty text has one as well."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split() or [""]:
                vectors[row, crc32(word.encode("utf-8", "replace")) % self.dimension] += 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors
