"""The nouns of a title, which the reward's type term compares.

The original tags titles with spaCy's model en_core_web_lg (older states of it with en_core_web_sm). Where spaCy and one
of them are installed they are used; they are no dependency, because the models are not on PyPI. Else all words with a
letter count but for those of a closed list. Buying what was asked for gets the same type term in any case; among the
first 20 results of a search it is another in 5.3 % of cases (benchmarks/webshop_nouns.py, en_core_web_sm 3.8).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

Nouns = Callable[[str], tuple[str, ...]]

MODELS = ("en_core_web_lg", "en_core_web_sm")

_OTHERS = frozenset(
    "a about above after against all also an and any are as at be been before behind below between both but by can "
    "comes could do does each etc ever every few for from get had has have he her here his how i if in into is it its "
    "just less longer made make makes may me more most much my nearly no not now of off on only onto or other our out "
    "over own per s she should so some such than that the their them then there these they this those through to too "
    "two under until up upon us used using very via was we were what when where which while who will with within "
    "without would x you your one three four five six seven eight nine ten twelve first third".split()
)
# Words with a letter in them, without the 's of a possessive; spaCy calls the signs nouns, too.
_WORD = re.compile(r"[^\W_]*[^\W\d_][^\W_]*(?:[.’'](?!s\b)[^\W_]+)*|[|%]")


def find_model() -> str | None:
    """Returns the name of the spaCy model that is installed, the original's first, None where there is none."""
    return next((model for model in MODELS if find_spec(model)), None) if find_spec("spacy") else None


@lru_cache(maxsize=1)
def find_nouns() -> Nouns:
    """Returns what finds nouns here: spaCy with the model that is installed, else `plain_nouns`."""
    model = find_model()
    return spacy_nouns(model) if model else plain_nouns


def spacy_nouns(model: str) -> Nouns:
    """Returns what finds nouns with a model of spaCy, as the original does."""
    tag = import_module("spacy").load(model)

    @lru_cache(maxsize=1 << 14)
    def nouns(title: str) -> tuple[str, ...]:
        return tuple(token.text.lower() for token in tag(title) if token.pos_ in {"NOUN", "PROPN"})

    return nouns


@lru_cache(maxsize=1 << 14)
def plain_nouns(title: str) -> tuple[str, ...]:
    """Returns the words of a title that are likely to be nouns or names."""
    return tuple(word for word in _WORD.findall(title.lower()) if word not in _OTHERS)
