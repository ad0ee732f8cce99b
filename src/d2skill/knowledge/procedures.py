"""Procedures: the acts that successes of a kind of task have in common, with slots for the things that the task names.

An act is a verb and its things: an action on something that the task names. Going about, searching and opening are no
acts, for they name nothing of the task beside the place where one is. The first act on a thing keeps the thing alone,
which may lie elsewhere the next time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from d2skill.knowledge.choices import ASKED, FITTING, acts_by_choices, choice_steps
from d2skill.knowledge.patterns import REST, abstracted, bindings
from d2skill.types import Trajectory
from d2skill.utils.text import ActionWords, Entity, action_words, content

_JOINT = ", then "
_MOST_ACTS = 12


class Act(NamedTuple):
    """A step of a procedure: the verb, the types of its things, and the names of those that have a number."""

    verb: str
    kinds: frozenset[str]
    names: frozenset[str] = frozenset()

    def fits(self, action: ActionWords) -> bool:
        """Returns True if an action is this act."""
        if self.verb != action.verb:
            return False
        return self.kinds <= {entity.kind for entity in action.entities} and self.names <= {
            entity.name for entity in action.entities
        }

    def is_part_of(self, other: Act) -> bool:
        """Returns True if another act says the same, or more."""
        return self.verb == other.verb and self.kinds <= other.kinds and self.names <= other.names


class ActProgress:
    """Progress of an episode through the acts of a procedure, in order; an act that is undone is no longer done.

    The verb that begins a procedure gets a thing, so it is on another one each time: taking two mugs is not taking one
    of them twice.
    """

    def __init__(self, acts: Sequence[Act]) -> None:
        self._acts = acts
        self._played: list[ActionWords] = []

    @property
    def done(self) -> int:
        """Number of acts that are done."""
        return len(self._played)

    @property
    def next(self) -> Act | None:
        """The act that comes next, None once all are done."""
        return self._acts[self.done] if self.done < len(self._acts) else None

    @property
    def got(self) -> tuple[str, ...]:
        """Names of the things that were got, by acts with the verb that begins the procedure."""
        return tuple(one.entities[0].name for one in self._played if one.entities and one.verb == self._acts[0].verb)

    def update(self, action: ActionWords) -> None:
        """Follows an action that was played."""
        if undoes(action, self._played):
            self._played.pop()
        elif self.next and self.next.fits(action) and not self._gets_again(action):
            self._played.append(action)

    def follow(self, action: str, actions: Sequence[str]) -> None:
        """Follows an action that was played, and the actions that are possible after it.

        A thing that was only got is lost if it can be got again.
        """
        self.update(action_words(action))
        last = self._played[-1] if self._played else None
        if last and last.verb == self._acts[0].verb and last.entities:
            offered = map(action_words, actions)
            if any(one.verb == last.verb and one.entities[:1] == last.entities[:1] for one in offered):
                self._played.pop()

    def _gets_again(self, action: ActionWords) -> bool:
        return action.verb == self._acts[0].verb and action.entities[:1] != () and action.entities[0].name in self.got


def undoes(action: ActionWords, played: Sequence[ActionWords]) -> bool:
    """Returns True if an action takes back the last of some acts: it gets a thing again where that act left it."""
    if not played or not action.entities or played[-1].entities[:1] != action.entities[:1]:
        return False
    got = next(one for one in played if one.entities[0] == action.entities[0])
    return got is not played[-1] and got.verb == action.verb and played[-1].entities[1:] == action.entities[1:]


class Procedure(NamedTuple):
    """A kind of task as a pattern, and its acts as texts with the same slots."""

    pattern: str
    steps: tuple[str, ...]


@lru_cache(maxsize=2**14)
def acts_in(principle: str) -> tuple[Act, ...]:
    """Returns the acts that the text of a skill names, in order; none if its steps are `choices_in`."""
    if choices_in(principle):
        return ()
    return tuple(map(act_of, steps_in(principle)))


@lru_cache(maxsize=2**14)
def choices_in(principle: str) -> tuple[str, ...]:
    """Returns the steps of a text that names a choice in general words, as `general_choice` does; else none."""
    if ASKED not in principle and FITTING not in principle:
        return ()
    return tuple(f"{step[:1].lower()}{step[1:]}" for step in steps_in(principle))


def steps_in(principle: str) -> list[str]:
    """Returns the steps that the text of a skill names, in order, as `sentence` joins them."""
    return [step for step in principle.rstrip(". ").split(_JOINT) if step.strip()]


def procedure_of(success: Trajectory) -> Procedure | None:
    """Returns the procedure of a successful trajectory; None if it has none that is about what the task names."""
    if acts_by_choices(success):
        chosen = Procedure(*choice_steps(success))
        kept = len(chosen.steps) <= _MOST_ACTS and chosen.pattern != REST
        return chosen if kept and bindings(chosen.pattern, success.task.text) is not None else None
    wanted = content(success.task.text)
    turns = [turn for turn in success.turns if turn.admissible]
    played = [(turn.decision.action, action_words(turn.decision.action)) for turn in turns]
    acts = [
        (action, words)
        for at, (action, words) in enumerate(played)
        if _is_on(words, wanted, last=at == len(played) - 1)
    ]
    acts = _without_returns(acts)
    if not acts or len(acts) > _MOST_ACTS:
        return None
    slots = _slots([words for _, words in acts], wanted)
    steps: list[str] = []
    known: set[str] = set()
    for at, (action, words) in enumerate(acts):
        first = words.entities[0]
        alone = first.name not in known and first.kind in slots and at < len(acts) - 1
        known.add(first.name)
        step = _general(action, words, slots, alone=alone)
        if steps[-1:] != [step]:
            steps.append(step)
    return Procedure(abstracted(success.task.text, slots, numbers=True), tuple(steps))


def completed_at(acts: Sequence[Act], trajectory: Trajectory) -> int | None:
    """Returns the turn with which a trajectory had played all acts, in order; None if it did not."""
    progress = ActProgress(acts)
    for at, turn in enumerate(trajectory.turns):
        if turn.admissible:
            progress.update(action_words(turn.decision.action))
            if progress.done == len(acts):
                return at
    return None


def is_part(acts: Sequence[Act], others: Sequence[Act]) -> bool:
    """Returns True if acts are among others, in their order."""
    done = 0
    for other in others:
        done += done < len(acts) and acts[done].is_part_of(other)
    return done == len(acts)


def sentence(steps: Sequence[str]) -> str:
    """Returns steps as the sentence that a skill has as its principle."""
    text = _JOINT.join(steps)
    return f"{text[:1].upper()}{text[1:]}."


@lru_cache(maxsize=2**14)
def act_of(step: str) -> Act:
    """Returns the act that a step of a text names."""
    words = action_words(step)
    kinds = frozenset(entity.kind for entity in words.entities)
    names = frozenset(entity.name for entity in words.entities if entity.name != entity.kind)
    return Act(words.verb, kinds, names)


@lru_cache(maxsize=4096)
def name_in_text(entity: Entity) -> re.Pattern[str]:
    """Returns the pattern of an entity in a text, whatever stands before its number: "mug 1", "mug_1" or "mug1"."""
    number = entity.name[len(entity.kind) :].strip()
    return re.compile(rf"(?<![a-z0-9]){re.escape(entity.kind)}[^a-z0-9]*?{number}(?![a-z0-9])")


def _without_returns(acts: Sequence[tuple[str, ActionWords]]) -> list[tuple[str, ActionWords]]:
    """Drops each act that was undone, and the act that undid it: putting a thing down and taking it again."""
    kept: list[tuple[str, ActionWords]] = []
    for action, words in acts:
        if undoes(words, [other for _, other in kept]):
            kept.pop()
        else:
            kept.append((action, words))
    return kept


def _is_on(words: ActionWords, wanted: frozenset[str], *, last: bool) -> bool:
    """Returns True if an action is an act: on a thing of the task and another one, or the last of all."""
    if last:
        return any(entity.kind in wanted for entity in words.entities)
    return len(words.entities) > 1 and words.entities[0].kind in wanted


def _slots(acts: Sequence[ActionWords], wanted: frozenset[str]) -> dict[str, str]:
    """Returns the slot of each thing of the task: a thing, if an act is on it before all others, or else a place."""
    first = dict.fromkeys(words.entities[0].kind for words in acts if words.entities[0].kind in wanted)
    others = dict.fromkeys(
        entity.kind
        for words in acts
        for entity in words.entities[1:]
        if entity.kind in wanted and entity.kind not in first
    )
    return _numbered("thing", first) | _numbered("place", others)


def _numbered(name: str, kinds: dict[str, None]) -> dict[str, str]:
    return {kind: name if at == 1 else f"{name} {at}" for at, kind in enumerate(kinds, start=1)}


def _general(action: str, words: ActionWords, slots: dict[str, str], *, alone: bool) -> str:
    """Returns an action without numbers and with slots, cut off after its first thing if that stands alone."""
    text = action.lower()
    if alone and (first := name_in_text(words.entities[0]).search(text, len(words.verb))):
        text = text[: first.end()]
    for entity in words.entities:
        text = name_in_text(entity).sub(entity.kind, text)
    return re.sub(r"\s+", " ", abstracted(text, slots))
