"""Features of actions that come with labels: overlap of a label with the task, alone and compared with other labels.

The first word of a label is its kind. The recall of a label is the share of the task's words that its other words
have, the precision is the share of its other words that the task has; both are rounded to a few levels.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from d2skill.types import Prompt
from d2skill.utils.text import tokens

LABEL_FEATURES = 9
_LEVELS = 6
_STEPS = 16
"""Steps that are told apart; later ones are taken together"""


LabelKey = tuple[str, ...]
"""The parts that make up the features of a label: kind, has, is, top, done, step, among. Empty without a label."""


def label_keys(prompt: Prompt) -> list[LabelKey]:
    """Returns the key of the label of each action of a prompt.

    It holds the label's kind, its recall ("has") and precision ("is"), if these are the best of its kind ("top"), how
    often the action was played before ("done", up to 2), the step, and the kinds of all labels ("among").
    """
    if not prompt.labels:
        return [()] * len(prompt.actions)
    past = Counter(action for _, action in prompt.history)
    step, (overlaps, among) = f"step {min(len(prompt.history), _STEPS)}", _compare(prompt.labels, prompt.task)
    played = (f"done {min(past[action], 2)}" for action in prompt.actions)
    return [(*overlap, done, step, among) for overlap, done in zip(overlaps, played, strict=True)]


def label_features(key: LabelKey) -> list[str]:
    """Returns the features of a label, LABEL_FEATURES crosses of the parts of its key; none of an empty key."""
    if not key:
        return []
    kind, has_task, is_task, top, done, step, among = key
    return [
        kind,
        f"{kind} {has_task}",
        f"{kind} {is_task}",
        f"{kind} {has_task} {is_task}",
        f"{kind} {top}",
        f"{kind} {top} {done}",
        f"{kind} {has_task} {is_task} {done}",
        f"{kind} {done} {step}",
        f"{kind} {done} {among}",
    ]


@lru_cache(maxsize=2**12)
def _compare(labels: tuple[str, ...], task: str) -> tuple[list[tuple[str, str, str, str]], str]:
    """Returns kind, recall, precision and standing of each label among all, and the kinds of all."""
    overlaps = [_overlap(label, _words(task)) for label in labels]
    best: dict[str, tuple[float, float]] = {}
    for kind, recall, precision in overlaps:
        former = best.get(kind, (0.0, 0.0))
        best[kind] = max(former[0], recall), max(former[1], precision)
    compared = [
        (
            kind,
            f"has {_level(recall)}",
            f"is {_level(precision)}",
            f"top {recall >= best[kind][0]} {precision >= best[kind][1]}",
        )
        for kind, recall, precision in overlaps
    ]
    return compared, f"among {' '.join(sorted(best))}"


@lru_cache(maxsize=2**16)
def _overlap(label: str, task: frozenset[str]) -> tuple[str, float, float]:
    """Returns kind, recall and precision of a label, given the words of the task."""
    kind, _, rest = label.partition(" ")
    words = _words(rest)
    common = len(words & task)
    return kind, common / max(1, len(task)), common / max(1, len(words))


@lru_cache(maxsize=2**14)
def _words(text: str) -> frozenset[str]:
    return frozenset(tokens(text))


def _level(share: float) -> int:
    """Returns a share as one of a few levels: 0 for none, the highest for all."""
    return 0 if not share else min(_LEVELS, 1 + int(share * _LEVELS))
