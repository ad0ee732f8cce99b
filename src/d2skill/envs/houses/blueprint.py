"""A floor plan as a record, and what the drawing of houses shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from d2skill.envs.houses.statistics import CAN_CONTAIN, PLACES, RECEPTACLES

_T = TypeVar("_T")

ROOMS = ("kitchen", "bedroom", "kitchen", "bathroom", "kitchen", "living")
_FIRST_SCENES = {"kitchen": 1, "living": 201, "bedroom": 301, "bathroom": 401}

TOOLS: Mapping[str, tuple[str, str, str]] = {
    "pick_clean_then_place_in_recep": ("clean", "cleanable", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("heat", "heatable", "Microwave"),
    "pick_cool_then_place_in_recep": ("cool", "coolable", "Fridge"),
}
"""Task type: the verb, what the target must be, and the receptacle that does it."""


@dataclass(frozen=True, slots=True)
class Receptacle:
    """A receptacle: its id and location in the game file, the name that players see, and whether it is closed first."""

    id: str
    name: str
    type: str
    location: str
    openable: bool


@dataclass(frozen=True, slots=True)
class Errand:
    """What a game asks for: task type, type of the target and type of the destination (DeskLamp to look)."""

    kind: str
    target: str
    destination: str


@dataclass(frozen=True, slots=True)
class FloorPlan:
    """A room and its habit.

    `homes` gives the index of the receptacle where each object type mostly lies, `haunts` those of up to two others
    where it is often, `lamp` that of the lamp.
    """

    number: int
    room: str
    receptacles: tuple[Receptacle, ...]
    homes: Mapping[str, int]
    haunts: Mapping[str, tuple[int, ...]]
    errands: tuple[Errand, ...]
    lamp: int | None

    @property
    def scene(self) -> int:
        """The number of the plan among ALFWorld's scenes, whose last three digits tell the room.

        Kitchens are 1-100, living rooms 201-300, bedrooms 301-400, bathrooms 401-500, of which ALFWorld uses the
        first thirty each; the next hundred of a room are a thousand higher.
        """
        rounds, place = divmod(self.number, len(ROOMS))
        thousands, rest = divmod(rounds * ROOMS.count(self.room) + ROOMS[:place].count(self.room), 100)
        return 1000 * thousands + _FIRST_SCENES[self.room] + rest

    def usual(self, target: str, places: Sequence[int]) -> Sequence[float]:
        """Returns odds of places for a type of object: how common it is in one such receptacle of ALFWorld.

        A little is left for receptacles where ALFWorld has such objects rarely or never.
        """
        shares, table = PLACES[self.room][target], RECEPTACLES[self.room]
        kinds = [self.receptacles[place].type for place in places]
        return [shares.get(kind, 0.2) / table[kind][2] for kind in kinds]

    def places(self, target: str, without: str = "") -> list[int]:
        """Returns the receptacles that may hold objects of a type, those of the type `without` left out."""
        return [
            i
            for i, receptacle in enumerate(self.receptacles)
            if target in CAN_CONTAIN.get(receptacle.type, ()) and receptacle.type != without
        ]


def numbered(ids: Iterable[str]) -> dict[str, str]:
    """Names entities as ALFWorld does: by type, counting down in the order of the lower-case ids."""
    names: dict[str, list[str]] = {}
    for identifier in sorted(ids, key=str.lower):
        kind = identifier.split("_bar_")[0].lower() + ("basin" if "Basin" in identifier else "")
        names.setdefault(kind, []).append(identifier)
    return {
        identifier: f"{kind} {len(group) - place}"
        for kind, group in names.items()
        for place, identifier in enumerate(group)
    }


def identifiers(kind: str, random: np.random.Generator) -> Iterator[str]:
    """Yields ids such as `Mug_bar__plus_01_dot_20_bar__minus_00_dot_35_bar__plus_02_dot_00`, none twice."""
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
