"""What never changes in a game: who is where at the start, what fits where, and every name.

Objects, receptacles and locations are numbers in the order of their identifiers, which is the order in which
the official engine lists them. One world is shared by all sessions of its game.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from d2skill.envs.alfworld.domain import Domain
from d2skill.envs.alfworld.goal import Compiled, compile_block, read_goal
from d2skill.envs.alfworld.grammar import Wording
from d2skill.envs.alfworld.pddl import Broken, Problem

PROPERTIES = (
    "pickupable", "cleanable", "heatable", "coolable", "sliceable", "toggleable", "moveable",
    "isreceptacleobject", "isreceptacleobjectfull", "isclean", "ishot", "iscool", "ison", "istoggled",
    "issliced",
)  # fmt: skip
FLAGS = {name: 1 << i for i, name in enumerate(PROPERTIES)}
"""The bit of each property of an object."""

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
# Part of the domain, but no action and no sentence depends on them.
_IDLE = {"checked", "examined", "wasinreceptacle", "full", "holdsanyreceptacleobject"}
_NEVER = {"not_istoggled"}
"""Negative facts exist in the official engine only once an action has made them, and none makes this one."""


@dataclass(slots=True)
class World:
    """The immutable part of a game, as numbers."""

    wording: Wording
    has_help: bool
    objects: list[str]
    receptacles: list[str]
    locations: list[str]
    start: int
    location_of: list[int]
    """Location of each receptacle; -1 for one that is nowhere and so never reached."""
    here: list[tuple[int, ...]]
    """Receptacles at each location."""
    masks: list[int]
    """The same as bits."""
    openable: list[bool]
    opened: int
    """Receptacles that are open at the start, as bits."""
    cleans: list[bool]
    heats: list[bool]
    cools: list[bool]
    knife: list[bool]
    flags: list[int]
    inside: list[tuple[int, ...]]
    spots: list[frozenset[int]]
    """Locations at which the facts put each object; for some objects not where its receptacle is."""
    nested: list[tuple[int, ...]]
    fits: list[frozenset[int]]
    """Receptacles that may hold each object."""
    goal: list[Compiled]
    place_wins: bool
    """Whether the goal asks where the agent is."""
    examine: list[tuple[int, str]]
    """What examining an object says: the first sentence whose properties the object has."""
    destinations: dict[str, int] = field(default_factory=dict)
    """Receptacle of each `go to` command."""
    travel: dict[int, list[str]] = field(default_factory=dict)
    """Sorted `go to` commands by location, filled as locations are visited."""
    listings: dict[Any, Any] = field(default_factory=dict)
    """What `moves.list_moves` has listed lately."""


class _Facts:
    """The start facts by predicate, checked against the domain's predicates."""

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
                    raise Broken(f"names the unknown object {argument} in ({' '.join(fact)})")
            if signature is not None:
                raise Broken(f"has ({' '.join(fact)}), but it takes: {', '.join(signature)}")
            if name not in _IDLE:
                raise Broken(f"has the fact ({name} ...), which this engine does not know")
        self.members = {kind: sorted(n for n in self.mentioned if types[n] == kind) for kind in set(types.values())}

    def of(self, name: str) -> list[tuple[str, ...]]:
        return self.by_name.get(name, [])

    def single(self, name: str) -> set[str]:
        return {arguments[0] for arguments in self.of(name)}


def name_all(identifiers: set[str]) -> dict[str, str]:
    """Gives things the official names: `cabinet 3`, counted down in the order of identifiers."""
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


def build_world(problem: Problem, wording: Wording, domain: Domain) -> World:
    """Builds a world. Raises `Broken` where the game is not one that ALFWorld's domain describes."""
    facts = _Facts(problem)
    names = name_all(facts.mentioned)
    objects, receptacles, locations = (facts.members.get(kind, []) for kind in ("object", "receptacle", "location"))
    o_index = {n: i for i, n in enumerate(objects)}
    r_index = {n: i for i, n in enumerate(receptacles)}
    l_index = {n: i for i, n in enumerate(locations)}
    location_of = [-1] * len(receptacles)
    for r, place in facts.of("receptacleatlocation"):
        if location_of[r_index[r]] != -1:
            raise Broken(f"puts the receptacle {r} at two locations")
        location_of[r_index[r]] = l_index[place]
    here = _group(len(locations), [(place, r) for r, place in enumerate(location_of) if place >= 0])
    start = facts.of("atlocation")
    if len(start) != 1:
        raise Broken(f"starts with the agent at {len(start)} locations instead of one")

    r_types, o_types = _types(facts, "receptacletype"), _types(facts, "objecttype")
    openable, opened = facts.single("openable"), facts.single("opened")
    of_otype, of_rtype = _members(o_types, o_index), _members(r_types, r_index)
    goal = [
        compile_block(b, FLAGS, len(objects), len(receptacles), of_otype, of_rtype) for b in read_goal(problem.goal)
    ]
    goal.sort(key=lambda block: not block.held)  # what is asked of the hand is quickly told
    world = World(
        wording=wording,
        has_help="help" in domain.actions and "help" in wording.commands,
        objects=[names[n] for n in objects],
        receptacles=[names[n] for n in receptacles],
        locations=[names[n] for n in locations],
        start=l_index[start[0][1]],
        location_of=location_of,
        here=here,
        masks=[sum(1 << r for r in receptacles_here) for receptacles_here in here],
        openable=[n in openable for n in receptacles],
        opened=sum(1 << i for i, n in enumerate(receptacles) if n in opened),
        cleans=[not domain.types["cleanobject"].isdisjoint(r_types.get(n, ())) for n in receptacles],
        heats=[not domain.types["heatobject"].isdisjoint(r_types.get(n, ())) for n in receptacles],
        cools=[not domain.types["coolobject"].isdisjoint(r_types.get(n, ())) for n in receptacles],
        knife=[not domain.types["sliceobject"].isdisjoint(o_types.get(n, ())) for n in objects],
        flags=_properties(facts, o_index),
        inside=_group(len(receptacles), [(r_index[r], o_index[o]) for o, r in facts.of("inreceptacle")]),
        spots=[
            frozenset(spots)
            for spots in _group(len(objects), [(o_index[o], l_index[p]) for o, p in facts.of("objectatlocation")])
        ],
        # Some pans of floor plan 22 lie in themselves; the official engine does not list them there.
        nested=_group(len(objects), [(o_index[a], o_index[b]) for b, a in facts.of("inreceptacleobject") if a != b]),
        fits=_fits(facts, objects, o_types, of_rtype),
        goal=goal,
        place_wins=any(block.near for block in goal),
        examine=_examine(wording),
    )
    go = wording.commands["gotolocation"]
    world.destinations = {go.format(r=world.receptacles[r]): r for r, p in enumerate(location_of) if p != -1}
    return world


def _types(facts: _Facts, name: str) -> dict[str, frozenset[str]]:
    types: dict[str, set[str]] = {}
    for thing, kind in facts.of(name):
        types.setdefault(thing, set()).add(kind)
    return {thing: frozenset(kinds) for thing, kinds in types.items()}


def _members(types: dict[str, frozenset[str]], index: dict[str, int]) -> dict[str, frozenset[int]]:
    members: dict[str, set[int]] = {}
    for thing, kinds in types.items():
        for kind in kinds:
            members.setdefault(kind, set()).add(index[thing])
    return {kind: frozenset(things) for kind, things in members.items()}


def _group(count: int, pairs: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    groups: list[list[int]] = [[] for _ in range(count)]
    for key, value in pairs:
        groups[key].append(value)
    return [tuple(sorted(group)) for group in groups]


def _properties(facts: _Facts, o_index: dict[str, int]) -> list[int]:
    flags = [0] * len(o_index)
    for name, bit in FLAGS.items():
        for thing in facts.single(name):
            flags[o_index[thing]] |= bit
    return flags


def _fits(
    facts: _Facts,
    objects: list[str],
    o_types: dict[str, frozenset[str]],
    of_rtype: dict[str, frozenset[int]],
) -> list[frozenset[int]]:
    takes: dict[str, frozenset[int]] = {}
    for rtype, otype in facts.of("cancontain"):
        takes[otype] = takes.get(otype, frozenset()) | of_rtype.get(rtype, frozenset())
    none: frozenset[int] = frozenset()
    return [none.union(*(takes.get(kind, none) for kind in o_types.get(n, ()))) for n in objects]


def _examine(wording: Wording) -> list[tuple[int, str]]:
    rules = []
    for required, sentence in zip(wording.conditions, wording.sentences["examineobject"], strict=True):
        if _NEVER.intersection(required):
            continue
        for name in required:
            if name not in FLAGS:
                raise Broken(f'has a "grammar" that examines objects for "{name}", which this engine does not know')
        rules.append((sum(FLAGS[name] for name in set(required)), sentence))
    if not rules or rules[-1][0]:
        raise Broken('has a "grammar" without a sentence for an object that has nothing special')
    return rules
