"""Features of actions that come with labels: overlap of a label with the task, alone and compared with other labels.

The first word of a label is its kind. The recall of a label is the share of the task's words that its other words
have, the precision is the share of its other words that the task has; both are rounded to a few levels.
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
"""Steps that are told apart; later ones are taken together"""


def label_features(prompts: Sequence[Prompt]) -> list[list[str]]:
    """Returns the features of each action of each prompt, LABEL_FEATURES texts; none for an action without a label."""
    return [features for prompt in prompts for features in _prompt_features(prompt)]


def _prompt_features(prompt: Prompt) -> list[list[str]]:
    """Returns the features of a prompt's actions.

    They are crosses of the label's kind with its recall ("has") and precision ("is"), with whether these are the best
    of its kind ("top"), with how often the action was played before ("done", up to 2), with the step, and with the
    kinds of all labels ("among").
    """
    if not prompt.labels:
        return [[] for _ in prompt.actions]
    task, past = _words(prompt.task), Counter(action for _, action in prompt.history)
    overlaps = [_overlap(label, task) for label in prompt.labels]
    best: dict[str, tuple[float, float]] = {}
    for kind, recall, precision in overlaps:
        former = best.get(kind, (0.0, 0.0))
        best[kind] = max(former[0], recall), max(former[1], precision)
    step = f"step {min(len(prompt.history), _STEPS)}"
    kinds = " ".join(sorted(best))
    rows = []
    for action, (kind, recall, precision) in zip(prompt.actions, overlaps, strict=True):
        has_task, is_task = f"has {_level(recall)}", f"is {_level(precision)}"
        top = f"top {recall >= best[kind][0]} {precision >= best[kind][1]}"
        done = f"done {min(past[action], 2)}"
        rows.append(
            [
                kind,
                f"{kind} {has_task}",
                f"{kind} {is_task}",
                f"{kind} {has_task} {is_task}",
                f"{kind} {top}",
                f"{kind} {top} {done}",
                f"{kind} {has_task} {is_task} {done}",
                f"{kind} {done} {step}",
                f"{kind} {done} among {kinds}",
            ]
        )
    return rows


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
