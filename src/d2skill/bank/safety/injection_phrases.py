"""Search for phrases of prompt injection: the table in `resources/injection_phrases.toml`."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from d2skill.bank.safety.unicode import latin

_CLAUSE = r"[^.!?。।;]{0,50}"
_LEET = str.maketrans("013457@$", "oieastas")
_IGNORING = "it asks to ignore instructions"


class _Phrases(NamedTuple):
    """One reason of the table: words of which a text has one at least, and the pattern that decides."""

    reason: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]


def suspicious_phrase(text: str) -> str:
    """Returns the reason of the first phrase of the table that a text has, or "" if it has none."""
    views = _views(text)
    for verbs, nouns, pattern in _ignoring():
        for view in views:
            if any(map(view.__contains__, nouns)) and any(map(view.__contains__, verbs)) and pattern.search(view):
                return _IGNORING
    for reason, words, pattern in _phrases():
        if any(any(map(view.__contains__, words)) and pattern.search(view) for view in views):
            return reason
    return ""


def _views(text: str) -> set[str]:
    """Returns the ways in which a text may be read: as it is, with Latin letters, and with digits as letters."""
    plain = _words_apart(text)
    read = plain if plain.isascii() else _words_apart(latin(text))
    return {plain, read, read.translate(_LEET)}


def _words_apart(text: str) -> str:
    """Returns the text in lower case with spaces for the signs that may stand between words."""
    return " ".join(re.sub(r"[_*~`-]", " ", text.lower()).split())


@cache
def _table() -> dict[str, Any]:
    """Returns the content of the data file, in the form that stored text has."""
    file = resources.files("d2skill.bank.safety") / "resources" / "injection_phrases.toml"
    return tomllib.loads(unicodedata.normalize("NFKC", file.read_text("utf-8")))


@cache
def _ignoring() -> tuple[tuple[list[str], list[str], re.Pattern[str]], ...]:
    """Returns for each language the verbs and nouns of being told to ignore instructions, and the pattern of both."""
    return tuple(
        (verbs.split("|"), nouns.split("|"), re.compile(f"({verbs}){_CLAUSE}({nouns})|({nouns}){_CLAUSE}({verbs})"))
        for verbs, nouns in _table()["ignoring"].values()
    )


@cache
def _phrases() -> tuple[_Phrases, ...]:
    """Returns the reasons in the order of the data file."""
    return tuple(
        _Phrases(
            group["reason"],
            tuple(group["words"]),
            re.compile("|".join(rf"\b(?:{pattern.replace('...', _CLAUSE)})" for pattern in group["patterns"])),
        )
        for group in _table()["phrases"]
    )
