"""Random tasks for the games of a floor plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from d2skill.envs.houses.blueprint import PROCESSING, FloorPlan, HouseTask, draw
from d2skill.envs.houses.statistics import CLOSED_TARGET_WEIGHT, DESTINATIONS, TARGETS, TASK_KINDS, TRAITS

TARGET_TYPES = 7
"""Object types that the tasks of a floor plan are about."""
TASKS_PER_TARGET = 2
"""Tasks for each of them."""

_KIND_WEIGHTS = {
    "pick_and_place_simple": 1.0,
    "pick_two_obj_and_place": 1.0,
    "pick_clean_then_place_in_recep": 1.8,
    "pick_heat_then_place_in_recep": 4.0,
    "pick_cool_then_place_in_recep": 3.0,
    "look_at_obj_in_light": 1.4,
}
"""Weights of the kinds of task: all six get common although rooms and targets rule many out."""


def draw_search_tasks(
    floor_plan: FloorPlan, homes: Mapping[str, int], random: np.random.Generator
) -> Iterator[HouseTask]:
    """Yields tasks that need much search; no destination is of the type of the target's home.

    Targets that may be in many places are preferred, as are those that can be cleaned, heated or cooled;
    destinations that leave many places to search are preferred too. The tasks of a target differ in kind.
    """
    drawn = 0
    targets = sorted(homes)
    count = Counter(receptacle.type for receptacle in floor_plan.receptacles)
    traits = [1 + 2 * sum(target in TRAITS[trait] for _, trait, _ in PROCESSING.values()) for target in targets]
    weights = [many * len(floor_plan.places(target)) ** 2 for many, target in zip(traits, targets, strict=True)]
    shares = np.asarray(weights) / np.sum(weights)
    for target in random.choice(targets, len(targets), replace=False, p=shares).tolist():
        home = floor_plan.receptacles[homes[target]].type
        options = _destinations(floor_plan, target, without=home, processed_without=home)
        if len(options) < TASKS_PER_TARGET:
            continue
        kinds = sorted(options)
        for _ in range(TASKS_PER_TARGET):
            kind = draw(kinds, [_KIND_WEIGHTS[k] for k in kinds], random)
            kinds.remove(kind)
            destination = draw(options[kind], [count.get(d, 1) ** -2.0 for d in options[kind]], random)
            yield HouseTask(kind, target, destination)
        drawn += 1
        if drawn == TARGET_TYPES:
            return


def draw_alfworld_tasks(
    floor_plan: FloorPlan, homes: Mapping[str, int], random: np.random.Generator
) -> Iterator[HouseTask]:
    """Yields tasks with kinds, targets and destinations as common as in ALFWorld; a task can come twice.

    A target to be cleaned, heated or cooled can be at home at its destination.
    """
    kind_weights, destination_weights = TASK_KINDS[floor_plan.room], DESTINATIONS[floor_plan.room]
    home_of = {target: floor_plan.receptacles[home] for target, home in homes.items()}
    target_weights = {
        target: share * (CLOSED_TARGET_WEIGHT if home_of[target].openable else 1)
        for target, share in TARGETS[floor_plan.room].items()
        if target in home_of
    }
    weights = np.asarray(list(target_weights.values()))
    most = min(TARGET_TYPES, len(weights))
    targets = random.choice(list(target_weights), most, replace=False, p=weights / weights.sum()).tolist()
    options = {target: _destinations(floor_plan, target, without=home_of[target].type) for target in targets}
    kinds = [kind for kind in kind_weights if any(kind in options[target] for target in targets)]
    for _ in range(TARGET_TYPES * TASKS_PER_TARGET):
        kind = draw(kinds, [kind_weights[k] for k in kinds], random)
        suitable = [target for target in targets if kind in options[target]]
        target = draw(suitable, [target_weights[t] for t in suitable], random)
        destinations = options[target][kind]
        weight = [destination_weights.get(destination, 0.1) for destination in destinations]
        yield HouseTask(kind, target, draw(destinations, weight, random))


def _destinations(
    floor_plan: FloorPlan, target: str, without: str, processed_without: str = ""
) -> dict[str, list[str]]:
    """Returns the kinds of task that a target allows in a floor plan, each with its possible destinations.

    `without` is no destination, and `processed_without` none of a target to be cleaned, heated or cooled.
    """
    present = {receptacle.type for receptacle in floor_plan.receptacles}
    rest = sorted({floor_plan.receptacles[i].type for i in floor_plan.places(target, without)})
    options = {"pick_and_place_simple": rest, "pick_two_obj_and_place": rest}
    for kind, (_, trait, tool) in PROCESSING.items():
        if target in TRAITS[trait] and tool in present:
            places = floor_plan.places(target, processed_without)
            options[kind] = sorted({floor_plan.receptacles[i].type for i in places} - {tool})
    if floor_plan.lamp is not None:
        options["look_at_obj_in_light"] = ["DeskLamp"]
    return {kind: destinations for kind, destinations in options.items() if destinations}
