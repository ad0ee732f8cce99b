"""Contrast: reflection without a model, by comparing a failure with a success of the same task.

1. The success is cut down to its essential actions: the last one, those that use an object of the task on something
   else, and each action that made an essential one admissible.
2. The first essential action that the failure never played is the missing one. The failing step is the earliest one at
   which the failure had played the essential actions before it and could have played it.
3. The step skill is the action for that point. It keeps the numbers of places, since a step skill is about a place, and
   names the objects of the task by type. The task skill is the whole sequence, by types.

Without a success there is less to learn: an object of the task was in sight and left there, the task was begun and an
available action not played, or the object was not found, and then the advice lists the places that were searched.

Trajectories whose actions choose among options have rules of their own: `contrast_choices`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from d2skill.knowledge.choices import acts_by_choices
from d2skill.reflectors import contrast_choices
from d2skill.reflectors.trajectory_diff import (
    capitalized,
    collapse_repeats,
    enabling_turn,
    first_missing_action,
    played_actions,
)
from d2skill.types import Reflection, SkillText, Trajectory, Turn
from d2skill.utils.text import action_words, content, entities, tokens

_MOST_ESSENTIAL = 12
_NO_OBJECTS = frozenset("find get put place two three hot cold cool warm clean new some".split())
"""Words of a task that name no object; the verbs of admissible actions are found in the trajectory."""


class ContrastReflector:
    """Implements `Reflector` by comparing trajectories; it works in any environment."""

    def reflect(self, failure: Trajectory, success: Trajectory | None) -> Reflection:
        """Returns the failing step and at most one skill of each kind, as far as the trajectories show one."""
        if acts_by_choices(success or failure):
            return contrast_choices.contrast(failure, success)
        if success is None:
            return _from_failure_alone(failure)
        steps = essential_actions(success)
        at, missing = first_missing_action(failure, steps)
        task = failure.task.text
        return Reflection(at, _step_skill(steps[missing:], task), _task_skill(steps, task))


def essential_actions(success: Trajectory) -> list[str]:
    """Returns the actions of a success that led to its end, in order, without searching and looking around.

    Essential are the last action, those that use an object of the task on something else, and for each essential action
    the one that made it admissible. If actions are free text, all that changed the observation are essential.
    """
    turns = success.turns
    task = success.task.text
    if not any(turn.prompt.actions for turn in turns):
        seen = [turn.prompt.observation for turn in turns] + [success.final]
        kept = [i for i in range(len(turns)) if seen[i] != seen[i + 1]] or [len(turns) - 1]
        return collapse_repeats([turns[i].decision.action for i in kept])[-_MOST_ESSENTIAL:]
    waiting = [len(turns) - 1]
    waiting += [i for i, t in enumerate(turns) if t.admissible and _advances(t.decision.action, task)]
    essential: set[int] = set()
    while waiting:
        at = waiting.pop()
        if at not in essential:
            essential.add(at)
            if (enabling := enabling_turn(turns, at)) is not None:
                waiting.append(enabling)
    return collapse_repeats([turns[i].decision.action for i in sorted(essential)])[-_MOST_ESSENTIAL:]


def _step_skill(steps: Sequence[str], task: str) -> SkillText:
    """Returns the step skill: the missing action, the next ones, and the object that they are for."""
    first = generalized(steps[0], task)
    goal = _goal(steps, task)
    rest = [generalized(step, task) for step in steps[1:3]]
    principle = f"{capitalized(first)}, then {', then '.join(rest)}." if rest else f"{capitalized(first)}."
    return SkillText(f"{goal}: {first}", principle, f"the task needs {goal} and you can {first}")


def _task_skill(steps: Sequence[str], task: str) -> SkillText:
    """Returns the task skill: the whole sequence of actions, by types."""
    sequence = collapse_repeats([_by_types(step) for step in steps])
    return SkillText(f"{task}: {sequence[0]}", f"{capitalized(', then '.join(sequence))}.", f"the task is to {task}")


def _from_failure_alone(failure: Trajectory) -> Reflection:
    """Reflects on a failure alone: an object of the task was in sight and left, or was not found."""
    task, turns = failure.task.text, failure.turns
    played = played_actions(turns)
    begun = next((i for i, turn in enumerate(turns) if _advances(turn.decision.action, task)), len(turns))
    for at, turn in enumerate(turns[:begun]):
        usable = [action for action in turn.prompt.actions if _advances(action, task) and action not in played]
        if usable:
            return Reflection(at, _step_skill(usable[:1], task), None)
    if begun < len(turns):
        return _unfinished(failure, begun)
    return _not_found(failure)


def _unfinished(failure: Trajectory, begun: int) -> Reflection:
    """Reflects on a task that was begun: an action on nothing but its objects was available and not played."""
    task, objects, played = failure.task.text, content(failure.task.text), played_actions(failure.turns)
    effective = _effective_verbs(failure.turns)
    for at in range(begun + 1, len(failure.turns)):
        for action in failure.turns[at].prompt.actions:
            words = action_words(action)
            fits = words.entities and all(entity.kind in objects for entity in words.entities)
            if fits and words.verb in effective and action not in played:
                return Reflection(at, _step_skill([action], task), None)
    return Reflection(begun)


def _effective_verbs(turns: Sequence[Turn]) -> set[str]:
    """Returns the verbs of actions that changed the admissible actions, which looking around does not."""
    return {
        action_words(turn.decision.action).verb
        for turn, following in pairwise(turns)
        if set(turn.prompt.actions) != set(following.prompt.actions)
    }


def _not_found(failure: Trajectory) -> Reflection:
    """Reflects on a search without success: lists the places where the object is not, from the same start."""
    turns = failure.turns
    goal = _unseen_words(failure)
    places = [e.name for turn in turns for e in action_words(turn.decision.action).entities if turn.admissible]
    if not goal or not places:
        return Reflection(0)
    listed = ", ".join(dict.fromkeys(places))
    text = SkillText(
        f"{goal}: not where it was sought",
        f"Look for {goal} in places that were not tried yet. It is not in {listed}.",
        f"the task needs {goal} and it is not in sight",
    )
    return Reflection(0, text, None)


def _unseen_words(failure: Trajectory) -> str:
    """Returns the words of the task for objects that the failure never saw nor acted with."""
    known: set[str] = set(_NO_OBJECTS)
    for turn in failure.turns:
        known |= content(turn.prompt.observation)
        for action in turn.prompt.actions:
            known |= {action_words(action).verb, *content(action)}
    return " ".join(word for word in tokens(failure.task.text) if word in content(failure.task.text) - known)


def _advances(action: str, task: str) -> bool:
    """Returns True if an action is on two things and the task names the first, such as taking it from somewhere."""
    named = action_words(action).entities
    return len(named) > 1 and named[0].kind in content(task)


def _goal(steps: Sequence[str], task: str) -> str:
    """Returns the object of the next steps: the first one that the task names, else the task's words."""
    wanted = content(task)
    for step in steps:
        for entity in action_words(step).entities:
            if entity.kind in wanted:
                return entity.kind
    return " ".join(sorted(wanted))


def generalized(action: str, task: str) -> str:
    """Drops the numbers of objects that the task names: "take mug from desk 2", if the task is about a mug."""
    return _without_numbers(action, {e.kind for e in action_words(action).entities} & content(task))


def _by_types(action: str) -> str:
    return _without_numbers(action, {entity.kind for entity in entities(action)})


def _without_numbers(action: str, kinds: Iterable[str]) -> str:
    for kind in kinds:
        action = re.sub(rf"\b({re.escape(kind)})\s+\d+\b", r"\1", action, flags=re.IGNORECASE)
    return action
