"""Contract of a tracker as rules that run on any."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import Any

from d2skill.protocols import Tracker
from d2skill.testing.rules import Finding, RuleViolation, findings_of, require, rule
from d2skill.utils.text import short

_LINES: list[dict[str, Any]] = [
    {"iteration": 0, "env_steps": 0, "bank/task": 0, "time/seconds": 1.5, "warm_start/loss": 0.25},
    {"iteration": 1, "env_steps": 60, "bank/task": 3, "time/seconds": 2.5, "train/success": 0.5, "train/gain": None},
    {"iteration": 2, "env_steps": 121, "bank/task": 4, "time/seconds": 3.5, "validation/with_skills": 1},
]


def check_tracker(tracker: Tracker) -> list[Finding]:
    """Checks the contract of `Tracker`; one that is a context manager is entered and left, as a run does.

    >>> from d2skill.testing import TinyTracker, check_tracker
    >>> all(finding.ok for finding in check_tracker(TinyTracker()))
    True
    """
    checks = _Checks(tracker)
    return findings_of([[checks.takes, checks.unchanged], [checks.leaves], [checks.passes]])


class _Checks:
    """The rules, and the lines that were logged."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._given = [dict(line) for line in _LINES]

    @rule("log(metrics) takes each iteration's metrics, among them None, and names that come and go")
    def takes(self) -> str:
        with self._entered():
            for line in self._given:
                self._tracker.log(line)
        return f"{len(self._given)} iterations"

    @rule("it leaves the metrics as they are, as other trackers get them too")
    def unchanged(self) -> str:
        for line, given in zip(_LINES, self._given, strict=True):
            require(line == given, f"{short(line)} has become {short(given)}: work on a copy")
        return "they are as before"

    @rule("a run that is gone on with enters it again, and closing it twice does no harm")
    def leaves(self) -> str:
        with self._entered():
            self._tracker.log(dict(_LINES[-1]))
        close = getattr(self._tracker, "close", None)
        if callable(close):
            close()
            close()
        return "entered and left again" if isinstance(self._tracker, AbstractContextManager) else "it is not entered"

    @rule("it does not hold back an exception of the run")
    def passes(self) -> str:
        try:
            with self._entered():
                raise KeyError("an error of the run")
        except KeyError:
            return "the exception came through"
        raise RuleViolation("the exception is gone: return None from __exit__")

    def _entered(self) -> ExitStack:
        """Returns the tracker entered, if it is a context manager, as a context."""
        stack = ExitStack()
        if isinstance(self._tracker, AbstractContextManager):
            stack.enter_context(self._tracker)
        return stack
