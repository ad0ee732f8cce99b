"""Records of a floor plan and its tasks, and random helpers that the drawing of houses shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from d2skill.envs.houses.statistics import CAN_CONTAIN, OBJECT_PLACES, RECEPTACLES

_T = TypeVar("_T")

ROOMS = ("kitchen", "bedroom", "kitchen", "bathroom", "kitchen", "living")
_FIRST_SCENES = {"kitchen": 1, "living": 201, "bedroom": 301, "bathroom": 401}

PROCESSING: Mapping[str, tuple[str, str, str]] = {
    "pick_clean_then_place_in_recep": ("clean", "cleanable", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("heat", "heatable", "Microwave"),
    "pick_cool_then_place_in_recep": ("cool", "coolable", "Fridge"),
}
"""Kind of task: the verb, the trait that the target must have, and the receptacle type that does it."""


@dataclass(frozen=True, slots=True)
class Receptacle:
    """A receptacle: its id and location in the game file, the name that players see, and whether it is closed first."""

    id: str
    name: str
    type: str
    location: str
    openable: bool


@dataclass(frozen=True, slots=True)
class HouseTask:
    """Task of a game: its kind, the type of the target and the type of the destination (DeskLamp to look)."""

    kind: str
    target: str
    destination: str


@dataclass(frozen=True, slots=True)
class FloorPlan:
    """A room, the usual places of objects in it, and the tasks of its games.

    `homes` has the index of the receptacle where each object type mostly lies, `second_homes` those of up to two
    others where it often lies, `lamp` that of the receptacle with the lamp.
    """

    number: int
    room: str
    receptacles: tuple[Receptacle, ...]
    homes: Mapping[str, int]
    second_homes: Mapping[str, tuple[int, ...]]
    tasks: tuple[HouseTask, ...]
    lamp: int | None

    @property
    def scene(self) -> int:
        """The number of the floor plan among ALFWorld's scenes, whose last three digits tell the room.

        Kitchens are 1-100, living rooms 201-300, bedrooms 301-400, bathrooms 401-500, of which ALFWorld uses the
        first thirty each; the next hundred of a room are a thousand higher.
        """
        rounds, place = divmod(self.number, len(ROOMS))
        thousands, rest = divmod(rounds * ROOMS.count(self.room) + ROOMS[:place].count(self.room), 100)
        return 1000 * thousands + _FIRST_SCENES[self.room] + rest

    def place_weights(self, target: str, places: Sequence[int]) -> list[float]:
        """Returns how common objects of a type are in one receptacle like each of the places in ALFWorld.

        Receptacles where ALFWorld has such objects rarely or never get a small weight.
        """
        shares, counts = OBJECT_PLACES[self.room][target], RECEPTACLES[self.room]
        kinds = [self.receptacles[place].type for place in places]
        return [shares.get(kind, 0.2) / counts[kind].mean for kind in kinds]

    def places(self, target: str, without: str = "") -> list[int]:
        """Returns the receptacles that may hold objects of a type, except those of the type `without`."""
        return [
            i
            for i, receptacle in enumerate(self.receptacles)
            if target in CAN_CONTAIN.get(receptacle.type, ()) and receptacle.type != without
        ]


def draw_ids(kind: str, random: np.random.Generator) -> Iterator[str]:
    """Yields ids such as `Mug_bar__plus_01_dot_20_bar__minus_00_dot_35_bar__plus_02_dot_00`, all different."""
    seen: set[tuple[int, ...]] = set()
    base = kind.removesuffix("Basin")
    while True:
        at = tuple(int(x) for x in random.integers(-399, 400, size=3))
        if at not in seen:
            seen.add(at)
            spots = (f"{'plus' if x >= 0 else 'minus'}_{abs(x) // 100:02d}_dot_{abs(x) % 100:02d}" for x in at)
            yield "_bar__".join((base, *spots)) + (f"_bar_{kind}" if base != kind else "")


def draw(items: Sequence[_T], weights: Sequence[float], random: np.random.Generator) -> _T:
    """Draws an item with probability proportional to its weight."""
    shares = np.asarray(weights)
    return items[int(random.choice(len(items), p=shares / shares.sum()))]
