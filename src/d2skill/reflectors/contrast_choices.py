"""Contrast of trajectories whose actions choose among what is offered, such as `click[next >]`; going back undoes them.

Of these the success is cut down to the way that was not undone. Its key is the choice that made the last action
admissible; a failure that was offered the key and did not take it failed there, however differently it had searched.
What is sought is the words in which the success searched, and of what the task names itself, a skill says just that,
so that it holds for tasks which name something else. A failure alone shows what in words of the task it did not try;
that what it took is wrong would be hasty, and did harm where it was right and something else was not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from d2skill.reflectors.trajectory_diff import decisive, enabler, played_actions, sentence, without_repeats
from d2skill.types import Reflection, SkillText, Trajectory, Turn
from d2skill.utils.text import action_words, argument, content, repeats, tokens


@dataclass(frozen=True, slots=True)
class _Way:
    """The turns of a trajectory whose actions were not undone, and what they say to other tasks of the kind.

    `key` is the number of the choice that made the last action admissible. `thing` is what was sought: the words of the
    action that repeats most of the task, but for what was chosen later. `told` are the actions in general terms.
    """

    turns: tuple[Turn, ...]
    steps: tuple[str, ...]
    key: int
    thing: str
    told: tuple[str, ...]

    @classmethod
    def of(cls, trajectory: Trajectory) -> _Way:
        """Returns the way of a trajectory that `chooses`."""
        task = trajectory.task.text
        turns = _not_undone(trajectory)
        steps = tuple(turn.decision.action for turn in turns)
        query = max(range(len(steps)), key=lambda i: len(_common(steps[i], task)))
        thing = _without_words(
            steps[query], [step for i, step in enumerate(steps) if i != query and _asked(step, task)]
        )
        told = [_told(step, task) for step in steps]
        if _common(steps[query], task):
            told[query] = f"{action_words(steps[query]).verb}[{thing}]"
        key = next(iter(enabler(turns, len(turns) - 1)), 0)
        return cls(turns, steps, key, thing if _common(steps[query], task) else task, tuple(told))

    def skill(self, start: int) -> SkillText:
        """Returns a skill of the way from one of its steps on."""
        return _plan_skill(self.told[start:], self.thing, begun=start > 0)


def chooses(trajectory: Trajectory) -> bool:
    """Tells whether all that was done has an argument in brackets; what was not admissible was not done."""
    done = [turn.decision.action for turn in trajectory.turns if turn.admissible]
    return bool(done) and all(argument(action) is not None for action in done)


def contrast(failure: Trajectory, success: Trajectory | None) -> Reflection:
    """Contrasts ways through what is offered. A failure alone shows what it did not try."""
    if success is None:
        return _untried(failure)
    way = _Way.of(success)
    offered = any(way.steps[way.key] in turn.prompt.actions for turn in failure.turns)
    start = way.key if offered else 0
    at, missing = decisive(failure, way.steps[start:])
    return Reflection(at, way.skill(start + missing), way.skill(0))


def _untried(failure: Trajectory) -> Reflection:
    """Points at a choice in words of the task that was offered and never made, nearest to the end."""
    task, way, played = set(tokens(failure.task.text)), _Way.of(failure), played_actions(failure.turns)
    for turn in reversed(way.turns):
        for action in turn.prompt.actions:
            words = set(tokens(argument(action) or ""))
            if words and words <= task and action not in played:
                at = next(i for i, one in enumerate(failure.turns) if one is turn)
                return Reflection(at, _plan_skill([action], way.thing, begun=True), None)
    return Reflection(0)


def _not_undone(trajectory: Trajectory) -> tuple[Turn, ...]:
    """Returns the turns that led on: without those between what was seen and the return to it.

    Of those that changed nothing that is seen, such as ticking an option, what the task names is left.
    """
    way: list[Turn] = []
    for turn in trajectory.turns:
        seen = [past.prompt.observation for past in way]
        if turn.prompt.observation in seen and turn.prompt.observation != seen[-1]:
            del way[len(seen) - 1 - seen[::-1].index(turn.prompt.observation) :]
        way.append(turn)
    task = trajectory.task.text
    moved = [turn.prompt.observation != following.prompt.observation for turn, following in pairwise(way)]
    kept = zip(way, [*moved, True], strict=True)
    return tuple(turn for turn, moves in kept if moves or _asked(turn.decision.action, task))


def _asked(action: str, task: str) -> bool:
    """Tells whether the task names what an action chooses."""
    return repeats(task, argument(action) or "")


def _told(action: str, task: str) -> str:
    """Says an action so that it holds for tasks that name something else."""
    return f"{action_words(action).verb} what the task names" if _asked(action, task) else action


def _plan_skill(told: Sequence[str], thing: str, *, begun: bool) -> SkillText:
    """Says what to do from a point on, for whoever looks for a thing; not at which point, if it is the beginning."""
    plan = without_repeats(told)
    when = f"the task is about {thing}" + (f" and you can {plan[0]}" if begun else "")
    return SkillText(f"{thing}: {plan[0]}", f"{sentence(', then '.join(plan))}.", when)


def _common(action: str, task: str) -> frozenset[str]:
    """Returns the words of the task that an action's argument repeats."""
    return content(argument(action) or "") & content(task)


def _without_words(query: str, choices: Iterable[str]) -> str:
    """Returns the words of a query without those that are chosen, or all if none would be left."""
    every = " ".join(tokens(argument(query) or ""))
    words = f" {every} "
    for choice in choices:
        words = words.replace(f" {' '.join(tokens(argument(choice) or ''))} ", " ")
    return words.strip() or every
