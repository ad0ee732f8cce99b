"""The environment `webshop`: a folder with the original's files, one task for each goal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from d2skill.config import WebshopConfig
from d2skill.envs.webshop.action_labels import labels
from d2skill.envs.webshop.catalogue import Catalogue
from d2skill.envs.webshop.display import described, shown
from d2skill.envs.webshop.expert import Shopper
from d2skill.envs.webshop.goals import Goal, GoalSet, make_goals
from d2skill.envs.webshop.instruction import Wish, wish_in
from d2skill.envs.webshop.lazy_sequence import Made
from d2skill.envs.webshop.pages import SEPARATOR, Page
from d2skill.envs.webshop.shop import Shop
from d2skill.envs.webshop.splits import panel, split_goals
from d2skill.errors import ConfigError
from d2skill.protocols import Expert
from d2skill.types import Observation, Task

VARIABLE = "WEBSHOP_DATA"
"""The environment variable with the data folder."""

_FORMS = ("search[...]",)


class WebshopSession:
    """One episode of one goal. The page is shown without the instruction, which is the task."""

    def __init__(self, shop: Shop, goal: Goal, task: Task, settings: WebshopConfig) -> None:
        self._shop, self._task, self._settings = shop, task, settings
        self._wish: Wish = wish_in(goal.text)
        self._instruction = goal.text if settings.rich else goal.text.strip()
        self._observation = self._seen(shop.reset(goal))

    @property
    def task(self) -> Task:
        """The task that is being played."""
        return self._task

    @property
    def observation(self) -> Observation:
        """The current observation."""
        return self._observation

    @property
    def display_text(self) -> str:
        """The page in lines, the same for both forms of it; see `HumanReadable`."""
        return shown(self._shop)

    @property
    def action_notes(self) -> Mapping[str, str]:
        """Price and title of the products that can be clicked."""
        return described(self._shop)

    def step(self, action: str) -> Observation:
        """Plays an action; one that is not admissible leaves the page as it is."""
        self._observation = self._seen(self._shop.step(action))
        return self._observation

    def _seen(self, page: Page) -> Observation:
        if page.done:
            return Observation(self._text(page), done=True, success=page.reward == 1, score=page.reward)
        clicks = [f"click[{name}]" for name in page.click if name != "search"]
        queries = self._wish.queries[: self._settings.queries] if page.search else ()
        actions = (*(f"search[{query}]" for query in queries), *clicks)
        return Observation(self._text(page), actions, forms=_FORMS, labels=labels(actions, self._shop, self._wish))

    def _text(self, page: Page) -> str:
        shown, between = (page.rich, "\n") if self._settings.rich else (page.text, SEPARATOR)
        for colon in (":", ": "):  # the first page has a blank more
            shown = shown.replace(f"Instruction{colon}{between}{self._instruction}{between}", "", 1)
        return shown


class WebshopEnvironment:
    """WebShop's goals over its products; see `Environment` and `SupportsExpert`.

    All sessions share one catalogue. Raises `ConfigError` when no data folder is named or it lacks a file.
    """

    def __init__(self, data: Path | None, settings: WebshopConfig) -> None:
        named = str(data) if data is not None else os.environ.get(VARIABLE, "")
        if not named:
            raise ConfigError(f"webshop needs its products: name their folder with --data or ${VARIABLE}")
        self._settings = settings
        self._catalogue = Catalogue.load(Path(named).expanduser())
        self._goals: GoalSet = make_goals(self._catalogue, seed=settings.seed, human=settings.goals == "human")
        count = len(self._goals.goals)
        own = split_goals(count, settings.seed, shuffle=self._catalogue.storage.shuffled)
        self._splits = tuple(own)
        self._split_of = np.zeros(count, np.uint8)
        for place, numbers in enumerate(own.values()):
            self._split_of[numbers.numbers] = place

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns the ids of a split's goals: train, validation or test, or one of the original's (see panels).

        Each is made when it is asked for, as there may be millions. Raises `ConfigError` for an unknown split.
        """
        count, kind = len(self._goals.goals), self._settings.goals
        numbers = panel(split, count, self._settings.seed, self._catalogue.storage.shuffled).numbers
        return Made(numbers, lambda number: f"{kind}/{number:05d}")

    def start(self, task_id: str) -> WebshopSession:
        """Starts a fresh episode. Raises `ConfigError` for an id that names no goal."""
        number = self._number(task_id)
        goal = self._goals.goals[number]
        task = Task(task_id, goal.text, self._splits[self._split_of[number]], goal.category)
        return WebshopSession(Shop(self._catalogue, self._goals.prices), goal, task, self._settings)

    def expert(self, task: Task, hints: Sequence[str], seed: int) -> Expert:
        """Returns a shopper that goes by the text, trying first what the hints name."""
        return Shopper(task.text, hints, seed)

    def _number(self, task_id: str) -> int:
        kind, _, number = task_id.partition("/")
        if kind != self._settings.goals or not number.isdecimal() or int(number) >= len(self._goals.goals):
            example = "".join(f", such as {one}" for one in self.task_ids("train")[:1])
            raise ConfigError(
                f"there is no goal {task_id} among {len(self._goals.goals)} {self._settings.goals} ones: name one of "
                f"`task_ids`{example}"
            )
        return int(number)
