"""Trajectories whose actions choose among options, such as `click[next >]`, and their procedures.

Such a procedure says what to choose in words that hold for any task of the kind: what the task names, or one that fits
it. So it has no numbers of products, and kinds of task are told apart by how their texts begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from d2skill.knowledge.patterns import REST
from d2skill.types import Trajectory, Turn
from d2skill.utils.text import action_words, argument, content, repeats, tokens

NAMED, FITTING = "what the task names", "one that fits the task"
_BEGINNING = 3
"""Words of a task, at most, that tell its kind"""


def acts_by_choices(trajectory: Trajectory) -> bool:
    """Returns True if every admissible action of a trajectory has an argument in brackets."""
    done = [turn.decision.action for turn in trajectory.turns if turn.admissible]
    return bool(done) and all(argument(action) is not None for action in done)


def is_asked_for(action: str, task: str) -> bool:
    """Returns True if the task names the option that an action chooses."""
    return repeats(task, argument(action) or "")


def turns_not_undone(trajectory: Trajectory) -> tuple[Turn, ...]:
    """Returns the turns that led on: without those between an observation and the return to it.

    Choices that do not change the observation, such as ticking an option, are kept only if the task asks for them.
    """
    path: list[Turn] = []
    for turn in trajectory.turns:
        seen = [past.prompt.observation for past in path]
        if turn.prompt.observation in seen and turn.prompt.observation != seen[-1]:
            del path[len(seen) - 1 - seen[::-1].index(turn.prompt.observation) :]
        path.append(turn)
    task = trajectory.task.text
    moved = [turn.prompt.observation != following.prompt.observation for turn, following in pairwise(path)]
    kept = zip(path, [*moved, True], strict=True)
    return tuple(turn for turn, moves in kept if moves or is_asked_for(turn.decision.action, task))


def choice_steps(success: Trajectory) -> tuple[str, tuple[str, ...]]:
    """Returns the pattern of a task, by the words that it begins with, and the steps of a success in general words."""
    task = success.task.text
    steps = [step for step, _ in groupby(_general(turn.decision.action, task) for turn in turns_not_undone(success))]
    return f"{_beginning(task, turns_not_undone(success))}{REST}", tuple(steps)


def _general(action: str, task: str) -> str:
    """Returns an action with what it chooses in general words."""
    verb, chosen = action_words(action).verb, argument(action) or ""
    if is_asked_for(action, task) or len(content(chosen) & content(task)) > 1:
        return f"{verb} {NAMED}"
    if any(character.isdigit() for character in chosen):
        return f"{verb} {FITTING}"
    return f"{verb} {chosen}"


def _beginning(task: str, turns: Sequence[Turn]) -> str:
    """Returns the beginning of a task, up to the first word that an action repeats."""
    chosen = {word for turn in turns for word in tokens(argument(turn.decision.action) or "")}
    words = task.split(" ")
    size = next((at for at, word in enumerate(words) if chosen & set(tokens(word))), 1)
    return "".join(f"{word} " for word in words[: min(size, _BEGINNING)])
