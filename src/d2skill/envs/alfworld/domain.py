"""Reader for the PDDL domain of a game, which must be ALFWorld's.

All releases share one domain, except for the action `help` and for the types that some actions apply to. The actions
of the engine are Python code, so a domain with other actions is rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from d2skill.envs.alfworld.pddl import GameError, Tree, parse_define

PROPERTIES = (
    "pickupable", "cleanable", "heatable", "coolable", "sliceable", "toggleable", "moveable",
    "isreceptacleobject", "isreceptacleobjectfull", "isclean", "ishot", "iscool", "ison", "istoggled",
    "issliced",
)  # fmt: skip
"""Predicates of one object."""
FLAGS = {name: 1 << i for i, name in enumerate(PROPERTIES)}
"""Bit of each property."""

_TYPE_PREDICATES = ("receptacletype", "objecttype")


@dataclass(frozen=True, slots=True)
class Domain:
    """Actions of a domain, and for each the types of receptacles or objects that it applies to.

    In one release things are cleaned in sinks and sink basins, in another in sink basins only.
    """

    actions: frozenset[str]
    types: Mapping[str, frozenset[str]]


@lru_cache(maxsize=16)
def parse_domain(text: str) -> Domain:
    """Parses a domain; cached, as all games share very few. Raises `GameError` if it is not ALFWorld's."""
    known = _alfworld_actions()
    types = {}
    for name, body in _parse_actions(text).items():
        if name not in known:
            raise GameError(f"has the action {name}, which this engine does not know")
        types[name] = frozenset(_take_types(body))
        if body != known[name]:
            raise GameError(f'has a "pddl_domain" whose action {name} is not that of ALFWorld')
    for name in known:
        if name not in types and name != "help":
            raise GameError(f'has a "pddl_domain" without the action {name}')
    return Domain(frozenset(types), types)


@cache
def _alfworld_actions() -> dict[str, list[Tree]]:
    """Returns ALFWorld's own actions without their types."""
    text = (files("d2skill.envs.alfworld") / "resources" / "domain.pddl").read_text(encoding="utf-8")
    actions = _parse_actions(text)
    for body in actions.values():
        _take_types(body)
    return actions


def _parse_actions(text: str) -> dict[str, list[Tree]]:
    actions = {}
    for part in parse_define(text, "pddl_domain"):
        match part:
            case [":action", str(name), *body]:
                actions[name] = body
    return actions


def _take_types(body: list[Tree]) -> set[str]:
    """Removes the alternatives `(or (receptacleType ?r SinkType) ...)` from an action and returns their types."""
    types: set[str] = set()
    for part in body:
        match part:
            case ["or", *options] if all(isinstance(o, list) and o[:1] and o[0] in _TYPE_PREDICATES for o in options):
                types.update(str(option[2]) for option in options if len(option) == 3)
                del part[1:]
            case [*inner]:
                types |= _take_types(inner)
    return types
