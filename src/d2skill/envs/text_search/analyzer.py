"""Analyzer: turns a text into terms, as Anserini's DefaultEnglishAnalyzer does.

Tokens lose a possessive `'s` and their capital letters, stop words are dropped, and the rest is stemmed.
"""

from __future__ import annotations

from functools import lru_cache

from d2skill.envs.text_search.porter_stemmer import stem
from d2skill.envs.text_search.tokenizer import tokenize

STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)
"""Lucene's English stop words."""

_POSSESSIVES = ("'s", "'S", "’s", "’S", "＇s", "＇S")


def analyze(text: str) -> list[str]:
    """Returns the terms of a document or a query, in their order."""
    return [term for token in tokenize(text) if (term := normalize(token))]


@lru_cache(1 << 16)
def normalize(token: str) -> str:
    """Returns the term of a token; empty for a stop word."""
    if token.endswith(_POSSESSIVES):
        token = token[:-2]
    # Java lowers letter by letter: a sigma is never a final one, and a dotted I loses its dot.
    token = token.lower() if token.isascii() else token.replace("İ", "i").replace("Σ", "σ").lower()
    return "" if token in STOP_WORDS else stem(token)
