"""Trackers chosen by name: made, told each iteration once, and left out as soon as one fails.

`trackers.json` in the run folder has for each its `id` and the last iteration it was told, so that a run which is
resumed goes on in the same record, and no iteration is in it twice.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from d2skill.config import Config
from d2skill.config.parts import TRACKER, find_part, folder_of, make_part, takes
from d2skill.runs.folder import RunFolder
from d2skill.trackers.base import TrackedRun
from d2skill.utils.atomic_files import read_json, write_json
from d2skill.utils.terminal import Terminal


class NamedTracker:
    """A tracker by its name in `track`, which never stops training.

    One that fails is left out from then on, with one sentence of warning. What libraries print goes to stderr.
    """

    def __init__(self, kind: str, run: RunFolder, config: Config) -> None:
        """Finds the tracker's class; raises `ConfigError` if it or its package is not there."""
        self._kind, self._run, self._config = kind, run, config
        known = self._records().get(kind, {})
        self._folder = folder_of(kind, Path(known["folder"]) if "folder" in known else None)
        self._class = find_part(TRACKER, kind, self._folder)
        self._id: str | None = known.get("id")
        self._told: int = known.get("iteration", -1)
        self._tracker: Any = None
        self._is_behind = True  # until it was told of what came before it

    def __enter__(self) -> NamedTracker:
        with self._left_out_if_it_fails("start"):
            run = TrackedRun(self._run.path.absolute(), self._config, self._id)
            more = {"run": run} if takes(self._class, "run") else {}
            tracker = make_part(TRACKER, self._kind, {}, self._folder, **more)
            if isinstance(tracker, AbstractContextManager):
                tracker.__enter__()
            self._tracker = tracker
            known, self._id = self._id, getattr(tracker, "id", self._id)
            if self._id != known:
                self._told = -1
            self._record()
        return self

    def __exit__(self, *error: Any) -> None:
        if isinstance(self._tracker, AbstractContextManager):
            with self._left_out_if_it_fails("end"):
                self._tracker.__exit__(*error)
        self._tracker = None

    def log(self, metrics: dict[str, Any]) -> None:
        """Tells the tracker an iteration, and at first those before it, unless it was told before."""
        if self._tracker is None:
            return
        with self._left_out_if_it_fails(f"take iteration {metrics['iteration']}"):
            before = self._run.read_metrics() if self._is_behind else []
            for line in [*before, metrics]:
                if self._told < line["iteration"] <= metrics["iteration"]:
                    self._tracker.log(dict(line))
                    self._told = line["iteration"]
            self._is_behind = False
            self._record()

    def _records(self) -> dict[str, Any]:
        return dict(read_json(self._run.trackers)) if self._run.trackers.exists() else {}

    def _record(self) -> None:
        """Writes down how far the tracker is."""
        record: dict[str, Any] = {"iteration": self._told}
        record |= {} if self._id is None else {"id": self._id}
        record |= {} if self._folder is None else {"folder": str(self._folder)}
        write_json(self._run.trackers, self._records() | {self._kind: record})

    @contextmanager
    def _left_out_if_it_fails(self, what: str) -> Iterator[None]:
        try:
            with redirect_stdout(sys.stderr):
                yield
        except (Exception, SystemExit) as error:
            self._tracker = None
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            Terminal(stderr=True).print(
                f"d2skill: tracker {self._kind} could not {what} ({said}): the run goes on without it, and "
                f"{self._run.metrics} has its metrics",
                soft_wrap=True,
            )
