"""Floor plans of the generated houses: what stays the same from game to game, so that experience can pay.

A floor plan fixes the room, its receptacles with their numbered names, and a habit: the one receptacle
where objects of a type mostly lie. It also fixes which errands its games are about, so that a target recurs
with its plan about as often as in ALFWorld (4.3 games for each pair of scene and target type).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from d2skill import rng
from d2skill.envs.alfworld.house_data import CAN_CONTAIN, LAMP_PLACES, OPENABLE, PLACES, RECEPTACLES, TRAITS

_T = TypeVar("_T")

TARGETS = 7
"""Object types that the errands of a plan are about."""
ERRANDS_PER_TARGET = 2
"""Errands for each of them, of different task types."""

_ROOMS = ("kitchen", "bedroom", "kitchen", "bathroom", "kitchen", "living")
_FIRST_SCENES = {"kitchen": 1, "living": 201, "bedroom": 301, "bathroom": 401}

TOOLS: Mapping[str, tuple[str, str, str]] = {
    "pick_clean_then_place_in_recep": ("clean", "cleanable", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("heat", "heatable", "Microwave"),
    "pick_cool_then_place_in_recep": ("cool", "coolable", "Fridge"),
}
"""Task type: the verb, what the target must be, and the receptacle that does it."""

_WEIGHTS = {
    "pick_and_place_simple": 1.0,
    "pick_two_obj_and_place": 1.0,
    "pick_clean_then_place_in_recep": 1.8,
    "pick_heat_then_place_in_recep": 4.0,
    "pick_cool_then_place_in_recep": 3.0,
    "look_at_obj_in_light": 1.4,
}
"""Odds of the task types, such that all six are common although rooms and targets rule many out."""


@dataclass(frozen=True, slots=True)
class Receptacle:
    """A receptacle: its id and location in the game file and the name that players see."""

    id: str
    name: str
    type: str
    location: str


@dataclass(frozen=True, slots=True)
class Errand:
    """What a game asks for: task type, type of the target and type of the destination (DeskLamp to look)."""

    kind: str
    target: str
    destination: str


@dataclass(frozen=True, slots=True)
class FloorPlan:
    """A room and its habit.

    `homes` gives the index of the receptacle where each object type mostly lies, `haunts` those of up to two others
    where it is often, `lamp` that of the lamp.
    """

    number: int
    room: str
    receptacles: tuple[Receptacle, ...]
    homes: Mapping[str, int]
    haunts: Mapping[str, tuple[int, ...]]
    errands: tuple[Errand, ...]
    lamp: int | None

    @property
    def scene(self) -> int:
        """The number of the plan among ALFWorld's scenes, whose last three digits tell the room.

        Kitchens are 1-100, living rooms 201-300, bedrooms 301-400, bathrooms 401-500, of which ALFWorld uses the
        first thirty each; the next hundred of a room are a thousand higher.
        """
        rounds, place = divmod(self.number, len(_ROOMS))
        thousands, rest = divmod(rounds * _ROOMS.count(self.room) + _ROOMS[:place].count(self.room), 100)
        return 1000 * thousands + _FIRST_SCENES[self.room] + rest

    def places(self, target: str, without: str = "") -> list[int]:
        """Returns the receptacles that may hold objects of a type, those of the type `without` left out."""
        return [
            i
            for i, receptacle in enumerate(self.receptacles)
            if target in CAN_CONTAIN.get(receptacle.type, ()) and receptacle.type != without
        ]


@lru_cache(maxsize=16)
def floor_plans(seed: int, receptacles: int, count: int) -> tuple[FloorPlan, ...]:
    """Returns the first `count` plans of a seed, each with at most `receptacles` receptacles.

    No two list the same receptacles as long as others can be drawn, so that a player can tell them apart.
    """
    listings: set[tuple[str, ...]] = set()
    plans = []
    for number in range(count):
        room = _ROOMS[number % len(_ROOMS)]
        for attempt in range(50):
            random = rng.generator(seed, "floor plan", number, attempt)
            types = tuple(sorted(_furnish(room, receptacles, random)))
            if types not in listings:
                break
        listings.add(types)
        plans.append(_plan(number, room, types, random))
    return tuple(plans)


def numbered(ids: Iterable[str]) -> dict[str, str]:
    """Names entities as ALFWorld does: by type, counting down in the order of the lower-case ids."""
    names: dict[str, list[str]] = {}
    for identifier in sorted(ids, key=str.lower):
        kind = identifier.split("_bar_")[0].lower() + ("basin" if "Basin" in identifier else "")
        names.setdefault(kind, []).append(identifier)
    return {
        identifier: f"{kind} {len(group) - place}"
        for kind, group in names.items()
        for place, identifier in enumerate(group)
    }


def identifiers(kind: str, random: np.random.Generator) -> Iterator[str]:
    """Yields ids such as `Mug_bar__plus_01_dot_20_bar__minus_00_dot_35_bar__plus_02_dot_00`, none twice."""
    seen: set[tuple[int, ...]] = set()
    base = kind.removesuffix("Basin")
    while True:
        at = tuple(int(x) for x in random.integers(-399, 400, size=3))
        if at not in seen:
            seen.add(at)
            spots = (f"{'plus' if x >= 0 else 'minus'}_{abs(x) // 100:02d}_dot_{abs(x) % 100:02d}" for x in at)
            yield "_bar__".join((base, *spots)) + (f"_bar_{kind}" if base != kind else "")


def _furnish(room: str, most: int, random: np.random.Generator) -> Iterator[str]:
    """Yields the receptacle types of a room: what its tasks need, then more as such rooms have them."""
    table = RECEPTACLES[room]
    have = Counter({kind: least for kind, (least, _, _) in table.items()})
    yield from have.elements()
    taste = {kind: mean * math.exp(random.normal(0, 0.6)) for kind, (_, _, mean) in table.items()}
    for _ in range(int(random.integers(max(most - 4, 8), most + 1)) - have.total()):
        open_kinds = [kind for kind, (_, limit, _) in table.items() if have[kind] < limit]
        if open_kinds:
            kind = _draw(open_kinds, [taste[k] for k in open_kinds], random)
            have[kind] += 1
            yield kind


def _plan(number: int, room: str, types: Sequence[str], random: np.random.Generator) -> FloorPlan:
    """Builds a plan around receptacles of these types."""
    sources = {kind: identifiers(kind, random) for kind in sorted(set(types))}
    ids = [next(sources[kind]) for kind in types]
    names = numbered(ids)
    spots = random.permutation(len(ids))
    receptacles = tuple(
        Receptacle(i, names[i], kind, f"loc_bar_{spot % 6}_bar__minus_{spot // 6}_bar_{spot % 4}_bar_60")
        for i, kind, spot in zip(ids, types, spots.tolist(), strict=True)
    )
    stands = [i for i, r in enumerate(receptacles) if r.type in LAMP_PLACES.get(room, ())]
    lamp = int(random.choice(stands)) if stands else None
    bare = FloorPlan(number, room, receptacles, {}, {}, (), lamp)
    homes = _homes(bare, random)
    errands = tuple(_errands(bare, homes, random))
    return FloorPlan(number, room, receptacles, homes, _haunts(bare, homes, random), errands, lamp)


def _homes(plan: FloorPlan, random: np.random.Generator) -> dict[str, int]:
    """Draws the habit of a plan.

    Any receptacle that may hold a type can be its home, those where ALFWorld has such objects twice as likely
    as others, closed ones more than open ones, and those that are no other type's home before the rest. This
    makes up for ALFWorld's larger rooms, where general knowledge helps to find an object but is not enough.
    """
    homes: dict[str, int] = {}
    used: Counter[int] = Counter()
    for target in random.permutation(sorted(PLACES[plan.room])).tolist():
        places = plan.places(target)
        if places:
            kinds = [plan.receptacles[i].type for i in places]
            odds = [(2 if k in PLACES[plan.room][target] else 1) * (3 if k in OPENABLE else 1) for k in kinds]
            weights = [odd * 0.4 ** used[i] for i, odd in zip(places, odds, strict=True)]
            homes[target] = _draw(places, weights, random)
            used[homes[target]] += 1
    return homes


def _haunts(plan: FloorPlan, homes: Mapping[str, int], random: np.random.Generator) -> dict[str, tuple[int, ...]]:
    """Draws up to two other usual places of each object type."""
    haunts = {}
    for target, home in homes.items():
        others = [place for place in plan.places(target) if place != home]
        haunts[target] = tuple(random.permutation(others)[:2].tolist())
    return haunts


def _errands(plan: FloorPlan, homes: Mapping[str, int], random: np.random.Generator) -> Iterator[Errand]:
    """Yields the errands of a plan, none of which has its destination where the target is at home.

    Targets that may be in many places are preferred, as are those that can be cleaned, heated or cooled;
    destinations that leave many places to search are preferred too.
    """
    chosen = 0
    targets = sorted(homes)
    count = Counter(receptacle.type for receptacle in plan.receptacles)
    traits = [1 + 2 * sum(target in TRAITS[trait] for _, trait, _ in TOOLS.values()) for target in targets]
    shares = np.asarray([many * len(plan.places(target)) ** 2 for many, target in zip(traits, targets, strict=True)])
    shares = shares / shares.sum()
    for target in random.choice(targets, len(targets), replace=False, p=shares).tolist():
        options = _options(plan, target, plan.receptacles[homes[target]].type)
        if len(options) < ERRANDS_PER_TARGET:
            continue
        kinds = sorted(options)
        for _ in range(ERRANDS_PER_TARGET):
            kind = _draw(kinds, [_WEIGHTS[k] for k in kinds], random)
            kinds.remove(kind)
            destination = _draw(options[kind], [count.get(d, 1) ** -2.0 for d in options[kind]], random)
            yield Errand(kind, target, destination)
        chosen += 1
        if chosen == TARGETS:
            return


def _options(plan: FloorPlan, target: str, home: str) -> dict[str, list[str]]:
    """Returns the task types that a target allows in a plan, each with its possible destinations."""
    present = {receptacle.type for receptacle in plan.receptacles}
    rest = sorted({plan.receptacles[i].type for i in plan.places(target, without=home)})
    options = {"pick_and_place_simple": rest, "pick_two_obj_and_place": rest}
    for kind, (_, trait, tool) in TOOLS.items():
        if target in TRAITS[trait] and tool in present:
            options[kind] = [d for d in rest if d != tool]
    if plan.lamp is not None:
        options["look_at_obj_in_light"] = ["DeskLamp"]
    return {kind: destinations for kind, destinations in options.items() if destinations}


def _draw(items: Sequence[_T], weights: Sequence[float], random: np.random.Generator) -> _T:
    """Draws an item with probability proportional to its weight."""
    shares = np.asarray(weights)
    return items[int(random.choice(len(items), p=shares / shares.sum()))]
