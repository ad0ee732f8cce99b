"""Scripted expert for ALFWorld games that sees only what an agent sees, and so has to search.

The warm start imitates its episodes. Hints are the texts of skills: receptacles that they name come first in its
search, so that a policy which imitates it learns to use skills as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from d2skill.envs.alfworld.statistics import load_statistics
from d2skill.types import Observation
from d2skill.utils import rng

_PLACE = r"(?:in|on)(?: the)? (?P<place>\w+)"
_PHRASINGS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("look", r"(?:look at|examine)(?: the| an?)? (?P<target>\w+) (?:under|with)(?: the| an?)? (?P<place>\w+)"),
        ("two", rf"find two (?P<target>\w+) and put them {_PLACE}"),
        ("two", rf"put two (?P<target>\w+) {_PLACE}"),
        *((verb, rf"{verb} (?:some|an?) (?P<target>\w+) and put it {_PLACE}") for verb in ("clean", "heat", "cool")),
        ("clean", rf"put a clean (?P<target>\w+) {_PLACE}"),
        ("heat", rf"put a hot (?P<target>\w+) {_PLACE}"),
        ("cool", rf"put a (?:cool|cold) (?P<target>\w+) {_PLACE}"),
        ("place", rf"put (?:some|an?) (?P<target>\w+) {_PLACE}"),
    )
)
_TOOLS = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
_NAME = re.compile(r"\b[a-z]+ \d+\b")
_CONTENTS = re.compile(r"(?:On the ([a-z]+ \d+)|The ([a-z]+ \d+) is open\. In it), you see ([^.]*)\.")
_PROCESSED = re.compile(r"You (?:clean|heat|cool) the (?P<thing>[a-z]+ \d+)")
_LAMP_PLACES = {"desk", "sidetable", "dresser", "coffeetable"}


@cache
def _usual_places() -> dict[str, dict[str, int]]:
    """Returns the receptacle types where objects of each type usually are, over all rooms, in lower case."""
    usual: dict[str, dict[str, int]] = {}
    for room in load_statistics().object_places.values():
        for target, shares in room.items():
            row = usual.setdefault(target.lower(), {})
            for place, share in shares.items():
                row[place.lower()] = max(share, row.get(place.lower(), 0))
    return usual


@dataclass(frozen=True, slots=True)
class ParsedTask:
    """Task text in parts: kind is place, two, look, clean, heat or cool; place is the lamp for look."""

    kind: str
    target: str
    place: str


def parse_task(text: str) -> ParsedTask | None:
    """Parses a task text; returns None for one that is not among ALFWorld's phrasings."""
    for kind, pattern in _PHRASINGS:
        if match := pattern.search(text.lower()):
            return ParsedTask(kind, match["target"], match["place"])
    return None


class Explorer:
    """Expert for one episode. The seed decides the order of search among places that are about equally likely."""

    def __init__(self, task_text: str, hints: Sequence[str] = (), seed: int = 0) -> None:
        self._task = parse_task(task_text) or ParsedTask("place", "", "")
        self._hints = [hint.lower() for hint in hints]
        self._random = rng.generator(seed, "explorer")
        self._queue: list[str] = []
        self._contents: dict[str, set[str]] = {}
        self._held = ""
        self._processed: set[str] = set()
        self._goal_place = ""
        self._refused: set[str] = set()
        self._last = ""

    def act(self, observation: Observation) -> str:
        """Returns the admissible action to play next. Raises `ValueError` where none is listed."""
        if not observation.actions:
            raise ValueError("the expert needs observations that list the admissible actions")
        self._update_knowledge(observation)
        action = self._deliver(observation.actions) if self._held else self._find_target(observation.actions)
        if action not in observation.actions:
            action = str(self._random.choice(observation.actions))
        self._last = action
        return action

    def _update_knowledge(self, observation: Observation) -> None:
        """Updates what is known about the hand and the places from an observation."""
        text = observation.text
        if not self._queue and not self._contents:
            self._queue = self._rank_places(
                [a.removeprefix("go to ") for a in observation.actions if a.startswith("go to ")]
            )
        if match := re.search(r"You pick up the ([a-z]+ \d+) from the ([a-z]+ \d+)", text):
            self._held = match[1]
            self._contents.get(match[2], set()).discard(match[1])
        if match := re.search(r"You (?:move|put) the ([a-z]+ \d+) (?:to|in/on) the ([a-z]+ \d+)", text):
            self._held = ""
            self._contents.setdefault(match[2], set()).add(match[1])
            self._goal_place = match[2]
        if match := _PROCESSED.search(text):
            self._processed.add(match["thing"])
        if match := _CONTENTS.search(text):
            self._mark_searched(match[1] or match[2], _NAME.findall(match[3]))

    def _mark_searched(self, place: str, things: Sequence[str]) -> None:
        """Records the contents of a place and takes it off the search."""
        self._contents[place] = set(things)
        if place in self._queue:
            self._queue.remove(place)
        possible = self._task.kind == "two" and _type_of(place) == self._task.place and not self._goal_place
        if possible and self._task.target in map(_type_of, things):
            self._goal_place = place

    def _rank_places(self, places: Sequence[str]) -> list[str]:
        """Returns places in the order of search: those that hints name, types that they name, then by likelihood.

        The target of a placing task is not where it has to go, so these places come last, named or not.
        """
        words = " ".join(self._hints)
        count = Counter(map(_type_of, places))
        usual = _usual_places().get(self._task.target, {})
        closed = {kind.lower() for kind in load_statistics().openable}

        def rank(place: str) -> tuple[float, float]:
            kind = _type_of(place)
            likelihood = usual.get(kind, 0.5) / count[kind] * self._random.uniform(0.5, 1.5)
            if kind in closed:
                likelihood /= 1.5
            place_hint = re.search(rf"\b{place}\b", words)
            type_hint = re.search(rf"\b{kind}\b(?! \d)", words)
            if kind == self._task.place and self._task.kind in ("place", "two"):
                return 3, -likelihood
            if place_hint:
                return 0, place_hint.start()
            return (1, type_hint.start()) if type_hint else (2, -likelihood)

        return [place for _, place in sorted((rank(place), place) for place in places)]

    def _find_target(self, actions: Sequence[str]) -> str:
        """Returns the next action with an empty hand: take a target, go to where one was seen, or search on."""
        target = self._task.target
        for action in actions:
            match = re.fullmatch(rf"take ({re.escape(target)} \d+) from (.+)", action)
            if match and not self._is_delivered(match[2]):
                return action
        for place, things in self._contents.items():
            if not self._is_delivered(place) and any(_type_of(thing) == target for thing in things):
                return self._reach(place, actions)
        return self._explore(actions)

    def _is_delivered(self, place: str) -> bool:
        """Returns True if a target that lies in a place is where the task wants it."""
        return self._task.kind in ("place", "two") and place == self._goal_place

    def _explore(self, actions: Sequence[str]) -> str:
        """Returns the next step of the search."""
        while self._queue:
            action = self._reach(self._queue[0], actions)
            if action in actions and action != self._last:
                return action
            self._queue.pop(0)
        return str(self._random.choice([a for a in actions if a.startswith("go to ")] or ["look"]))

    def _reach(self, place: str, actions: Sequence[str]) -> str:
        """Returns the action that goes to a place or, once there, opens it.

        Receptacles can share a location, and no action goes to the present location.
        """
        if f"go to {place}" in actions:
            return f"go to {place}"
        return f"open {place}" if f"open {place}" in actions else f"examine {place}"

    def _deliver(self, actions: Sequence[str]) -> str:
        """Returns the next action with a target in hand: process it, then bring it to its destination."""
        if self._task.kind == "look":
            return self._use_lamp(actions)
        if self._task.kind in _TOOLS and self._held not in self._processed:
            return self._process(_TOOLS[self._task.kind], actions)
        place = self._goal_place or self._destination()
        for action in (f"move {self._held} to {place}", f"put {self._held} in/on {place}"):
            if action in actions:
                return action
        if not {f"go to {place}", f"open {place}"} & set(actions):
            self._refused.add(place)
            place = self._destination()
        return self._reach(place, actions)

    def _use_lamp(self, actions: Sequence[str]) -> str:
        """Returns the next action towards switching the lamp on, with the target in hand."""
        lamp = self._task.place
        for action in actions:
            if re.fullmatch(rf"use {re.escape(lamp)} \d+", action):
                return action
        self._queue.sort(key=lambda place: _type_of(place) not in _LAMP_PLACES)
        for place, things in self._contents.items():
            if f"go to {place}" in actions and any(_type_of(thing) == lamp for thing in things):
                return self._reach(place, actions)
        return self._explore(actions)

    def _process(self, tool: str, actions: Sequence[str]) -> str:
        """Returns the next action towards cleaning, heating or cooling the target in hand."""
        for action in actions:
            if re.fullmatch(rf"{self._task.kind} {self._held} with {tool} \d+", action):
                return action
        return next((a for a in actions if re.fullmatch(rf"go to {tool} \d+", a)), "")

    def _destination(self) -> str:
        """Returns a place of the destination's type, preferably one that was seen open."""
        kind = self._task.place
        known = sorted({*self._contents, *self._queue})
        fit = [place for place in known if _type_of(place) == kind and place not in self._refused]
        return min(fit, key=lambda place: (place not in self._contents, place)) if fit else ""


def _type_of(name: str) -> str:
    """Returns the type in a numbered name."""
    return name.rpartition(" ")[0]
