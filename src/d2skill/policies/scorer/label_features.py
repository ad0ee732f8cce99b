"""Features of actions that come with labels: how well what an action is about fits the task, and better than which.

The first word of a label says what kind of thing the action is about. Of the others it counts how many the task has
(precision), and how many of the task's it has (recall), in levels; and where the label stands among those of its kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from d2skill.types import Prompt
from d2skill.utils.text import tokens

LABEL_FEATURES = 9
_LEVELS = 6
_STEPS = 16


def label_features(prompts: Sequence[Prompt]) -> list[list[str]]:
    """Returns the features of each action of each prompt, LABEL_FEATURES texts; none for an action without a label."""
    return [found for prompt in prompts for found in _of(prompt)]


def _of(prompt: Prompt) -> list[list[str]]:
    if not prompt.labels:
        return [[] for _ in prompt.actions]
    task, past = _words(prompt.task), Counter(action for _, action in prompt.history)
    fits = [_fit(label, task) for label in prompt.labels]
    best: dict[str, tuple[float, float]] = {}
    for kind, recall, precision in fits:
        former = best.get(kind, (0.0, 0.0))
        best[kind] = max(former[0], recall), max(former[1], precision)
    step = f"step {min(len(prompt.history), _STEPS)}"
    kinds = " ".join(sorted(best))
    found = []
    for action, (kind, recall, precision) in zip(prompt.actions, fits, strict=True):
        has, is_task = f"has {_level(recall)}", f"is {_level(precision)}"
        top = f"top {recall >= best[kind][0]} {precision >= best[kind][1]}"
        done = f"done {min(past[action], 2)}"
        found.append(
            [
                kind,
                f"{kind} {has}",
                f"{kind} {is_task}",
                f"{kind} {has} {is_task}",
                f"{kind} {top}",
                f"{kind} {top} {done}",
                f"{kind} {has} {is_task} {done}",
                f"{kind} {done} {step}",
                f"{kind} {done} among {kinds}",
            ]
        )
    return found


@lru_cache(maxsize=2**16)
def _fit(label: str, task: frozenset[str]) -> tuple[str, float, float]:
    """Returns the kind of a label, how much of the task it has, and how much of it the task has."""
    kind, _, rest = label.partition(" ")
    words = _words(rest)
    common = len(words & task)
    return kind, common / max(1, len(task)), common / max(1, len(words))


@lru_cache(maxsize=2**14)
def _words(text: str) -> frozenset[str]:
    return frozenset(tokens(text))


def _level(share: float) -> int:
    """Returns one of a few levels: 0 for none, the highest for all."""
    return 0 if not share else min(_LEVELS, 1 + int(share * _LEVELS))
