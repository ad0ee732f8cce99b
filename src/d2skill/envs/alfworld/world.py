"""Immutable part of a game: placement at the start, what fits where, and every name.

Objects, receptacles and locations are numbers in the order of their identifiers, which is the order in which
the official engine lists them. One world is shared by all sessions of its game.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from d2skill.envs.alfworld.domain import FLAGS, PROPERTIES, Domain
from d2skill.envs.alfworld.goal import CompiledBlock, TypeIndex, compile_block, parse_goal
from d2skill.envs.alfworld.grammar import TextTemplates
from d2skill.envs.alfworld.pddl import GameError, Problem

_SIGNATURES: dict[str, tuple[str, ...]] = {
    "atlocation": ("agent", "location"),
    "receptacleatlocation": ("receptacle", "location"),
    "objectatlocation": ("object", "location"),
    "inreceptacle": ("object", "receptacle"),
    "inreceptacleobject": ("object", "object"),
    "receptacletype": ("receptacle", "rtype"),
    "objecttype": ("object", "otype"),
    "cancontain": ("rtype", "otype"),
    "openable": ("receptacle",),
    "opened": ("receptacle",),
    **dict.fromkeys(PROPERTIES, ("object",)),
}
_SIGNS = {"_minus_": "-", "_plus_": "+", "_dot_": ".", "_comma_": ","}
# Part of the domain, but no action and no feedback depends on them.
_UNUSED = {"checked", "examined", "wasinreceptacle", "full", "holdsanyreceptacleobject"}
_NEVER_TRUE = {"not_istoggled"}
"""Negative facts exist in the official engine only once an action has made them, and none makes this one."""


@dataclass(slots=True)
class World:
    """Immutable part of a game, as numbers."""

    templates: TextTemplates
    has_help: bool
    objects: list[str]
    receptacles: list[str]
    locations: list[str]
    start: int
    location_of: list[int]
    """Location of each receptacle; -1 for one without a location, which is never reached."""
    receptacles_at: list[tuple[int, ...]]
    """Receptacles at each location."""
    bits_at: list[int]
    """Receptacles at each location, as bits."""
    openable: list[bool]
    opened: int
    """Receptacles that are open at the start, as bits."""
    tools: dict[str, frozenset[int]]
    """Receptacles that clean, heat or cool, by action."""
    knife: list[bool]
    flags: list[int]
    inside: list[tuple[int, ...]]
    spots: list[frozenset[int]]
    """Locations of each object by the fact `objectAtLocation`; for some objects not where its receptacle is."""
    nested: list[tuple[int, ...]]
    """Objects in each object."""
    fits: list[frozenset[int]]
    """Receptacles that may hold each object."""
    goal: list[CompiledBlock]
    goal_has_location: bool
    """True if the goal depends on where the agent is."""
    examine_rules: list[tuple[int, str]]
    """Feedback of examining an object: the first template whose properties the object has."""
    destinations: dict[str, int]
    """Receptacle of each `go to` command."""
    go_to_cache: dict[int, list[str]] = field(default_factory=dict)
    """Sorted `go to` commands by location, filled as locations are visited."""
    admissible_cache: dict[Any, Any] = field(default_factory=dict)
    """Latest results of `admissible.list_admissible`."""


class _Facts:
    """Facts of the start state by predicate, checked against the domain's predicates."""

    def __init__(self, problem: Problem) -> None:
        self.by_name: dict[str, list[tuple[str, ...]]] = {}
        self.mentioned: set[str] = set()
        types = problem.types
        for fact in problem.facts:
            name, arguments = fact[0], fact[1:]
            self.mentioned.update(arguments)
            signature = _SIGNATURES.get(name)
            if tuple(map(types.get, arguments)) == signature:
                self.by_name.setdefault(name, []).append(arguments)
                continue
            for argument in arguments:
                if argument not in types:
                    raise GameError(f"names the unknown object {argument} in ({' '.join(fact)})")
            if signature is not None:
                raise GameError(f"has ({' '.join(fact)}), but it takes: {', '.join(signature)}")
            if name not in _UNUSED:
                raise GameError(f"has the fact ({name} ...), which this engine does not know")
        self.members = {kind: sorted(n for n in self.mentioned if types[n] == kind) for kind in set(types.values())}

    def arguments(self, name: str) -> list[tuple[str, ...]]:
        """Returns the arguments of each fact of a predicate."""
        return self.by_name.get(name, [])

    def subjects(self, name: str) -> set[str]:
        """Returns the first argument of each fact of a predicate."""
        return {arguments[0] for arguments in self.arguments(name)}

    def types(self, name: str) -> dict[str, frozenset[str]]:
        """Returns the types of each receptacle or object, by the facts of `receptacletype` or `objecttype`."""
        types: dict[str, set[str]] = {}
        for thing, kind in self.arguments(name):
            types.setdefault(thing, set()).add(kind)
        return {thing: frozenset(kinds) for thing, kinds in types.items()}


def assign_names(identifiers: set[str]) -> dict[str, str]:
    """Returns the official names of lower-case identifiers: `cabinet 3`, counted down in the order of identifiers."""
    kinds: dict[str, str] = {}
    for identifier in identifiers:
        kind, bar, _ = identifier.partition("_bar_")
        if bar:
            kinds[identifier] = kind + "basin" if "basin" in identifier else kind
    left = Counter(kinds.values())
    names = {}
    for identifier in sorted(identifiers):
        kind = kinds.get(identifier, "")
        if kind:
            names[identifier] = sys.intern(f"{kind} {left[kind]}")
            left[kind] -= 1
        else:
            plain = identifier
            for written, sign in _SIGNS.items():
                plain = plain.replace(written, sign)
            names[identifier] = plain + " "  # the official engine appends an empty number
    return names


def build_world(problem: Problem, templates: TextTemplates, domain: Domain) -> World:
    """Builds the world of a game. Raises `GameError` if ALFWorld's domain does not describe the game."""
    facts = _Facts(problem)
    names = assign_names(facts.mentioned)
    objects, receptacles, locations = (facts.members.get(kind, []) for kind in ("object", "receptacle", "location"))
    o_index = {n: i for i, n in enumerate(objects)}
    r_index = {n: i for i, n in enumerate(receptacles)}
    l_index = {n: i for i, n in enumerate(locations)}
    location_of = [-1] * len(receptacles)
    for r, place in facts.arguments("receptacleatlocation"):
        if location_of[r_index[r]] != -1:
            raise GameError(f"puts the receptacle {r} at two locations")
        location_of[r_index[r]] = l_index[place]
    receptacles_at = _group(len(locations), [(place, r) for r, place in enumerate(location_of) if place >= 0])
    start = facts.arguments("atlocation")
    if len(start) != 1:
        raise GameError(f"starts with the agent at {len(start)} locations instead of one")

    r_types, o_types = facts.types("receptacletype"), facts.types("objecttype")
    openable, opened = facts.subjects("openable"), facts.subjects("opened")
    objects_by_type, receptacles_by_type = _type_index(o_types, o_index), _type_index(r_types, r_index)
    goal = [compile_block(block, objects_by_type, receptacles_by_type) for block in parse_goal(problem.goal)]
    goal.sort(key=lambda block: not block.held)  # conditions on the hand are quickly checked
    spots = [(o_index[o], l_index[place]) for o, place in facts.arguments("objectatlocation")]
    go_to = templates.commands["gotolocation"]
    return World(
        templates=templates,
        has_help="help" in domain.actions and "help" in templates.commands,
        objects=[names[n] for n in objects],
        receptacles=[names[n] for n in receptacles],
        locations=[names[n] for n in locations],
        start=l_index[start[0][1]],
        location_of=location_of,
        receptacles_at=receptacles_at,
        bits_at=[sum(1 << r for r in here) for here in receptacles_at],
        openable=[n in openable for n in receptacles],
        opened=sum(1 << i for i, n in enumerate(receptacles) if n in opened),
        tools={
            action: frozenset(r_index[n] for n, types in r_types.items() if not types.isdisjoint(domain.types[action]))
            for action in ("cleanobject", "heatobject", "coolobject")
        },
        knife=[not domain.types["sliceobject"].isdisjoint(o_types.get(n, ())) for n in objects],
        flags=_properties(facts, o_index),
        inside=_group(len(receptacles), [(r_index[r], o_index[o]) for o, r in facts.arguments("inreceptacle")]),
        spots=list(map(frozenset, _group(len(objects), spots))),
        # Some pans of floor plan 22 lie in themselves; the official engine does not list them there.
        nested=_group(
            len(objects), [(o_index[a], o_index[b]) for b, a in facts.arguments("inreceptacleobject") if a != b]
        ),
        fits=_fits(facts, objects, o_types, receptacles_by_type),
        goal=goal,
        goal_has_location=any(block.near for block in goal),
        examine_rules=_examine_rules(templates),
        destinations={go_to.format(r=names[n]): r for r, n in enumerate(receptacles) if location_of[r] != -1},
    )


def _type_index(types: dict[str, frozenset[str]], index: dict[str, int]) -> TypeIndex:
    """Returns the members of each type; `index` has the number of every object, or of every receptacle."""
    members: dict[str, set[int]] = {}
    for thing, kinds in types.items():
        for kind in kinds:
            members.setdefault(kind, set()).add(index[thing])
    return TypeIndex(len(index), {kind: frozenset(things) for kind, things in members.items()})


def _group(count: int, pairs: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Returns the sorted values of the pairs (key, value), for each key below `count`."""
    groups: list[list[int]] = [[] for _ in range(count)]
    for key, value in pairs:
        groups[key].append(value)
    return [tuple(sorted(group)) for group in groups]


def _properties(facts: _Facts, o_index: dict[str, int]) -> list[int]:
    flags = [0] * len(o_index)
    for name, bit in FLAGS.items():
        for thing in facts.subjects(name):
            flags[o_index[thing]] |= bit
    return flags


def _fits(
    facts: _Facts, objects: list[str], o_types: dict[str, frozenset[str]], receptacles: TypeIndex
) -> list[frozenset[int]]:
    """Returns the receptacles that may hold each object."""
    holders: dict[str, frozenset[int]] = {}
    for r_type, o_type in facts.arguments("cancontain"):
        holders[o_type] = holders.get(o_type, frozenset()) | receptacles.of_type.get(r_type, frozenset())
    none: frozenset[int] = frozenset()
    return [none.union(*(holders.get(kind, none) for kind in o_types.get(n, ()))) for n in objects]


def _examine_rules(templates: TextTemplates) -> list[tuple[int, str]]:
    """Returns pairs: the properties that a feedback of examining requires of the object, as bits, and its template."""
    rules = []
    for required, template in zip(templates.examine_conditions, templates.feedback["examineobject"], strict=True):
        if _NEVER_TRUE.intersection(required):
            continue
        for name in required:
            if name not in FLAGS:
                raise GameError(f'has a "grammar" that examines objects for "{name}", which this engine does not know')
        rules.append((sum(FLAGS[name] for name in set(required)), template))
    if not rules or rules[-1][0]:
        raise GameError('has a "grammar" without a sentence for an object that has nothing special')
    return rules
