"""What the names on a page are about, in words that stand on the page or stood on the one before."""

from __future__ import annotations

from d2skill.envs.webshop.pages import SUB_PAGES
from d2skill.envs.webshop.products import Product
from d2skill.envs.webshop.shop import Shop
from d2skill.envs.webshop.wishes import Wish

_PLACES = {"back to search": "back", "next >": "next", "< prev": "previous"}


def label(action: str, shop: Shop, wish: Wish) -> str:
    """Returns the label of an action: the kind of thing first, then its words.

    A product is "costly" if the lowest price that its page shows is over the limit, and so is its purchase.
    """
    verb, _, name = action[:-1].partition("[")
    if verb == "search":
        return f"query {name}"
    if name in _PLACES:
        return _PLACES[name]
    product = shop.product
    if name == "buy now" and product is not None:
        words = " ".join((product.title, *shop.options.values()))
        return f"buy-{_kind(product, wish)} {words}"
    if name in SUB_PAGES:
        return f"page {name}"
    if product is not None:
        return f"{'chosen' if name in shop.options.values() else 'option'} {name}"
    found = shop.result(name)
    return f"{_kind(found, wish)} {found.title}" if found is not None else f"name {name}"


def _kind(product: Product, wish: Wish) -> str:
    return "costly" if wish.limit is not None and product.pricing[0] > wish.limit else "product"
