"""A scripted player of ALFWorld games that knows no more than an agent does: it searches, it is not told.

Its episodes are what the warm start imitates. Hints are the texts of skills: receptacles that they name come
first in its search, so that a policy which imitates it learns to use skills as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from d2skill.envs.houses.statistics import OPENABLE, PLACES
from d2skill.types import Observation
from d2skill.utils import rng

_PHRASES = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (
            "look",
            r"(?:look at|examine)(?: the| an?)? (?P<target>\w+) (?:under|with)(?: the| an?)? (?P<place>\w+)",
        ),
        ("two", r"find two (?P<target>\w+) and put them (?:in|on)(?: the)? (?P<place>\w+)"),
        ("two", r"put two (?P<target>\w+) (?:in|on)(?: the)? (?P<place>\w+)"),
        ("clean", r"clean (?:some|an?) (?P<target>\w+) and put it (?:in|on)(?: the)? (?P<place>\w+)"),
        ("heat", r"heat (?:some|an?) (?P<target>\w+) and put it (?:in|on)(?: the)? (?P<place>\w+)"),
        ("cool", r"cool (?:some|an?) (?P<target>\w+) and put it (?:in|on)(?: the)? (?P<place>\w+)"),
        ("clean", r"put a clean (?P<target>\w+) (?:in|on)(?: the)? (?P<place>\w+)"),
        ("heat", r"put a hot (?P<target>\w+) (?:in|on)(?: the)? (?P<place>\w+)"),
        ("cool", r"put a (?:cool|cold) (?P<target>\w+) (?:in|on)(?: the)? (?P<place>\w+)"),
        ("place", r"put (?:some|an?) (?P<target>\w+) (?:in|on)(?: the)? (?P<place>\w+)"),
    )
)
_TOOLS = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
_NAME = re.compile(r"\b[a-z]+ \d+\b")
_SEEN = re.compile(r"(?:On the ([a-z]+ \d+)|The ([a-z]+ \d+) is open\. In it), you see ([^.]*)\.")
_DONE = re.compile(r"You (?:clean|heat|cool) the (?P<thing>[a-z]+ \d+)")
_CLOSED = {kind.lower() for kind in OPENABLE}
_LAMP_PLACES = {"desk", "sidetable", "dresser", "coffeetable"}


def _merge_places() -> dict[str, dict[str, int]]:
    """Returns for each object type where such objects usually are, over all rooms, in lower case."""
    usual: dict[str, dict[str, int]] = {}
    for table in PLACES.values():
        for target, shares in table.items():
            row = usual.setdefault(target.lower(), {})
            for place, share in shares.items():
                row[place.lower()] = max(share, row.get(place.lower(), 0))
    return usual


_USUAL = _merge_places()


@dataclass(frozen=True, slots=True)
class Request:
    """A task text taken apart: kind is place, two, look, clean, heat or cool; place is the lamp for look."""

    kind: str
    target: str
    place: str


def parse_task(text: str) -> Request | None:
    """Returns what a task text asks for, None for one that is not among ALFWorld's phrasings."""
    for kind, pattern in _PHRASES:
        if match := pattern.search(text.lower()):
            return Request(kind, match["target"], match["place"])
    return None


class Explorer:
    """Plays one episode. Seeds differ in the order of search among places that promise about the same."""

    def __init__(self, task_text: str, hints: Sequence[str] = (), seed: int = 0) -> None:
        self._request = parse_task(task_text) or Request("place", "", "")
        self._hints = [hint.lower() for hint in hints]
        self._random = rng.generator(seed, "explorer")
        self._queue: list[str] = []
        self._contents: dict[str, set[str]] = {}
        self._held = ""
        self._processed: set[str] = set()
        self._goal_place = ""
        self._unfit: set[str] = set()
        self._last = ""

    def act(self, observation: Observation) -> str:
        """Returns the admissible action to play next. Raises `ValueError` where none is listed."""
        if not observation.actions:
            raise ValueError("the expert needs observations that list the admissible actions")
        self._notice(observation)
        wanted = self._carry(observation.actions) if self._held else self._search(observation.actions)
        if wanted not in observation.actions:
            wanted = str(self._random.choice(observation.actions))
        self._last = wanted
        return wanted

    def _notice(self, observation: Observation) -> None:
        """Takes in what the last action did and what is seen now."""
        text = observation.text
        if not self._queue and not self._contents:
            self._queue = self._order([a.removeprefix("go to ") for a in observation.actions if a.startswith("go to ")])
        if match := re.search(r"You pick up the ([a-z]+ \d+) from the ([a-z]+ \d+)", text):
            self._held = match[1]
            self._contents.get(match[2], set()).discard(match[1])
        if match := re.search(r"You (?:move|put) the ([a-z]+ \d+) (?:to|in/on) the ([a-z]+ \d+)", text):
            self._held = ""
            self._contents.setdefault(match[2], set()).add(match[1])
            self._goal_place = match[2]
        if match := _DONE.search(text):
            self._processed.add(match["thing"])
        if match := _SEEN.search(text):
            self._learn(match[1] or match[2], _NAME.findall(match[3]))

    def _learn(self, place: str, things: Sequence[str]) -> None:
        """Remembers what lies in a place, which is thereby searched."""
        self._contents[place] = set(things)
        if place in self._queue:
            self._queue.remove(place)
        fits = self._request.kind == "two" and _kind(place) == self._request.place and not self._goal_place
        if fits and self._request.target in map(_kind, things):
            self._goal_place = place

    def _order(self, places: Sequence[str]) -> list[str]:
        """Orders the search: places that hints name, types that they name, then places usual for the target.

        The target of a placing task is not where it has to go, so these places come last, named or not.
        """
        words = " ".join(self._hints)
        count = Counter(map(_kind, places))
        usual = _USUAL.get(self._request.target, {})

        def rank(place: str) -> tuple[float, float]:
            kind = _kind(place)
            promise = usual.get(kind, 0.5) / count[kind] * self._random.uniform(0.5, 1.5)
            if kind in _CLOSED:
                promise /= 1.5
            named = re.search(rf"\b{place}\b", words)
            typed = re.search(rf"\b{kind}\b(?! \d)", words)
            if kind == self._request.place and self._request.kind in ("place", "two"):
                return 3, -promise
            if named:
                return 0, named.start()
            return (1, typed.start()) if typed else (2, -promise)

        return [place for _, place in sorted((rank(place), place) for place in places)]

    def _search(self, actions: Sequence[str]) -> str:
        """Returns the next action with empty hands: take a target, go where one was seen, or look further."""
        target = self._request.target
        for action in actions:
            match = re.fullmatch(rf"take ({re.escape(target)} \d+) from (.+)", action)
            if match and not self._settled(match[2]):
                return action
        for place, things in self._contents.items():
            if not self._settled(place) and any(_kind(thing) == target for thing in things):
                return self._reach(place, actions)
        return self._explore(actions)

    def _settled(self, place: str) -> bool:
        """Returns whether targets that lie there should stay."""
        return self._request.kind in ("place", "two") and place == self._goal_place

    def _explore(self, actions: Sequence[str]) -> str:
        """Returns the next step of the search."""
        while self._queue:
            action = self._reach(self._queue[0], actions)
            if action in actions and action != self._last:
                return action
            self._queue.pop(0)
        return str(self._random.choice([a for a in actions if a.startswith("go to ")] or ["look"]))

    def _reach(self, place: str, actions: Sequence[str]) -> str:
        """Returns the action that brings the player to a place or, once there, opens it.

        Receptacles can stand together; one cannot go to where one is.
        """
        if f"go to {place}" in actions:
            return f"go to {place}"
        return f"open {place}" if f"open {place}" in actions else f"examine {place}"

    def _carry(self, actions: Sequence[str]) -> str:
        """Returns the next action with a target in hand: process it, then bring it to its destination."""
        request = self._request
        if request.kind == "look":
            return self._light(actions)
        if request.kind in _TOOLS and self._held not in self._processed:
            return self._process(_TOOLS[request.kind], actions)
        place = self._goal_place or self._destination()
        for action in (f"move {self._held} to {place}", f"put {self._held} in/on {place}"):
            if action in actions:
                return action
        if not {f"go to {place}", f"open {place}"} & set(actions):
            self._unfit.add(place)
            place = self._destination()
        return self._reach(place, actions)

    def _light(self, actions: Sequence[str]) -> str:
        """Returns the next action of a player who holds what is to be looked at."""
        lamp = self._request.place
        for action in actions:
            if re.fullmatch(rf"use {re.escape(lamp)} \d+", action):
                return action
        self._queue.sort(key=lambda place: _kind(place) not in _LAMP_PLACES)
        for place, things in self._contents.items():
            if f"go to {place}" in actions and any(_kind(thing) == lamp for thing in things):
                return self._reach(place, actions)
        return self._explore(actions)

    def _process(self, tool: str, actions: Sequence[str]) -> str:
        """Returns the next action towards cleaning, heating or cooling what is held."""
        for action in actions:
            if re.fullmatch(rf"{self._request.kind} {self._held} with {tool} \d+", action):
                return action
        return next((a for a in actions if re.fullmatch(rf"go to {tool} \d+", a)), "")

    def _destination(self) -> str:
        """Returns the place to bring a target to, rather one that is known to be open."""
        kind = self._request.place
        known = sorted({*self._contents, *self._queue})
        fit = [place for place in known if _kind(place) == kind and place not in self._unfit]
        return min(fit, key=lambda place: (place not in self._contents, place)) if fit else ""


def _kind(name: str) -> str:
    """Returns the type in a numbered name."""
    return name.rpartition(" ")[0]
