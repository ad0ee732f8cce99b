"""Pages of the shop, as the original's `text` and `text_rich` observations.

The original renders HTML and parses it again; here the strings are built at once, with the same effects on texts: one
of nothing but ASCII blanks becomes a single blank, or is left out if a line break is among them, and the plain form
strips each text.
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
    """One page of the shop.

    `text` and `rich` are its two forms, `search` is True if it has a search bar, `click` lists the names that can be
    clicked. `reward` and its `parts`, by the original's names, come with the purchase, which is `done`.
    """

    text: str
    rich: str
    search: bool
    click: tuple[str, ...]
    done: bool = False
    reward: float = 0.0
    parts: Mapping[str, float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PageHeader:
    """The top of all pages of one goal but the first and the last, in both forms, and the whole first page."""

    text: str
    rich: str
    first_page: Page

    @classmethod
    def of_instruction(cls, instruction: str) -> PageHeader:
        """Returns the header of a goal's pages."""
        texts = _parsed_texts(instruction)
        text, rich = _both_forms([*_parsed_texts("Instruction:", *texts), _Button(_BACK)])
        first = _both_forms(["WebShop", "Instruction: ", *texts, _Button("Search")])
        return cls(text, rich, Page(*first, True, ("search",)))


class _Button(str):
    """The caption of a button."""

    __slots__ = ()


def results_page(
    header: PageHeader, products: Sequence[Product], page: int, total: int, visited: Iterable[str]
) -> Page:
    """Returns a page of search results. There is always a next page, empty or not.

    Args:
        header: The top of the goal's pages.
        products: The results on this page.
        page: Its number, from 1.
        total: The number of results on all pages.
        visited: Asins of products that are marked as clicked.
    """
    buttons = [_PREVIOUS, _NEXT] if page > 1 else [_NEXT]
    text, rich = _both_forms([f"Page {page} (Total results: {total})", *map(_Button, buttons)])
    seen = frozenset(visited)
    texts, riches = [text], [rich]
    for product in products:
        text, clicked, unclicked = _result(product)
        texts.append(text)
        riches.append(clicked if product.asin in seen else unclicked)
    names = dict.fromkeys([*(name.lower() for name in buttons), *(product.asin.lower() for product in products)])
    return _page(header, SEPARATOR.join(texts), "".join(riches), tuple(names))


def item_page(header: PageHeader, product: Product, url: str) -> Page:
    """Returns the page of a product.

    An option is marked as clicked if it stands in quotes in the page's address. The original looks there too, so an
    option that JSON writes differently is never marked, and one that was searched for in quotes always is.
    """
    item = _item(product)
    if '"' not in url:
        return _page(header, item.text, item.rich, item.click)
    rich, notes = [item.top], ""
    for name, values in item.options:
        rich.append(name)
        for value in values:
            clicked = f'"{value}"' in url
            mark = "clicked button" if clicked else "button"
            rich.append(f"  [{mark}] {value} [{mark}_]\n")
            if clicked:
                notes = f"You have clicked {value}.\n{notes}"
    return _page(header, item.text, f"{''.join(rich)}{item.bottom}", item.click, notes)


def sub_page(header: PageHeader, product: Product, name: str) -> Page:
    """Returns the page with a product's description, features, reviews (there are none) or attributes."""
    return _page(header, *_sub_page(product, name), ("< prev",))


def last_page(asin: str, options: Mapping[str, str], reward: float, parts: Mapping[str, float | bool]) -> Page:
    """Returns the page after a purchase, which shows nothing of the goal.

    Args:
        asin: The product that was bought.
        options: Its options that were clicked, by name.
        reward: The reward, 0 to 1.
        parts: The parts of the reward, by the original's names.
    """
    bought = json.dumps(options, sort_keys=True)
    for sign in "<>&'":
        bought = bought.replace(sign, f"\\u{ord(sign):04x}")
    text, rich = _both_forms(
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
    """Returns the name of the option that each value belongs to; the last one if several share the value."""
    return _item(product).name_of_value


@dataclass(frozen=True, slots=True)
class _Item:
    """The page of a product below its header. `rich` is `top`, the options as not clicked, and `bottom`."""

    text: str
    rich: str
    click: tuple[str, ...]
    top: str
    options: tuple[tuple[str, tuple[str, ...]], ...]
    """Names, each as its line of the rich form, with their values."""
    bottom: str
    name_of_value: Mapping[str, str]


@lru_cache(maxsize=4096)
def _item(product: Product) -> _Item:
    buttons = ["Description", "Features", "Reviews", "Buy Now"]
    about = _parsed_texts(product.title, f"Price: {product.price}", f"Rating: {RATING}")
    top = _both_forms([_Button(_PREVIOUS)])
    bottom = _both_forms([*about, *map(_Button, buttons)])
    options = [
        ("".join(f"{text}\n" for text in _parsed_texts(name)), tuple(_parsed_texts(*values)))
        for name, values in product.options.items()
    ]
    texts = [text for name, values in product.options.items() for text in _parsed_texts(name, *values)]
    rich = [name + "".join(f"  [button] {value} [button_]\n" for value in values) for name, values in options]
    name_of_value = {value: name for name, values in product.options.items() for value in values}
    click = dict.fromkeys([_BACK.lower(), _PREVIOUS.lower(), *(name.lower() for name in buttons), *name_of_value])
    return _Item(
        text=SEPARATOR.join([top[0], *(text.strip() for text in texts), bottom[0]]),
        rich="".join([top[1], *rich, bottom[1]]),
        click=tuple(click)[1:],
        top=top[1],
        options=tuple(options),
        bottom=bottom[1],
        name_of_value=MappingProxyType(name_of_value),
    )


@lru_cache(maxsize=4096)
def _result(product: Product) -> tuple[str, str, str]:
    """Returns a product among search results: its text, and its rich form after and before it was clicked."""
    text, rich = _both_forms(_parsed_texts(product.title, product.price))
    text = SEPARATOR.join([product.asin, text])
    clicked = f"\n[clicked button] {product.asin} [clicked button_]\n{rich}"
    return text, clicked, f"\n[button] {product.asin} [button_]\n{rich}"


@lru_cache(maxsize=4096)
def _sub_page(product: Product, name: str) -> tuple[str, str]:
    texts: list[str] = []
    if name == "description":
        texts = [product.description]
    elif name == "features":
        texts = [f" {bullet}" for bullet in product.bullets]
    elif name == "attributes":
        attributes = [f" {attribute}" for attribute in product.attributes]
        texts = [*attributes, product.category, product.query, product.product_category]
    return _both_forms([_Button(_PREVIOUS), *_parsed_texts(*texts)])


def _page(header: PageHeader, text: str, rich: str, click: tuple[str, ...], notes: str = "") -> Page:
    """Returns a page with a header; the rich form begins with some lines of notes."""
    return Page(f"{header.text}{SEPARATOR}{text}", f"{notes}{header.rich}{rich}", False, ("back to search", *click))


def _parsed_texts(*texts: str) -> list[str]:
    """Returns the texts that remain when a page with them is parsed."""
    return [
        text if text.strip(_BLANKS) else " " for text in texts if text.strip(_BLANKS) or (text and "\n" not in text)
    ]


def _both_forms(texts: Sequence[str]) -> tuple[str, str]:
    """Returns the plain and the rich form of some texts."""
    rich = (f"[button] {text} [button_]\n" if isinstance(text, _Button) else f"{text}\n" for text in texts)
    return SEPARATOR.join(text.strip() for text in texts), "".join(rich)
