"""Planner for shortest plans, with full knowledge of a game's state.

The goal leaves a choice: which objects and receptacles its variables stand for. Each choice gives a ground goal, and
one A* search runs over all ground goals at once. These reductions keep it small, and the plan the shortest:

- A shortest plan touches only the objects of its ground goal, the object in hand at the start and, to slice, knives;
  actions on others could be left out. So a node of the search holds only these objects.
- Locations that are alike for the goal and hold nothing that it may be about count as one: a plan that uses
  several of them works as well with one.
- Closing never helps, opening can wait until the next take or put, and changing an object helps only if the ground
  goal requires the change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count, permutations, product

from d2skill.envs.alfworld.domain import FLAGS
from d2skill.envs.alfworld.game import Game
from d2skill.envs.alfworld.goal import CompiledBlock
from d2skill.envs.alfworld.state import GameState, GroundAction
from d2skill.envs.alfworld.world import World

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
"""Properties that actions can give, each with the property that an object must have for it."""
_BY_HAND = {_CLEAN: ("cleanobject", 0), _HOT: ("heatobject", _COOL), _COOL: ("coolobject", _HOT)}
"""Properties given to an object in hand, each with the action that gives it and the property that it removes."""

_HAND = -1
"""Number of the agent's hand among receptacles."""

_Numbers = frozenset[int]
_NONE: _Numbers = frozenset()
_ObjectState = tuple[int, _Numbers, _Numbers]
"""An object in a node: its properties, the receptacles it is in, and the locations at which it can be sliced."""
_Node = tuple[int, int, int, tuple[_ObjectState, ...]]
"""Index of the ground goal, location of the agent, open receptacles as bits, and the ground goal's objects."""


@dataclass(frozen=True, slots=True)
class _ObjectGoal:
    """Goal for one object: properties to have, and receptacles to be in."""

    mask: int = 0
    places: _Numbers = _NONE

    def __or__(self, other: _ObjectGoal) -> _ObjectGoal:
        return _ObjectGoal(self.mask | other.mask, self.places | other.places)


@dataclass(frozen=True, slots=True)
class _GroundGoal:
    """One way to satisfy the goal: the goal for each object, and where the agent must be, -1 for anywhere.

    Objects with an empty goal are included because they are in hand or serve as knives.
    """

    objects: tuple[int, ...]
    object_goals: tuple[_ObjectGoal, ...]
    at: int


def shortest_plan(game: Game) -> list[str] | None:
    """Returns a shortest list of commands that wins from a game's present state, None if there is none."""
    return [] if game.won else _Search(game._world, game._state).run()


class _Search:
    """A* search for a plan from one state of a world."""

    def __init__(self, world: World, state: GameState) -> None:
        self._world = world
        self._state = state
        self._inside = _containers(world, state)
        self._tools = {
            made: frozenset(r for r in world.tools[action] if world.location_of[r] >= 0)
            for made, (action, _) in _BY_HAND.items()
        }
        self._tool_places = {made: self._places(tools) for made, tools in self._tools.items()}
        slicing = any(mask & _SLICED for block in world.goal for mask in block.masks)
        self._knives = frozenset(o for o, knife in enumerate(world.knife) if knife and slicing)
        self._in_hand = frozenset({state.held}) - {-1}
        self._candidates = [
            [
                [o for o in block.objects[i] if self._is_possible(o, _ObjectGoal(mask))]
                for i, mask in enumerate(block.masks)
            ]
            for block in world.goal
        ]
        self._receptacles_at = self._distinct_locations()
        self._used = _NONE.union(*self._receptacles_at.values())
        self._ground_goals = tuple(dict.fromkeys(self._ground_all()))

    def run(self) -> list[str] | None:
        """Returns the commands of a shortest plan, None if there is none."""
        state, steps = self._state, {}
        for k, goal in enumerate(self._ground_goals):
            things = [(state.flags[o], self._inside[o], self._spots(o)) for o in goal.objects]
            steps[k, state.at, state.opened, tuple(things)] = 0
        parents: dict[_Node, tuple[_Node, GroundAction]] = {}
        ticks = count()
        queue = [(self._lower_bound(node), 0, next(ticks), node) for node in steps]
        heapify(queue)
        while queue:
            bound, minus_steps, _, node = heappop(queue)
            if bound == -minus_steps:
                return self._commands(_path_to(node, parents))
            if steps[node] < -minus_steps:
                continue
            after = steps[node] + 1
            for action, successor in self._successors(node):
                if successor not in steps or after < steps[successor]:
                    steps[successor] = after
                    parents[successor] = (node, action)
                    heappush(queue, (after + self._lower_bound(successor), -after, next(ticks), successor))
        return None

    def _places(self, receptacles: Collection[int]) -> _Numbers:
        """Returns the locations of receptacles, without the hand and receptacles that have no location."""
        return frozenset([self._world.location_of[r] for r in receptacles if r != _HAND]) - {-1}

    def _is_closed(self, r: int, opened: int) -> bool:
        return r != _HAND and self._world.openable[r] and not opened >> r & 1

    def _spots(self, o: int) -> _Numbers:
        """Returns the locations at which an object can be sliced, none if no goal requires slices."""
        return self._state.spots[o] if self._knives else _NONE

    def _is_possible(self, o: int, goal: _ObjectGoal) -> bool:
        """Returns False if an object can clearly never reach a goal.

        Taking and putting never add to the receptacles that an object is in, the hand being one of them.
        """
        flags, inside = self._state.flags[o], self._inside[o]
        missing = goal.mask & ~flags
        lacking = goal.places - inside
        if missing & ~sum(_NEEDED) or (missing & (_HOT | _COOL) and goal.mask & _HOT and goal.mask & _COOL):
            return False
        if any(missing & made and not flags & needed for made, needed in _NEEDED.items()):
            return False
        if any(missing & made and not tools for made, tools in self._tools.items()):
            return False
        if len(goal.places) > len(inside):
            return False
        if any(r not in self._world.fits[o] or self._world.location_of[r] < 0 for r in lacking - {_HAND}):
            return False
        if _HAND in inside or not (lacking or missing & ~_SLICED):
            return True
        carried = lacking or missing & sum(_BY_HAND)
        return bool(self._places(inside)) and bool(flags & _PICKUPABLE or not carried)

    def _distinct_locations(self) -> dict[int, tuple[int, ...]]:
        """Returns locations with their receptacles, only one of each set that is alike for the goal.

        An object in two receptacles may need two that are alike, so then all are kept.
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
        distinct: dict[int, tuple[int, ...]] = {}
        seen = set()
        for place, receptacles in enumerate(world.receptacles_at):
            roles: dict[tuple[int, ...], int] = {}
            for r in receptacles:
                role = (r if r in filled else -1, self._is_closed(r, state.opened), *[r in group for group in groups])
                roles.setdefault(role, r)
            role_of_place = (place if place in special else -1, frozenset(roles))
            if roles and role_of_place not in seen:
                seen.add(role_of_place)
                distinct[place] = tuple(roles.values())
        return distinct

    def _ground_all(self) -> Iterator[_GroundGoal]:
        """Yields the ground goals, some more than once."""
        choices = [list(self._ground(*pair)) for pair in zip(self._world.goal, self._candidates, strict=True)]
        for choice in product(*choices):
            goals: dict[int, _ObjectGoal] = {}
            near = _NONE
            for objects, object_goals, places in choice:
                near |= places
                for o, goal in zip(objects, object_goals, strict=True):
                    goals[o] = goals.get(o, _ObjectGoal()) | goal
            if len(near) > 1 or sum(_HAND in goal.places for goal in goals.values()) > 1:
                continue
            if not all(self._is_possible(o, goal) for o, goal in goals.items()):
                continue
            slicing = any(goal.mask & _SLICED & ~self._state.flags[o] for o, goal in goals.items())
            kept = tuple(sorted({*goals, *self._in_hand, *(self._knives if slicing else ())}))
            yield _GroundGoal(kept, tuple(goals.get(o, _ObjectGoal()) for o in kept), max(near, default=-1))

    def _ground(
        self, block: CompiledBlock, candidates: Sequence[Sequence[int]]
    ) -> Iterator[tuple[tuple[int, ...], list[_ObjectGoal], _Numbers]]:
        """Yields objects for a block's variables, the goal for each of them, and the locations to be at."""
        for objects in product(*candidates):
            if any(objects[a] == objects[b] for a, b in block.different):
                continue
            options = []
            for k, receptacles in enumerate(block.receptacles):
                contents = [objects[i] for i, place in block.places if place == k]
                near = k in block.near
                suitable = [r for r in receptacles if self._is_suitable(r, contents, near)]
                options.append(suitable if contents or near else receptacles[:1])
            for chosen in product(*options):
                goals = []
                for i, mask in enumerate(block.masks):
                    places = {chosen[k] for j, k in block.places if j == i}
                    goals.append(_ObjectGoal(mask, frozenset(places | {_HAND} if i in block.held else places)))
                yield objects, goals, self._places([chosen[k] for k in block.near])

    def _is_suitable(self, r: int, contents: Sequence[int], near: bool) -> bool:
        """Returns False if a receptacle can never hold some objects or, with `near`, never be where the agent is."""
        if r not in self._used and (near or self._world.location_of[r] >= 0):
            return False
        return all(self._is_possible(o, _ObjectGoal(places=frozenset({r}))) for o in contents)

    def _successors(self, node: _Node) -> Iterator[tuple[GroundAction, _Node]]:
        """Yields the actions that can matter to the goal of a node, each with the node it leads to."""
        world = self._world
        k, at, opened, things = node
        goal = self._ground_goals[k]
        held = next((o for o, (_, inside, _) in zip(goal.objects, things, strict=True) if _HAND in inside), -1)
        known = self._places(_NONE.union(*[inside for _, inside, _ in things])) | {goal.at}
        for place in known if held < 0 else self._receptacles_at:
            if place not in (at, -1):
                yield ("gotolocation", world.receptacles_at[place][0], -1), (k, place, opened, things)
        for r in self._receptacles_at.get(at, ()):
            if self._is_closed(r, opened):
                yield ("openobject", r, -1), (k, at, opened | 1 << r, things)
        for i, (o, object_goal) in enumerate(zip(goal.objects, goal.object_goals, strict=True)):
            for action, thing in self._changes(at, opened, held, o, object_goal, things[i]):
                yield action, (k, at, opened, (*things[:i], thing, *things[i + 1 :]))

    def _changes(
        self, at: int, opened: int, held: int, o: int, goal: _ObjectGoal, thing: _ObjectState
    ) -> Iterator[tuple[GroundAction, _ObjectState]]:
        """Yields the actions that change an object, each with the object's state after it."""
        flags, inside, spots = thing
        possible = sum(made for made, needed in _NEEDED.items() if goal.mask & ~flags & made and flags & needed)
        for r in self._receptacles_at.get(at, ()):
            shut = self._is_closed(r, opened)
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

    def _lower_bound(self, node: _Node) -> int:
        """Returns a lower bound of the steps from a node to its goal (the A* heuristic); 0 only at the goal.

        The hand holds one object at a time, so the hops that each object has to be carried add up.
        """
        k, at, opened, things = node
        goal = self._ground_goals[k]
        steps = hops = 0
        taking = hand_full = False
        to_open: set[int] = set()
        for object_goal, (flags, inside, _) in zip(goal.object_goals, things, strict=True):
            missing = object_goal.mask & ~flags
            tools = [places for made, places in self._tool_places.items() if missing & made]
            lacking = object_goal.places - inside
            in_hand = _HAND in inside
            take = not in_hand and bool(lacking or tools)
            to_fill = lacking - {_HAND}
            back = take and inside <= object_goal.places
            steps += missing.bit_count() + take + (len(to_fill) or back)
            taking |= take
            hand_full |= in_hand and not to_fill
            needed = to_fill | inside if take and len(inside) == 1 else to_fill
            to_open.update(r for r in needed if self._is_closed(r, opened))
            if take or in_hand:
                end = self._places(inside if back else to_fill)
                if not end and _HAND in object_goal.places and goal.at >= 0:
                    end = frozenset({goal.at})
                hops += _fewest_hops(frozenset({at}) if in_hand else self._places(inside), tools, end)
        return steps + (taking and hand_full) + len(to_open) + max(hops, at != goal.at >= 0)

    def _commands(self, actions: Sequence[GroundAction]) -> list[str]:
        """Formats actions as commands; a `go to` names the receptacle that is used next."""
        world, held, commands = self._world, self._state.held, []
        for (action, r, o), (_, r_next, _) in zip(actions, [*actions[1:], ("", -1, -1)], strict=True):
            named = r_next if action == "gotolocation" and r_next >= 0 else r
            held = o if action == "pickupobject" else held
            names = {"o": world.objects[o], "co": world.objects[o], "ko": world.objects[held]}
            commands.append(world.templates.commands[action].format(r=world.receptacles[named], **names))
        return commands


def _containers(world: World, state: GameState) -> list[_Numbers]:
    """Returns the receptacles that each object is in; the hand counts as a receptacle."""
    containers: list[set[int]] = [set() for _ in world.objects]
    for r, objects in enumerate(state.inside):
        for o in objects:
            containers[o].add(r)
    if state.held >= 0:
        containers[state.held].add(_HAND)
    return [frozenset(receptacles) for receptacles in containers]


def _path_to(node: _Node, parents: dict[_Node, tuple[_Node, GroundAction]]) -> list[GroundAction]:
    """Returns the actions that lead from a start node to a node."""
    actions = []
    while node in parents:
        node, action = parents[node]
        actions.append(action)
    return actions[::-1]


def _fewest_hops(start: _Numbers, stops: Sequence[_Numbers], end: _Numbers) -> int:
    """Returns the fewest `go to` actions from a start location through all stops, in any order, to the end.

    Start, each stop and end are sets of locations, one of which is enough; an empty end is no condition.
    """
    fewest = len(stops) + 1
    for order in permutations(stops):
        hops, now = 0, start
        for stop in (*order, end) if end else order:
            hops += now.isdisjoint(stop)
            now = now & stop or stop
        fewest = min(fewest, hops)
    return fewest
