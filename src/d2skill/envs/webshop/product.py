"""A product as the original WebShop leaves it when its loader has cleaned it.

What the original does to a raw record is done here too, odd or not: a slash in an option becomes " | ", of two option
names that differ in case the later one stays, a price range has at most two ends. Where it would stop with an
exception, on fields that no released file has, this goes on as if the field were empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

NO_ATTRIBUTES = ("DUMMY_ATTR",)
"""What the original gives to a product whose attributes nobody extracted."""

RATING = "N.A."
"""Every product's: the file of reviews was never published, so there are neither ratings nor reviews."""

_USUAL_PRICE = 100.0
_LONGEST_ASIN = 10


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """What a page, a goal or a reward needs of a product. `pricing` has one price or the two ends of a range.

    Two are equal only if they are one, so that what is made of a product can be kept by it.
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
        """What the search engine indexes of it."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options.items())
        first = self.bullets[0] if self.bullets else ""
        return " ".join((self.title, self.description, first, options)).lower()

    def row(self) -> list[Any]:
        """Returns the product as JSON keeps it."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Product:
        """Returns what `row` was made of."""
        asin, title, description, bullets, price, pricing, options, attributes, *kinds = row
        return cls(
            asin,
            title,
            description,
            tuple(bullets),
            price,
            tuple(pricing),
            {name: tuple(values) for name, values in options.items()},
            tuple(attributes),
            *kinds,
        )


def is_sold(asin: Any) -> TypeGuard[str]:
    """Tells whether the original takes up a record with this asin at all."""
    return isinstance(asin, str) and asin != "nan" and len(asin) <= _LONGEST_ASIN


def clean(raw: Mapping[str, Any], attributes: Sequence[str] | None) -> Product:
    """Returns a raw record cleaned; `attributes` are those of the instruction file, None where it has none."""
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


def _pricing(given: Any) -> tuple[tuple[float, ...], str]:
    """Returns the price or the two ends of a range, and how a page says it."""
    digits = [re.sub(r"[^\d.]", "", part) for part in _text(given).split("$")[1:]]
    prices = [float(part) for part in digits if re.fullmatch(r"\d+\.?\d*|\.\d+", part)][:2]
    if not prices:
        return (_USUAL_PRICE,), f"${_USUAL_PRICE}"
    return tuple(prices), " to ".join(f"${price}" for price in prices)


def _options(given: Any) -> dict[str, tuple[str, ...]]:
    options = {}
    for name, contents in given.items() if isinstance(given, Mapping) else ():
        if contents is not None:
            values = (_text(content.get("value")) for content in contents)
            options[name.lower()] = tuple(value.strip().replace("/", " | ").lower() for value in values)
    return options
