"""Floor plans of the generated houses: what stays the same from game to game, so that experience can pay.

A floor plan fixes the room, its receptacles with their numbered names, and a habit: the one receptacle
where objects of a type mostly lie. It also fixes which errands its games are about, so that a target recurs
with its plan about as often as in ALFWorld (4.3 games for each pair of scene and target type).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import permutations

import numpy as np

from d2skill.config import HousesConfig
from d2skill.envs.houses.blueprint import ROOMS, FloorPlan, Receptacle, draw, identifiers, numbered
from d2skill.envs.houses.statistics import (
    LAMP_PLACES,
    MEAN_RECEPTACLES,
    NEIGHBOURS,
    OPENABLE,
    PLACES,
    RECEPTACLES,
    SCENE_SIZES,
    STAND_OPEN,
)
from d2skill.envs.houses.tasks import alfworld_errands, teaching_errands
from d2skill.utils import rng


@lru_cache(maxsize=16)
def floor_plans(settings: HousesConfig, count: int) -> tuple[FloorPlan, ...]:
    """Returns the first `count` plans.

    No two list the same receptacles as long as others can be drawn, so that a player can tell them apart.
    """
    listings: set[tuple[str, ...]] = set()
    plans = []
    for number in range(count):
        room = ROOMS[number % len(ROOMS)]
        sizes = _sizes(room, settings)
        for attempt in range(50):
            random = rng.generator(settings.seed, "floor plan", number, attempt)
            types = tuple(sorted(_furnish(room, sizes, random)))
            if types not in listings:
                break
        listings.add(types)
        bare = _bare_plan(number, room, types, settings, random)
        homes = _homes(bare, settings.alfworld_homes, random)
        draw_errands = alfworld_errands if settings.alfworld_errands else teaching_errands
        errands = tuple(draw_errands(bare, homes, random))
        haunts = _haunts(bare, homes, settings.alfworld_homes, random)
        plans.append(replace(bare, homes=homes, haunts=haunts, errands=errands))
    return tuple(plans)


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
