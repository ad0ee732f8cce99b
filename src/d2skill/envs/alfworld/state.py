"""What changes in a game: the state, and the effects of the domain's actions on it."""

from __future__ import annotations

from dataclasses import dataclass

from d2skill.envs.alfworld.world import FLAGS, World

_CLEAN, _HOT, _COOL = FLAGS["isclean"], FLAGS["ishot"], FLAGS["iscool"]
_TOGGLED, _SLICED = FLAGS["istoggled"], FLAGS["issliced"]


@dataclass(slots=True)
class State:
    """The state of a game over the numbers of its world."""

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
    """Locations at which the facts put each object."""
    left: frozenset[tuple[int, int]] = frozenset()
    """Pairs (object, receptacle) of a taking that no putting back has undone."""

    @classmethod
    def at_start(cls, world: World) -> State:
        """Returns the state in which a game starts."""
        return cls(world.start, -1, world.opened, world.flags[:], world.inside[:], world.spots[:])

    def copy(self) -> State:
        """Returns a copy that shares nothing that can change."""
        return State(self.at, self.held, self.opened, self.flags[:], self.inside[:], self.spots[:], self.left)

    def apply(self, action: str, r: int, o: int, world: World) -> None:
        """Applies the effects of an admissible action on receptacle `r` and object `o`."""
        match action:
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
                self.left |= {(o, r)}
            case "putobject":
                self.held = -1
                self.inside[r] = tuple(sorted({*self.inside[r], o}))
                self.spots[o] |= {self.at}
                self.left -= {(o, r)}
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
        """Returns whether the goal holds now; it may cease to hold."""
        return all(block.holds(self, world.location_of) for block in world.goal)
