"""Admissible commands of a state: the preconditions of the domain's actions."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from d2skill.envs.alfworld.domain import FLAGS
from d2skill.envs.alfworld.state import GameState, GroundAction
from d2skill.envs.alfworld.world import World

_PICKUPABLE, _TOGGLEABLE, _SLICEABLE = FLAGS["pickupable"], FLAGS["toggleable"], FLAGS["sliceable"]
_PROCESSING = {"cleanobject": FLAGS["cleanable"], "heatobject": FLAGS["heatable"], "coolobject": FLAGS["coolable"]}

_CACHE_SIZE = 128
"""Cached results for each game, some 200 bytes each beside their words."""


@dataclass(slots=True)
class AdmissibleCommands:
    """Sorted admissible commands of a state, and the ground actions of all but the `go to` commands.

    `actions` are the commands without `help`. `feedback` caches the descriptions of arriving at, opening or examining
    a receptacle in this state.
    """

    commands: tuple[str, ...]
    actions: tuple[str, ...]
    ground_actions: dict[str, GroundAction]
    feedback: dict[GroundAction, str] = field(default_factory=dict)


def list_admissible(world: World, state: GameState) -> AdmissibleCommands:
    """Returns the admissible commands of a state, mostly from a cache: they depend on a small part of the state."""
    at, held = state.at, state.held
    if held >= 0 and world.knife[held]:  # a knife also reaches objects that are not in the receptacles here
        return _build(world, state)
    here = world.receptacles_at[at]
    inside = state.inside[here[0]] if len(here) == 1 else tuple([state.inside[r] for r in here])
    key = (at, held, state.opened & world.bits_at[at], inside)
    admissible: AdmissibleCommands | None = world.admissible_cache.get(key)
    if admissible is None:
        if len(world.admissible_cache) >= _CACHE_SIZE:
            world.admissible_cache.clear()
        admissible = world.admissible_cache[key] = _build(world, state)
    return admissible


def _build(world: World, state: GameState) -> AdmissibleCommands:
    go_to = _go_to_commands(world, state.at)
    ground_actions = _local_actions(world, state)
    local = sorted(ground_actions)
    # `go to` commands are one block of the sorted list, as no other command starts like them.
    cut = bisect_left(local, go_to[0]) if go_to else 0
    commands = (*local[:cut], *go_to, *local[cut:])
    actions = tuple([command for command in commands if command != "help"]) if world.has_help else commands
    return AdmissibleCommands(commands, actions, ground_actions)


def _go_to_commands(world: World, at: int) -> list[str]:
    """Returns the sorted `go to` commands at a location: all but those that lead to the location itself."""
    commands = world.go_to_cache.get(at)
    if commands is None:
        commands = sorted(c for c, r in world.destinations.items() if world.location_of[r] != at)
        world.go_to_cache[at] = commands
    return commands


def _local_actions(world: World, state: GameState) -> dict[str, GroundAction]:
    """Returns every admissible command except `go to`, with its ground action."""
    flags, held, templates = state.flags, state.held, world.templates.commands
    actions: dict[str, GroundAction] = {
        templates["look"]: ("look", -1, -1),
        templates["inventory"]: ("inventory", -1, -1),
    }
    if world.has_help:
        actions[templates["help"]] = ("help", -1, -1)
    take, use = templates["pickupobject"], templates["toggleobject"]
    for r in world.receptacles_at[state.at]:
        receptacle = world.receptacles[r]
        actions[templates["examinereceptacle"].format(r=receptacle)] = ("examinereceptacle", r, -1)
        reachable = True
        if world.openable[r]:
            reachable = bool(state.opened >> r & 1)
            action = "closeobject" if reachable else "openobject"
            actions[templates[action].format(r=receptacle)] = (action, r, -1)
        for o in state.inside[r]:
            name = world.objects[o]
            if flags[o] & _TOGGLEABLE:
                actions[use.format(o=name)] = ("toggleobject", r, o)
            if reachable and held < 0 and flags[o] & _PICKUPABLE:
                actions[take.format(o=name, r=receptacle)] = ("pickupobject", r, o)
        if held >= 0:
            possible = ["putobject"] if reachable and r in world.fits[held] else []
            # Appliances may stay closed while they clean, heat or cool.
            possible += [name for name, flag in _PROCESSING.items() if flags[held] & flag and r in world.tools[name]]
            for action in possible:
                actions[templates[action].format(o=world.objects[held], r=receptacle)] = (action, r, held)
    if held >= 0:
        # The domain would also let the agent examine what lies here, but a stray comma in it, "?l - location, ?r",
        # makes that case impossible in the official engine.
        actions[templates["examineobject"].format(o=world.objects[held])] = ("examineobject", -1, held)
        if world.knife[held]:
            for o, spots in enumerate(state.spots):
                if flags[o] & _SLICEABLE and state.at in spots:
                    command = templates["sliceobject"].format(co=world.objects[o], ko=world.objects[held])
                    actions[command] = ("sliceobject", -1, o)
    return actions
