"""Generated games in the file format of ALFWorld, so that training can start without a download.

`resources/domain.pddl` and `resources/grammar.twl2` are ALFWorld's own (github.com/alfworld/alfworld, MIT
licence), comments left out: they are the file format, and with them the official engine loads these games
too. The tables of `house_data` were counted over ALFWorld's training games.

Splits: `train` and, with other games in the same floor plans, `valid_seen` and `test_seen`; `valid_unseen`
has floor plans of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations, islice
from typing import Any

import numpy as np

from d2skill import rng
from d2skill.config import HousesConfig
from d2skill.envs.alfworld.floor_plans import TOOLS, Errand, FloorPlan, draw, floor_plans, identifiers, numbered
from d2skill.envs.alfworld.house_data import CAN_CONTAIN, FULLNESS, INSTANCES, PRESENT, TRAITS
from d2skill.errors import ConfigError

PANEL = 140
"""Games in each split that is not for training, as many as in ALFWorld's valid_seen."""

_TEXTS = {
    "pick_and_place_simple": ("put a {0} in {1}", "put some {0} on {1}"),
    "look_at_obj_in_light": ("examine the {0} with the {1}", "look at {0} under the {1}"),
    "pick_clean_then_place_in_recep": ("clean some {0} and put it in {1}", "put a clean {0} in {1}"),
    "pick_heat_then_place_in_recep": ("heat some {0} and put it in {1}", "put a hot {0} in {1}"),
    "pick_cool_then_place_in_recep": ("cool some {0} and put it in {1}", "put a cool {0} in {1}"),
    "pick_two_obj_and_place": ("find two {0} and put them in {1}", "put two {0} in {1}"),
}

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
class _Thing:
    """An object of a game and the index of the receptacle that it lies in."""

    id: str
    type: str
    at: int


@dataclass(frozen=True, slots=True)
class House:
    """A generated game: its scene and errand, its task in words, and the content of its `game.tw-pddl` file."""

    scene: int
    errand: Errand
    task: str
    content: dict[str, Any]


def sizes(settings: HousesConfig) -> dict[str, int]:
    """Returns the splits and how many games each has."""
    train = settings.floor_plans * settings.games_per_plan
    return {"train": train, "valid_seen": PANEL, "valid_unseen": PANEL, "test_seen": PANEL}


def split_size(settings: HousesConfig, split: str) -> int:
    """Returns the number of games of a split. Raises `ConfigError` for an unknown one."""
    table = sizes(settings)
    if split not in table:
        raise ConfigError(f'houses have no split "{split}": choose one of {", ".join(table)}')
    return table[split]


def build_house(settings: HousesConfig, split: str, number: int) -> House:
    """Returns a game, the same for the same arguments; the split's size is no limit to the number.

    The walkthrough knows where everything is; it wins. Raises `ConfigError` for an unknown split.
    """
    split_size(settings, split)
    plan = _plan_of(settings, split, number)
    errand = _errand_of(settings, plan, split, number)
    random = rng.generator(settings.seed, "house", split, number)
    spares = int(rng.generator(settings.seed, "spares", split, number).integers(settings.spare_targets + 1))
    things = list(_fill(settings, plan, errand, spares, random))
    task = str(random.choice(_TEXTS[errand.kind])).format(errand.target.lower(), errand.destination.lower())
    domain, grammar = _format()
    content = {
        "pddl_domain": domain,
        "grammar": grammar.replace("UNKNOWN GOAL", task),
        "pddl_problem": _problem(f"house_{split}_{number}", plan, errand, things),
        "solvable": True,
        "walkthrough": _walkthrough(plan, errand, things),
    }
    return House(plan.scene, errand, task, content)


def generate(settings: HousesConfig, split: str, number: int) -> dict[str, Any]:
    """Returns the content of a game's file with its task type and scene as extra keys, as `Game.load` takes it.

    Raises `ConfigError` for an unknown split or a number outside it.
    """
    size = split_size(settings, split)
    if not 0 <= number < size:
        raise ConfigError(f"houses have no game {number} in {split}: numbers go from 0 to {size - 1}")
    house = build_house(settings, split, number)
    return {**house.content, "task_type": house.errand.kind, "scene": house.scene}


@cache
def _format() -> tuple[str, str]:
    """Returns the domain and the grammar that all games share."""
    folder = files("d2skill.envs.alfworld") / "resources"
    domain = (folder / "domain.pddl").read_text(encoding="utf-8")
    return domain, (folder / "grammar.twl2").read_text(encoding="utf-8")


def _plan_of(settings: HousesConfig, split: str, number: int) -> FloorPlan:
    """Returns the floor plan of a game; the seen plans come first, then as many unseen ones."""
    count = settings.floor_plans
    first = count if split == "valid_unseen" else 0
    return floor_plans(settings, 2 * count)[first + number % count]


def _errand_of(settings: HousesConfig, plan: FloorPlan, split: str, number: int) -> Errand:
    """Returns the errand of a game: each errand of a plan comes once before any comes again."""
    turn, place = divmod(number // settings.floor_plans, len(plan.errands))
    order = rng.generator(settings.seed, "errands", plan.number, split, turn).permutation(len(plan.errands))
    return plan.errands[int(order[place])]


def _fill(
    settings: HousesConfig, plan: FloorPlan, errand: Errand, spares: int, random: np.random.Generator
) -> Iterator[_Thing]:
    """Yields the objects of a game: the targets, some to spare, a lamp if the room has one, and distractors."""
    others = [kind for kind in sorted(plan.homes) if kind != errand.target]
    if settings.alfworld_rooms:
        distractors = _stock(plan.room, others, round(settings.distractors * FULLNESS[plan.room]), random)
    else:
        distractors = random.permutation(np.repeat(others, 3))[: settings.distractors].tolist()
    counts = {errand.target: _needed(errand) + spares, **Counter(distractors)}
    stay = settings.alfworld_errands and errand.kind in TOOLS
    for kind, count in counts.items():
        places = plan.places(kind, without=errand.destination if kind == errand.target and not stay else "")
        for identifier in islice(identifiers(kind, random), count):
            luck = random.random()
            usual = [place for place in plan.haunts[kind] if place in places]
            if luck < settings.habit:
                place = plan.homes[kind]
            elif usual and luck < settings.habit + settings.second_habit:
                place = int(random.choice(usual))
            elif settings.alfworld_homes:
                place = draw(places, plan.usual(kind, places), random)
            else:
                place = int(random.choice(places))
            yield _Thing(identifier, kind, place)
    if plan.lamp is not None:
        yield _Thing(next(identifiers("DeskLamp", random)), "DeskLamp", plan.lamp)


def _stock(room: str, kinds: Sequence[str], most: int, random: np.random.Generator) -> list[str]:
    """Draws the types of objects, `most` in all, as they come in ALFWorld: up to three of a type, some types rarely."""
    present = PRESENT[room]
    order = sorted(random.permutation(kinds).tolist(), key=lambda kind: 100 * random.random() >= present[kind])
    numbers = random.choice(len(INSTANCES), len(order), p=INSTANCES) + 1
    drawn = [kind for kind, number in zip(order, numbers.tolist(), strict=True) for _ in range(number)]
    return drawn[:most]


def _needed(errand: Errand) -> int:
    """Returns how many targets an errand is about."""
    return 2 if errand.kind == "pick_two_obj_and_place" else 1


def _problem(name: str, plan: FloorPlan, errand: Errand, things: Sequence[_Thing]) -> str:
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


def _facts(plan: FloorPlan, things: Sequence[_Thing]) -> Iterator[str]:
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


def _walkthrough(plan: FloorPlan, errand: Errand, things: Sequence[_Thing]) -> list[str]:
    """Returns commands that win, with those targets that take the fewest."""
    names = numbered(thing.id for thing in things)
    choices = combinations([thing for thing in things if thing.type == errand.target], _needed(errand))
    return min((_steps(plan, errand, targets, names) for targets in choices), key=len)


def _steps(plan: FloorPlan, errand: Errand, targets: Sequence[_Thing], names: Mapping[str, str]) -> list[str]:
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
