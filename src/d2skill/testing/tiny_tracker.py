"""A tiny tracker: it keeps the metrics, and writes them to a file at the end if it is given one."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel


class TinyTracker:
    """Receives the metrics of each iteration. A run enters it before the first, and leaves it at the end."""

    class Settings(BaseModel, extra="forbid"):
        """Settings of the tracker."""

        file: Path | None = None

    def __init__(self, settings: Settings | None = None) -> None:
        self._file = (settings or self.Settings()).file
        self.metrics: list[dict[str, Any]] = []

    def log(self, metrics: dict[str, Any]) -> None:
        """Takes the metrics of one iteration, flat names `group/name`; None where there is no number."""
        self.metrics.append(dict(metrics))

    def __enter__(self) -> TinyTracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.write_text("".join(json.dumps(line) + "\n" for line in self.metrics))
