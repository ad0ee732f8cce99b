"""Advice of an episode: which act of its procedure comes next, and which place of a thing is still to be tried.

An act of the procedure is done once an action that it fits was played. A place is refuted once one is there and neither
the act nor anything else that its skill names is possible. A skill about all places of a type is shown for one of them
at a time, as the procedure is shown with the words of the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from d2skill.knowledge.choices import ChoiceProgress
from d2skill.knowledge.procedures import ActProgress, acts_in, choices_in
from d2skill.knowledge.situations import Way, at_place
from d2skill.types import Skill
from d2skill.utils.text import ActionWords, action_words


@dataclass(slots=True)
class _Thing:
    """A thing that is sought: skills that are left, the one that is shown, and the places that were refuted."""

    left: list[Skill]
    shown: Skill | None = None
    way: Way | None = None
    refuted: set[str] = field(default_factory=set)


class Advice:
    """Skills of one episode, shown until they are done or refuted.

    Args:
        procedure: The task skill that is shown, None without one.
        situations: Step skills for the things of the task, the best alternative of each thing first.
        actions: Actions that are possible at the start.
        task: Text of the task.
        forms: Forms of actions in which any text may stand.
    """

    def __init__(
        self,
        procedure: Skill | None,
        situations: Sequence[Skill],
        actions: Sequence[str],
        task: str,
        forms: tuple[str, ...] = (),
    ) -> None:
        self._progress = _progress(procedure.text.principle, task, forms) if procedure else None
        self._played: set[str] = set()
        self._things: dict[tuple[str, str], _Thing] = {}  # by thing and verb
        for skill in situations:
            if way := Way.of(skill):
                self._things.setdefault((skill.task_text, way.act.verb), _Thing([])).left.append(skill)
        self._choose(actions)

    @property
    def acts_done(self) -> int:
        """Number of acts of the procedure that are done, -1 without one."""
        return self._progress.done if self._progress else -1

    @property
    def got(self) -> tuple[str, ...]:
        """Names of the things that were got by acts of the procedure, or the choices that were made for it."""
        return self._progress.got if self._progress else ()

    def shown(self) -> tuple[Skill, ...]:
        """Returns the step skills to show now: for each thing that is sought, the best place that is not refuted."""
        best: dict[str, Skill] = {}
        for thing in self._sought():
            if thing.shown:
                best.setdefault(thing.shown.task_text, thing.shown)
        return tuple(best.values())

    def update(self, action: str, actions: Sequence[str]) -> None:
        """Follows an action that was played, and the actions that are possible after it."""
        words = action_words(action)
        self._played.add(action)
        for key, thing in list(self._things.items()):
            if not self._progress and thing.way and thing.way.act.fits(words):
                del self._things[key]
        for thing in self._sought():
            if thing.way and _refutes(words, actions, thing.way):
                thing.refuted.add(thing.way.place)
                thing.shown = thing.way = None
            ways = [(skill, Way.of(skill)) for skill in thing.left]
            thing.left = [skill for skill, way in ways if way and not _refutes(words, actions, way)]
        if self._progress:
            self._progress.follow(action, actions)
        self._choose(actions)

    def _choose(self, actions: Sequence[str]) -> None:
        """Takes the next skill for each thing that is sought and has none."""
        for thing in self._sought():
            while thing.shown is None and thing.left:
                skill = thing.left[0]
                way = Way.of(skill)
                place = way.place or self._untried(way, thing, actions) if way else None
                if way and place and not way.place:
                    skill = at_place(skill, place)
                    way = (Way.of(skill) or way)._replace(place=place)
                else:
                    thing.left.pop(0)
                if place and place not in thing.refuted:
                    thing.shown, thing.way = skill, way

    def _untried(self, way: Way, thing: _Thing, actions: Sequence[str]) -> str | None:
        """Returns a place of the type of a way to which an action leads, and that was not tried yet."""
        if not way.actions:
            return None
        first = acts_in(way.actions[0])[0]
        for action in actions:
            words = action_words(action)
            places = [entity.name for entity in words.entities[:1] if entity.name not in thing.refuted]
            if places and action not in self._played and first.fits(words):
                return places[0]
        return None

    def _sought(self) -> list[_Thing]:
        """Returns the things that the next act is on, or without a procedure all that have not been acted on."""
        if not self._progress:
            return list(self._things.values())
        act = self._progress.next
        return [thing for (name, verb), thing in self._things.items() if act and name in act.kinds and verb == act.verb]


def _progress(principle: str, task: str, forms: tuple[str, ...]) -> ActProgress | ChoiceProgress | None:
    """Returns the progress through a procedure, at its beginning; None for a text that names no acts."""
    if choices := choices_in(principle):
        return ChoiceProgress(choices, task, forms)
    acts = acts_in(principle)
    return ActProgress(acts) if acts else None


def _refutes(words: ActionWords, actions: Sequence[str], way: Way) -> bool:
    """Returns True if an action led to the place of a way, and nothing more that the way names is possible there."""
    steps = [action_words(step) for step in way.actions]
    if not way.place or (words not in steps and way.place not in {entity.name for entity in words.entities}):
        return False
    left = steps[steps.index(words) + 1 :] if words in steps else steps
    offered = [action_words(other) for other in actions]
    return bool(offered) and not any(other in left or way.act.fits(other) for other in offered)
