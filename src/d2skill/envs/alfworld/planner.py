"""The shortest plan of a game, by one who sees everything.

The goal leaves a choice: which objects and receptacles its variables stand for. Each way to choose is an aim, and
one A* search runs over all aims at once. What keeps it small leaves the plan the shortest:

- A shortest plan touches only the objects of its aim, what is in hand at the start and, to slice, knives; what it
  did with others could be left out. So a node of the search holds only these.
- Locations that are alike for the goal and hold nothing that it may be about count as one: a plan that uses
  several of them works as well with one.
- Closing never helps, opening can wait until one takes or puts, and changing an object helps only where the aim
  asks for the change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count, permutations, product

from d2skill.envs.alfworld.admissible import Move
from d2skill.envs.alfworld.game import Game
from d2skill.envs.alfworld.goal import Compiled
from d2skill.envs.alfworld.state import State
from d2skill.envs.alfworld.world import FLAGS, World

_PICKUPABLE = FLAGS["pickupable"]
_CLEAN, _HOT, _COOL = FLAGS["isclean"], FLAGS["ishot"], FLAGS["iscool"]
_TOGGLED, _SLICED = FLAGS["istoggled"], FLAGS["issliced"]
_NEEDED = {
    _CLEAN: FLAGS["cleanable"],
    _HOT: FLAGS["heatable"],
    _COOL: FLAGS["coolable"],
    _TOGGLED: FLAGS["toggleable"],
    _SLICED: FLAGS["sliceable"],
}
"""The properties that play can give, each with the one that an object must have for it."""
_BY_HAND = {_CLEAN: ("cleanobject", 0), _HOT: ("heatobject", _COOL), _COOL: ("coolobject", _HOT)}
"""Those given to an object in hand, each with the action that gives it and the property which that takes away."""

_HAND = -1
"""Stands for the player's hand among receptacles."""

_Numbers = frozenset[int]
_NONE: _Numbers = frozenset()
_Thing = tuple[int, _Numbers, _Numbers]
"""An object in a node: its properties, the receptacles it is in, and the locations at which it can be sliced."""
_Node = tuple[int, int, int, tuple[_Thing, ...]]
"""Index of the aim, location of the player, open receptacles as bits, and the aim's objects."""


@dataclass(frozen=True, slots=True)
class _Want:
    """What is asked of an object: properties, and receptacles to be in."""

    mask: int = 0
    places: _Numbers = _NONE

    def __or__(self, other: _Want) -> _Want:
        return _Want(self.mask | other.mask, self.places | other.places)


@dataclass(frozen=True, slots=True)
class _Aim:
    """One way to satisfy the goal: what is wanted of each object, and where the player must be, -1 for anywhere.

    Objects of which nothing is wanted are there because they are in hand or serve as knives.
    """

    objects: tuple[int, ...]
    wants: tuple[_Want, ...]
    at: int


def plan(game: Game) -> list[str] | None:
    """Returns a shortest list of commands that wins from a game's present state, None where there is none."""
    return [] if game.won else _Search(game._world, game._state).run()


class _Search:
    """The search for a plan from one state of a world."""

    def __init__(self, world: World, state: State) -> None:
        self._world = world
        self._state = state
        self._inside = _containers(world, state)
        self._tools = {
            made: frozenset(r for r, does in enumerate(table) if does and world.location_of[r] >= 0)
            for made, table in ((_CLEAN, world.cleans), (_HOT, world.heats), (_COOL, world.cools))
        }
        self._tool_places = {made: self._places(tools) for made, tools in self._tools.items()}
        slicing = any(mask & _SLICED for block in world.goal for mask in block.masks)
        self._knives = frozenset(o for o, knife in enumerate(world.knife) if knife and slicing)
        self._in_hand = frozenset({state.held}) - {-1}
        self._candidates = [
            [[o for o in block.objects[i] if self._possible(o, _Want(mask))] for i, mask in enumerate(block.masks)]
            for block in world.goal
        ]
        self._here = self._distinct_places()
        self._used = _NONE.union(*self._here.values())
        self._aims = tuple(dict.fromkeys(self._find_aims()))

    def run(self) -> list[str] | None:
        """Returns the commands of a shortest plan, None where there is none."""
        steps = dict.fromkeys(self._starts(), 0)
        came: dict[_Node, tuple[_Node, Move]] = {}
        ticks = count()
        queue = [(self._at_least(node), 0, next(ticks), node) for node in steps]
        heapify(queue)
        while queue:
            least, minus_steps, _, node = heappop(queue)
            if least == -minus_steps:
                return self._commands(_retrace(came, node))
            if steps[node] < -minus_steps:
                continue
            after = steps[node] + 1
            for move, following in self._successors(node):
                if following not in steps or after < steps[following]:
                    steps[following] = after
                    came[following] = (node, move)
                    heappush(queue, (after + self._at_least(following), -after, next(ticks), following))
        return None

    def _places(self, receptacles: Collection[int]) -> _Numbers:
        """Returns the locations of receptacles, leaving out the hand and what is nowhere."""
        return frozenset([self._world.location_of[r] for r in receptacles if r != _HAND]) - {-1}

    def _shut(self, r: int, opened: int) -> bool:
        return r != _HAND and self._world.openable[r] and not opened >> r & 1

    def _spots(self, o: int) -> _Numbers:
        """Returns the locations at which an object can be sliced, none where no goal asks for that."""
        return self._state.spots[o] if self._knives else _NONE

    def _possible(self, o: int, want: _Want) -> bool:
        """Returns whether an object can come to what is wanted of it, as far as that is plain to see.

        Taking and putting never add to the receptacles that an object is in, the hand being one of them.
        """
        flags, inside = self._state.flags[o], self._inside[o]
        missing = want.mask & ~flags
        lacking = want.places - inside
        if missing & ~sum(_NEEDED) or (missing & (_HOT | _COOL) and want.mask & _HOT and want.mask & _COOL):
            return False
        if any(missing & made and not flags & needed for made, needed in _NEEDED.items()):
            return False
        if any(missing & made and not tools for made, tools in self._tools.items()):
            return False
        if len(want.places) > len(inside):
            return False
        if any(r not in self._world.fits[o] or self._world.location_of[r] < 0 for r in lacking - {_HAND}):
            return False
        if _HAND in inside or not (lacking or missing & ~_SLICED):
            return True
        carried = lacking or missing & sum(_BY_HAND)
        return bool(self._places(inside)) and bool(flags & _PICKUPABLE or not carried)

    def _distinct_places(self) -> dict[int, tuple[int, ...]]:
        """Returns locations with the receptacles that matter there, leaving out what is like another.

        An object in two receptacles may need two that are alike, so then none is left out.
        """
        world, state = self._world, self._state
        relevant = _NONE.union(self._in_hand, self._knives, *(o for block in self._candidates for o in block))
        filled = _NONE.union(*(self._inside[o] for o in relevant))
        if any(len(self._inside[o]) > 1 for o in relevant):
            filled = frozenset(range(len(world.receptacles)))
        special = _NONE.union({state.at}, *(self._spots(o) for o in relevant))
        groups = {world.fits[o] for o in relevant}
        groups.update(frozenset(members) for block in world.goal for members in block.receptacles)
        groups.update(self._tools.values())
        here: dict[int, tuple[int, ...]] = {}
        seen = set()
        for place, receptacles in enumerate(world.here):
            looks: dict[tuple[int, ...], int] = {}
            for r in receptacles:
                look = (r if r in filled else -1, self._shut(r, state.opened), *[r in group for group in groups])
                looks.setdefault(look, r)
            look_of_place = (place if place in special else -1, frozenset(looks))
            if looks and look_of_place not in seen:
                seen.add(look_of_place)
                here[place] = tuple(looks.values())
        return here

    def _find_aims(self) -> Iterator[_Aim]:
        """Yields the ways to satisfy the goal, some more than once."""
        choices = [list(self._choices(*pair)) for pair in zip(self._world.goal, self._candidates, strict=True)]
        for choice in product(*choices):
            wanted: dict[int, _Want] = {}
            near = _NONE
            for objects, wants, places in choice:
                near |= places
                for o, want in zip(objects, wants, strict=True):
                    wanted[o] = wanted.get(o, _Want()) | want
            if len(near) > 1 or sum(_HAND in want.places for want in wanted.values()) > 1:
                continue
            if not all(self._possible(o, want) for o, want in wanted.items()):
                continue
            slicing = any(want.mask & _SLICED & ~self._state.flags[o] for o, want in wanted.items())
            kept = tuple(sorted({*wanted, *self._in_hand, *(self._knives if slicing else ())}))
            yield _Aim(kept, tuple(wanted.get(o, _Want()) for o in kept), max(near, default=-1))

    def _choices(
        self, block: Compiled, candidates: Sequence[Sequence[int]]
    ) -> Iterator[tuple[tuple[int, ...], list[_Want], _Numbers]]:
        """Yields objects that a block's variables can stand for, what is wanted of each, and where to be for it."""
        for objects in product(*candidates):
            if any(objects[a] == objects[b] for a, b in block.different):
                continue
            options = []
            for k, receptacles in enumerate(block.receptacles):
                contents = [objects[i] for i, place in block.places if place == k]
                near = k in block.near
                fit = [r for r in receptacles if self._serves(r, contents, near)]
                options.append(fit if contents or near else receptacles[:1])
            for chosen in product(*options):
                wants = []
                for i, mask in enumerate(block.masks):
                    places = {chosen[k] for j, k in block.places if j == i}
                    wants.append(_Want(mask, frozenset(places | {_HAND} if i in block.held else places)))
                yield objects, wants, self._places([chosen[k] for k in block.near])

    def _serves(self, r: int, contents: Sequence[int], near: bool) -> bool:
        """Returns whether a receptacle can come to hold objects and, if asked, to be where the player is."""
        if r not in self._used and (near or self._world.location_of[r] >= 0):
            return False
        return all(self._possible(o, _Want(places=frozenset({r}))) for o in contents)

    def _starts(self) -> Iterator[_Node]:
        """Yields the node that the search for each aim starts from."""
        state = self._state
        for k, aim in enumerate(self._aims):
            things = [(state.flags[o], self._inside[o], self._spots(o)) for o in aim.objects]
            yield k, state.at, state.opened, tuple(things)

    def _successors(self, node: _Node) -> Iterator[tuple[Move, _Node]]:
        """Yields the moves that can matter to the aim of a node, each with the node it leads to."""
        world = self._world
        k, at, opened, things = node
        aim = self._aims[k]
        held = next((o for o, (_, inside, _) in zip(aim.objects, things, strict=True) if _HAND in inside), -1)
        known = self._places(_NONE.union(*[inside for _, inside, _ in things])) | {aim.at}
        for place in known if held < 0 else self._here:
            if place not in (at, -1):
                yield ("gotolocation", world.here[place][0], -1), (k, place, opened, things)
        for r in self._here.get(at, ()):
            if self._shut(r, opened):
                yield ("openobject", r, -1), (k, at, opened | 1 << r, things)
        for i, (o, want) in enumerate(zip(aim.objects, aim.wants, strict=True)):
            for move, thing in self._changes(at, opened, held, o, want, things[i]):
                yield move, (k, at, opened, (*things[:i], thing, *things[i + 1 :]))

    def _changes(
        self, at: int, opened: int, held: int, o: int, want: _Want, thing: _Thing
    ) -> Iterator[tuple[Move, _Thing]]:
        """Yields the moves that change an object, each with what becomes of it."""
        flags, inside, spots = thing
        possible = sum(made for made, needed in _NEEDED.items() if want.mask & ~flags & made and flags & needed)
        for r in self._here.get(at, ()):
            shut = self._shut(r, opened)
            if r in inside:
                if possible & _TOGGLED:
                    yield ("toggleobject", r, o), (flags | _TOGGLED, inside, spots)
                if held < 0 and flags & _PICKUPABLE and not shut:
                    yield ("pickupobject", r, o), (flags, inside - {r} | {_HAND}, spots - {at})
            if o == held:
                if r in self._world.fits[o] and not shut:
                    after = spots | {at} if self._knives else spots
                    yield ("putobject", r, o), (flags, inside - {_HAND} | {r}, after)
                for made, (action, undone) in _BY_HAND.items():
                    if possible & made and r in self._tools[made]:
                        yield (action, r, o), ((flags | made) & ~undone, inside, spots)
        if possible & _SLICED and at in spots and held >= 0 and self._world.knife[held]:
            yield ("sliceobject", -1, o), (flags | _SLICED, inside, spots)

    def _at_least(self, node: _Node) -> int:
        """Returns a number of steps that no way from a node to its aim goes below; 0 only where it is reached.

        The hand holds one object at a time, so the moves that each object has to be carried add up.
        """
        k, at, opened, things = node
        aim = self._aims[k]
        steps = hops = 0
        taking = hand_full = False
        to_open: set[int] = set()
        for want, (flags, inside, _) in zip(aim.wants, things, strict=True):
            missing = want.mask & ~flags
            tools = [places for made, places in self._tool_places.items() if missing & made]
            lacking = want.places - inside
            in_hand = _HAND in inside
            take = not in_hand and bool(lacking or tools)
            to_fill = lacking - {_HAND}
            back = take and inside <= want.places
            steps += missing.bit_count() + take + (len(to_fill) or back)
            taking |= take
            hand_full |= in_hand and not to_fill
            needed = to_fill | inside if take and len(inside) == 1 else to_fill
            to_open.update(r for r in needed if self._shut(r, opened))
            if take or in_hand:
                end = self._places(inside if back else to_fill)
                if not end and _HAND in want.places and aim.at >= 0:
                    end = frozenset({aim.at})
                hops += _fewest_hops(frozenset({at}) if in_hand else self._places(inside), tools, end)
        return steps + (taking and hand_full) + len(to_open) + max(hops, at != aim.at >= 0)

    def _commands(self, moves: Sequence[Move]) -> list[str]:
        """Writes moves as commands; a `go to` names the receptacle that is used next."""
        world, held, commands = self._world, self._state.held, []
        for (action, r, o), (_, r_next, _) in zip(moves, [*moves[1:], ("", -1, -1)], strict=True):
            named = r_next if action == "gotolocation" and r_next >= 0 else r
            held = o if action == "pickupobject" else held
            names = {"o": world.objects[o], "co": world.objects[o], "ko": world.objects[held]}
            commands.append(world.wording.commands[action].format(r=world.receptacles[named], **names))
        return commands


def _containers(world: World, state: State) -> list[_Numbers]:
    """Returns the receptacles that each object is in, the hand being one."""
    found: list[set[int]] = [set() for _ in world.objects]
    for r, objects in enumerate(state.inside):
        for o in objects:
            found[o].add(r)
    if state.held >= 0:
        found[state.held].add(_HAND)
    return [frozenset(receptacles) for receptacles in found]


def _retrace(came: dict[_Node, tuple[_Node, Move]], node: _Node) -> list[Move]:
    """Returns the moves that led to a node."""
    moves = []
    while node in came:
        node, move = came[node]
        moves.append(move)
    return moves[::-1]


def _fewest_hops(start: _Numbers, stops: Sequence[_Numbers], end: _Numbers) -> int:
    """Returns how often one who is at one of the start's locations must move to be at one of each stop's locations, in
    any order, and then at one of the end's, if there is an end.
    """
    fewest = len(stops) + 1
    for order in permutations(stops):
        hops, now = 0, start
        for stop in (*order, end) if end else order:
            hops += now.isdisjoint(stop)
            now = now & stop or stop
        fewest = min(fewest, hops)
    return fewest
