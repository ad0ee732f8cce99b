"""Similarity gates of embedding models: the cosine similarity from which on a key counts as related.

A gate belongs to a model. The known ones were measured by `d2skill calibrate` or published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from d2skill.errors import ConfigError

KNOWN_GATES = {
    "qwen3-embedding-0.6b": (0.7, 0.7),  # published, arXiv 2603.28716
    "all-minilm-l6-v2": (0.46, 0.77),
}
"""Task and step gate by the last part of a model's name, in lower case."""


@dataclass(frozen=True, slots=True)
class ModelGates:
    """Task and step gate of a model: those that the settings give, else the known ones.

    A gate that is neither given nor known raises `ConfigError` when it is asked for.
    """

    model: str
    given_task: float | None
    given_step: float | None

    @property
    def task(self) -> float:
        """τ_sim of task keys."""
        return self._known()[0] if self.given_task is None else self.given_task

    @property
    def step(self) -> float:
        """τ_sim of step keys."""
        return self._known()[1] if self.given_step is None else self.given_step

    def _known(self) -> tuple[float, float]:
        name = re.sub(r"[^a-z0-9.]+", "-", self.model.rstrip("/").rpartition("/")[2].lower())
        if name not in KNOWN_GATES:
            raise ConfigError(
                f'no similarity gates are known for the embedding model "{self.model}": measure them by '
                "`d2skill calibrate`, and set embedder.task_gate and embedder.step_gate"
            )
        return KNOWN_GATES[name]
