"""Writer of a house's PDDL problem, and of the walkthrough that solves its task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from d2skill.envs.alfworld.world import assign_names
from d2skill.envs.houses.blueprint import PROCESSING, FloorPlan, HouseTask
from d2skill.envs.houses.statistics import CAN_CONTAIN, TRAITS

_LOOK = """
(exists (?ot - object ?r - receptacle ?a - agent ?l - location)
    (and (objectType ?ot {1}Type) (toggleable ?ot) (isToggled ?ot) (inReceptacle ?ot ?r)
         (receptacleAtLocation ?r ?l) (atLocation ?a ?l)))
(exists (?o - object ?a - agent) (and (objectType ?o {0}Type) (holds ?a ?o)))"""
_PLACE = """
(exists (?r - receptacle) (exists (?o - object)
    (and {2}(inReceptacle ?o ?r) (objectType ?o {0}Type) (receptacleType ?r {1}Type))))"""
_TWO = """
(exists (?r - receptacle) (exists (?o1 - object)
    (and (objectType ?o1 {0}Type) (receptacleType ?r {1}Type) (inReceptacle ?o1 ?r)
         (exists (?o2 - object)
             (and (not (= ?o1 ?o2)) (objectType ?o2 {0}Type) (inReceptacle ?o2 ?r))))))"""
_STATES = {"clean": "isClean", "heat": "isHot", "cool": "isCool"}

_NAMED_IN_DOMAIN = (
    ("SinkType", "KnifeType", "ButterKnifeType"),
    ("SinkBasinType", "MicrowaveType", "FridgeType"),
)
"""Object types and receptacle types that actions of the domain mention; a game must declare them."""


@dataclass(frozen=True, slots=True)
class PlacedObject:
    """An object of a game and the index of the receptacle that it lies in."""

    id: str
    type: str
    at: int


def targets_needed(task: HouseTask) -> int:
    """Returns the number of targets that a task needs."""
    return 2 if task.kind == "pick_two_obj_and_place" else 1


def write_problem(name: str, floor_plan: FloorPlan, task: HouseTask, objects: Sequence[PlacedObject]) -> str:
    """Writes the PDDL problem of a game.

    Args:
        name: Name of the problem.
        floor_plan: The room with its receptacles.
        task: The task, which becomes the goal.
        objects: All objects of the game.
    """
    object_types, receptacle_types = _NAMED_IN_DOMAIN
    declared = {
        "agent": ["agent1"],
        "otype": sorted({*object_types, *(f"{thing.type}Type" for thing in objects)}),
        "rtype": sorted({*receptacle_types, *(f"{receptacle.type}Type" for receptacle in floor_plan.receptacles)}),
        "object": [thing.id for thing in objects],
        "receptacle": [receptacle.id for receptacle in floor_plan.receptacles],
        "location": [
            "loc_bar_0_bar_0_bar_0_bar_30",
            *dict.fromkeys(receptacle.location for receptacle in floor_plan.receptacles),
        ],
    }
    declarations = "\n".join(f"    {entity} - {kind}" for kind, entities in declared.items() for entity in entities)
    facts = "\n".join(f"    ({fact})" for fact in _facts(floor_plan, objects))
    return (
        f"(define (problem {name})\n(:domain alfred)\n(:objects\n{declarations}\n)\n"
        f"(:init\n{facts}\n)\n(:goal (and{_goal(task)}\n))\n)\n"
    )


def _facts(floor_plan: FloorPlan, objects: Sequence[PlacedObject]) -> Iterator[str]:
    """Yields the facts of the start state, in the order of ALFWorld's files."""
    for receptacle in floor_plan.receptacles:
        yield f"receptacleType {receptacle.id} {receptacle.type}Type"
    for thing in objects:
        yield f"objectType {thing.id} {thing.type}Type"
    present = sorted({thing.type for thing in objects})
    for kind in sorted({receptacle.type for receptacle in floor_plan.receptacles}):
        yield from (f"canContain {kind}Type {o}Type" for o in present if o in CAN_CONTAIN.get(kind, ()))
    for thing in objects:
        yield f"{'toggleable' if thing.type == 'DeskLamp' else 'pickupable'} {thing.id}"
        yield from (f"{predicate} {thing.id}" for predicate, types in TRAITS.items() if thing.type in types)
    yield from (f"openable {receptacle.id}" for receptacle in floor_plan.receptacles if receptacle.openable)
    yield "atLocation agent1 loc_bar_0_bar_0_bar_0_bar_30"
    for thing in objects:
        yield f"inReceptacle {thing.id} {floor_plan.receptacles[thing.at].id}"
        yield f"objectAtLocation {thing.id} {floor_plan.receptacles[thing.at].location}"
    for receptacle in floor_plan.receptacles:
        yield f"receptacleAtLocation {receptacle.id} {receptacle.location}"


def _goal(task: HouseTask) -> str:
    """Returns the conjuncts of the goal, worded as in ALFWorld's files."""
    if task.kind == "look_at_obj_in_light":
        return _LOOK.format(task.target, task.destination)
    if task.kind == "pick_two_obj_and_place":
        return _TWO.format(task.target, task.destination)
    state = ""
    if task.kind in PROCESSING:
        verb, trait, _ = PROCESSING[task.kind]
        state = f"({trait} ?o) ({_STATES[verb]} ?o) "
    return _PLACE.format(task.target, task.destination, state)


def write_walkthrough(floor_plan: FloorPlan, task: HouseTask, objects: Sequence[PlacedObject]) -> list[str]:
    """Returns commands that win, for the targets with which they are fewest."""
    official = assign_names({thing.id.lower() for thing in objects})
    names = {thing.id: official[thing.id.lower()] for thing in objects}
    choices = combinations([thing for thing in objects if thing.type == task.target], targets_needed(task))
    return min((_steps(floor_plan, task, targets, names) for targets in choices), key=len)


def _steps(
    floor_plan: FloorPlan, task: HouseTask, targets: Sequence[PlacedObject], names: Mapping[str, str]
) -> list[str]:
    """Returns the commands that do a task with these targets."""
    steps: list[str] = []
    opened: set[int] = set()
    here = ""

    def visit(index: int, enter: bool = True) -> str:
        """Adds the commands to reach a receptacle and, with `enter`, to open it; returns its name."""
        nonlocal here
        receptacle = floor_plan.receptacles[index]
        if receptacle.location != here:
            here = receptacle.location
            steps.append(f"go to {receptacle.name}")
        if enter and receptacle.openable and index not in opened:
            opened.add(index)
            steps.append(f"open {receptacle.name}")
        return receptacle.name

    def first(kind: str) -> int:
        return next(i for i, receptacle in enumerate(floor_plan.receptacles) if receptacle.type == kind)

    for thing in targets:
        place = visit(thing.at)
        steps.append(f"take {names[thing.id]} from {place}")
        if task.kind in PROCESSING:
            verb, _, tool = PROCESSING[task.kind]
            steps.append(f"{verb} {names[thing.id]} with {visit(first(tool), enter=False)}")
        if floor_plan.lamp is not None and task.kind == "look_at_obj_in_light":
            visit(floor_plan.lamp)
            steps.append("use desklamp 1")
        else:
            steps.append(f"move {names[thing.id]} to {visit(first(task.destination))}")
    return steps
