"""The games of a split: which floor plan and errand each has, and what lies where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any

import numpy as np

from d2skill.config import HousesConfig
from d2skill.envs.houses.blueprint import TOOLS, Errand, FloorPlan, draw, identifiers
from d2skill.envs.houses.floor_plans import floor_plans
from d2skill.envs.houses.pddl_problem import Thing, targets_needed, write_problem, write_walkthrough
from d2skill.envs.houses.statistics import FULLNESS, INSTANCES, PRESENT
from d2skill.errors import ConfigError
from d2skill.utils import rng

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
        "pddl_problem": write_problem(f"house_{split}_{number}", plan, errand, things),
        "solvable": True,
        "walkthrough": write_walkthrough(plan, errand, things),
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
) -> Iterator[Thing]:
    """Yields the objects of a game: the targets, some to spare, a lamp if the room has one, and distractors."""
    others = [kind for kind in sorted(plan.homes) if kind != errand.target]
    if settings.alfworld_rooms:
        distractors = _stock(plan.room, others, round(settings.distractors * FULLNESS[plan.room]), random)
    else:
        distractors = random.permutation(np.repeat(others, 3))[: settings.distractors].tolist()
    counts = {errand.target: targets_needed(errand) + spares, **Counter(distractors)}
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
            yield Thing(identifier, kind, place)
    if plan.lamp is not None:
        yield Thing(next(identifiers("DeskLamp", random)), "DeskLamp", plan.lamp)


def _stock(room: str, kinds: Sequence[str], most: int, random: np.random.Generator) -> list[str]:
    """Draws the types of objects, `most` in all, as they come in ALFWorld: up to three of a type, some types rarely."""
    present = PRESENT[room]
    order = sorted(random.permutation(kinds).tolist(), key=lambda kind: 100 * random.random() >= present[kind])
    numbers = random.choice(len(INSTANCES), len(order), p=INSTANCES) + 1
    drawn = [kind for kind, number in zip(order, numbers.tolist(), strict=True) for _ in range(number)]
    return drawn[:most]
