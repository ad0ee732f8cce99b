"""How alike two phrases are, as thefuzz 0.19, which the original pins, rates them: `fuzz.token_set_ratio`.

That version measures with `difflib`, whose matching blocks are not always the longest common subsequence. Later ones
and python-Levenshtein use the latter, which is never smaller.
"""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher
from functools import lru_cache

_DROPPED = dict.fromkeys(range(128, 256))
_NO_WORD = re.compile(r"\W")


def token_set_ratio(one: str, other: str) -> int:
    """Returns 0 to 100: the best likeness among what both have, the one and the other, each sorted by word."""
    return _ratio_of_sets(_words(one), _words(other))


def is_like(one: str, other: str, above: int = 85) -> bool:
    """Tells whether `token_set_ratio` of two phrases is greater than `above`; mostly faster than asking for it."""
    ours, theirs = _words(one), _words(other)
    if not ours or not theirs:
        return False
    if ours <= theirs or theirs <= ours:
        return above < 100
    return _could_be(ours, theirs, above) and _ratio_of_sets(ours, theirs) > above


@lru_cache(maxsize=1 << 16)
def _words(text: str) -> frozenset[str]:
    """Returns the words of a phrase; letters from U+0080 to U+00FF are dropped, as thefuzz does, later ones stay."""
    return frozenset(_NO_WORD.sub(" ", text.translate(_DROPPED)).lower().split())


def _phrases(ours: frozenset[str], theirs: frozenset[str]) -> tuple[str, str, str]:
    both = " ".join(sorted(ours & theirs))
    first = f"{both} {' '.join(sorted(ours - theirs))}".strip()
    second = f"{both} {' '.join(sorted(theirs - ours))}".strip()
    return both, first, second


def _could_be(ours: frozenset[str], theirs: frozenset[str], above: int) -> bool:
    """Tells whether the phrases have enough letters in common; where they have not, no matching is needed."""
    both, first, second = _phrases(ours, theirs)
    shared = (Counter(first) & Counter(second)).total()
    lengths = len(both), len(first), len(second)
    bounds = (
        2 * shared / (lengths[1] + lengths[2]),
        2 * lengths[0] / (lengths[0] + lengths[1]),
        2 * lengths[0] / (lengths[0] + lengths[2]),
    )
    return round(100 * max(bounds)) > above


@lru_cache(maxsize=1 << 16)
def _ratio_of_sets(ours: frozenset[str], theirs: frozenset[str]) -> int:
    if not ours or not theirs:
        return 0
    both, first, second = _phrases(ours, theirs)
    return max(_ratio(both, first), _ratio(both, second), _ratio(first, second))


def _ratio(one: str, other: str) -> int:
    return 100 if one == other else round(100 * SequenceMatcher(None, one, other).ratio())
