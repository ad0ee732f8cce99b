"""Comparison of trajectories that both kinds of contrast share: enabling actions and the first missing one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from d2skill.types import Trajectory, Turn


def enabling_turn(turns: Sequence[Turn], at: int) -> int | None:
    """Returns the latest turn before `at` that made the action of `at` admissible, None if it always was."""
    action = turns[at].decision.action
    return next((before for before in range(at - 1, -1, -1) if action not in turns[before].prompt.actions), None)


def collapse_repeats(actions: Sequence[str]) -> list[str]:
    """Drops each action that is the same as the one before it."""
    return [action for action, _ in groupby(actions)]


def first_missing_action(failure: Trajectory, steps: Sequence[str]) -> tuple[int, int]:
    """Returns the failing step, and the index of the first essential action that the failure did not play.

    The failing step is the earliest at which the failure had played the actions before and could have played that one.
    If it played all, the last action came too late or in the wrong state, and counts as missing.
    """
    played = [turn.decision.action for turn in failure.turns]
    done = earliest = 0
    while done < len(steps) and steps[done] in played[earliest:]:
        earliest = played.index(steps[done], earliest) + 1
        done += 1
    missing = min(done, len(steps) - 1)
    earliest = min(earliest, len(failure.turns) - 1)
    for at in range(earliest, len(failure.turns)):
        if steps[missing] in failure.turns[at].prompt.actions:
            return at, missing
    return earliest, missing


def played_actions(turns: Sequence[Turn]) -> set[str]:
    """Returns the actions of some turns."""
    return {turn.decision.action for turn in turns}


def capitalized(text: str) -> str:
    """Returns a text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]
