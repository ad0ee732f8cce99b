"""Similarity of two phrases: `fuzz.token_set_ratio` of thefuzz 0.19, the version that the original pins.

That version measures with `difflib`, whose matching blocks are not always the longest common subsequence. Later ones
and python-Levenshtein use the latter, which is never smaller.
"""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher
from functools import lru_cache

_DROPPED = dict.fromkeys(range(128, 256))
_NON_WORD = re.compile(r"\W")


def token_set_ratio(first: str, second: str) -> int:
    """Returns 0 to 100: the highest ratio among the common words and each phrase, with sorted words."""
    return _ratio_of_sets(_words(first), _words(second))


def is_similar(first: str, second: str, above: int = 85) -> bool:
    """Returns True if the `token_set_ratio` of two phrases is greater than `above`; mostly faster than computing it."""
    ours, theirs = _words(first), _words(second)
    if not ours or not theirs:
        return False
    if ours <= theirs or theirs <= ours:
        return above < 100
    return _upper_bound(ours, theirs) > above and _ratio_of_sets(ours, theirs) > above


@lru_cache(maxsize=1 << 16)
def _words(text: str) -> frozenset[str]:
    """Returns the words of a phrase; letters from U+0080 to U+00FF are dropped, as thefuzz does, later ones stay."""
    return frozenset(_NON_WORD.sub(" ", text.translate(_DROPPED)).lower().split())


def _phrases(ours: frozenset[str], theirs: frozenset[str]) -> tuple[str, str, str]:
    """Returns the common words, and those with the rest of the words of each phrase, all sorted."""
    both = " ".join(sorted(ours & theirs))
    first = f"{both} {' '.join(sorted(ours - theirs))}".strip()
    second = f"{both} {' '.join(sorted(theirs - ours))}".strip()
    return both, first, second


def _upper_bound(ours: frozenset[str], theirs: frozenset[str]) -> int:
    """Returns a ratio that is not exceeded, by the number of common letters alone."""
    both, first, second = _phrases(ours, theirs)
    common = (Counter(first) & Counter(second)).total()
    bounds = (
        2 * common / (len(first) + len(second)),
        2 * len(both) / (len(both) + len(first)),
        2 * len(both) / (len(both) + len(second)),
    )
    return round(100 * max(bounds))


@lru_cache(maxsize=1 << 16)
def _ratio_of_sets(ours: frozenset[str], theirs: frozenset[str]) -> int:
    if not ours or not theirs:
        return 0
    both, first, second = _phrases(ours, theirs)
    return max(_ratio(both, first), _ratio(both, second), _ratio(first, second))


def _ratio(first: str, second: str) -> int:
    return 100 if first == second else round(100 * SequenceMatcher(None, first, second).ratio())
