"""Situations: where an act on a thing was possible, for the same start: "mug: in cabinet 2".

A place is what an action on a thing names beside it, or else what the action that made it possible names. Only what was
so before anybody touched the thing counts, so nothing is said about where an agent put it. The way there is the actions
that made the next one possible for the first time, as far as they name the place or lead to it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from d2skill.knowledge.patterns import abstracted, filled
from d2skill.knowledge.procedures import Act, act_of, acts_in, name_in_text, sentence, steps_in
from d2skill.types import Skill, SkillText, Trajectory, Turn
from d2skill.utils.text import Entity, action_words, entities


class Found(NamedTuple):
    """A thing, the verb of the act that was possible on it, and its place."""

    thing: str
    verb: str
    place: str


class Sight(NamedTuple):
    """The way to a thing: the actions that lead there, the act that is possible there, and "in" or "on"."""

    way: tuple[str, ...]
    act: str
    preposition: str


def sights(trajectory: Trajectory, verbs: Collection[str]) -> dict[Found, Sight]:
    """Returns what a trajectory found, and how; without `verbs` all acts on two things count."""
    turns = trajectory.turns
    first_offer: dict[str, int] = {}
    touched: set[str] = set()
    found: dict[Found, Sight] = {}
    for at, turn in enumerate(turns):
        for action in turn.prompt.actions:
            if action not in first_offer:
                first_offer[action] = at
                if at and (seen := _sight(action, turns, first_offer, touched, verbs)):
                    found.setdefault(*seen)
        words = action_words(turn.decision.action)
        if turn.admissible and len(words.entities) > 1:
            touched.add(words.entities[0].name)
    return found


def skill_text(found: Found, sight: Sight) -> SkillText:
    """Returns the text of a step skill about a place in one start."""
    return SkillText(
        f"{found.thing}: {sight.preposition} {found.place}",
        sentence((*sight.way, sight.act)),
        f"the task needs {found.thing} and begins as here",
    )


def general_text(found: Found, sight: Sight) -> SkillText:
    """Returns the text of a step skill about all places of a type, in any start."""
    kind, steps = kind_of(found.place), (*sight.way, sight.act)
    place = name_in_text(entities(found.place)[0])
    return SkillText(
        f"{found.thing}: {sight.preposition} any {kind}",
        sentence([place.sub(kind, step) for step in steps]),
        f"the task needs {found.thing}",
    )


@lru_cache(maxsize=2**14)
def at_place(skill: Skill, place: str) -> Skill:
    """Returns a skill about any place of a type as it is shown for one of these places."""
    kind = kind_of(place)
    words = re.compile(rf"\b(?:any )?{re.escape(kind)}(?![\w ]*\d)\b")
    text = skill.text
    return replace(
        skill, text=SkillText(words.sub(place, text.title), words.sub(place, text.principle), text.when_to_apply)
    )


def place_key(text: SkillText) -> str:
    """Returns the key that tells situations of a thing and a start apart: the place, and the verb of the act there."""
    return " ".join([text.title, *(act.verb for act in acts_in(text.principle)[-1:])])


def exchanged(text: SkillText, word: str, other: str) -> SkillText:
    """Returns a text with another thing in place of one that it names."""
    return text.changed(lambda field: filled(abstracted(field, {word: "thing"}), {"thing": other}))


def place_of(skill: Skill) -> str:
    """Returns the place that the title of a step skill names: "drawer 4" of "mug: in drawer 4"."""
    return skill.text.title.partition(": ")[2].partition(" ")[2]


def kind_of(place: str) -> str:
    """Returns the type of a place: "drawer" of "drawer 4"."""
    return entities(place)[0].kind


def looked_at(trajectory: Trajectory, steps: Mapping[str, Collection[str]]) -> set[str]:
    """Returns the places at which a trajectory saw what is there, before it touched anything.

    With a thing in hand others may not be offered, so later looks do not count. A place was not seen yet while a verb
    that leads to what is in it, given by type of place in `steps`, is still possible there beside the one just played.
    """
    looked: set[str] = set()
    for turn, following in pairwise(trajectory.turns):
        words = action_words(turn.decision.action)
        named = words.entities
        if len(named) > 1 and turn.admissible:
            break
        if len(named) != 1 or named[0].name in looked or named[0].kind not in steps:
            continue
        place = named[0]
        offered = map(action_words, following.prompt.actions)
        if not any(one.entities == (place,) and one.verb in steps[place.kind] and one != words for one in offered):
            looked.add(place.name)
    return looked


def leading_verbs(sights_seen: Iterable[tuple[Found, Sight]], skills: Iterable[Skill]) -> dict[str, set[str]]:
    """Returns the verbs that lead to what is in places of each type, as sights and step skills show."""
    steps: dict[str, set[str]] = {}
    for found, sight in sights_seen:
        steps.setdefault(kind_of(found.place), set()).update(action_words(step).verb for step in sight.way)
    for skill in skills:
        if (way := Way.of(skill)) and way.actions and (places := action_words(way.actions[-1]).entities):
            steps.setdefault(places[0].kind, set()).update(action_words(step).verb for step in way.actions)
    return steps


class Way(NamedTuple):
    """The text of a step skill in parts: the actions that lead to the place, the act there, and the place.

    The place is "" if the text names only a type of place.
    """

    actions: tuple[str, ...]
    act: Act
    place: str

    @classmethod
    def of(cls, skill: Skill) -> Way | None:
        """Returns the way of a skill; None if its text has no act."""
        return _way_in(skill.text.principle)

    def is_refuted(self, played: Collection[str], found: Iterable[Found], thing: str) -> bool:
        """Returns True if actions went all the way, and an act on the thing was not possible there."""
        if not self.actions or not set(self.actions) <= set(played):
            return False
        kinds = self.act.kinds.union(*(act.kinds for act in map(act_of, self.actions))) - {thing}
        places = {self.place} if self.place else kinds
        return not any(
            one.thing == thing
            and one.verb == self.act.verb
            and (not places or one.place in places or kind_of(one.place) in places)
            for one in found
        )


@lru_cache(maxsize=2**14)
def _way_in(principle: str) -> Way | None:
    acts = acts_in(principle)
    steps = steps_in(principle)
    if not acts:
        return None
    beside = [*action_words(steps[-1]).entities[1:], *(e for step in steps[-2:-1] for e in action_words(step).entities)]
    place = next((entity.name for entity in beside if entity.name != entity.kind), "")
    return Way(tuple(f"{step[:1].lower()}{step[1:]}" for step in steps[:-1]), acts[-1], place)


def _sight(
    action: str, turns: Sequence[Turn], first_offer: dict[str, int], touched: Collection[str], verbs: Collection[str]
) -> tuple[Found, Sight] | None:
    """Returns what an action that is possible for the first time shows; None if it is no sight of a thing."""
    words = action_words(action)
    if not words.entities or words.entities[0].name in touched or (verbs and words.verb not in verbs):
        return None
    thing, at = words.entities[0], first_offer[action]
    led = turns[at - 1].decision.action
    beside = words.entities[1:] or ([] if not verbs else action_words(led).entities)
    if not beside or beside[0].kind == thing.kind:
        return None
    way = _way(at, beside[0], turns, first_offer)
    if not way:
        return None
    text = name_in_text(thing).sub(thing.kind, action.lower(), count=1)
    where = re.search(rf"\b(in|on)(?: the)? {re.escape(beside[0].name)}\b", turns[at].prompt.observation.lower())
    return Found(thing.kind, words.verb, beside[0].name), Sight(way, text, where[1] if where else "in")


def _way(at: int, place: Entity, turns: Sequence[Turn], first_offer: dict[str, int]) -> tuple[str, ...]:
    """Returns the actions before turn `at` that led to a place; () if what led there was an act on several things."""
    at -= 1
    while at >= 0 and len(action_words(turns[at].decision.action).entities) > 1:
        at -= 1
    way: list[str] = []
    while at >= 0:
        action = turns[at].decision.action
        named = {entity.name for entity in action_words(action).entities}
        if way and place.name not in named:
            break
        if not turns[at].admissible or not named:
            return ()
        way.insert(0, action.lower())
        at = first_offer.get(action, 0) - 1
    return tuple(way)
