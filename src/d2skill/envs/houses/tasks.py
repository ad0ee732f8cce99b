"""Which errands the games of a floor plan are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from d2skill.envs.houses.blueprint import TOOLS, Errand, FloorPlan, draw
from d2skill.envs.houses.statistics import CLOSED_TARGETS, DESTINATIONS, TARGETS, TASKS, TRAITS

TARGET_TYPES = 7
"""Object types that the errands of a plan are about."""
ERRANDS_PER_TARGET = 2
"""Errands for each of them."""

_WEIGHTS = {
    "pick_and_place_simple": 1.0,
    "pick_two_obj_and_place": 1.0,
    "pick_clean_then_place_in_recep": 1.8,
    "pick_heat_then_place_in_recep": 4.0,
    "pick_cool_then_place_in_recep": 3.0,
    "look_at_obj_in_light": 1.4,
}
"""Odds of the task types, such that all six are common although rooms and targets rule many out."""


def teaching_errands(plan: FloorPlan, homes: Mapping[str, int], random: np.random.Generator) -> Iterator[Errand]:
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


def alfworld_errands(plan: FloorPlan, homes: Mapping[str, int], random: np.random.Generator) -> Iterator[Errand]:
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
