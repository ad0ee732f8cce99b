"""From text to terms, as Anserini's DefaultEnglishAnalyzer has it: words, no `'s`, small letters, no stop words."""

from __future__ import annotations

from d2skill.envs.text_search.porter_stemmer import stem
from d2skill.envs.text_search.tokenizer import tokens

STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)
"""Lucene's English stop words."""

_POSSESSIVES = ("'s", "'S", "’s", "’S", "＇s", "＇S")
_ENOUGH = 1 << 16  # words whose term is remembered


def analyze(text: str) -> list[str]:
    """Returns the terms of a text in their order, as they are indexed and looked for."""
    known = _known
    return [term for token in tokens(text) if (term := known[token])]


def term(token: str) -> str:
    """Returns the term of a word; empty for a stop word."""
    if token.endswith(_POSSESSIVES):
        token = token[:-2]
    token = _lowered(token)
    return "" if token in STOP_WORDS else stem(token)


def _lowered(token: str) -> str:
    """Letter by letter, as Java does it: a sigma does not know that it is the last, and a dotted I loses its dot."""
    return token.lower() if token.isascii() else token.replace("İ", "i").replace("Σ", "σ").lower()


class _Terms(dict[str, str]):
    """The terms of words that were met lately."""

    def __missing__(self, token: str) -> str:
        if len(self) >= _ENOUGH:
            self.clear()
        self[token] = found = term(token)
        return found


_known = _Terms()
