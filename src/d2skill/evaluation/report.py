"""What the episodes of an evaluation add up to, as plain data: arms, differences and types of task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from d2skill.evaluation.episodes import Outcome
from d2skill.utils.statistics import mcnemar, mean_with_interval, paired_difference, wilson

Floats = npt.NDArray[np.float64]
ByArm = dict[str, list[Outcome]]


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns the arms, the difference of each to "none", or else to the first, and the arms for each type of task.

    Each arm has to have the same tasks from the same seeds.
    """
    arms: ByArm = {}
    for one in outcomes:
        arms.setdefault(one.arm, []).append(one)
    base = "none" if "none" in arms else next(iter(arms))
    scored = any(one.score is not None for one in outcomes)
    others = {name: own for name, own in arms.items() if name != base}
    return {
        "arms": {name: _arm(own, scored) for name, own in arms.items()},
        "differences": {name: {"to": base} | _difference(own, arms[base], scored) for name, own in others.items()},
        "types": _types(arms),
    }


def _arm(outcomes: Sequence[Outcome], scored: bool) -> dict[str, Any]:
    steps = sum(one.steps for one in outcomes)
    found = _rate(_successes(outcomes)) | {
        "episodes": len(outcomes),
        "steps": steps / len(outcomes),
        "shown": sum(one.shown for one in outcomes) / max(steps, 1),
        "prompt_tokens": sum(one.prompt_tokens for one in outcomes) / max(steps, 1),
        "generated_tokens": _mean([one.generated for one in outcomes]),
        "faults": sum(bool(one.fault) for one in outcomes),
    }
    if scored:
        mean, ci95 = mean_with_interval(_scores(outcomes).mean(axis=0).tolist())
        found |= {"score": mean, "score_ci95": list(ci95)}
    return found


def _rate(successes: Floats) -> dict[str, Any]:
    """Returns a success rate [seeds, tasks]: by Wilson for one seed, for several by a bootstrap over tasks.

    Where all is solved, or nothing, resampling would show no doubt at all; then it is Wilson's of the tasks.
    """
    seeds, tasks = successes.shape
    solved = int(successes.sum())
    mixed = seeds > 1 and 0 < solved < successes.size
    ci95 = mean_with_interval(successes.mean(axis=0).tolist())[1] if mixed else wilson(solved // seeds, tasks)
    return {"success": solved / successes.size, "ci95": list(ci95), "n": tasks}


def _difference(arm: Sequence[Outcome], base: Sequence[Outcome], scored: bool) -> dict[str, Any]:
    """Returns the paired differences; of several seeds a task is won if more of them solved it in the arm."""
    first, second = _successes(arm), _successes(base)
    gap = first.sum(axis=0) - second.sum(axis=0)
    wins, losses = int((gap > 0).sum()), int((gap < 0).sum())
    found = {"success": _gap(first, second) | {"wins": wins, "losses": losses, "p": mcnemar(wins, losses)}}
    return found | {"score": _gap(_scores(arm), _scores(base))} if scored else found


def _gap(first: Floats, second: Floats) -> dict[str, Any]:
    mean, ci95 = paired_difference(first.mean(axis=0).tolist(), second.mean(axis=0).tolist())
    return {"mean": mean, "ci95": list(ci95)}


def _types(arms: ByArm) -> dict[str, Any]:
    kinds: dict[str, str] = {}
    for one in (one for own in arms.values() for one in own):
        kinds[one.task] = kinds.get(one.task) or one.kind  # what failed to start has none
    return {
        kind: {name: _of_type([one for one in own if kinds[one.task] == kind]) for name, own in arms.items()}
        for kind in sorted(set(kinds.values()))
    }


def _of_type(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return _rate(_successes(outcomes)) | {"steps": sum(one.steps for one in outcomes) / len(outcomes)}


def _successes(outcomes: Sequence[Outcome]) -> Floats:
    return _by_task(outcomes, [float(one.success) for one in outcomes])


def _scores(outcomes: Sequence[Outcome]) -> Floats:
    """Returns scores as `_by_task` does, of an episode without one 0."""
    return _by_task(outcomes, [one.score or 0.0 for one in outcomes])


def _by_task(outcomes: Sequence[Outcome], values: Sequence[float]) -> Floats:
    """Returns the values of an arm's outcomes [seeds, tasks], in the order in which seeds and tasks come first."""
    seeds = {seed: row for row, seed in enumerate(dict.fromkeys(one.seed for one in outcomes))}
    tasks = {task: column for column, task in enumerate(dict.fromkeys(one.task for one in outcomes))}
    found = np.empty((len(seeds), len(tasks)))
    for one, value in zip(outcomes, values, strict=True):
        found[seeds[one.seed], tasks[one.task]] = value
    return found


def _mean(counts: Sequence[int | None]) -> float | None:
    known = [count for count in counts if count is not None]
    return sum(known) / len(known) if known else None
