"""What an instruction asks for, read off its words alone, and the searches that it suggests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from d2skill.utils.text import tokens

_LIMIT = re.compile(r",? and price lower than (\d+(?:\.\d+)?) dollars", re.IGNORECASE)
_OPENING = re.compile(
    r"^(?:hello,? )?(?:please )?(?:find me|show me|get me|i(?:'| a)?m (?:looking|searching|shopping) for|"
    r"i (?:want|need|would like)(?: to (?:buy|find|get))?|looking for|can you find(?: me)?)\s+(?:an?|some|the)?\s*",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"(?:^|, and | with )([a-z][a-z0-9 _-]*): (.*?)(?=, and [a-z][a-z0-9 _-]*: |$)", re.IGNORECASE)
_FILLING = re.compile(r"\b(?:with|for|and|or|that|which|is|are|has|have|in|of|a|an|the|also|my)\b|[.,?!]")


@dataclass(frozen=True, slots=True)
class Wish:
    """An instruction taken apart: its words, the price limit, the options that it names, and what to search for."""

    words: frozenset[str]
    limit: float | None
    options: tuple[str, ...]
    queries: tuple[str, ...]


@lru_cache(maxsize=4096)
def wish_in(instruction: str) -> Wish:
    """Reads an instruction."""
    limit = _LIMIT.search(instruction)
    wanted = _OPENING.sub("", _LIMIT.sub("", instruction).strip()).strip()
    colon = wanted.find(": ")
    cut = wanted.rfind(" with ", 0, colon) if colon >= 0 else -1
    thing, choices = (wanted, "") if cut < 0 else (wanted[:cut], wanted[cut:])
    options = tuple(value.strip() for _, value in _CHOICE.findall(choices))
    head = thing.partition(" with ")[0].partition(" for ")[0]
    short = " ".join(_FILLING.sub(" ", thing).split())
    queries = (thing, " ".join((thing, *options)), head, " ".join((head, *options)), short)
    return Wish(
        frozenset(tokens(wanted)),
        float(limit[1]) if limit else None,
        options,
        tuple(dict.fromkeys(_plain(query) for query in queries if _plain(query))),
    )


def _plain(query: str) -> str:
    """Returns a query that an action can hold."""
    return " ".join(query.replace("[", " ").replace("]", " ").lower().split())
