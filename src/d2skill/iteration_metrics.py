"""Metrics of an iteration: rollouts, bank, probe, seconds and memory (docs/metrics.md)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from time import perf_counter
from typing import Any

import numpy as np

from d2skill.evaluation.skill_probe import Effect
from d2skill.learner import BankUpdate
from d2skill.policies.answers import ANSWER_KINDS, count_answers
from d2skill.types import Arm, Group
from d2skill.utils.text import short


def describe(
    groups: Sequence[Group], update: BankUpdate | None, effects: Mapping[str, Sequence[Effect]]
) -> dict[str, Any]:
    """Returns the metrics of an iteration's rollouts, of what it did to the bank if that is known, and of its probe."""
    changes = asdict(update).items() if update else ()
    done = {f"bank/{name}": value for name, value in changes if value is not None}
    return _played(groups) | done | _heeded(effects)


def make_plain(metrics: dict[str, Any]) -> str:
    """Makes the values of metrics what JSON holds, in place: arrays and tensors of one element become numbers.

    Numbers that are not finite become None. Values that JSON cannot hold are taken out. Returns a sentence about the
    first of them, or "".
    """
    plain: dict[str, Any] = {}
    unwritable = ""
    for name, value in metrics.items():
        try:
            text = json.dumps({name: value}, default=lambda inner: inner.item())
            plain |= json.loads(text, parse_constant=lambda _: None)
        except Exception as error:
            problem = f"{type(value).__name__} {short(value)}, which JSON cannot hold ({type(error).__name__})"
            unwritable = unwritable or f"metric {name!r} is a {problem}: give a number, a text or a list of them"
    metrics.clear()
    metrics |= plain
    return unwritable


def peak_memory_mb() -> float:
    """Returns the peak memory of this process in MiB."""
    try:
        import resource
    except ImportError:  # not on Windows
        import psutil

        memory = psutil.Process().memory_info()
        return float(getattr(memory, "peak_wset", memory.rss)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes on macOS, KiB on Linux


class Clock:
    """Seconds between laps, as metrics."""

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self.laps: dict[str, float] = {}
        self._now = now
        self._last = now()

    def lap(self, name: str) -> None:
        """Ends the lap `name`."""
        now = self._now()
        self.laps[f"time/{name}"] = now - self._last
        self._last = now


def _played(groups: Sequence[Group]) -> dict[str, Any]:
    """Returns the metrics of an iteration's rollouts: success, length and skill use of each half."""
    metrics: dict[str, Any] = {}
    arms: tuple[tuple[Arm, str], ...] = (("skills", "skill_half"), ("none", "baseline_half"))
    for arm, name in arms:
        half = [t for group in groups for t in group.half(arm)]
        if not half:
            continue
        metrics[f"rollout/{name}_success"] = float(np.mean([t.success for t in half]))
        if scores := [t.score for t in half if t.score is not None]:
            metrics[f"rollout/{name}_score"] = sum(scores) / len(half)
        metrics[f"rollout/{name}_steps"] = float(np.mean([len(t.turns) for t in half]))
        if arm == "skills":
            turns = [turn for t in half for turn in t.turns]
            metrics["rollout/shown"] = float(np.mean([bool(turn.skill_ids) for turn in turns])) if turns else 0.0
    everyone = [t for group in groups for t in group.trajectories]
    metrics["rollout/invalid_actions"] = sum(t.invalid_actions for t in everyone)
    metrics["rollout/faults"] = sum(bool(t.fault) for t in everyone)
    decisions = [turn.decision for t in everyone for turn in t.turns]
    if any(one.text != one.action for one in decisions):
        counts = count_answers(everyone)
        metrics |= {f"answers/{kind}": counts[kind] for kind in ANSWER_KINDS}
    return metrics


def _heeded(effects: Mapping[str, Sequence[Effect]]) -> dict[str, Any]:
    """Returns how much the skills in the prompts that were probed mattered there, if there were any."""
    found = [effect for own in effects.values() for effect in own]
    if not found:
        return {}
    return {
        "probe/changes": float(np.mean([effect.changes for effect in found])),
        "probe/log_prob": float(np.mean([effect.log_prob for effect in found])),
    }
