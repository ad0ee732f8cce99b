"""Goals: a conjunction of existential blocks, as in all six kinds of ALFWorld task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Protocol

from d2skill.envs.alfworld.pddl import Broken, Tree, read_typed, show


class Facts(Protocol):
    """What goals ask of a state; objects, receptacles and locations are numbers."""

    at: int
    held: int
    flags: list[int]
    inside: list[tuple[int, ...]]


@dataclass(slots=True)
class Block:
    """One `exists` as it is written: typed variables and what is asked of them."""

    variables: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    different: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A block over numbers: what each object variable and each receptacle variable may be.

    Types never change, so they are settled already, by the choice of candidates; the rest can change in play:
    `masks` are the properties asked of each object variable and `held` those that must be in hand; `near` are
    the receptacle variables that must be where the agent is; `places` pairs an object variable with the
    receptacle variable it must be in; `different` pairs object variables.
    """

    objects: tuple[tuple[int, ...], ...]
    masks: tuple[int, ...]
    held: frozenset[int]
    receptacles: tuple[tuple[int, ...], ...]
    near: frozenset[int]
    places: tuple[tuple[int, int], ...]
    different: tuple[tuple[int, int], ...]

    def holds(self, state: Facts, location_of: Sequence[int]) -> bool:
        """Returns whether some choice of objects and receptacles satisfies the block."""
        options = [list(self._fitting(i, state)) for i in range(len(self.objects))]
        for chosen in product(*options):
            if any(chosen[a] == chosen[b] for a, b in self.different):
                continue
            if all(self._fits(k, chosen, state, location_of) for k in range(len(self.receptacles))):
                return True
        return False

    def _fitting(self, i: int, state: Facts) -> Iterator[int]:
        mask, in_hand = self.masks[i], i in self.held
        for candidate in self.objects[i]:
            if state.flags[candidate] & mask == mask and (not in_hand or state.held == candidate):
                yield candidate

    def _fits(self, k: int, chosen: tuple[int, ...], state: Facts, location_of: Sequence[int]) -> bool:
        """Receptacle variables are never compared with each other, so each can be settled by itself."""
        needed = [chosen[i] for i, place in self.places if place == k]
        return any(
            all(thing in state.inside[r] for thing in needed) and (k not in self.near or location_of[r] == state.at)
            for r in self.receptacles[k]
        )


def read_goal(tree: Tree) -> list[Block]:
    """Reads a goal into blocks. Raises `Broken` for a formula of another shape."""
    parts = tree[1:] if isinstance(tree, list) and tree[:1] == ["and"] else [tree]
    blocks = []
    for part in parts:
        block = Block()
        _collect(part, block)
        blocks.append(block)
    return blocks


def _collect(tree: Tree, block: Block) -> None:
    match tree:
        case ["and", *parts]:
            for part in parts:
                _collect(part, block)
        case ["exists", [*names], body]:
            variables = read_typed(names)
            if variables.keys() & block.variables.keys():
                raise Broken(f"has a goal that names a variable twice: {show(tree)}")
            block.variables.update(variables)
            _collect(body, block)
        case ["not", ["=", str(a), str(b)]]:
            block.different.append((a, b))
        case [str(), *_] if all(isinstance(part, str) for part in tree):
            block.asked.append(tuple(part for part in tree if isinstance(part, str)))
        case _:
            raise Broken(f"has a goal that this engine does not know: {show(tree)}")


def compile_block(
    block: Block,
    flags: dict[str, int],
    object_count: int,
    receptacle_count: int,
    objects: dict[str, frozenset[int]],
    receptacles: dict[str, frozenset[int]],
) -> Compiled:
    """Turns a block into numbers.

    `flags` are the bits of properties; `objects` and `receptacles` give the members of each type.
    """
    ovars = [v for v, kind in block.variables.items() if kind == "object"]
    rvars = [v for v, kind in block.variables.items() if kind == "receptacle"]
    oset = {v: set(range(object_count)) for v in ovars}
    rset = {v: set(range(receptacle_count)) for v in rvars}
    masks = dict.fromkeys(ovars, 0)
    held, places, here = set(), [], {a[2] for a in block.asked if a[0] == "atlocation" and len(a) == 3}
    near = set()
    for atom in block.asked:
        match atom:
            case ("objecttype", v, kind) if v in oset:
                oset[v] &= objects.get(kind, frozenset())
            case ("receptacletype", v, kind) if v in rset:
                rset[v] &= receptacles.get(kind, frozenset())
            case ("inreceptacle", v, w) if v in oset and w in rset:
                places.append((ovars.index(v), rvars.index(w)))
            case ("receptacleatlocation", w, place) if w in rset and place in here:
                near.add(rvars.index(w))
            case ("holds", _, v) if v in oset:
                held.add(ovars.index(v))
            case ("atlocation", _, place) if block.variables.get(place) == "location":
                pass
            case (name, v) if name in flags and v in oset:
                masks[v] |= flags[name]
            case _:
                raise Broken(f"has a goal that this engine does not know: {show(list(atom))}")
    for a, b in block.different:
        if a not in oset or b not in oset:
            raise Broken(f"has a goal that this engine does not know: (not (= {a} {b}))")
    return Compiled(
        objects=tuple(tuple(sorted(oset[v])) for v in ovars),
        masks=tuple(masks[v] for v in ovars),
        held=frozenset(held),
        receptacles=tuple(tuple(sorted(rset[v])) for v in rvars),
        near=frozenset(near),
        places=tuple(places),
        different=tuple((ovars.index(a), ovars.index(b)) for a, b in block.different),
    )
