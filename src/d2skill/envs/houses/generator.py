"""Generator of games: the floor plan and task of each game of a split, and its objects."""

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
from d2skill.envs.houses.blueprint import PROCESSING, FloorPlan, HouseTask, draw, draw_ids
from d2skill.envs.houses.floor_plans import floor_plans
from d2skill.envs.houses.pddl_problem import PlacedObject, targets_needed, write_problem, write_walkthrough
from d2skill.envs.houses.statistics import FULLNESS, INSTANCES, PRESENT
from d2skill.errors import ConfigError
from d2skill.utils import rng

PANEL = 140
"""Games in each split that is not for training, as many as in ALFWorld's valid_seen."""

_TASK_TEXTS = {
    "pick_and_place_simple": ("put a {0} in {1}", "put some {0} on {1}"),
    "look_at_obj_in_light": ("examine the {0} with the {1}", "look at {0} under the {1}"),
    "pick_clean_then_place_in_recep": ("clean some {0} and put it in {1}", "put a clean {0} in {1}"),
    "pick_heat_then_place_in_recep": ("heat some {0} and put it in {1}", "put a hot {0} in {1}"),
    "pick_cool_then_place_in_recep": ("cool some {0} and put it in {1}", "put a cool {0} in {1}"),
    "pick_two_obj_and_place": ("find two {0} and put them in {1}", "put two {0} in {1}"),
}


@dataclass(frozen=True, slots=True)
class House:
    """A generated game: its scene and task, the task in words, and the content of its `game.tw-pddl` file."""

    scene: int
    task: HouseTask
    task_text: str
    content: dict[str, Any]


def sizes(settings: HousesConfig) -> dict[str, int]:
    """Returns the number of games of each split."""
    train = settings.floor_plans * settings.games_per_plan
    return {"train": train, "valid_seen": PANEL, "valid_unseen": PANEL, "test_seen": PANEL}


def split_size(settings: HousesConfig, split: str) -> int:
    """Returns the number of games of a split. Raises `ConfigError` for an unknown one."""
    table = sizes(settings)
    if split not in table:
        raise ConfigError(f'houses have no split "{split}": choose one of {", ".join(table)}')
    return table[split]


def build_house(settings: HousesConfig, split: str, number: int) -> House:
    """Builds a game, the same for the same arguments; `number` may exceed the split's size.

    The walkthrough knows where everything is, and wins. Raises `ConfigError` for an unknown split.
    """
    split_size(settings, split)
    floor_plan = _floor_plan_of(settings, split, number)
    task = _task_of(settings, floor_plan, split, number)
    random = rng.generator(settings.seed, "house", split, number)
    spares = int(rng.generator(settings.seed, "spares", split, number).integers(settings.spare_targets + 1))
    objects = list(_place_objects(settings, floor_plan, task, spares, random))
    text = str(random.choice(_TASK_TEXTS[task.kind])).format(task.target.lower(), task.destination.lower())
    domain, grammar = _domain_and_grammar()
    content = {
        "pddl_domain": domain,
        "grammar": grammar.replace("UNKNOWN GOAL", text),
        "pddl_problem": write_problem(f"house_{split}_{number}", floor_plan, task, objects),
        "solvable": True,
        "walkthrough": write_walkthrough(floor_plan, task, objects),
    }
    return House(floor_plan.scene, task, text, content)


def generate(settings: HousesConfig, split: str, number: int) -> dict[str, Any]:
    """Returns the content of a game's file with the extra keys "task_type" and "scene", as `Game.load` takes it.

    Raises `ConfigError` for an unknown split or a number outside it.
    """
    size = split_size(settings, split)
    if not 0 <= number < size:
        raise ConfigError(f"houses have no game {number} in {split}: numbers go from 0 to {size - 1}")
    house = build_house(settings, split, number)
    return {**house.content, "task_type": house.task.kind, "scene": house.scene}


@cache
def _domain_and_grammar() -> tuple[str, str]:
    """Returns the domain and the grammar that all games share."""
    folder = files("d2skill.envs.alfworld") / "resources"
    domain = (folder / "domain.pddl").read_text(encoding="utf-8")
    return domain, (folder / "grammar.twl2").read_text(encoding="utf-8")


def _floor_plan_of(settings: HousesConfig, split: str, number: int) -> FloorPlan:
    """Returns the floor plan of a game; those of training come first, then as many unseen ones."""
    count = settings.floor_plans
    first = count if split == "valid_unseen" else 0
    return floor_plans(settings, 2 * count)[first + number % count]


def _task_of(settings: HousesConfig, floor_plan: FloorPlan, split: str, number: int) -> HouseTask:
    """Returns the task of a game: each task of a floor plan comes once before any comes again."""
    turn, place = divmod(number // settings.floor_plans, len(floor_plan.tasks))
    # "errands" names the random stream; another name would give other games.
    random = rng.generator(settings.seed, "errands", floor_plan.number, split, turn)
    return floor_plan.tasks[int(random.permutation(len(floor_plan.tasks))[place])]


def _place_objects(
    settings: HousesConfig, floor_plan: FloorPlan, task: HouseTask, spares: int, random: np.random.Generator
) -> Iterator[PlacedObject]:
    """Yields the objects of a game: targets, with some to spare, distractors, and a lamp if the room has one."""
    others = [kind for kind in sorted(floor_plan.homes) if kind != task.target]
    if settings.alfworld_rooms:
        most = round(settings.distractors * FULLNESS[floor_plan.room])
        distractors = _draw_distractors(floor_plan.room, others, most, random)
    else:
        distractors = random.permutation(np.repeat(others, 3))[: settings.distractors].tolist()
    counts = {task.target: targets_needed(task) + spares, **Counter(distractors)}
    may_start_there = settings.alfworld_errands and task.kind in PROCESSING
    for kind, count in counts.items():
        excluded = task.destination if kind == task.target and not may_start_there else ""
        places = floor_plan.places(kind, without=excluded)
        for identifier in islice(draw_ids(kind, random), count):
            chance = random.random()
            second = [place for place in floor_plan.second_homes[kind] if place in places]
            if chance < settings.habit:
                place = floor_plan.homes[kind]
            elif second and chance < settings.habit + settings.second_habit:
                place = int(random.choice(second))
            elif settings.alfworld_homes:
                place = draw(places, floor_plan.place_weights(kind, places), random)
            else:
                place = int(random.choice(places))
            yield PlacedObject(identifier, kind, place)
    if floor_plan.lamp is not None:
        yield PlacedObject(next(draw_ids("DeskLamp", random)), "DeskLamp", floor_plan.lamp)


def _draw_distractors(room: str, kinds: Sequence[str], most: int, random: np.random.Generator) -> list[str]:
    """Draws the types of up to `most` objects as common as in ALFWorld, up to three of a type."""
    present = PRESENT[room]
    order = sorted(random.permutation(kinds).tolist(), key=lambda kind: 100 * random.random() >= present[kind])
    numbers = random.choice(len(INSTANCES), len(order), p=INSTANCES) + 1
    drawn = [kind for kind, number in zip(order, numbers.tolist(), strict=True) for _ in range(number)]
    return drawn[:most]
