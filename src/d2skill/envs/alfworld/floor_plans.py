"""Floor plans of the generated houses: what stays the same from game to game, so that experience can pay.

A floor plan fixes the room, its receptacles with their numbered names, and a habit: the one receptacle
where objects of a type mostly lie. It also fixes which errands its games are about, so that a target recurs
with its plan about as often as in ALFWorld (4.3 games for each pair of scene and target type).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations
from typing import TypeVar

import numpy as np

from d2skill import rng
from d2skill.config import HousesConfig
from d2skill.envs.alfworld.house_data import (
    CAN_CONTAIN,
    CLOSED_TARGETS,
    DESTINATIONS,
    LAMP_PLACES,
    MEAN_RECEPTACLES,
    NEIGHBOURS,
    OPENABLE,
    PLACES,
    RECEPTACLES,
    SCENE_SIZES,
    STAND_OPEN,
    TARGETS,
    TASKS,
    TRAITS,
)

_T = TypeVar("_T")

TARGET_TYPES = 7
"""Object types that the errands of a plan are about."""
ERRANDS_PER_TARGET = 2
"""Errands for each of them."""

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
    """A receptacle: its id and location in the game file, the name that players see, and whether it is closed first."""

    id: str
    name: str
    type: str
    location: str
    openable: bool


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

    def usual(self, target: str, places: Sequence[int]) -> Sequence[float]:
        """Returns odds of places for a type of object: how common it is in one such receptacle of ALFWorld.

        A little is left for receptacles where ALFWorld has such objects rarely or never.
        """
        shares, table = PLACES[self.room][target], RECEPTACLES[self.room]
        kinds = [self.receptacles[place].type for place in places]
        return [shares.get(kind, 0.2) / table[kind][2] for kind in kinds]

    def places(self, target: str, without: str = "") -> list[int]:
        """Returns the receptacles that may hold objects of a type, those of the type `without` left out."""
        return [
            i
            for i, receptacle in enumerate(self.receptacles)
            if target in CAN_CONTAIN.get(receptacle.type, ()) and receptacle.type != without
        ]


@lru_cache(maxsize=16)
def floor_plans(settings: HousesConfig, count: int) -> tuple[FloorPlan, ...]:
    """Returns the first `count` plans.

    No two list the same receptacles as long as others can be drawn, so that a player can tell them apart.
    """
    listings: set[tuple[str, ...]] = set()
    plans = []
    for number in range(count):
        room = _ROOMS[number % len(_ROOMS)]
        sizes = _sizes(room, settings)
        for attempt in range(50):
            random = rng.generator(settings.seed, "floor plan", number, attempt)
            types = tuple(sorted(_furnish(room, sizes, random)))
            if types not in listings:
                break
        listings.add(types)
        bare = _bare_plan(number, room, types, settings, random)
        homes = _homes(bare, settings.alfworld_homes, random)
        draw_errands = _alfworld_errands if settings.alfworld_errands else _errands
        errands = tuple(draw_errands(bare, homes, random))
        haunts = _haunts(bare, homes, settings.alfworld_homes, random)
        plans.append(replace(bare, homes=homes, haunts=haunts, errands=errands))
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


def _sizes(room: str, settings: HousesConfig) -> Sequence[int]:
    """Returns the numbers of receptacles that a room may have, all as likely."""
    if settings.alfworld_rooms:
        return [round(size * settings.receptacles / MEAN_RECEPTACLES) for size in SCENE_SIZES[room]]
    return range(max(settings.receptacles - 4, 8), settings.receptacles + 1)


def _furnish(room: str, sizes: Sequence[int], random: np.random.Generator) -> Iterator[str]:
    """Yields the receptacle types of a room: what its tasks need, then more as such rooms have them."""
    table = RECEPTACLES[room]
    have = Counter({kind: least for kind, (least, _, _) in table.items()})
    yield from have.elements()
    taste = {kind: mean * math.exp(random.normal(0, 0.6)) for kind, (_, _, mean) in table.items()}
    for _ in range(int(random.choice(sizes)) - have.total()):
        open_kinds = [kind for kind, (_, limit, _) in table.items() if have[kind] < limit]
        if open_kinds:
            kind = draw(open_kinds, [taste[k] for k in open_kinds], random)
            have[kind] += 1
            yield kind


def _bare_plan(
    number: int,
    room: str,
    types: Sequence[str],
    settings: HousesConfig,
    random: np.random.Generator,
) -> FloorPlan:
    """Builds a plan around receptacles of these types, without its habit and errands."""
    sources = {kind: identifiers(kind, random) for kind in sorted(set(types))}
    ids = [next(sources[kind]) for kind in types]
    names = numbered(ids)
    spots = random.permutation(len(ids)).tolist()
    for mover, host in _neighbours(types, settings.shared_spots, random):
        spots[mover] = spots[host]
    locations = [f"loc_bar_{spot % 6}_bar__minus_{spot // 6}_bar_{spot % 4}_bar_60" for spot in spots]
    stand_open = STAND_OPEN if settings.alfworld_rooms else {}
    openable = [kind in OPENABLE and not (kind in stand_open and random.random() < stand_open[kind]) for kind in types]
    receptacles = tuple(map(Receptacle, ids, [names[i] for i in ids], types, locations, openable))
    stands = [i for i, r in enumerate(receptacles) if r.type in LAMP_PLACES.get(room, ())]
    lamp = int(random.choice(stands)) if stands else None
    return FloorPlan(number, room, receptacles, {}, {}, (), lamp)


def _neighbours(types: Sequence[str], share: float, random: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yields pairs of receptacles that share a spot, none in two pairs, until that share of all is in one.

    Types pair as often as in ALFWorld. Where half a pair is left, it comes with that probability.
    """
    odds = {
        pair: NEIGHBOURS.get(types[pair[0]], {}).get(types[pair[1]], 0) for pair in permutations(range(len(types)), 2)
    }
    left = share * len(types) / 2
    while left > 0 and any(odds.values()):
        if random.random() < left:
            pair = draw(list(odds), list(odds.values()), random)
            odds = {other: odd for other, odd in odds.items() if not {*pair} & {*other}}
            yield pair
        left -= 1


def _homes(plan: FloorPlan, alfworld_homes: bool, random: np.random.Generator) -> dict[str, int]:
    """Draws the one receptacle where objects of a type mostly lie, for each type.

    With `alfworld_homes` these are as common as in ALFWorld. Otherwise any receptacle that may hold a type can be its
    home, those where ALFWorld has such objects twice as likely as others, closed ones more than open ones, and those
    that are no other type's home before the rest. This makes up for ALFWorld's larger rooms, where general knowledge
    helps to find an object but is not enough.
    """
    homes: dict[str, int] = {}
    used: Counter[int] = Counter()
    for target in random.permutation(sorted(PLACES[plan.room])).tolist():
        places = plan.places(target)
        if places:
            if alfworld_homes:
                weights = plan.usual(target, places)
            else:
                options = [plan.receptacles[i] for i in places]
                odds = [(2 if r.type in PLACES[plan.room][target] else 1) * (3 if r.openable else 1) for r in options]
                weights = [odd * 0.4 ** used[i] for i, odd in zip(places, odds, strict=True)]
            homes[target] = draw(places, weights, random)
            used[homes[target]] += 1
    return homes


def _haunts(
    plan: FloorPlan, homes: Mapping[str, int], alfworld_homes: bool, random: np.random.Generator
) -> dict[str, tuple[int, ...]]:
    """Draws up to two other usual places of each object type."""
    haunts = {}
    for target, home in homes.items():
        others = [place for place in plan.places(target) if place != home]
        if alfworld_homes and others:
            odds = np.asarray(plan.usual(target, others))
            drawn = random.choice(others, min(2, len(others)), replace=False, p=odds / odds.sum())
        else:
            drawn = random.permutation(others)[:2]
        haunts[target] = tuple(drawn.tolist())
    return haunts


def _errands(plan: FloorPlan, homes: Mapping[str, int], random: np.random.Generator) -> Iterator[Errand]:
    """Yields the errands of a plan, none of which has its destination where the target is at home.

    Targets that may be in many places are preferred, as are those that can be cleaned, heated or cooled;
    destinations that leave many places to search are preferred too. The errands of a target differ in task type.
    """
    chosen = 0
    targets = sorted(homes)
    count = Counter(receptacle.type for receptacle in plan.receptacles)
    traits = [1 + 2 * sum(target in TRAITS[trait] for _, trait, _ in TOOLS.values()) for target in targets]
    shares = np.asarray([many * len(plan.places(target)) ** 2 for many, target in zip(traits, targets, strict=True)])
    shares = shares / shares.sum()
    for target in random.choice(targets, len(targets), replace=False, p=shares).tolist():
        home = plan.receptacles[homes[target]].type
        options = _options(plan, target, without=home, processed_without=home)
        if len(options) < ERRANDS_PER_TARGET:
            continue
        kinds = sorted(options)
        for _ in range(ERRANDS_PER_TARGET):
            kind = draw(kinds, [_WEIGHTS[k] for k in kinds], random)
            kinds.remove(kind)
            destination = draw(options[kind], [count.get(d, 1) ** -2.0 for d in options[kind]], random)
            yield Errand(kind, target, destination)
        chosen += 1
        if chosen == TARGET_TYPES:
            return


def _alfworld_errands(plan: FloorPlan, homes: Mapping[str, int], random: np.random.Generator) -> Iterator[Errand]:
    """Yields errands with task types, targets and destinations as common as in ALFWorld.

    What is to be cleaned, heated or cooled can be at home at its destination. An errand can come twice.
    """
    tasks, destinations = TASKS[plan.room], DESTINATIONS[plan.room]
    where = {target: plan.receptacles[home] for target, home in homes.items()}
    wanted = {
        target: share * (CLOSED_TARGETS if where[target].openable else 1)
        for target, share in TARGETS[plan.room].items()
        if target in where
    }
    odds = np.asarray(list(wanted.values()))
    most = min(TARGET_TYPES, len(wanted))
    targets = random.choice(list(wanted), most, replace=False, p=odds / odds.sum()).tolist()
    options = {target: _options(plan, target, without=where[target].type) for target in targets}
    kinds = [kind for kind in tasks if any(kind in options[target] for target in targets)]
    for _ in range(TARGET_TYPES * ERRANDS_PER_TARGET):
        kind = draw(kinds, [tasks[k] for k in kinds], random)
        fit = [target for target in targets if kind in options[target]]
        target = draw(fit, [wanted[t] for t in fit], random)
        ends = options[target][kind]
        yield Errand(kind, target, draw(ends, [destinations.get(end, 0.1) for end in ends], random))


def _options(plan: FloorPlan, target: str, without: str, processed_without: str = "") -> dict[str, list[str]]:
    """Returns the task types that a target allows in a plan, each with its possible destinations.

    `without` is no destination, and `processed_without` none of what is to be cleaned, heated or cooled.
    """
    present = {receptacle.type for receptacle in plan.receptacles}
    rest = sorted({plan.receptacles[i].type for i in plan.places(target, without)})
    options = {"pick_and_place_simple": rest, "pick_two_obj_and_place": rest}
    for kind, (_, trait, tool) in TOOLS.items():
        if target in TRAITS[trait] and tool in present:
            places = plan.places(target, processed_without)
            options[kind] = sorted({plan.receptacles[i].type for i in places} - {tool})
    if plan.lamp is not None:
        options["look_at_obj_in_light"] = ["DeskLamp"]
    return {kind: destinations for kind, destinations in options.items() if destinations}


def draw(items: Sequence[_T], weights: Sequence[float], random: np.random.Generator) -> _T:
    """Draws an item with probability proportional to its weight."""
    shares = np.asarray(weights)
    return items[int(random.choice(len(items), p=shares / shares.sum()))]
