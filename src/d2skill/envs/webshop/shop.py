"""Shop session of one shopper: the effects of actions, as in the original's text environment.

The original's oddities are kept. A search works on every page, whether it has a search bar or not. The kind of a page
is read off its address, in which the words of the search stand, so a search for `item_page` confuses the way back.
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
from d2skill.envs.webshop.catalogue import MAX_RESULTS, Catalogue
from d2skill.envs.webshop.goals import Goal
from d2skill.envs.webshop.pages import (
    PER_PAGE,
    SUB_PAGES,
    Page,
    PageHeader,
    item_page,
    last_page,
    option_names,
    results_page,
    sub_page,
)
from d2skill.envs.webshop.product import Product
from d2skill.envs.webshop.reward import NounFinder, compute_reward

_ACTION = re.compile(r"(.+)\[(.+)\]")
_PAGE_KINDS = ("search_results", "item_page", "item_sub_page", "done")
_PAGE_TURNS = {("next >", "search_results"): 1, ("< prev", "search_results"): -1, ("< prev", "item_page"): 0}
_MAX_TERMS = 1024


class Shop:
    """A session of one shopper. It is small, so that thousands of them can share a catalogue."""

    def __init__(self, catalogue: Catalogue, prices: Mapping[str, float], nouns: NounFinder | None = None) -> None:
        """Makes a shop without a shopper.

        Args:
            catalogue: The products.
            prices: The price of each product by asin, as its goals were made for; in dollars.
            nouns: Finds the nouns of a title, for the reward; the default is `reward.default_noun_finder`.
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
        """The current page. Raises `RuntimeError` before the first `reset`."""
        if self._goal is None:
            raise RuntimeError("a shop has no page before reset")
        return self._page

    @property
    def options(self) -> Mapping[str, str]:
        """The options of the current product that were clicked, by name."""
        return dict(self._options)

    @property
    def product(self) -> Product | None:
        """The product of the current page, None on other pages."""
        return self._product() if self._asin else None

    def linked_product(self, name: str) -> Product | None:
        """Returns the product that a name on the page leads to, None if it leads elsewhere."""
        return self._catalogue.find(name.upper()) if name in self.page.click and not self._asin else None

    def reset(self, goal: Goal | Mapping[str, Any]) -> Page:
        """Starts a new session with a goal, or a record of one (see `Goal.from_record`), and returns its first page."""
        self._goal = goal if isinstance(goal, Goal) else Goal.from_record(goal)
        self._header = PageHeader.of_instruction(self._goal.text)
        self._searches = 0
        return self._start()

    def step(self, action: str) -> Page:
        """Plays `search[WORDS]` or `click[NAME]`; anything else, or a name that is not there, leaves the page."""
        page = self.page
        match = _ACTION.match(action)
        if match is None:
            return page
        verb, argument = match[1], match[2].lower()
        if verb == "search":
            return self._search(argument.split(" "), 1)
        if verb == "click" and argument in page.click and argument != "search":
            return self._click(argument)
        return page

    def _clear(self) -> None:
        self._url = ""
        self._keywords: list[str] = []
        self._page_number = 1
        self._asin = ""
        self._visited: frozenset[str] = frozenset()
        self._options: dict[str, str] = {}

    def _start(self) -> Page:
        self._clear()
        self._page = self._header.first_page
        return self._page

    def _click(self, name: str) -> Page:
        """Follows a name on the page; by the name alone, so an option called `description` leads to that page."""
        kind = next((kind for kind in _PAGE_KINDS if kind in self._url), "")
        if name == "buy now":
            return self._buy()
        if name == "back to search":
            return self._start()
        if (turn := _PAGE_TURNS.get((name, kind))) is not None:
            return self._search(self._keywords, self._page_number + turn)
        if name in SUB_PAGES:
            return self._open_sub_page(name)
        return self._open_item(name)

    def _search(self, keywords: list[str], number: int) -> Page:
        self._searches += 1
        results = self._results(keywords)
        if results is None:
            return self._page
        # A page number below 1 counts from the end, as in the original.
        asins = results[(number - 1) * PER_PAGE : number * PER_PAGE]
        products = [product for asin in asins if (product := self._catalogue.find(asin)) is not None]
        self._keywords, self._page_number, self._asin, self._options = keywords, number, "", {}
        self._url = f"search_results/{'+'.join(keywords)}/{number}"
        self._page = results_page(self._header, products, number, len(results), self._visited)
        return self._page

    def _results(self, keywords: list[str]) -> Sequence[str] | None:
        """Returns the asins of a search's results, None where the original fails."""
        catalogue = self._catalogue
        numbers: Sequence[int]
        match keywords[0]:
            case "<r>":
                if len(catalogue) < MAX_RESULTS:
                    return None
                random = Random(f"{self.goal.asin} {self.goal.text} {self._searches}")
                numbers = random.sample(range(len(catalogue)), MAX_RESULTS)
            case "<a>":
                return None
            case "<c>":
                if len(keywords) < 2:
                    return None
                numbers = catalogue.store.members("category", keywords[1].strip())
            case "<q>":
                numbers = catalogue.store.members("query", " ".join(keywords[1:]).strip())
            case _:
                query = " ".join(keywords)
                if len(query) > 2 * _MAX_TERMS and len(set(analyze(query))) > _MAX_TERMS:
                    return None
                return [asin for asin, _ in catalogue.search(query)]
        return [catalogue.product(number).asin for number in numbers]

    def _open_item(self, name: str) -> Page:
        """Opens a product that was clicked among results, or the present one with an option that was clicked."""
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
        self._url = f"item_page/{self._address}/{json.dumps(self._options)}"
        self._page = item_page(self._header, self._product(), self._url)
        return self._page

    def _open_sub_page(self, name: str) -> Page:
        self._url = f"item_sub_page/{self._address}/{name.title()}/{self._options}"
        self._page = sub_page(self._header, self._product(), name)
        return self._page

    @property
    def _address(self) -> str:
        """The part of an address that names the product and the way to it."""
        return f"{self._asin}/{'+'.join(self._keywords)}/{self._page_number}"

    def _buy(self) -> Page:
        price = self._prices[self._asin]
        reward = compute_reward(self._product(), self.goal, price, self._options, self._nouns)
        self._url = f"done/{self._asin}/{self._options}"
        self._page = last_page(self._asin, self._options, reward.value, reward.parts)
        return self._page

    def _product(self) -> Product:
        product = self._catalogue.find(self._asin)
        assert product is not None, self._asin
        return product
