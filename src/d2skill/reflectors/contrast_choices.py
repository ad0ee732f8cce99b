"""Contrast for trajectories whose actions choose among options, such as `click[next >]`; going back undoes choices.

The success is cut down to the path of choices that were not undone. Its key is the choice that made the last action
admissible; a failure that had the key among its options and did not take it failed there, however it had searched
before. A skill names the words that the success searched for, and refers to what the task asks for itself as just that,
so that it holds for tasks that ask for something else. A failure alone shows an option in words of the task that it did
not try. It does not show that a choice was wrong: such advice did harm where the choice was right and another was not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from d2skill.knowledge.choices import is_asked_for, turns_not_undone
from d2skill.reflectors.trajectory_diff import (
    capitalized,
    collapse_repeats,
    enabling_turn,
    first_missing_action,
    played_actions,
)
from d2skill.types import Reflection, SkillText, Trajectory, Turn
from d2skill.utils.text import action_words, argument, content, tokens


@dataclass(frozen=True, slots=True)
class _ChoicePath:
    """The turns of a trajectory whose choices were not undone.

    `key` is the index of the choice that made the last action admissible. `topic` is what was searched for: the words
    of the action that repeats most of the task, without those of other choices. `general_steps` are the actions in
    words that hold for other tasks of the kind.
    """

    turns: tuple[Turn, ...]
    steps: tuple[str, ...]
    key: int
    topic: str
    general_steps: tuple[str, ...]

    @classmethod
    def of(cls, trajectory: Trajectory) -> _ChoicePath:
        """Returns the path of a trajectory that `acts_by_choices`."""
        task = trajectory.task.text
        turns = turns_not_undone(trajectory)
        steps = tuple(turn.decision.action for turn in turns)
        query = max(range(len(steps)), key=lambda i: len(_words_of_task(steps[i], task)))
        general_steps = [_general(step, task) for step in steps]
        topic = task
        if _words_of_task(steps[query], task):
            choices = [step for i, step in enumerate(steps) if i != query and is_asked_for(step, task)]
            topic = _without_words(steps[query], choices)
            general_steps[query] = f"{action_words(steps[query]).verb}[{topic}]"
        return cls(turns, steps, enabling_turn(turns, len(turns) - 1) or 0, topic, tuple(general_steps))

    def skill(self, start: int) -> SkillText:
        """Returns a skill for the path from one of its steps on."""
        return _skill(self.general_steps[start:], self.topic, begun=start > 0)


def contrast(failure: Trajectory, success: Trajectory | None) -> Reflection:
    """Contrasts two paths of choices. A failure alone shows an option that it did not try."""
    if success is None:
        return _untried(failure)
    path = _ChoicePath.of(success)
    had_key = any(path.steps[path.key] in turn.prompt.actions for turn in failure.turns)
    start = path.key if had_key else 0
    at, missing = first_missing_action(failure, path.steps[start:])
    return Reflection(at, path.skill(start + missing), path.skill(0))


def _untried(failure: Trajectory) -> Reflection:
    """Returns the option in words of the task that was never chosen, nearest to the end."""
    task, path, played = set(tokens(failure.task.text)), _ChoicePath.of(failure), played_actions(failure.turns)
    for turn in reversed(path.turns):
        for action in turn.prompt.actions:
            words = set(tokens(argument(action) or ""))
            if words and words <= task and action not in played:
                at = next(i for i, one in enumerate(failure.turns) if one is turn)
                return Reflection(at, _skill([action], path.topic, begun=True), None)
    return Reflection(0)


def _general(action: str, task: str) -> str:
    """Returns an action in words that hold for tasks that ask for something else."""
    return f"{action_words(action).verb} what the task names" if is_asked_for(action, task) else action


def _skill(steps: Sequence[str], topic: str, *, begun: bool) -> SkillText:
    """Returns a skill with some steps; it says at which point it applies unless that is the beginning."""
    steps = collapse_repeats(steps)
    when = f"the task is about {topic}" + (f" and you can {steps[0]}" if begun else "")
    return SkillText(f"{topic}: {steps[0]}", f"{capitalized(', then '.join(steps))}.", when)


def _words_of_task(action: str, task: str) -> frozenset[str]:
    """Returns the words of the task that an action's argument repeats."""
    return content(argument(action) or "") & content(task)


def _without_words(query: str, choices: Iterable[str]) -> str:
    """Returns the words of a query without those of some choices, or all if none would be left."""
    every = " ".join(tokens(argument(query) or ""))
    words = f" {every} "
    for choice in choices:
        words = words.replace(f" {' '.join(tokens(argument(choice) or ''))} ", " ")
    return words.strip() or every
