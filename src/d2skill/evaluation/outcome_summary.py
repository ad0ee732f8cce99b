"""Summary of an evaluation's outcomes as plain data: arms, paired differences between them, and types of task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from d2skill.evaluation.episodes import Outcome
from d2skill.utils.statistics import mcnemar, mean_with_interval, paired_difference, wilson

Floats = npt.NDArray[np.float64]
ByArm = dict[str, list[Outcome]]


def summarize_outcomes(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns the figures of each arm, its difference to "none" or else to the first arm, and both by type of task.

    Each arm must have the same tasks from the same seeds.
    """
    arms: ByArm = {}
    for outcome in outcomes:
        arms.setdefault(outcome.arm, []).append(outcome)
    base = "none" if "none" in arms else next(iter(arms))
    scored = any(outcome.score is not None for outcome in outcomes)
    others = {name: arm for name, arm in arms.items() if name != base}
    return {
        "arms": {name: _arm(arm, scored) for name, arm in arms.items()},
        "differences": {name: {"to": base} | _difference(arm, arms[base], scored) for name, arm in others.items()},
        "types": _types(arms),
    }


def _arm(outcomes: Sequence[Outcome], scored: bool) -> dict[str, Any]:
    steps = sum(outcome.steps for outcome in outcomes)
    generated = [outcome.generated for outcome in outcomes if outcome.generated is not None]
    figures = _success_rate(outcomes) | {
        "episodes": len(outcomes),
        "steps": steps / len(outcomes),
        "shown": sum(outcome.shown for outcome in outcomes) / max(steps, 1),
        "prompt_tokens": sum(outcome.prompt_tokens for outcome in outcomes) / max(steps, 1),
        "generated_tokens": sum(generated) / len(generated) if generated else None,
        "faults": sum(bool(outcome.fault) for outcome in outcomes),
    }
    if scored:
        mean, ci95 = mean_with_interval(_scores(outcomes).mean(axis=0).tolist())
        figures |= {"score": mean, "score_ci95": list(ci95)}
    return figures


def _success_rate(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns the success rate: with Wilson's interval for one seed, for several with a bootstrap over tasks.

    Where all episodes are solved, or none, resampling would give an interval of no width; then it is Wilson's too.
    """
    successes = _successes(outcomes)
    seeds, tasks = successes.shape
    solved = int(successes.sum())
    mixed = seeds > 1 and 0 < solved < successes.size
    ci95 = mean_with_interval(successes.mean(axis=0).tolist())[1] if mixed else wilson(solved // seeds, tasks)
    return {"success": solved / successes.size, "ci95": list(ci95), "n": tasks}


def _difference(arm: Sequence[Outcome], base: Sequence[Outcome], scored: bool) -> dict[str, Any]:
    """Returns the paired differences; with several seeds an arm wins a task that it solves from more of them."""
    first, second = _successes(arm), _successes(base)
    gap = first.sum(axis=0) - second.sum(axis=0)
    wins, losses = int((gap > 0).sum()), int((gap < 0).sum())
    success = _gap(first, second) | {"wins": wins, "losses": losses, "p": mcnemar(wins, losses)}
    return {"success": success} | ({"score": _gap(_scores(arm), _scores(base))} if scored else {})


def _gap(first: Floats, second: Floats) -> dict[str, Any]:
    """Returns the paired difference of two arms' values [seeds, tasks]."""
    mean, ci95 = paired_difference(first.mean(axis=0).tolist(), second.mean(axis=0).tolist())
    return {"mean": mean, "ci95": list(ci95)}


def _types(arms: ByArm) -> dict[str, Any]:
    kinds: dict[str, str] = {}
    for outcome in (outcome for arm in arms.values() for outcome in arm):
        kinds[outcome.task] = kinds.get(outcome.task) or outcome.kind  # an episode that failed to start has none
    return {
        kind: {name: _type([outcome for outcome in arm if kinds[outcome.task] == kind]) for name, arm in arms.items()}
        for kind in sorted(set(kinds.values()))
    }


def _type(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return _success_rate(outcomes) | {"steps": sum(outcome.steps for outcome in outcomes) / len(outcomes)}


def _successes(outcomes: Sequence[Outcome]) -> Floats:
    return _by_task(outcomes, [float(outcome.success) for outcome in outcomes])


def _scores(outcomes: Sequence[Outcome]) -> Floats:
    """Returns the scores as `_by_task` does, 0 for an episode without one."""
    return _by_task(outcomes, [outcome.score or 0.0 for outcome in outcomes])


def _by_task(outcomes: Sequence[Outcome], values: Sequence[float]) -> Floats:
    """Returns the values of one arm's outcomes as [seeds, tasks], both in the order of their first occurrence."""
    seeds = {seed: row for row, seed in enumerate(dict.fromkeys(outcome.seed for outcome in outcomes))}
    tasks = {task: column for column, task in enumerate(dict.fromkeys(outcome.task for outcome in outcomes))}
    table = np.empty((len(seeds), len(tasks)))
    for outcome, value in zip(outcomes, values, strict=True):
        table[seeds[outcome.seed], tasks[outcome.task]] = value
    return table
