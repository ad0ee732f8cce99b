"""The pages of the shop as an agent reads them: the original's `text` and `text_rich` observations.

The original renders HTML and takes it apart again; here the strings are built at once. What the detour does to texts is
done too: one of nothing but ASCII blanks is a single blank, or is left out if a line break is among them, and the plain
form strips each text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from d2skill.envs.webshop.product import RATING, Product

SEPARATOR = " [SEP] "
PER_PAGE = 10
SUB_PAGES = ("description", "features", "reviews", "attributes")

_BLANKS = " \n\t\f\r"
_PREVIOUS, _NEXT, _BACK = "< Prev", "Next >", "Back to Search"


@dataclass(frozen=True, slots=True)
class Page:
    """What is seen after an action.

    `text` and `rich` are the two forms of the page, `search` tells whether it has a search bar, `click` lists what can
    be clicked. `reward` and its `parts`, by the original's names, come with the purchase, which is `done`.
    """

    text: str
    rich: str
    search: bool
    click: tuple[str, ...]
    done: bool = False
    reward: float = 0.0
    parts: Mapping[str, float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """The top of all pages of one goal but the first and the last, ready made, and the first page."""

    text: str
    rich: str
    first: Page

    @classmethod
    def of(cls, instruction: str) -> Head:
        """Returns the head for an instruction."""
        said = _nodes(instruction)
        text, rich = _both([*_nodes("Instruction:", *said), _Button(_BACK)])
        first = _both(["WebShop", "Instruction: ", *said, _Button("Search")])
        return cls(text, rich, Page(*first, True, ("search",)))

    def page(self, text: str, rich: str, click: tuple[str, ...], before: str = "") -> Page:
        """Returns a page with this head above what is given, and in the rich form some lines `before` all of it."""
        return Page(f"{self.text}{SEPARATOR}{text}", f"{before}{self.rich}{rich}", False, ("back to search", *click))


class _Button(str):
    """The caption of a button."""

    __slots__ = ()


def results_page(head: Head, products: Sequence[Product], page: int, total: int, visited: Iterable[str]) -> Page:
    """Returns a page of search results; what was `visited` is marked. There is always a next page, empty or not."""
    buttons = [_PREVIOUS, _NEXT] if page > 1 else [_NEXT]
    text, rich = _both([f"Page {page} (Total results: {total})", *map(_Button, buttons)])
    seen = frozenset(visited)
    texts, riches = [text], [rich]
    for product in products:
        plain, clicked, unclicked = _result(product)
        texts.append(plain)
        riches.append(clicked if product.asin in seen else unclicked)
    names = dict.fromkeys([*(name.lower() for name in buttons), *(product.asin.lower() for product in products)])
    return head.page(SEPARATOR.join(texts), "".join(riches), tuple(names))


def item_page(head: Head, product: Product, url: str) -> Page:
    """Returns the page of a product.

    An option is marked as clicked if it stands in quotes in the page's address. That is where the original looks, too,
    so an option that JSON writes differently is never marked, and one that was searched for in quotes always is.
    """
    item = _item(product)
    if '"' not in url:
        return head.page(item.text, item.rich, item.click)
    rich, notes = [item.top], []
    for name, values in item.labels:
        rich.append(name)
        for value in values:
            clicked = f'"{value}"' in url
            mark = "clicked button" if clicked else "button"
            rich.append(f"  [{mark}] {value} [{mark}_]\n")
            if clicked:
                notes.append(f"You have clicked {value}.\n")
    return head.page(item.text, f"{''.join(rich)}{item.bottom}", item.click, "".join(reversed(notes)))


def sub_page(head: Head, product: Product, name: str) -> Page:
    """Returns the page with a product's description, features, reviews (there are none) or attributes."""
    return head.page(*_sub_page(product, name), ("< prev",))


def last_page(asin: str, options: Mapping[str, str], reward: float, parts: Mapping[str, float | bool]) -> Page:
    """Returns the page after a purchase, which nothing on it tells about the goal."""
    bought = json.dumps(options, sort_keys=True)
    for sign in "<>&'":
        bought = bought.replace(sign, f"\\u{ord(sign):04x}")
    text, rich = _both(
        [
            *("Thank you for shopping with us!", "Your code: ", "None", " (Paste it in your MTurk interface.)"),
            *("Purchased", "asin", asin, "options", bought, "attrs", "None", "category", "None", "query", "None"),
            *("product category", "None", "Target", "asin", "options", "attrs", "price upper", "instuction text"),
            *("category", "product category", "query", "Goal ", "None", "Reward"),
            *("Your score (min 0.0, max 1.0)", str(reward), "Reward Details ", "None"),
        ]
    )
    return Page(text, rich, False, (), True, reward, parts)


def option_names(product: Product) -> Mapping[str, str]:
    """Returns the name of the option that a value belongs to, for all values; the last one of those that share it."""
    return _item(product).options


@dataclass(frozen=True, slots=True)
class _Item:
    """A product's page without its head. `rich` is `top`, the options unmarked and `bottom`."""

    text: str
    rich: str
    click: tuple[str, ...]
    top: str
    labels: tuple[tuple[str, tuple[str, ...]], ...]
    bottom: str
    options: Mapping[str, str]


@lru_cache(maxsize=4096)
def _item(product: Product) -> _Item:
    buttons = ["Description", "Features", "Reviews", "Buy Now"]
    about = _nodes(product.title, f"Price: {product.price}", f"Rating: {RATING}")
    top = _both([_Button(_PREVIOUS)])
    bottom = _both([*about, *map(_Button, buttons)])
    labels = [("".join(f"{node}\n" for node in _nodes(name)), values) for name, values in product.options.items()]
    shown = [node for name, values in product.options.items() for node in _nodes(name, *values)]
    rich = [name + "".join(f"  [button] {node} [button_]\n" for node in _nodes(*values)) for name, values in labels]
    options = {value: name for name, values in product.options.items() for value in values}
    return _Item(
        text=SEPARATOR.join([top[0], *(node.strip() for node in shown), bottom[0]]),
        rich="".join([top[1], *rich, bottom[1]]),
        click=tuple(dict.fromkeys([_BACK.lower(), _PREVIOUS.lower(), *(name.lower() for name in buttons), *options]))[
            1:
        ],
        top=top[1],
        labels=tuple((name, tuple(_nodes(*values))) for name, values in labels),
        bottom=bottom[1],
        options=MappingProxyType(options),
    )


@lru_cache(maxsize=4096)
def _result(product: Product) -> tuple[str, str, str]:
    """Returns a product among search results: its text, its rich form once it was clicked, and before."""
    text, rich = _both(_nodes(product.title, product.price))
    text = SEPARATOR.join([product.asin, text])
    clicked = f"\n[clicked button] {product.asin} [clicked button_]\n{rich}"
    return text, clicked, f"\n[button] {product.asin} [button_]\n{rich}"


@lru_cache(maxsize=4096)
def _sub_page(product: Product, name: str) -> tuple[str, str]:
    shown: list[str] = []
    if name == "description":
        shown = _nodes(product.description)
    elif name == "features":
        shown = _nodes(*(f" {bullet}" for bullet in product.bullets))
    elif name == "attributes":
        listed = (f" {attribute}" for attribute in product.attributes)
        shown = _nodes(*listed, product.category, product.query, product.product_category)
    return _both([_Button(_PREVIOUS), *shown])


def _nodes(*texts: str) -> list[str]:
    """Returns the texts that are left of some when a page was parsed."""
    return [
        text if text.strip(_BLANKS) else " " for text in texts if text.strip(_BLANKS) or (text and "\n" not in text)
    ]


def _both(nodes: Sequence[str]) -> tuple[str, str]:
    """Returns the plain and the rich form of some texts."""
    rich = (f"[button] {node} [button_]\n" if isinstance(node, _Button) else f"{node}\n" for node in nodes)
    return SEPARATOR.join(node.strip() for node in nodes), "".join(rich)
