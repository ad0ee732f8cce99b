"""Scores of an answer: exact match and F1, by the rules of SQuAD's evaluation as Search-R1 has them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


@lru_cache(maxsize=2**16)
def normalise(text: str) -> str:
    """Returns a text as it is compared: small letters, no ASCII punctuation, no articles, single blanks.

    Punctuation goes first, so "a-ha" becomes "aha" and keeps its letter, while "a ha" loses it.

    >>> normalise("The  Cat's-Eye, a Novel")
    'catseye novel'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(text: str, answers: Iterable[str]) -> bool:
    """Returns True if an answer, normalised, is one of the golden answers.

    >>> exact_match("the Beatles", ["Beatles", "Fab Four"])
    True
    """
    given = normalise(text)
    return any(normalise(answer) == given for answer in answers)


def f1(text: str, answers: Iterable[str]) -> float:
    """Returns the F1 of an answer's words against the golden answer that it is nearest to, 1.0 for an exact match.

    >>> f1("John Lennon of the Beatles", ["John Lennon"])
    0.6666666666666666
    """
    given, best = normalise(text), 0.0
    words = given.split()
    counts = Counter(words)
    for golden in map(normalise, answers):
        if golden == given:
            return 1.0
        wanted = golden.split()
        if not counts.keys().isdisjoint(wanted):
            common = (counts & Counter(wanted)).total()
            best = max(best, 2 * common / (len(words) + len(wanted)))
    return best
