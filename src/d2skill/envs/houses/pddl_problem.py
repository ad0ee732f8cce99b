"""A house as PDDL, and the commands that do its errand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from d2skill.envs.houses.blueprint import TOOLS, Errand, FloorPlan, numbered
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
"""Object and receptacle types that the actions of the domain mention; a game must declare them."""


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of a game and the index of the receptacle that it lies in."""

    id: str
    type: str
    at: int


def targets_needed(errand: Errand) -> int:
    """Returns how many targets an errand is about."""
    return 2 if errand.kind == "pick_two_obj_and_place" else 1


def write_problem(name: str, plan: FloorPlan, errand: Errand, things: Sequence[Thing]) -> str:
    """Writes the PDDL problem."""
    object_types, receptacle_types = _NAMED_IN_DOMAIN
    declared = {
        "agent": ["agent1"],
        "otype": sorted({*object_types, *(f"{thing.type}Type" for thing in things)}),
        "rtype": sorted({*receptacle_types, *(f"{receptacle.type}Type" for receptacle in plan.receptacles)}),
        "object": [thing.id for thing in things],
        "receptacle": [receptacle.id for receptacle in plan.receptacles],
        "location": [
            "loc_bar_0_bar_0_bar_0_bar_30",
            *dict.fromkeys(receptacle.location for receptacle in plan.receptacles),
        ],
    }
    objects = "\n".join(f"    {entity} - {kind}" for kind, entities in declared.items() for entity in entities)
    facts = "\n".join(f"    ({fact})" for fact in _facts(plan, things))
    return (
        f"(define (problem {name})\n(:domain alfred)\n(:objects\n{objects}\n)\n"
        f"(:init\n{facts}\n)\n(:goal (and{_goal(errand)}\n))\n)\n"
    )


def _facts(plan: FloorPlan, things: Sequence[Thing]) -> Iterator[str]:
    """Yields what holds at the start, in the order of ALFWorld's files."""
    for receptacle in plan.receptacles:
        yield f"receptacleType {receptacle.id} {receptacle.type}Type"
    for thing in things:
        yield f"objectType {thing.id} {thing.type}Type"
    present = sorted({thing.type for thing in things})
    for kind in sorted({receptacle.type for receptacle in plan.receptacles}):
        yield from (f"canContain {kind}Type {o}Type" for o in present if o in CAN_CONTAIN.get(kind, ()))
    for thing in things:
        yield f"{'toggleable' if thing.type == 'DeskLamp' else 'pickupable'} {thing.id}"
        yield from (f"{predicate} {thing.id}" for predicate, types in TRAITS.items() if thing.type in types)
    yield from (f"openable {receptacle.id}" for receptacle in plan.receptacles if receptacle.openable)
    yield "atLocation agent1 loc_bar_0_bar_0_bar_0_bar_30"
    for thing in things:
        yield f"inReceptacle {thing.id} {plan.receptacles[thing.at].id}"
        yield f"objectAtLocation {thing.id} {plan.receptacles[thing.at].location}"
    for receptacle in plan.receptacles:
        yield f"receptacleAtLocation {receptacle.id} {receptacle.location}"


def _goal(errand: Errand) -> str:
    """Returns the conjuncts of the goal, worded as in ALFWorld's files."""
    if errand.kind == "look_at_obj_in_light":
        return _LOOK.format(errand.target, errand.destination)
    if errand.kind == "pick_two_obj_and_place":
        return _TWO.format(errand.target, errand.destination)
    state = ""
    if errand.kind in TOOLS:
        verb, trait, _ = TOOLS[errand.kind]
        state = f"({trait} ?o) ({_STATES[verb]} ?o) "
    return _PLACE.format(errand.target, errand.destination, state)


def write_walkthrough(plan: FloorPlan, errand: Errand, things: Sequence[Thing]) -> list[str]:
    """Returns commands that win, with those targets that take the fewest."""
    names = numbered(thing.id for thing in things)
    choices = combinations([thing for thing in things if thing.type == errand.target], targets_needed(errand))
    return min((_steps(plan, errand, targets, names) for targets in choices), key=len)


def _steps(plan: FloorPlan, errand: Errand, targets: Sequence[Thing], names: Mapping[str, str]) -> list[str]:
    """Returns commands that do an errand with these targets."""
    steps: list[str] = []
    opened: set[int] = set()
    here = ""

    def visit(index: int, enter: bool = True) -> str:
        nonlocal here
        receptacle = plan.receptacles[index]
        if receptacle.location != here:
            here = receptacle.location
            steps.append(f"go to {receptacle.name}")
        if enter and receptacle.openable and index not in opened:
            opened.add(index)
            steps.append(f"open {receptacle.name}")
        return receptacle.name

    def first(kind: str) -> int:
        return next(i for i, receptacle in enumerate(plan.receptacles) if receptacle.type == kind)

    for thing in targets:
        place = visit(thing.at)
        steps.append(f"take {names[thing.id]} from {place}")
        if errand.kind in TOOLS:
            verb, _, tool = TOOLS[errand.kind]
            steps.append(f"{verb} {names[thing.id]} with {visit(first(tool), enter=False)}")
        if plan.lamp is not None and errand.kind == "look_at_obj_in_light":
            visit(plan.lamp)
            steps.append("use desklamp 1")
        else:
            steps.append(f"move {names[thing.id]} to {visit(first(errand.destination))}")
    return steps
