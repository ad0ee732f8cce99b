"""Reading PDDL: the little of it that ALFWorld's problems and domains use.

Everything here works on lower-case text, because the official engine lower-cases all names and that decides
in which order things are listed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

Tree = str | list["Tree"]
"""A symbol, or a parenthesised list of trees."""

_TOKEN = re.compile(r"\([^()]*\)|[()]|[^\s()]+")
"""A list without lists in it, which most are, is one token."""
_COMMENT = re.compile(r";[^\n]*")


class Broken(ValueError):
    """What is wrong with a game, as the end of a sentence that starts with the game's name."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A parsed problem: objects with their types, facts that hold at the start, and the goal."""

    types: dict[str, str]
    facts: frozenset[tuple[str, ...]]
    goal: Tree


def show(tree: Tree) -> str:
    """Writes a tree back as PDDL, cut short, for messages."""
    text = tree if isinstance(tree, str) else "(" + " ".join(map(show, tree)) + ")"
    return text if len(text) <= 80 else text[:77] + "..."


def read_tree(text: str, part: str) -> list[Tree]:
    """Reads all parenthesised lists of a part of a game. Raises `Broken` when parentheses do not match."""
    text = text.lower()
    if ";" in text:
        text = _COMMENT.sub("", text)
    top: list[Tree] = []
    open_lists: list[list[Tree]] = []
    current = top
    for token in _TOKEN.findall(text):
        if token[0] == "(" and token != "(":
            current.append(token[1:-1].split())
        elif token == "(":
            open_lists.append(current)
            inner: list[Tree] = []
            current.append(inner)
            current = inner
        elif token == ")":
            if not open_lists:
                raise Broken(f'has a ")" too many in line {_unmatched(text)} of its "{part}": is the file damaged?')
            current = open_lists.pop()
        else:
            current.append(token)
    if open_lists:
        raise Broken(f'has a "(" in line {_unmatched(text)} of its "{part}" that is never closed: is it cut off?')
    return top


def _unmatched(text: str) -> int:
    """Returns the line of the first ")" that closes nothing, or else of the first "(" that is never closed."""
    waiting = []
    for number, line in enumerate(text.split("\n"), start=1):
        for mark in line:
            if mark == "(":
                waiting.append(number)
            elif mark == ")":
                if not waiting:
                    return number
                waiting.pop()
    return waiting[0]


def read_typed(items: list[Tree]) -> dict[str, str]:
    """Reads a typed list, `a b - type c - other`, into a type for each name."""
    types: dict[str, str] = {}
    waiting: list[str] = []
    remaining = iter(items)
    for item in remaining:
        if not isinstance(item, str):
            raise Broken(f"has {show(item)} where PDDL wants a name with its type")
        if item == "-":
            kind = next(remaining, "")
            if not isinstance(kind, str) or not kind or not waiting:
                raise Broken("has a PDDL list of names in which a type is missing")
            types.update(dict.fromkeys(waiting, kind))
            waiting = []
        else:
            waiting.append(item)
    if waiting:
        raise Broken(f"names {waiting[0]} without a type")
    return types


def _read_fact(tree: Tree) -> tuple[str, ...]:
    if not isinstance(tree, list) or not tree or list in map(type, tree):
        raise Broken(f"has {show(tree)} among its facts, which is none")
    return tuple(cast(list[str], tree))


def read_problem(text: str) -> Problem:
    """Reads a PDDL problem. Raises `Broken` for anything that is not one."""
    trees = read_tree(text, "pddl_problem")
    define = trees[0] if len(trees) == 1 else ""
    if not isinstance(define, list) or define[:1] != ["define"]:
        raise Broken('has a "pddl_problem" that is no "(define (problem ...) ...)"')
    sections: dict[str, list[Tree]] = {}
    for part in define[1:]:
        if isinstance(part, list) and part and isinstance(part[0], str):
            sections[part[0]] = part[1:]
    for name in (":objects", ":init", ":goal"):
        if name not in sections:
            raise Broken(f'has a "pddl_problem" without "{name}"')
    if len(sections[":goal"]) != 1:
        raise Broken('has a "pddl_problem" whose ":goal" is not one formula')
    # Costs, `(= (distance ...) 3)`, are for planners.
    facts = frozenset(
        _read_fact(tree) for tree in sections[":init"] if not (isinstance(tree, list) and tree[:1] == ["="])
    )
    return Problem(read_typed(sections[":objects"]), facts, sections[":goal"][0])
