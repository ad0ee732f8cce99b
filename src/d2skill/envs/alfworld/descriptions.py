"""Feedback of the engine: descriptions of a state in the words of the game's grammar and the official order."""

from __future__ import annotations

from collections.abc import Iterable

from d2skill.envs.alfworld.state import GameState, GroundAction
from d2skill.envs.alfworld.world import World


def describe_result(world: World, state: GameState, action: GroundAction) -> str:
    """Returns the feedback of an action; `state` is the state after it."""
    name, r, o = action
    match name:
        case "look":
            return describe_place(world, state)
        case "inventory":
            carrying, nothing = world.templates.feedback["inventory"]
            return nothing if state.held < 0 else carrying.format(held=_name_all(world, (state.held,)))
        case "examineobject":
            template = next(text for mask, text in world.examine_rules if state.flags[o] & mask == mask)
            return template.format(o=world.objects[o], nested=_name_all(world, world.nested[o]))
        case "examinereceptacle":
            return _describe_receptacle(world, state, r)
        case "help":
            return world.templates.feedback["help"][0]
    thing = world.objects[o] if o >= 0 else ""
    return world.templates.feedback[name][0].format(
        o=thing,
        co=thing,
        ko=world.objects[state.held] if name == "sliceobject" else "",
        r=world.receptacles[r],
        lend=world.locations[state.at],
        contents=_describe_receptacle(world, state, r) if name in ("gotolocation", "openobject") else "",
    )


def describe_place(world: World, state: GameState, first: bool = False) -> str:
    """Describes what is seen from the location of the agent.

    Away from all receptacles only the first look names those of the room; later ones see nothing. An object lies
    "next to" a receptacle if it was taken from it and put into another one at the same location.
    """
    facing, middle = world.templates.feedback["look"]
    here = world.receptacles_at[state.at]
    if not here:
        seen = [r for r, place in enumerate(world.location_of) if place >= 0] if first else []
        return middle.format(room=_enumerate(["a " + world.receptacles[r] for r in seen]))
    floor = [o for o, r in sorted(state.removed) if r in here and state.at in state.spots[o]]
    return facing.format(here=_enumerate([world.receptacles[r] for r in here]), floor=_name_all(world, floor))


def _describe_receptacle(world: World, state: GameState, r: int) -> str:
    """Describes a receptacle, with its contents unless it is closed."""
    opened, closed, plain = world.templates.feedback["examinereceptacle"]
    name = world.receptacles[r]
    if world.openable[r] and not state.opened >> r & 1:
        return closed.format(r=name)
    template = opened if world.openable[r] else plain
    return template.format(r=name, inside=_name_all(world, state.inside[r]))


def _name_all(world: World, objects: Iterable[int]) -> str:
    names = world.objects
    return _enumerate(["a " + names[o] for o in objects])


def _enumerate(parts: list[str]) -> str:
    if len(parts) < 2:
        return parts[0] if parts else "nothing"
    return ", ".join(parts[:-1]) + ", and " + parts[-1]
