"""One shopper in the shop: what actions do, as the original's text environment has it.

What is odd here is odd there. A search works on every page, whether it has a search bar or not. Where one is, is read
off the page's address, in which the words of the search stand, so a search for `item_page` confuses the way back.
Searches for `<r>`, `<c> NAME` and `<q> NAME` list products at random, of a category, of a query; the random ones are
drawn anew for each page, here by a seed of the goal. Where the original would stop with an exception, the page stays:
a search for `<a>`, for `<c>` alone, for more than 1,024 different words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from d2skill.envs.text_search import analyze
from d2skill.envs.webshop.catalogue import FOUND, Catalogue
from d2skill.envs.webshop.goals import Goal
from d2skill.envs.webshop.nouns import Nouns
from d2skill.envs.webshop.pages import (
    PER_PAGE,
    SUB_PAGES,
    Head,
    Page,
    item_page,
    last_page,
    option_names,
    results_page,
    sub_page,
)
from d2skill.envs.webshop.product import Product
from d2skill.envs.webshop.reward import reward

_ACTION = re.compile(r"(.+)\[(.+)\]")
_PLACES = ("search_results", "item_page", "item_sub_page", "done")
_MOST_TERMS = 1024


class Shop:
    """A session of one shopper. It holds next to nothing, so thousands of them share a catalogue."""

    __slots__ = (
        "_asin",
        "_catalogue",
        "_goal",
        "_head",
        "_keywords",
        "_nouns",
        "_number",
        "_options",
        "_page",
        "_prices",
        "_searches",
        "_url",
        "_visited",
    )

    def __init__(self, catalogue: Catalogue, prices: Mapping[str, float], nouns: Nouns | None = None) -> None:
        """Makes a shop whose products have the prices that its goals were made for, by asin.

        `nouns` finds the nouns of a title, for the reward; without it, what `find_nouns` returns does.
        """
        self._catalogue = catalogue
        self._prices = prices
        self._nouns = nouns
        self._goal: Goal | None = None
        self._searches = 0
        self._clear()

    @property
    def goal(self) -> Goal:
        """The goal of this session. Raises `RuntimeError` before the first `reset`."""
        if self._goal is None:
            raise RuntimeError("a shop has no goal before reset")
        return self._goal

    @property
    def page(self) -> Page:
        """The page that is seen. Raises `RuntimeError` before the first `reset`."""
        if self._goal is None:
            raise RuntimeError("a shop has no page before reset")
        return self._page

    @property
    def options(self) -> Mapping[str, str]:
        """The options that were clicked of the product that is looked at, by name."""
        return dict(self._options)

    @property
    def product(self) -> Product | None:
        """The product that is looked at, None elsewhere."""
        return self._product() if self._asin else None

    def result(self, name: str) -> Product | None:
        """Returns the product that a name on the page leads to, None if it leads elsewhere."""
        return self._catalogue.find(name.upper()) if name in self.page.click and not self._asin else None

    def reset(self, goal: Goal | Mapping[str, Any]) -> Page:
        """Sends a new shopper in, with a goal or a record of one (see `Goal.of`)."""
        self._goal = goal if isinstance(goal, Goal) else Goal.of(goal)
        self._head = Head.of(self._goal.text)
        self._searches = 0
        return self._start()

    def step(self, action: str) -> Page:
        """Does `search[WORDS]` or `click[NAME]`; anything else, or a name that is not there, leaves the page."""
        page = self.page
        found = _ACTION.match(action)
        if found is None:
            return page
        name, argument = found[1], found[2].lower()
        if name == "search":
            return self._search(argument.split(" "), 1)
        if name == "click" and argument in page.click and argument != "search":
            return self._click(argument)
        return page

    def _clear(self) -> None:
        self._url = ""
        self._keywords: list[str] = []
        self._number = 1
        self._asin = ""
        self._visited: frozenset[str] = frozenset()
        self._options: dict[str, str] = {}

    def _start(self) -> Page:
        self._clear()
        self._page = self._head.first
        return self._page

    def _click(self, name: str) -> Page:
        """Follows a name that is on the page; by name alone, so an option called `description` leads there."""
        place = next((place for place in _PLACES if place in self._url), "")
        if name == "buy now":
            return self._buy()
        if name == "back to search":
            return self._start()
        if name == "next >" and place == "search_results":
            return self._search(self._keywords, self._number + 1)
        if name == "< prev" and place == "search_results":
            return self._search(self._keywords, self._number - 1)
        if name == "< prev" and place == "item_page":
            return self._search(self._keywords, self._number)
        if name in SUB_PAGES:
            return self._look_up(name)
        return self._look_at(name)

    def _search(self, keywords: list[str], number: int) -> Page:
        self._searches += 1
        found = self._find(keywords)
        if found is None:
            return self._page
        # A page number below 1 counts from the end, as in the original.
        shown = found[(number - 1) * PER_PAGE : number * PER_PAGE]
        products = [product for asin in shown if (product := self._catalogue.find(asin)) is not None]
        self._keywords, self._number, self._asin, self._options = keywords, number, "", {}
        self._url = f"search_results/{'+'.join(keywords)}/{number}"
        self._page = results_page(self._head, products, number, len(found), self._visited)
        return self._page

    def _find(self, keywords: list[str]) -> Sequence[str] | None:
        """Returns the asins that a search finds, None where the original fails."""
        catalogue = self._catalogue
        numbers: Sequence[int]
        match keywords[0]:
            case "<r>":
                if len(catalogue) < FOUND:
                    return None
                numbers = Random(f"{self.goal.asin} {self.goal.text} {self._searches}").sample(
                    range(len(catalogue)), FOUND
                )
            case "<a>":
                return None
            case "<c>":
                if len(keywords) < 2:
                    return None
                numbers = catalogue.of_kind("category", keywords[1].strip())
            case "<q>":
                numbers = catalogue.of_kind("query", " ".join(keywords[1:]).strip())
            case _:
                query = " ".join(keywords)
                if len(query) > 2 * _MOST_TERMS and len(set(analyze(query))) > _MOST_TERMS:
                    return None
                return [asin for asin, _ in catalogue.search(query)]
        return [catalogue.product(number).asin for number in numbers]

    def _look_at(self, name: str) -> Page:
        """Shows a product: one that was clicked among results, or the present one with an option that was clicked."""
        if not self._asin:
            asin = name.upper()
            if self._catalogue.find(asin) is None:  # an asin with small letters, with which the original fails
                return self._page
            self._asin = asin
            self._visited |= {asin}
        elif self._url.startswith("item_page"):
            option = option_names(self._product()).get(name)
            if option is not None:
                self._options[option.lower()] = name
        self._url = f"item_page/{self._asin}/{'+'.join(self._keywords)}/{self._number}/{json.dumps(self._options)}"
        self._page = item_page(self._head, self._product(), self._url)
        return self._page

    def _look_up(self, name: str) -> Page:
        self._url = (
            f"item_sub_page/{self._asin}/{'+'.join(self._keywords)}/{self._number}/{name.title()}/{self._options}"
        )
        self._page = sub_page(self._head, self._product(), name)
        return self._page

    def _buy(self) -> Page:
        product = self._product()
        price = self._prices[self._asin]
        earned = reward(product, self.goal, price, self._options, self._nouns)
        self._url = f"done/{self._asin}/{self._options}"
        self._page = last_page(self._asin, self._options, earned.value, earned.parts)
        return self._page

    def _product(self) -> Product:
        product = self._catalogue.find(self._asin)
        assert product is not None, self._asin
        return product
