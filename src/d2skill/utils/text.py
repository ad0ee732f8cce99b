"""Words of an action or an observation: verb, entities, content words. The scorer and contrast work on them.

An entity is a thing that a text names: `drawer 4` is an instance of the type `drawer`; a word without a number is its
own type. Nothing here knows an environment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

_WORD = re.compile(r"[a-z]++(?:\d++[a-z][a-z0-9'\-]*+|[a-z'\-]*+)|\d++(?:[a-z][a-z0-9'\-]*+)?")
_CALL = re.compile(r"\s*\w+\s*\[(.*)\]\s*", re.DOTALL)
_STOP = frozenset(
    "a an and any are as at be been but by can do does for from had has have he her his i in into is it its me my no "
    "nor not of off on or our out she so some such than that the their them then there these they this those to under "
    "until up us was we were what when where which while who will with without you your".split()
)


class Entity(NamedTuple):
    """A named thing: `name` is "drawer 4", `kind` is "drawer"."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class ActionWords:
    """The parts of an action: its first word and the entities it names, in order."""

    verb: str
    entities: tuple[Entity, ...]


@lru_cache(maxsize=65536)
def tokens(text: str) -> tuple[str, ...]:
    """Returns the lower-case words and numbers of a text, in order; letters on both sides of digits are one word."""
    return tuple(_WORD.findall(text.lower()))


@lru_cache(maxsize=65536)
def entities(text: str) -> tuple[Entity, ...]:
    """Returns the entities of a text, in order: a word with the number after it, or a content word by itself."""
    return tuple([Entity(name, kind) for name, kind in _named(tokens(text))])


def names_and_types(text: str) -> set[str]:
    """Returns the names and the types of all entities of a text."""
    return set(chain.from_iterable(_named(tokens(text))))


def _named(words: Sequence[str]) -> list[tuple[str, str]]:
    """Returns name and type of each entity, in order."""
    return [
        (f"{word} {following}" if following.isdigit() else word, word)
        for word, following in zip(words, (*words[1:], ""), strict=False)
        if word not in _STOP and not word.isdigit()
    ]


@lru_cache(maxsize=65536)
def action_words(action: str) -> ActionWords:
    """Splits an action into its parts, e.g. "take mug 1 from desk 2" into take, (mug 1, desk 2)."""
    words = tokens(action)
    verb = words[0] if words else ""
    rest = action.lower().partition(verb)[2] if verb else ""
    return ActionWords(verb, entities(rest))


def argument(action: str) -> str | None:
    """Returns the text in the brackets of an action such as "click[buy now]"; None for an action of another form."""
    found = _CALL.fullmatch(action)
    return found[1].strip() if found else None


def repeats(text: str, words: str) -> bool:
    """Returns True if a text contains some words next to each other and in their order; False for no words."""
    wanted = " ".join(tokens(words))
    return bool(wanted) and f" {wanted} " in f" {' '.join(tokens(text))} "


@lru_cache(maxsize=65536)
def content(text: str) -> frozenset[str]:
    """Returns the content words of a text, without numbers."""
    return frozenset(entity.kind for entity in entities(text))


def storable(text: str) -> str:
    """Returns the text with lone surrogates replaced, which no UTF-8 file can hold."""
    return text.encode("utf-8", "replace").decode()


def counted(count: int, noun: str, many: str = "") -> str:
    """Returns a number of things in words: "1 snapshot", "2 snapshots"; `many` is an irregular plural."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def short(value: object) -> str:
    """Returns a value in one line that is not long."""
    try:
        text = repr(value)
    except Exception:  # of a number of thousands of digits, of deep nesting, of an object of one's own
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
