"""Which commands are admissible in a state: the preconditions of the domain's actions."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from d2skill.envs.alfworld.state import State
from d2skill.envs.alfworld.world import FLAGS, World

_PICKUPABLE, _TOGGLEABLE, _SLICEABLE = FLAGS["pickupable"], FLAGS["toggleable"], FLAGS["sliceable"]
_CLEANABLE, _HEATABLE, _COOLABLE = FLAGS["cleanable"], FLAGS["heatable"], FLAGS["coolable"]

_LISTINGS_KEPT = 128
"""Listings kept for each game, some 200 bytes each beside their words."""

Move = tuple[str, int, int]
"""An action with the receptacle and the object that it is about, -1 where there is none."""


@dataclass(slots=True)
class Listing:
    """What can be done in a state: every admissible command, sorted, and what the local ones do.

    `actions` are the commands without `help`. `texts` keeps what arriving at, opening or examining a receptacle says.
    """

    commands: tuple[str, ...]
    actions: tuple[str, ...]
    moves: dict[str, Move]
    texts: dict[tuple[str, int], str] = field(default_factory=dict)


def list_moves(world: World, state: State) -> Listing:
    """Returns the listing of a state. It hangs on little of the state, so most are found, not made."""
    at, held = state.at, state.held
    if held >= 0 and world.knife[held]:  # a knife also reaches what the receptacles here do not hold
        return _make_listing(world, state)
    here = world.here[at]
    inside = state.inside[here[0]] if len(here) == 1 else tuple([state.inside[r] for r in here])
    key = (at, held, state.opened & world.masks[at], inside)
    listing = world.listings.get(key)
    if listing is None:
        if len(world.listings) >= _LISTINGS_KEPT:
            world.listings.clear()
        listing = world.listings[key] = _make_listing(world, state)
    return listing


def _make_listing(world: World, state: State) -> Listing:
    travel = travel_commands(world, state.at)
    moves = local_moves(world, state)
    local = sorted(moves)
    # `go to` commands are one block of the sorted list, as no other command starts like them.
    cut = bisect_left(local, travel[0]) if travel else 0
    commands = (*local[:cut], *travel, *local[cut:])
    actions = tuple([command for command in commands if command != "help"]) if world.has_help else commands
    return Listing(commands, actions, moves)


def travel_commands(world: World, at: int) -> list[str]:
    """Returns the sorted `go to` commands at a location: all but those that lead to where one is."""
    travel = world.travel.get(at)
    if travel is None:
        travel = sorted(c for c, r in world.destinations.items() if world.location_of[r] != at)
        world.travel[at] = travel
    return travel


def local_moves(world: World, state: State) -> dict[str, Move]:
    """Returns every admissible command but `go to`, with what it does."""
    flags, held, say = state.flags, state.held, world.wording.commands
    moves: dict[str, Move] = {say["look"]: ("look", -1, -1), say["inventory"]: ("inventory", -1, -1)}
    if world.has_help:
        moves[say["help"]] = ("help", -1, -1)
    take, use = say["pickupobject"], say["toggleobject"]
    for r in world.here[state.at]:
        receptacle = world.receptacles[r]
        moves[say["examinereceptacle"].format(r=receptacle)] = ("examinereceptacle", r, -1)
        reachable = True
        if world.openable[r]:
            reachable = bool(state.opened >> r & 1)
            action = "closeobject" if reachable else "openobject"
            moves[say[action].format(r=receptacle)] = (action, r, -1)
        for o in state.inside[r]:
            name = world.objects[o]
            if flags[o] & _TOGGLEABLE:
                moves[use.format(o=name)] = ("toggleobject", r, o)
            if reachable and held < 0 and flags[o] & _PICKUPABLE:
                moves[take.format(o=name, r=receptacle)] = ("pickupobject", r, o)
        if held >= 0:
            _add_moves_with(world, flags[held], held, r, reachable, moves)
    if held >= 0:
        # The domain would also let one examine what lies here, but a stray comma in it, "?l - location, ?r",
        # makes that case impossible in the official engine.
        moves[say["examineobject"].format(o=world.objects[held])] = ("examineobject", -1, held)
        if world.knife[held]:
            _add_slices(world, state, moves)
    return moves


def _add_moves_with(world: World, flags: int, o: int, r: int, reachable: bool, moves: dict[str, Move]) -> None:
    """Adds what can be done with the object in hand at a receptacle; appliances may stay closed for it."""
    for action, possible in (
        ("putobject", reachable and r in world.fits[o]),
        ("cleanobject", flags & _CLEANABLE and world.cleans[r]),
        ("heatobject", flags & _HEATABLE and world.heats[r]),
        ("coolobject", flags & _COOLABLE and world.cools[r]),
    ):
        if possible:
            command = world.wording.commands[action].format(o=world.objects[o], r=world.receptacles[r])
            moves[command] = (action, r, o)


def _add_slices(world: World, state: State, moves: dict[str, Move]) -> None:
    template, knife = world.wording.commands["sliceobject"], world.objects[state.held]
    for o, flags in enumerate(state.flags):
        if flags & _SLICEABLE and state.at in state.spots[o]:
            moves[template.format(co=world.objects[o], ko=knife)] = ("sliceobject", -1, o)
