"""A game's own domain. All releases share one, but for `help` and for what some actions can be done with.

The engine's actions are plain code, so a domain whose actions are other than ALFWorld's is refused rather than
played wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from d2skill.envs.alfworld.pddl import Broken, Tree, read_tree

_TYPES_OF = ("receptacletype", "objecttype")


@dataclass(frozen=True, slots=True)
class Domain:
    """The actions of a domain, and for each the types of receptacles or objects that it can be done with.

    In one release things are cleaned in sinks and sink basins, in another in sink basins only.
    """

    actions: frozenset[str]
    types: Mapping[str, frozenset[str]]


@lru_cache(maxsize=16)
def read_domain(text: str) -> Domain:
    """Reads a domain; all games share very few, hence the cache. Raises `Broken` for one that is not ALFWorld's."""
    known = _known()
    types = {}
    for name, body in _actions(text).items():
        if name not in known:
            raise Broken(f"has the action {name}, which this engine does not know")
        types[name] = frozenset(_take_types(body))
        if body != known[name]:
            raise Broken(f'has a "pddl_domain" whose action {name} is not that of ALFWorld')
    for name in known:
        if name not in types and name != "help":
            raise Broken(f'has a "pddl_domain" without the action {name}')
    return Domain(frozenset(types), types)


@cache
def _known() -> dict[str, list[Tree]]:
    """Returns ALFWorld's actions without their types."""
    text = (files("d2skill.envs.alfworld") / "resources" / "domain.pddl").read_text(encoding="utf-8")
    actions = _actions(text)
    for body in actions.values():
        _take_types(body)
    return actions


def _actions(text: str) -> dict[str, list[Tree]]:
    trees = read_tree(text, "pddl_domain")
    define = trees[0] if len(trees) == 1 else ""
    if not isinstance(define, list) or define[:1] != ["define"]:
        raise Broken('has a "pddl_domain" that is no "(define (domain ...) ...)"')
    actions = {}
    for part in define[1:]:
        match part:
            case [":action", str(name), *body]:
                actions[name] = body
    return actions


def _take_types(body: list[Tree]) -> set[str]:
    """Takes the alternatives `(or (receptacleType ?r SinkType) ...)` out of an action and returns their types."""
    types: set[str] = set()
    for part in body:
        match part:
            case ["or", *options] if all(isinstance(o, list) and o[:1] and o[0] in _TYPES_OF for o in options):
                types.update(str(option[2]) for option in options if len(option) == 3)
                del part[1:]
            case [*inner]:
                types |= _take_types(inner)
    return types
