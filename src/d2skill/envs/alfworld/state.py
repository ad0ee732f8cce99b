"""State of a game in play, and the effects of the domain's actions on it."""

from __future__ import annotations

from dataclasses import dataclass

from d2skill.envs.alfworld.domain import FLAGS
from d2skill.envs.alfworld.world import World

_CLEAN, _HOT, _COOL = FLAGS["isclean"], FLAGS["ishot"], FLAGS["iscool"]
_TOGGLED, _SLICED = FLAGS["istoggled"], FLAGS["issliced"]

GroundAction = tuple[str, int, int]
"""An action of the domain with the receptacle and the object that it is applied to, -1 where there is none."""


@dataclass(slots=True)
class GameState:
    """State of a game over the numbers of its world."""

    at: int
    """Location of the agent."""
    held: int
    """Object in hand, -1 for none."""
    opened: int
    """Open receptacles, as bits."""
    flags: list[int]
    """Properties of each object, as bits."""
    inside: list[tuple[int, ...]]
    """Objects in each receptacle; some objects are in two."""
    spots: list[frozenset[int]]
    """Locations of each object by the fact `objectAtLocation`."""
    removed: frozenset[tuple[int, int]] = frozenset()
    """Pairs (object, receptacle): the object was taken from the receptacle and not put back there."""

    @classmethod
    def initial(cls, world: World) -> GameState:
        """Returns the state in which a game starts."""
        return cls(world.start, -1, world.opened, world.flags[:], world.inside[:], world.spots[:])

    def copy(self) -> GameState:
        """Returns an independent copy."""
        return GameState(self.at, self.held, self.opened, self.flags[:], self.inside[:], self.spots[:], self.removed)

    def apply(self, action: GroundAction, world: World) -> None:
        """Applies the effects of an admissible action."""
        name, r, o = action
        match name:
            case "gotolocation":
                self.at = world.location_of[r]
            case "openobject":
                self.opened |= 1 << r
            case "closeobject":
                self.opened &= ~(1 << r)
            case "pickupobject":
                self.held = o
                self.inside[r] = tuple(thing for thing in self.inside[r] if thing != o)
                self.spots[o] -= {self.at}
                self.removed |= {(o, r)}
            case "putobject":
                self.held = -1
                self.inside[r] = tuple(sorted({*self.inside[r], o}))
                self.spots[o] |= {self.at}
                self.removed -= {(o, r)}
            case "cleanobject":
                self.flags[o] |= _CLEAN
            case "heatobject":
                self.flags[o] = (self.flags[o] | _HOT) & ~_COOL
            case "coolobject":
                self.flags[o] = (self.flags[o] | _COOL) & ~_HOT
            case "toggleobject":
                self.flags[o] |= _TOGGLED
            case "sliceobject":
                self.flags[o] |= _SLICED

    def won(self, world: World) -> bool:
        """Returns True while the goal holds; it may cease to hold."""
        return all(block.holds(self, world.location_of) for block in world.goal)
