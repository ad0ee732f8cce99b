"""Parser of instructions: price limit, options and search queries, read off the words alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from d2skill.utils.text import tokens

_PRICE_LIMIT = re.compile(r",? and price lower than (\d+(?:\.\d+)?) dollars", re.IGNORECASE)
_OPENING = re.compile(
    r"^(?:hello,? )?(?:please )?(?:find me|show me|get me|i(?:'| a)?m (?:looking|searching|shopping) for|"
    r"i (?:want|need|would like)(?: to (?:buy|find|get))?|looking for|can you find(?: me)?)\s+(?:an?|some|the)?\s*",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(?:^|, and | with )([a-z][a-z0-9 _-]*): (.*?)(?=, and [a-z][a-z0-9 _-]*: |$)", re.IGNORECASE)
_FILLERS = re.compile(r"\b(?:with|for|and|or|that|which|is|are|has|have|in|of|a|an|the|also|my)\b|[.,?!]")


@dataclass(frozen=True, slots=True)
class ParsedInstruction:
    """The words of an instruction, its price limit, the values of its options, and queries to search with."""

    words: frozenset[str]
    price_limit: float | None
    options: tuple[str, ...]
    queries: tuple[str, ...]


@lru_cache(maxsize=4096)
def parse_instruction(instruction: str) -> ParsedInstruction:
    """Parses an instruction; its queries are different from each other and can stand in an action."""
    limit = _PRICE_LIMIT.search(instruction)
    wanted = _OPENING.sub("", _PRICE_LIMIT.sub("", instruction).strip()).strip()
    colon = wanted.find(": ")
    cut = wanted.rfind(" with ", 0, colon) if colon >= 0 else -1
    thing, choices = (wanted, "") if cut < 0 else (wanted[:cut], wanted[cut:])
    options = tuple(value.strip() for _, value in _OPTION.findall(choices))
    head = thing.partition(" with ")[0].partition(" for ")[0]
    short = " ".join(_FILLERS.sub(" ", thing).split())
    queries = (thing, " ".join((thing, *options)), head, " ".join((head, *options)), short)
    plain = (" ".join(query.replace("[", " ").replace("]", " ").lower().split()) for query in queries)
    return ParsedInstruction(
        frozenset(tokens(wanted)),
        float(limit[1]) if limit else None,
        options,
        tuple(dict.fromkeys(filter(None, plain))),
    )
