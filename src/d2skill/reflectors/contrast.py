"""Reflection without a model: contrast a failure with a success of the same task and write down what was missing.

1. Cut the success down to its essential actions: the last one, those that use a thing of the task on something else,
   and whatever made an essential action admissible.
2. The first essential action that the failure never played is the decisive one; the failing step is the earliest one
   at which the failure had done what comes before it and could have played it.
3. The step skill says what to do at that point. It keeps the numbers of places (the point of a step skill is where),
   and speaks of the things that the task names by their type. The task skill says how the whole task goes, by types.

Without a success there is less to say: a thing of the task was in sight and left there, the task was begun and a step
that was at hand not taken, or the thing was sought in vain, and then the advice is where it is not.

Actions that choose among what is offered have rules of their own: see choices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from d2skill.reflectors import contrast_choices
from d2skill.reflectors.trajectory_diff import decisive, enabler, played_actions, sentence, without_repeats
from d2skill.types import Reflection, SkillText, Trajectory, Turn
from d2skill.utils.text import action_words, content, entities, tokens

_MOST_ESSENTIAL = 12
_NOT_THINGS = frozenset("find get put place two three hot cold cool warm clean new some".split())
"""Words of a task that are about things rather than things; verbs that are admissible are known anyway."""


class ContrastReflector:
    """Implements `Reflector` by comparing trajectories; knows no environment."""

    def reflect(self, failure: Trajectory, success: Trajectory | None) -> Reflection:
        """Returns the earliest failing step and a skill of each kind, as far as there is something to say."""
        if contrast_choices.chooses(success or failure):
            return contrast_choices.contrast(failure, success)
        if success is None:
            return _from_failure_alone(failure)
        steps = essential_actions(success)
        at, missing = decisive(failure, steps)
        task = failure.task.text
        return Reflection(at, _step_skill(steps[missing:], task), _task_skill(steps, task))


def essential_actions(success: Trajectory) -> list[str]:
    """Returns the actions of a success that led to its end, in order, without searching and looking around.

    Essential are the last action, those that use a thing of the task on something else, and for each essential action
    the one that made it admissible. Where actions are free text, all that changed what was seen are.
    """
    turns = success.turns
    task = success.task.text
    if not any(turn.prompt.actions for turn in turns):
        seen = [turn.prompt.observation for turn in turns] + [success.final]
        kept = [i for i in range(len(turns)) if seen[i] != seen[i + 1]] or [len(turns) - 1]
        return without_repeats([turns[i].decision.action for i in kept])[-_MOST_ESSENTIAL:]
    waiting = [len(turns) - 1]
    waiting += [i for i, t in enumerate(turns) if t.admissible and _advances(t.decision.action, task)]
    essential: set[int] = set()
    while waiting:
        at = waiting.pop()
        if at not in essential:
            essential.add(at)
            waiting += enabler(turns, at)
    return without_repeats([turns[i].decision.action for i in sorted(essential)])[-_MOST_ESSENTIAL:]


def _step_skill(steps: Sequence[str], task: str) -> SkillText:
    """Says what to do at the failing step: the missing action and what it is good for."""
    first = general(steps[0], task)
    goal = _goal(steps, task)
    rest = [general(step, task) for step in steps[1:3]]
    principle = f"{sentence(first)}, then {', then '.join(rest)}." if rest else f"{sentence(first)}."
    return SkillText(f"{goal}: {first}", principle, f"the task needs {goal} and you can {first}")


def _task_skill(steps: Sequence[str], task: str) -> SkillText:
    """Says how the whole task goes, in types."""
    plan = without_repeats([_typed(step) for step in steps])
    return SkillText(f"{task}: {plan[0]}", f"{sentence(', then '.join(plan))}.", f"the task is to {task}")


def _from_failure_alone(failure: Trajectory) -> Reflection:
    """Writes what a failure shows by itself: a thing of the task was in sight and left, or it was sought in vain."""
    task, turns = failure.task.text, failure.turns
    played = played_actions(turns)
    begun = next((i for i, turn in enumerate(turns) if _advances(turn.decision.action, task)), len(turns))
    for at, turn in enumerate(turns[:begun]):
        usable = [action for action in turn.prompt.actions if _advances(action, task) and action not in played]
        if usable:
            return Reflection(at, _step_skill(usable[:1], task), None)
    if begun < len(turns):
        return _unfinished(failure, begun)
    return _sought_in_vain(failure)


def _unfinished(failure: Trajectory, begun: int) -> Reflection:
    """Points at an action on nothing but things of the task that could have been played after a start was made."""
    task, wanted, played = failure.task.text, content(failure.task.text), played_actions(failure.turns)
    working = _working_verbs(failure.turns)
    for at in range(begun + 1, len(failure.turns)):
        for action in failure.turns[at].prompt.actions:
            words = action_words(action)
            fits = words.entities and all(entity.kind in wanted for entity in words.entities)
            if fits and words.verb in working and action not in played:
                return Reflection(at, _step_skill([action], task), None)
    return Reflection(begun)


def _working_verbs(turns: Sequence[Turn]) -> set[str]:
    """Returns the verbs of actions that changed which actions are admissible; looking at something does not."""
    return {
        action_words(turn.decision.action).verb
        for turn, following in pairwise(turns)
        if set(turn.prompt.actions) != set(following.prompt.actions)
    }


def _sought_in_vain(failure: Trajectory) -> Reflection:
    """Says where a thing of the task was not, for whoever starts from the same place."""
    turns = failure.turns
    goal = _missing(failure)
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


def _missing(failure: Trajectory) -> str:
    """Returns the words of the task for things that the failure never saw nor acted with."""
    known: set[str] = set(_NOT_THINGS)
    for turn in failure.turns:
        known |= content(turn.prompt.observation)
        for action in turn.prompt.actions:
            known |= {action_words(action).verb, *content(action)}
    return " ".join(word for word in tokens(failure.task.text) if word in content(failure.task.text) - known)


def _advances(action: str, task: str) -> bool:
    """Says whether an action is on two things of which the task names the first, such as taking it from somewhere."""
    named = action_words(action).entities
    return len(named) > 1 and named[0].kind in content(task)


def _goal(steps: Sequence[str], task: str) -> str:
    """Returns what the next steps are after: the first thing they act on that the task names, else the task's words."""
    wanted = content(task)
    for step in steps:
        for entity in action_words(step).entities:
            if entity.kind in wanted:
                return entity.kind
    return " ".join(sorted(wanted))


def general(action: str, task: str) -> str:
    """Rewrites an action with the things that the task names by type: "take mug 1 from desk 2" in a mug task."""
    return _without_numbers(action, {e.kind for e in action_words(action).entities} & content(task))


def _typed(action: str) -> str:
    return _without_numbers(action, {entity.kind for entity in entities(action)})


def _without_numbers(action: str, kinds: Iterable[str]) -> str:
    for kind in kinds:
        action = re.sub(rf"\b({re.escape(kind)})\s+\d+\b", r"\1", action, flags=re.IGNORECASE)
    return action
