"""Pages for people (`HumanReadable`): text in lines; what can be clicked stands in the menu below."""

from __future__ import annotations

from collections.abc import Mapping

from d2skill.envs.webshop.pages import SEPARATOR
from d2skill.envs.webshop.product import RATING, Product
from d2skill.envs.webshop.shop import Shop

_TERMS = {"attributes": "att", "options": "option", "price": "price"}
"""The terms of the reward, with the original's names of their parts"""


def shown(shop: Shop) -> str:
    """Returns the page of a shop in lines."""
    page, product = shop.page, shop.product
    if page.search:
        return "WebShop"
    if product is None:
        return _body(shop)[0]
    if page.done:
        return _purchase(product, shop)
    if "buy now" in page.click:
        return _item(product, shop.options)
    return "\n".join(_body(shop)) or "There is nothing on this page."


def described(shop: Shop) -> dict[str, str]:
    """Returns price and title of the products that are found, by the action that leads there."""
    found = {name: product for name in shop.page.click if (product := shop.result(name)) is not None}
    widest = max((len(product.price) for product in found.values()), default=0)
    return {f"click[{name}]": f"{product.price:<{widest}}  {product.title.strip()}" for name, product in found.items()}


def _body(shop: Shop) -> list[str]:
    """Returns the parts of a page below its instruction that cannot be clicked."""
    _, _, below = shop.page.text.partition(f"Back to Search{SEPARATOR}")
    return [part for part in below.split(SEPARATOR) if part.lower() not in shop.page.click]


def _item(product: Product, chosen: Mapping[str, str]) -> str:
    offered = [f"{name}: {'; '.join(filter(None, values))}" for name, values in product.options.items()]
    lines = [product.title.strip(), f"Price: {product.price}", f"Rating: {RATING}", *offered]
    return "\n".join([*lines, f"You have chosen {_choice(chosen)}."] if chosen else lines)


def _choice(chosen: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in chosen.items())


def _purchase(product: Product, shop: Shop) -> str:
    """Returns what was bought, and the reward as the sum that it is."""
    bought = product.title.strip() + (f" ({_choice(shop.options)})" if shop.options else "")
    reward, parts = shop.page.reward, shop.page.parts
    terms = " + ".join(
        f"{parts[f'r_{part}']:.2f} {term} x {parts[f'w_{part}']:.2f}"
        for term, part in _TERMS.items()
        if f"r_{part}" in parts
    )
    score = f"Your score (min 0.0, max 1.0): {reward:.2f} = {parts['r_type']:.2f} kind of product x ({terms})"
    return f"Thank you for shopping with us!\nYou have bought {bought}.\n{score}"
