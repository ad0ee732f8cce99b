"""Patterns: task texts with slots for the things that tasks of a kind exchange, "put a hot {thing} in {place}"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from d2skill.utils.text import content, tokens

REST = "{...}"
"""Slot of a pattern for any text, to its end"""
_SLOT = re.compile(r"\{([a-z]+(?: \d+)?)\}")
_WORD = r"([^\W\d_][\w'\-]*(?: \d+)?)"
_ALIKE = 0.6
"""Least share of a pattern's content words that a task of the same kind has"""


def abstracted(text: str, slots: Mapping[str, str], *, numbers: bool = False) -> str:
    """Returns a text with slots in place of words, given the slot of each word, with their `numbers` or without."""
    if not slots:
        return text
    words = "|".join(re.escape(word) for word in sorted(slots, key=len, reverse=True))
    number = r"(?: \d+(?![\w.]))?" if numbers else ""
    return re.sub(
        rf"(?<![\w'\-])({words})(?![\w'\-]){number}",
        lambda match: f"{{{slots[match[1].lower()]}}}",
        text,
        flags=re.IGNORECASE,
    )


def plain(text: str) -> str:
    """Returns a text with "the thing" and "the place" in place of slots."""
    return _SLOT.sub(lambda match: f"the {match[1].split()[0]}", text)


def example(pattern: str) -> str:
    """Returns a task text of a pattern, with the names of slots as words."""
    return _SLOT.sub(lambda match: match[1].replace(" ", ""), pattern).replace(REST, "something")


@lru_cache(maxsize=2**14)
def bindings(pattern: str, text: str) -> Mapping[str, str] | None:
    """Returns the words of a task text that stand in the slots of a pattern, None if the text is of another kind."""
    if "{" not in pattern:
        return {} if pattern == text else None
    head, *rest = pattern.split(REST)
    match = _compiled(head).match(text) if rest else _compiled(head).fullmatch(text)
    if match is None or (rest and not _follow(rest, text.lower(), match.end())):
        return None
    return {name.replace("_", " "): word for name, word in match.groupdict().items()}


@lru_cache(maxsize=2**14)
def near_bindings(pattern: str, text: str) -> Mapping[str, str] | None:
    """Returns the words of a task text for the slots of a pattern in other words; None if they are not alike.

    They are alike if most of the pattern's content words, slots left out, are in the text: "put a cool {thing} in
    {place}" and "cool some mug and put it in fridge". The other words of the text stand in the slots, in order.
    """
    slots = list(dict.fromkeys(match[1] for match in _SLOT.finditer(pattern)))
    literal, words = content(_SLOT.sub(" ", pattern)), content(text)
    others = [word for word in dict.fromkeys(tokens(text)) if word in words - literal]
    if not slots or not literal or len(others) != len(slots) or REST in pattern:
        return None
    alike = len(literal & words) >= _ALIKE * len(literal)
    return dict(zip(slots, others, strict=True)) if alike else None


def filled(text: str, words: Mapping[str, str]) -> str:
    """Returns a text with words in its slots; a slot without a word stays."""
    return _SLOT.sub(lambda match: words.get(match[1], match[0]), text)


def _follow(parts: Sequence[str], text: str, at: int) -> bool:
    """Returns True if parts of a pattern come in a text in this order from a place on, each after any text."""
    *others, last = (part.lower() for part in parts)
    for part in others:
        found = text.find(part, at + 1)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - len(last) > at and text.endswith(last)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts, at, seen = [], 0, set()
    for slot in _SLOT.finditer(pattern):
        name = slot[1].replace(" ", "_")
        parts.append(re.escape(pattern[at : slot.start()]))
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{_WORD[1:-1]})")
        seen.add(name)
        at = slot.end()
    return re.compile("".join((*parts, re.escape(pattern[at:]))), re.IGNORECASE | re.DOTALL)
