"""Products, cleaned as the original WebShop's loader cleans them.

The original's oddities are kept: a slash in an option becomes " | ", of two option names that differ in case the later
one stays, a price range has at most two ends. Where the original would stop with an exception, on fields that no
released file has, the field counts as empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

NO_ATTRIBUTES = ("DUMMY_ATTR",)
"""The original's attributes of a product without extracted ones."""

RATING = "N.A."
"""The rating of every product: the file of reviews was never published, so there are neither ratings nor reviews."""

_DEFAULT_PRICE = 100.0
_LONGEST_ASIN = 10
_OPTIONS = 6  # the place of the options in a row


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A product for sale. `pricing` has one price or the two ends of a range, `price` is its text on a page.

    Products are equal only if they are the same object, so that caches can go by them.
    """

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    price: str
    pricing: tuple[float, ...]
    options: Mapping[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    category: str
    query: str
    product_category: str
    image: str

    @property
    def text(self) -> str:
        """The text that the search engine indexes."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options.items())
        first = self.bullets[0] if self.bullets else ""
        return " ".join((self.title, self.description, first, options)).lower()

    def row(self) -> list[Any]:
        """Returns the product as a JSON array."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Product:
        """Returns the product of a `row`."""
        values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in row]
        values[_OPTIONS] = {name: tuple(value) for name, value in row[_OPTIONS].items()}
        return cls(*values)


def is_asin(asin: Any) -> TypeGuard[str]:
    """Returns True if the original loads records with this asin."""
    return isinstance(asin, str) and asin != "nan" and len(asin) <= _LONGEST_ASIN


def clean_product(raw: Mapping[str, Any], attributes: Sequence[str] | None) -> Product:
    """Returns the product of a raw record; `attributes` are those of the instruction file, None where it has none."""
    pricing, price = _pricing(raw.get("pricing"))
    bullets = raw.get("small_description")
    images = raw.get("images") or [""]
    return Product(
        asin=raw["asin"],
        title=_text(raw.get("name")),
        description=_text(raw.get("full_description")),
        bullets=tuple(map(_text, bullets)) if isinstance(bullets, list) else (_text(bullets),),
        price=price,
        pricing=pricing,
        options=_options(raw.get("customization_options")),
        attributes=NO_ATTRIBUTES if attributes is None else tuple(attributes),
        category=_text(raw.get("category")),
        query=_text(raw.get("query")).lower().strip(),
        product_category=_text(raw.get("product_category")),
        image=_text(images[0]),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _pricing(raw: Any) -> tuple[tuple[float, ...], str]:
    """Returns the price or the two ends of a range, and its text on a page."""
    digits = [re.sub(r"[^\d.]", "", part) for part in _text(raw).split("$")[1:]]
    prices = [float(part) for part in digits if re.fullmatch(r"\d+\.?\d*|\.\d+", part)][:2] or [_DEFAULT_PRICE]
    return tuple(prices), " to ".join(f"${price}" for price in prices)


def _options(raw: Any) -> dict[str, tuple[str, ...]]:
    options = {}
    for name, contents in raw.items() if isinstance(raw, Mapping) else ():
        if contents is not None:
            values = (_text(content.get("value")) for content in contents)
            options[name.lower()] = tuple(value.strip().replace("/", " | ").lower() for value in values)
    return options
