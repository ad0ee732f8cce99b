"""Random floor plans of the generated houses; they recur from game to game, so that experience can pay.

A floor plan fixes the room, its receptacles with their numbered names, and the receptacle where objects of each
type mostly lie. It also fixes the tasks of its games, so that a target recurs with its floor plan about as often as
in ALFWorld (4.3 games for each pair of scene and target type).
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
from d2skill.envs.alfworld.world import assign_names
from d2skill.envs.houses import statistics
from d2skill.envs.houses.blueprint import ROOMS, FloorPlan, Receptacle, draw, draw_ids
from d2skill.envs.houses.tasks import draw_alfworld_tasks, draw_search_tasks
from d2skill.utils import rng


@lru_cache(maxsize=16)
def floor_plans(settings: HousesConfig, count: int) -> tuple[FloorPlan, ...]:
    """Draws the first `count` floor plans.

    No two have the same receptacle types as long as others can be drawn, so that a player can tell them apart.
    """
    seen: set[tuple[str, ...]] = set()
    drawn = []
    for number in range(count):
        room = ROOMS[number % len(ROOMS)]
        for attempt in range(50):
            random = rng.generator(settings.seed, "floor plan", number, attempt)
            types = tuple(sorted(_draw_receptacle_types(room, _sizes(room, settings), random)))
            if types not in seen:
                break
        seen.add(types)
        bare = _bare_floor_plan(number, room, types, settings, random)
        homes = _draw_homes(bare, settings.alfworld_homes, random)
        draw_tasks = draw_alfworld_tasks if settings.alfworld_errands else draw_search_tasks
        tasks = tuple(draw_tasks(bare, homes, random))
        second_homes = _draw_second_homes(bare, homes, settings.alfworld_homes, random)
        drawn.append(replace(bare, homes=homes, second_homes=second_homes, tasks=tasks))
    return tuple(drawn)


def _sizes(room: str, settings: HousesConfig) -> Sequence[int]:
    """Returns the numbers of receptacles that a room may have, all equally likely."""
    if settings.alfworld_rooms:
        mean, sizes = statistics.MEAN_RECEPTACLES, statistics.SCENE_SIZES[room]
        return [round(size * settings.receptacles / mean) for size in sizes]
    return range(max(settings.receptacles - 4, 8), settings.receptacles + 1)


def _draw_receptacle_types(room: str, sizes: Sequence[int], random: np.random.Generator) -> Iterator[str]:
    """Yields the receptacle types of a room: those that its tasks need, then others as common as in such rooms."""
    counts = statistics.RECEPTACLES[room]
    drawn = Counter({kind: count.least for kind, count in counts.items()})
    yield from drawn.elements()
    weights = {kind: count.mean * math.exp(random.normal(0, 0.6)) for kind, count in counts.items()}
    for _ in range(int(random.choice(sizes)) - drawn.total()):
        kinds = [kind for kind, count in counts.items() if drawn[kind] < count.most]
        if kinds:
            kind = draw(kinds, [weights[k] for k in kinds], random)
            drawn[kind] += 1
            yield kind


def _bare_floor_plan(
    number: int, room: str, types: Sequence[str], settings: HousesConfig, random: np.random.Generator
) -> FloorPlan:
    """Draws a floor plan with receptacles of these types, without homes and tasks."""
    sources = {kind: draw_ids(kind, random) for kind in sorted(set(types))}
    ids = [next(sources[kind]) for kind in types]
    names = assign_names({identifier.lower() for identifier in ids})
    spots = random.permutation(len(ids)).tolist()
    for first, second in _draw_pairs(types, settings.shared_spots, random):
        spots[first] = spots[second]
    locations = [f"loc_bar_{spot % 6}_bar__minus_{spot // 6}_bar_{spot % 4}_bar_60" for spot in spots]
    open_shares = statistics.STANDS_OPEN if settings.alfworld_rooms else {}
    openable = [
        kind in statistics.OPENABLE and not (kind in open_shares and random.random() < open_shares[kind])
        for kind in types
    ]
    receptacles = tuple(map(Receptacle, ids, [names[i.lower()] for i in ids], types, locations, openable))
    lamp_places = [i for i, r in enumerate(receptacles) if r.type in statistics.LAMP_PLACES.get(room, ())]
    lamp = int(random.choice(lamp_places)) if lamp_places else None
    return FloorPlan(number, room, receptacles, {}, {}, (), lamp)


def _draw_pairs(types: Sequence[str], share: float, random: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yields pairs of receptacles at one location, none in two pairs, until that share of all receptacles is in one.

    Types pair as often as in ALFWorld. If half a pair is left, it comes with that probability.
    """
    table = statistics.SHARED_LOCATIONS
    weights = {(a, b): table.get(types[a], {}).get(types[b], 0) for a, b in permutations(range(len(types)), 2)}
    left = share * len(types) / 2
    while left > 0 and any(weights.values()):
        if random.random() < left:
            pair = draw(list(weights), list(weights.values()), random)
            weights = {other: weight for other, weight in weights.items() if not {*pair} & {*other}}
            yield pair
        left -= 1


def _draw_homes(floor_plan: FloorPlan, alfworld_homes: bool, random: np.random.Generator) -> dict[str, int]:
    """Draws, for each object type, the receptacle where objects of the type mostly lie.

    With `alfworld_homes` these are as common as in ALFWorld. Otherwise any receptacle that may hold a type can be its
    home, those where ALFWorld has such objects twice as likely as others, closed ones more than open ones, and those
    that are no other type's home before the rest. This makes up for ALFWorld's larger rooms, where general knowledge
    helps to find an object but is not enough.
    """
    homes: dict[str, int] = {}
    used: Counter[int] = Counter()
    object_places = statistics.OBJECT_PLACES[floor_plan.room]
    for target in random.permutation(sorted(object_places)).tolist():
        places = floor_plan.places(target)
        if places:
            if alfworld_homes:
                weights = floor_plan.place_weights(target, places)
            else:
                options = [floor_plan.receptacles[i] for i in places]
                bare = [(2 if r.type in object_places[target] else 1) * (3 if r.openable else 1) for r in options]
                weights = [weight * 0.4 ** used[i] for i, weight in zip(places, bare, strict=True)]
            homes[target] = draw(places, weights, random)
            used[homes[target]] += 1
    return homes


def _draw_second_homes(
    floor_plan: FloorPlan, homes: Mapping[str, int], alfworld_homes: bool, random: np.random.Generator
) -> dict[str, tuple[int, ...]]:
    """Draws up to two other usual places of each object type."""
    second_homes = {}
    for target, home in homes.items():
        others = [place for place in floor_plan.places(target) if place != home]
        if alfworld_homes and others:
            weights = np.asarray(floor_plan.place_weights(target, others))
            drawn = random.choice(others, min(2, len(others)), replace=False, p=weights / weights.sum())
        else:
            drawn = random.permutation(others)[:2]
        second_homes[target] = tuple(drawn.tolist())
    return second_homes
