"""What a game says about a state, in the words of its grammar and the order of the official engine."""

from __future__ import annotations

from collections.abc import Iterable

from d2skill.envs.alfworld.state import State
from d2skill.envs.alfworld.world import World


def describe_place(world: World, state: State, first: bool = False) -> str:
    """Says what is seen from where the agent is.

    Away from all receptacles only the first look names those of the room; later ones see nothing. "Next to" a
    receptacle lies what was taken from it and laid into another one at the same location.
    """
    facing, middle = world.wording.sentences["look"]
    here = world.here[state.at]
    if not here:
        seen = [r for r, place in enumerate(world.location_of) if place >= 0] if first else []
        return middle.format(room=_join(["a " + world.receptacles[r] for r in seen]))
    floor = [o for o, r in sorted(state.left) if r in here and state.at in state.spots[o]]
    return facing.format(here=_join([world.receptacles[r] for r in here]), floor=_things(world, floor))


def describe_receptacle(world: World, state: State, r: int) -> str:
    """Says what is in or on a receptacle, as far as it is open."""
    opened, closed, plain = world.wording.sentences["examinereceptacle"]
    name = world.receptacles[r]
    if world.openable[r] and not state.opened >> r & 1:
        return closed.format(r=name)
    template = opened if world.openable[r] else plain
    return template.format(r=name, inside=_things(world, state.inside[r]))


def describe_object(world: World, state: State, o: int) -> str:
    """Says what is special about an object."""
    flags = state.flags[o]
    sentence = next(text for mask, text in world.examine if flags & mask == mask)
    return sentence.format(o=world.objects[o], nested=_things(world, world.nested[o]))


def describe_hand(world: World, state: State) -> str:
    """Says what the agent carries."""
    carrying, nothing = world.wording.sentences["inventory"]
    return nothing if state.held < 0 else carrying.format(held=_things(world, (state.held,)))


def report(world: World, state: State, action: str, r: int, o: int, tool: int) -> str:
    """Says what an action has done; `state` is the one after it, `tool` was in hand before."""
    contents = describe_receptacle(world, state, r) if action in ("gotolocation", "openobject") else ""
    name = world.objects[o] if o >= 0 else ""
    return world.wording.sentences[action][0].format(
        o=name,
        co=name,
        ko=world.objects[tool] if tool >= 0 else "",
        r=world.receptacles[r],
        lend=world.locations[state.at],
        contents=contents,
    )


def _things(world: World, things: Iterable[int]) -> str:
    names = world.objects
    return _join(["a " + names[o] for o in things])


def _join(parts: list[str]) -> str:
    if len(parts) < 2:
        return parts[0] if parts else "nothing"
    return ", ".join(parts[:-1]) + ", and " + parts[-1]
