"""Reward of a purchase, between 0 and 1, term by term as the original computes it.

    reward = type · (attributes matched + options matched + price kept) / (attributes + options + 1)

The type term compares the nouns of two titles. The original tags titles with spaCy's model en_core_web_lg (older states
of it with en_core_web_sm). Where spaCy and one of them are installed they are used; they are no dependency, because the
models are not on PyPI. Else all words with a letter count but for those of a closed list. The purchase that was asked
for gets the same type term in any case; among the first 20 results of a search it is another in 5.3 % of cases
(benchmarks/webshop_nouns.py, en_core_web_sm 3.8).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

from d2skill.envs.webshop.goals import Goal
from d2skill.envs.webshop.product import Product
from d2skill.envs.webshop.token_set_ratio import is_similar

NounFinder = Callable[[str], tuple[str, ...]]

SPACY_MODELS = ("en_core_web_lg", "en_core_web_sm")

_NOT_NOUNS = frozenset(
    "a about above after against all also an and any are as at be been before behind below between both but by can "
    "comes could do does each etc ever every few for from get had has have he her here his how i if in into is it its "
    "just less longer made make makes may me more most much my nearly no not now of off on only onto or other our out "
    "over own per s she should so some such than that the their them then there these they this those through to too "
    "two under until up upon us used using very via was we were what when where which while who will with within "
    "without would x you your one three four five six seven eight nine ten twelve first third".split()
)
# Words with a letter in them, without the 's of a possessive; spaCy calls the signs nouns, too.
_WORD = re.compile(r"[^\W_]*[^\W\d_][^\W_]*(?:[.’'](?!s\b)[^\W_]+)*|[|%]")

COLOURS = (
    "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo "
    "caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream "
    "crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather "
    "indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha "
    "multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal "
    "rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise "
    "violet walnut wheat white wine yellow"
).split()


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward and its parts, terms and weights by the original's names."""

    value: float
    parts: Mapping[str, float | bool]


def compute_reward(
    product: Product, goal: Goal, price: float, options: Mapping[str, str], nouns: NounFinder | None = None
) -> Reward:
    """Returns the reward for a purchase.

    Args:
        product: The product that is bought.
        goal: The goal of the session.
        price: The price of the product, in dollars.
        options: The options that were clicked, by name.
        nouns: Finds the nouns of a title; the default is `default_noun_finder`.
    """
    parts = type_parts(product, goal, nouns or default_noun_finder())
    attributes = matched_attributes(product, goal.attributes)
    chosen = matched_options(options, goal.options)
    affordable = price <= goal.price_upper
    terms = len(goal.attributes) + len(goal.options) + 1
    parts["r_att"] = attributes / len(goal.attributes) if goal.attributes else 0.0
    parts["w_att"] = len(goal.attributes) / terms
    if goal.options:
        parts |= {"r_option": chosen / len(goal.options), "w_option": len(goal.options) / terms}
    parts |= {"r_price": affordable, "w_price": 1 / terms}
    return Reward((attributes + chosen + affordable) / terms * parts["r_type"], parts)


def type_parts(product: Product, goal: Goal, nouns: NounFinder) -> dict[str, float | bool]:
    """Returns the type term and its parts: whether query and category match, and the share of common nouns."""
    query = product.query == goal.query
    category = len(_categories(product.product_category) & _categories(goal.product_category)) >= 2
    wanted = nouns(goal.name)
    # The share counts a noun of the wanted title as often as it stands there, a common one once.
    title = len(set(nouns(product.title)) & set(wanted)) / len(wanted) if wanted else 0.2
    return {
        "r_type": type_term(query, category, title),
        "query_match": query,
        "category_match": category,
        "title_score": title,
    }


def type_term(query: bool, category: bool, title: float) -> float:
    """Returns the type's factor of the reward; it is 0 for titles without a common noun, whatever else matches."""
    if title == 0.0:
        return 0.0
    if title < 0.1:
        return 0.1
    return 1.0 if query or category or title > 0.2 else 0.5


def matched_attributes(product: Product, wanted: tuple[str, ...]) -> int:
    """Returns the number of wanted attributes that a product has, among its own or word for word in its texts."""
    texts = (product.title.lower(), " ".join(product.bullets).lower(), product.description.lower())
    return sum(
        any(is_similar(own, attribute) for own in product.attributes) or any(attribute in text for text in texts)
        for attribute in wanted
    )


def matched_options(clicked: Mapping[str, str], wanted: Mapping[str, str] | tuple[str, ...]) -> int:
    """Returns the number of wanted options that are similar to a clicked one.

    The original compares the wanted options of synthetic goals as pairs, in Python's notation. In a pair no colour is
    looked for, but the clicked option is reduced to its colour. So the very option that was asked for may count as
    wrong: `r.brown2060` is `brown`, and no `color r brown2060`.
    """
    have = [colour(value) for value in clicked.values()]
    want = [str(pair) for pair in wanted.items()] if isinstance(wanted, Mapping) else list(map(colour, wanted))
    return sum(any(is_similar(mine, its) for mine in have) for its in want)


def colour(option: str) -> str:
    """Returns the first colour, by the alphabet, that is a part of an option, else the option itself."""
    return next((name for name in COLOURS if name in option), option)


@lru_cache(maxsize=1)
def default_noun_finder() -> NounFinder:
    """Returns the noun finder of the spaCy model that is installed, the original's first; else `plain_nouns`."""
    model = next((model for model in SPACY_MODELS if find_spec(model)), None) if find_spec("spacy") else None
    return spacy_noun_finder(model) if model else plain_nouns


def spacy_noun_finder(model: str) -> NounFinder:
    """Returns a noun finder by a model of spaCy, as the original has it."""
    tag = import_module("spacy").load(model)

    @lru_cache(maxsize=1 << 14)
    def nouns(title: str) -> tuple[str, ...]:
        return tuple(token.text.lower() for token in tag(title) if token.pos_ in {"NOUN", "PROPN"})

    return nouns


@lru_cache(maxsize=1 << 14)
def plain_nouns(title: str) -> tuple[str, ...]:
    """Returns the words of a title that are likely to be nouns or names."""
    return tuple(word for word in _WORD.findall(title.lower()) if word not in _NOT_NOUNS)


def _categories(path: str) -> set[str]:
    return {part.strip() for part in path.split("›")}
