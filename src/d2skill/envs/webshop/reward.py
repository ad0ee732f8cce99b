"""What a purchase is worth, between 0 and 1, term by term as the original computes it.

    reward = type · (attributes matched + options matched + price kept) / (attributes + options + 1)

All of it is the original's but for the type term's nouns: see `nouns`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from d2skill.envs.webshop.goals import Goal
from d2skill.envs.webshop.nouns import Nouns, find_nouns
from d2skill.envs.webshop.product import Product
from d2skill.envs.webshop.token_set_ratio import is_like

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
    """The reward and its parts; `parts` has the names of the original's, weights among them."""

    value: float
    parts: Mapping[str, float | bool]


def reward(
    product: Product, goal: Goal, price: float, options: Mapping[str, str], nouns: Nouns | None = None
) -> Reward:
    """Returns the reward for buying a product at a price with the options that were clicked, by option name."""
    kind = type_parts(product, goal, nouns or find_nouns())
    attributes = matched_attributes(product, goal.attributes)
    chosen = matched_options(options, goal.options)
    kept = price <= goal.price_upper
    terms = len(goal.attributes) + len(goal.options) + 1
    parts: dict[str, float | bool] = {
        "r_type": kind["r_type"],
        "r_att": attributes / len(goal.attributes) if goal.attributes else 0.0,
        "w_att": len(goal.attributes) / terms,
        "query_match": kind["query_match"],
        "category_match": kind["category_match"],
        "title_score": kind["title_score"],
    }
    if goal.options:
        parts |= {"r_option": chosen / len(goal.options), "w_option": len(goal.options) / terms}
    parts |= {"r_price": kept, "w_price": 1 / terms}
    return Reward((attributes + chosen + kept) / terms * kind["r_type"], parts)


def type_parts(product: Product, goal: Goal, nouns: Nouns) -> dict[str, float | bool]:
    """Returns whether a product is of the kind that was wanted: by query, by category, by the nouns of its title."""
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
    """Returns the factor of the type; a title without a common noun is worth nothing, whatever else is right."""
    if title == 0.0:
        return 0.0
    if title < 0.1:
        return 0.1
    return 1.0 if query or category or title > 0.2 else 0.5


def matched_attributes(product: Product, wanted: tuple[str, ...]) -> int:
    """Returns how many attributes a product has, among its own or word for word in its texts."""
    texts = (product.title.lower(), " ".join(product.bullets).lower(), product.description.lower())
    return sum(
        any(is_like(own, attribute) for own in product.attributes) or any(attribute in text for text in texts)
        for attribute in wanted
    )


def matched_options(clicked: Mapping[str, str], wanted: Mapping[str, str] | tuple[str, ...]) -> int:
    """Returns how many of the wanted options have one like them among the clicked ones.

    The original hands the wanted options of synthetic goals over as pairs. A pair is no text in which its colour
    would be found, but the clicked one is reduced to its colour; then the pair is compared as Python writes it. So
    the very option that was asked for may count as wrong: `r.brown2060` is `brown`, and no `color r brown2060`.
    """
    have = [colour(value) for value in clicked.values()]
    want = [str(pair) for pair in wanted.items()] if isinstance(wanted, Mapping) else [colour(one) for one in wanted]
    return sum(any(is_like(one, other) for one in have) for other in want)


def colour(option: str) -> str:
    """Returns the first colour, by the alphabet, that is a part of an option, else the option itself."""
    return next((name for name in COLOURS if name in option), option)


def _categories(path: str) -> set[str]:
    return {part.strip() for part in path.split("›")}
