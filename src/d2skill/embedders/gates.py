"""The gates of embedding models: below which similarity a key is of something else.

They belong to the model, and were measured by `d2skill calibrate`, or published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from d2skill.errors import ConfigError

KNOWN = {
    "qwen3-embedding-0.6b": (0.7, 0.7),  # published, arXiv 2603.28716
    "all-minilm-l6-v2": (0.46, 0.77),
}
"""Task and step gate by the last part of a model's name, in lower case."""


@dataclass(frozen=True, slots=True)
class Gates:
    """The gates of a model, as far as they are set or known."""

    model: str
    given_task: float | None
    given_step: float | None

    @property
    def task(self) -> float:
        """τ_sim of task keys; raises `ConfigError` if nobody knows it."""
        return self._known(0) if self.given_task is None else self.given_task

    @property
    def step(self) -> float:
        """τ_sim of step keys; raises `ConfigError` if nobody knows it."""
        return self._known(1) if self.given_step is None else self.given_step

    def _known(self, which: int) -> float:
        name = re.sub(r"[^a-z0-9.]+", "-", self.model.rstrip("/").rpartition("/")[2].lower())
        if name not in KNOWN:
            raise ConfigError(
                f'no similarity gates are known for the embedding model "{self.model}": measure them by '
                "`d2skill calibrate`, and set embedder.task_gate and embedder.step_gate"
            )
        return KNOWN[name][which]
