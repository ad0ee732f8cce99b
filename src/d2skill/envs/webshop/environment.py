"""WebShop as an `Environment` (kind `webshop`): a folder with the original's files, one task for each goal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from d2skill.config import WebshopConfig
from d2skill.envs.webshop.catalogue import Catalogue
from d2skill.envs.webshop.expert import ScriptedShopper
from d2skill.envs.webshop.goals import GoalSet, goals_of_split, make_goals, split_goals, split_products
from d2skill.envs.webshop.instruction import parse_instruction
from d2skill.envs.webshop.lazy_sequence import LazySequence
from d2skill.envs.webshop.pages import SEPARATOR, SUB_PAGES, Page
from d2skill.envs.webshop.product import RATING, Product
from d2skill.envs.webshop.shop import Shop
from d2skill.errors import ConfigError
from d2skill.protocols import Expert
from d2skill.types import Observation, Task

VARIABLE = "WEBSHOP_DATA"
"""The environment variable with the data folder."""

_FORMS = ("search[...]",)
_BUTTON_LABELS = {"back to search": "back", "next >": "next", "< prev": "previous"} | {
    name: f"page {name}" for name in SUB_PAGES
}
_REWARD_TERMS = {"att": "attributes", "option": "options", "price": "price"}  # by the original's names


class WebshopSession:
    """One episode of one goal. The page is shown without the instruction, which is the task."""

    def __init__(self, shop: Shop, task: Task, settings: WebshopConfig) -> None:
        """Wraps a shop that has been reset to the goal of the task."""
        self.task = task
        self._shop, self._settings = shop, settings
        self._wanted = parse_instruction(task.text)
        self._instruction = task.text if settings.rich else task.text.strip()
        self.observation = self._observe(shop.page)

    @property
    def display_text(self) -> str:
        """The page in lines, without what can be clicked, the same for both forms of it; see `HumanReadable`."""
        page, product = self._shop.page, self._shop.product
        if page.search:
            return "WebShop"
        _, _, below = page.text.partition(f"Back to Search{SEPARATOR}")
        texts = [text for text in below.split(SEPARATOR) if text.lower() not in page.click]
        if product is None:
            return texts[0]
        if page.done:
            return _display_of_purchase(product, page, self._shop.options)
        if "buy now" in page.click:
            return _display_of_product(product, self._shop.options)
        return "\n".join(texts) or "There is nothing on this page."

    @property
    def action_notes(self) -> Mapping[str, str]:
        """Price and title of the products that can be clicked, by action."""
        click = self._shop.page.click
        results = {name: item for name in click if (item := self._shop.linked_product(name)) is not None}
        widest = max((len(item.price) for item in results.values()), default=0)
        return {f"click[{name}]": f"{item.price:<{widest}}  {item.title.strip()}" for name, item in results.items()}

    def step(self, action: str) -> Observation:
        """Plays an action; one that is not admissible leaves the page as it is."""
        self.observation = self._observe(self._shop.step(action))
        return self.observation

    def _observe(self, page: Page) -> Observation:
        if page.done:
            return Observation(self._text(page), done=True, success=page.reward == 1, score=page.reward)
        clicks = [f"click[{name}]" for name in page.click if name != "search"]
        queries = self._wanted.queries[: self._settings.queries] if page.search else ()
        actions = (*(f"search[{query}]" for query in queries), *clicks)
        return Observation(self._text(page), actions, forms=_FORMS, labels=tuple(map(self._label, actions)))

    def _text(self, page: Page) -> str:
        text, separator = (page.rich, "\n") if self._settings.rich else (page.text, SEPARATOR)
        for colon in (":", ": "):  # the first page has a blank more
            text = text.replace(f"Instruction{colon}{separator}{self._instruction}{separator}", "", 1)
        return text

    def _label(self, action: str) -> str:
        """Returns the label of an action: its kind first, then words of this page or of the one before."""
        verb, _, name = action[:-1].partition("[")
        if verb == "search":
            return f"query {name}"
        if name in _BUTTON_LABELS:
            return _BUTTON_LABELS[name]
        product, chosen = self._shop.product, self._shop.options.values()
        if product is None:
            result = self._shop.linked_product(name)
            return f"name {name}" if result is None else f"{self._price_label(result)} {result.title}"
        if name == "buy now":
            return f"buy-{self._price_label(product)} {' '.join((product.title, *chosen))}"
        return f"{'chosen' if name in chosen else 'option'} {name}"

    def _price_label(self, product: Product) -> str:
        """Returns "costly" for a product whose lowest price on its page is over the limit, else "product"."""
        limit = self._wanted.price_limit
        return "costly" if limit is not None and product.pricing[0] > limit else "product"


def _display_of_product(product: Product, chosen: Mapping[str, str]) -> str:
    options = [f"{name}: {'; '.join(filter(None, values))}" for name, values in product.options.items()]
    lines = [product.title.strip(), f"Price: {product.price}", f"Rating: {RATING}", *options]
    return "\n".join([*lines, f"You have chosen {_in_words(chosen)}."] if chosen else lines)


def _display_of_purchase(product: Product, page: Page, chosen: Mapping[str, str]) -> str:
    """Returns the product that was bought, and the reward as a formula."""
    bought = product.title.strip() + (f" ({_in_words(chosen)})" if chosen else "")
    terms = " + ".join(
        f"{page.parts[f'r_{name}']:.2f} {term} x {page.parts[f'w_{name}']:.2f}"
        for name, term in _REWARD_TERMS.items()
        if f"r_{name}" in page.parts
    )
    formula = f"{page.reward:.2f} = {page.parts['r_type']:.2f} kind of product x ({terms})"
    score = f"Your score (min 0.0, max 1.0): {formula}"
    return f"Thank you for shopping with us!\nYou have bought {bought}.\n{score}"


def _in_words(options: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in options.items())


class WebshopEnvironment:
    """WebShop's goals over its products; see `Environment` and `SupportsExpert`.

    All sessions share one catalogue. Raises `ConfigError` when no data folder is named or it lacks a file.
    """

    def __init__(self, data: Path | None, settings: WebshopConfig) -> None:
        folder = str(data) if data is not None else os.environ.get(VARIABLE, "")
        if not folder:
            raise ConfigError(f"webshop needs its products: name their folder with --data or ${VARIABLE}")
        self._settings = settings
        self._catalogue = Catalogue.load(Path(folder).expanduser())
        self._goals: GoalSet = make_goals(self._catalogue, seed=settings.seed, human=settings.goals == "human")
        count = len(self._goals.goals)
        shuffled = self._catalogue.store.shuffled
        self._order = shuffled(count, settings.seed)
        self._splits = (
            split_products(self._order, self._goals.products(), shuffled(len(self._catalogue), settings.seed))
            if settings.split_by == "product"
            else split_goals(self._order)
        )
        self._names = tuple(self._splits)
        self._split_of = np.zeros(count, np.uint8)
        for place, numbers in enumerate(self._splits.values()):
            self._split_of[numbers] = place

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns the ids of a split's goals: train, validation or test, or one of `goals.PUBLISHED_SPLITS`.

        Each is made when it is asked for, as there may be millions. Raises `ConfigError` for an unknown split.
        """
        kind = self._settings.goals
        return LazySequence(goals_of_split(split, self._order, self._splits), lambda number: f"{kind}/{number:05d}")

    def start(self, task_id: str) -> WebshopSession:
        """Starts a fresh episode. Raises `ConfigError` for an id that names no goal."""
        number = self._number(task_id)
        goal = self._goals.goals[number]
        task = Task(task_id, goal.text, self._names[self._split_of[number]], goal.category)
        shop = Shop(self._catalogue, self._goals.prices)
        shop.reset(goal)
        return WebshopSession(shop, task, self._settings)

    def expert(self, task: Task, hints: Sequence[str], seed: int) -> Expert:
        """Returns a scripted shopper that goes by the text, trying first what the hints name."""
        return ScriptedShopper(task.text, hints, seed)

    def _number(self, task_id: str) -> int:
        kind, _, number = task_id.partition("/")
        if kind != self._settings.goals or not number.isdecimal() or int(number) >= len(self._goals.goals):
            example = "".join(f", such as {known}" for known in self.task_ids("train")[:1])
            raise ConfigError(
                f"there is no goal {task_id} among {len(self._goals.goals)} {self._settings.goals} ones: name one of "
                f"`task_ids`{example}"
            )
        return int(number)
