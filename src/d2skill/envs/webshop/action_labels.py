"""What the names on a page are about, in words that stand on the page or stood on the one before."""

from __future__ import annotations

from collections.abc import Sequence

from d2skill.envs.webshop.instruction import Wish
from d2skill.envs.webshop.pages import SUB_PAGES
from d2skill.envs.webshop.product import Product
from d2skill.envs.webshop.shop import Shop

_NAMES = {"back to search": "back", "next >": "next", "< prev": "previous"} | {
    name: f"page {name}" for name in SUB_PAGES
}


def labels(actions: Sequence[str], shop: Shop, wish: Wish) -> tuple[str, ...]:
    """Returns the labels of the actions of a page: the kind of thing first, then its words.

    A product is "costly" if the lowest price that its page shows is over the limit, and so is its purchase.
    """
    product, chosen = shop.product, tuple(shop.options.values())

    def label(action: str) -> str:
        verb, _, name = action[:-1].partition("[")
        if verb == "search":
            return f"query {name}"
        if name in _NAMES:
            return _NAMES[name]
        if product is None:
            found = shop.result(name)
            return f"{_kind(found, wish)} {found.title}" if found is not None else f"name {name}"
        if name == "buy now":
            return f"buy-{_kind(product, wish)} {' '.join((product.title, *chosen))}"
        return f"{'chosen' if name in chosen else 'option'} {name}"

    return tuple(map(label, actions))


def _kind(product: Product, wish: Wish) -> str:
    return "costly" if wish.limit is not None and product.pricing[0] > wish.limit else "product"
