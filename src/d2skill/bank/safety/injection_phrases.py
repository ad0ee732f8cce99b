"""Search for phrases of prompt injection: the rules in `resources/injection_phrases.toml`.

Each rule has leads, words of which at least one occurs in every text that the rule matches. Ordinary advice has few of
them, so only the rules that have one of the leads in a text are tried.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from d2skill.bank.safety.unicode import latin

_SPELLED = re.compile(r"(?:\b[^\W\d] ){9,}")
_SPELLED_WORDS = re.compile(r" (?:[^\W\d] ){9}")  # in folded text
_LEET = str.maketrans("013457@$", "oieastas")
_NO_LETTER = re.compile(r"[^\w/]")
_FOLDED = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)} | _LEET
_FOLDED |= {ord("@"): " ", ord("$"): " ", ord("/"): " / "}  # @ and $ are letters in one view alone, see `_all_words`
_OTHER_SCRIPT = ""  # the lead of rules for other alphabets; it is found if a letter from `_OTHER_LETTERS` on is
_OTHER_LETTERS = "\u0400"  # the first letter of Cyrillic; Greek and Latin come before


def suspicious_phrase(text: str) -> str:
    """Returns the reason of the first rule that matches a text, or "" if none does."""
    words = _all_words(text)
    if _SPELLED_WORDS.search(words) and _SPELLED.search(_words_apart(text)):
        return "it is spelled letter by letter"
    found = {lead for lead in _leads() if lead in words}
    if not text.isascii() and max(words) >= _OTHER_LETTERS:
        found.add(_OTHER_SCRIPT)
    if not found:
        return ""
    views = _views(text)
    rules = (rule for rule in _rules() if not rule.leads.isdisjoint(found))
    return next((rule.reason for rule in rules if any(map(_compiled(rule.pattern).search, views))), "")


def _views(text: str) -> set[str]:
    """Returns the ways in which a text may be read; the rules are tried on each."""
    plain, read = _words_apart(text), _words_apart(latin(text))
    return {text.lower(), plain, read, read.translate(_LEET)}


def _words_apart(text: str) -> str:
    """Returns the text in lower case with spaces for the signs that may stand between words."""
    return " ".join(re.sub(r"[_*~`-]", " ", text.lower()).split())


def _all_words(text: str) -> str:
    """Returns the folded words of all views of a text; those of ASCII text are the same unless @ or $ is a letter."""
    if text.isascii() and "@" not in text and "$" not in text:
        return _folded(text)
    return "".join(map(_folded, _views(text)))


def _folded(text: str) -> str:
    """Returns the words of a text with a space around each, digits read as letters, and a slash as a word."""
    if not text.isascii():
        text = _NO_LETTER.sub(" ", text)
    return f" {' '.join(text.translate(_FOLDED).split())} "


class _Rule(NamedTuple):
    """One pattern of the table with its leads.

    A lead is folded: with a space before it if it starts a word, and after it if it ends one.
    """

    reason: str
    pattern: str
    leads: frozenset[str]


@cache
def _table() -> dict[str, Any]:
    """Returns the content of the data file."""
    file = resources.files("d2skill.bank.safety") / "resources" / "injection_phrases.toml"
    return tomllib.loads(file.read_text("utf-8"))


@cache
def _rules() -> tuple[_Rule, ...]:
    """Returns the rules in the order of the data file."""
    lead_words = _table()["lead_words"]
    return tuple(
        _Rule(group["reason"], pattern, leads)
        for group in _table()["reasons"]
        for rule in group["rules"]
        for leads in [frozenset(_folded_lead(lead) for name in rule["leads"] for lead in lead_words.get(name, [name]))]
        for pattern in rule["patterns"]
    )


def _folded_lead(lead: str) -> str:
    """Returns a lead as it stands in folded words."""
    if lead == _OTHER_SCRIPT:
        return lead
    folded = _folded(lead)
    folded = folded.lstrip() if lead.startswith("*") else folded
    return folded if lead.endswith(" ") else folded.rstrip()


@cache
def _leads() -> frozenset[str]:
    """Returns the leads of all rules, but for the one that stands for other alphabets."""
    return frozenset[str]().union(*(rule.leads for rule in _rules())) - {_OTHER_SCRIPT}


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Returns the regular expression of a pattern of the table, which starts at a word if it is in ASCII.

    What "..." stands for is not in ASCII, so patterns with it may start inside a word, and their leads hold there too.
    """
    for word, meaning in _table()["pattern_words"].items():
        pattern = pattern.replace(word, meaning)
    return re.compile(rf"\b(?:{pattern})" if pattern.isascii() else pattern)
