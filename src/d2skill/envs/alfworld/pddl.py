"""Parser for the part of PDDL that ALFWorld's problems and domains use.

All text is lower-cased, as in the official engine: the order in which things are listed depends on it.
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


class GameError(ValueError):
    """Error in a game file; its message is the end of a sentence that starts with the game's name."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Parsed problem: objects with their types, facts that hold at the start, and the goal."""

    types: dict[str, str]
    facts: frozenset[tuple[str, ...]]
    goal: Tree


def format_tree(tree: Tree) -> str:
    """Writes a tree as PDDL for messages, at most 80 characters."""
    text = tree if isinstance(tree, str) else "(" + " ".join(map(format_tree, tree)) + ")"
    return text if len(text) <= 80 else text[:77] + "..."


def parse_define(text: str, key: str) -> list[Tree]:
    """Parses `(define (kind ...) section ...)` and returns what follows `define`.

    `key` is the part of the game that holds the text. Raises `GameError` for any other text.
    """
    trees = parse_trees(text, key)
    define = trees[0] if len(trees) == 1 else ""
    if not isinstance(define, list) or define[:1] != ["define"]:
        raise GameError(f'has a "{key}" that is no "(define ({key.removeprefix("pddl_")} ...) ...)"')
    return define[1:]


def parse_trees(text: str, key: str) -> list[Tree]:
    """Parses all trees of a text. Raises `GameError` if parentheses do not match."""
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
                line = _unmatched_line(text)
                raise GameError(f'has a ")" too many in line {line} of its "{key}": is the file damaged?')
            current = open_lists.pop()
        else:
            current.append(token)
    if open_lists:
        line = _unmatched_line(text)
        raise GameError(f'has a "(" in line {line} of its "{key}" that is never closed: is it cut off?')
    return top


def _unmatched_line(text: str) -> int:
    """Returns the line of the first ")" that closes nothing, or else of the first "(" that is never closed."""
    open_lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        for sign in line:
            if sign == "(":
                open_lines.append(number)
            elif sign == ")":
                if not open_lines:
                    return number
                open_lines.pop()
    return open_lines[0]


def parse_typed_list(items: list[Tree]) -> dict[str, str]:
    """Parses a typed list, `a b - type c - other`, into the type of each name."""
    types: dict[str, str] = {}
    untyped: list[str] = []
    remaining = iter(items)
    for item in remaining:
        if not isinstance(item, str):
            raise GameError(f"has {format_tree(item)} where PDDL wants a name with its type")
        if item == "-":
            kind = next(remaining, "")
            if not isinstance(kind, str) or not kind or not untyped:
                raise GameError("has a PDDL list of names in which a type is missing")
            types.update(dict.fromkeys(untyped, kind))
            untyped = []
        else:
            untyped.append(item)
    if untyped:
        raise GameError(f"names {untyped[0]} without a type")
    return types


def _parse_fact(tree: Tree) -> tuple[str, ...]:
    if not isinstance(tree, list) or not tree or list in map(type, tree):
        raise GameError(f"has {format_tree(tree)} among its facts, which is none")
    return tuple(cast(list[str], tree))


def parse_problem(text: str) -> Problem:
    """Parses a PDDL problem. Raises `GameError` for anything that is not one."""
    sections: dict[str, list[Tree]] = {}
    for part in parse_define(text, "pddl_problem"):
        if isinstance(part, list) and part and isinstance(part[0], str):
            sections[part[0]] = part[1:]
    for name in (":objects", ":init", ":goal"):
        if name not in sections:
            raise GameError(f'has a "pddl_problem" without "{name}"')
    if len(sections[":goal"]) != 1:
        raise GameError('has a "pddl_problem" whose ":goal" is not one formula')
    # Costs, `(= (distance ...) 3)`, are for planners.
    facts = frozenset(
        _parse_fact(tree) for tree in sections[":init"] if not (isinstance(tree, list) and tree[:1] == ["="])
    )
    return Problem(parse_typed_list(sections[":objects"]), facts, sections[":goal"][0])
