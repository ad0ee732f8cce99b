"""Goals of games: a conjunction of existential blocks, as in all six kinds of ALFWorld task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple, Protocol

from d2skill.envs.alfworld.domain import FLAGS
from d2skill.envs.alfworld.pddl import GameError, Tree, format_tree, parse_typed_list


class GoalState(Protocol):
    """Part of a game state that goals look at; objects, receptacles and locations are numbers."""

    at: int
    held: int
    flags: list[int]
    inside: list[tuple[int, ...]]


class TypeIndex(NamedTuple):
    """Number of objects (or receptacles) of a game, and those of each type."""

    total: int
    of_type: dict[str, frozenset[int]]


@dataclass(slots=True)
class GoalBlock:
    """One `exists` formula as written: variables with their types, atoms, and pairs of variables that must differ."""

    variables: dict[str, str] = field(default_factory=dict)
    atoms: list[tuple[str, ...]] = field(default_factory=list)
    different: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CompiledBlock:
    """A goal block over numbers: the candidates of each object variable and each receptacle variable.

    Types never change, so the candidates have the right types already; the other fields can change in play. `masks`
    are the properties required of each object variable, `held` the object variables that must be in hand, `near` the
    receptacle variables that must be where the agent is. `places` pairs an object variable with the receptacle
    variable it must be in, `different` pairs object variables.
    """

    objects: tuple[tuple[int, ...], ...]
    masks: tuple[int, ...]
    held: frozenset[int]
    receptacles: tuple[tuple[int, ...], ...]
    near: frozenset[int]
    places: tuple[tuple[int, int], ...]
    different: tuple[tuple[int, int], ...]

    def holds(self, state: GoalState, location_of: Sequence[int]) -> bool:
        """Returns True if some choice of objects and receptacles satisfies the block."""
        options = [list(self._matching_objects(i, state)) for i in range(len(self.objects))]
        for chosen in product(*options):
            if any(chosen[a] == chosen[b] for a, b in self.different):
                continue
            if all(self._has_receptacle(k, chosen, state, location_of) for k in range(len(self.receptacles))):
                return True
        return False

    def _matching_objects(self, i: int, state: GoalState) -> Iterator[int]:
        mask, in_hand = self.masks[i], i in self.held
        for candidate in self.objects[i]:
            if state.flags[candidate] & mask == mask and (not in_hand or state.held == candidate):
                yield candidate

    def _has_receptacle(self, k: int, chosen: tuple[int, ...], state: GoalState, location_of: Sequence[int]) -> bool:
        """Returns True if a receptacle satisfies variable `k`, for the chosen objects.

        Goals never compare receptacle variables with each other, so each can be decided by itself.
        """
        needed = [chosen[i] for i, place in self.places if place == k]
        return any(
            all(thing in state.inside[r] for thing in needed) and (k not in self.near or location_of[r] == state.at)
            for r in self.receptacles[k]
        )


def parse_goal(tree: Tree) -> list[GoalBlock]:
    """Parses a goal into blocks. Raises `GameError` for a formula of another shape."""
    parts = tree[1:] if isinstance(tree, list) and tree[:1] == ["and"] else [tree]
    blocks = []
    for part in parts:
        block = GoalBlock()
        _collect(part, block)
        blocks.append(block)
    return blocks


def _collect(tree: Tree, block: GoalBlock) -> None:
    """Adds the variables and atoms of a formula to a block."""
    match tree:
        case ["and", *parts]:
            for part in parts:
                _collect(part, block)
        case ["exists", [*names], body]:
            variables = parse_typed_list(names)
            if variables.keys() & block.variables.keys():
                raise GameError(f"has a goal that names a variable twice: {format_tree(tree)}")
            block.variables.update(variables)
            _collect(body, block)
        case ["not", ["=", str(a), str(b)]]:
            block.different.append((a, b))
        case [str(), *_] if all(isinstance(part, str) for part in tree):
            block.atoms.append(tuple(part for part in tree if isinstance(part, str)))
        case _:
            raise _unknown(format_tree(tree))


def compile_block(block: GoalBlock, objects: TypeIndex, receptacles: TypeIndex) -> CompiledBlock:
    """Turns a block into numbers. Raises `GameError` for an atom that goals of ALFWorld do not have."""
    o_names = [v for v, kind in block.variables.items() if kind == "object"]
    r_names = [v for v, kind in block.variables.items() if kind == "receptacle"]
    o_candidates = {v: set(range(objects.total)) for v in o_names}
    r_candidates = {v: set(range(receptacles.total)) for v in r_names}
    masks = dict.fromkeys(o_names, 0)
    agent_places = {atom[2] for atom in block.atoms if atom[0] == "atlocation" and len(atom) == 3}
    held, near, places = set(), set(), []
    for atom in block.atoms:
        match atom:
            case ("objecttype", v, kind) if v in o_candidates:
                o_candidates[v] &= objects.of_type.get(kind, frozenset())
            case ("receptacletype", v, kind) if v in r_candidates:
                r_candidates[v] &= receptacles.of_type.get(kind, frozenset())
            case ("inreceptacle", v, w) if v in o_candidates and w in r_candidates:
                places.append((o_names.index(v), r_names.index(w)))
            case ("receptacleatlocation", w, place) if w in r_candidates and place in agent_places:
                near.add(r_names.index(w))
            case ("holds", _, v) if v in o_candidates:
                held.add(o_names.index(v))
            case ("atlocation", _, place) if block.variables.get(place) == "location":
                pass
            case (name, v) if name in FLAGS and v in o_candidates:
                masks[v] |= FLAGS[name]
            case _:
                raise _unknown(format_tree(list(atom)))
    for a, b in block.different:
        if a not in o_candidates or b not in o_candidates:
            raise _unknown(f"(not (= {a} {b}))")
    return CompiledBlock(
        objects=tuple(tuple(sorted(candidates)) for candidates in o_candidates.values()),
        masks=tuple(masks.values()),
        held=frozenset(held),
        receptacles=tuple(tuple(sorted(candidates)) for candidates in r_candidates.values()),
        near=frozenset(near),
        places=tuple(places),
        different=tuple((o_names.index(a), o_names.index(b)) for a, b in block.different),
    )


def _unknown(formula: str) -> GameError:
    return GameError(f"has a goal that this engine does not know: {formula}")
