"""Goals: the tasks that the original makes of a catalogue, in its order, and their splits.

The original draws prices while it loads products, then the price limits of the goals, from Python's generator, which it
does not seed; then it seeds it with 233 and shuffles the goals. Here the first seed is a parameter.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from d2skill.envs.webshop.catalogue import Catalogue
from d2skill.envs.webshop.lazy_sequence import LazySequence, Numbers
from d2skill.envs.webshop.product_store import Author, Instructions
from d2skill.errors import ConfigError, DataError

PUBLISHED_SPLITS: Mapping[str, slice] = {
    "published-test": slice(0, 500),
    "published-eval": slice(500, 1500),
    "published-train": slice(1500, None),
}
"""The original's slices of the goals in their order. Its published figures are those of the 500 test goals."""

SPLIT_SHARES: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}

SHUFFLE_SEED = 233
MAX_GOALS = (1 << 31) - 1
NO_LIMIT = 1_000_000
"""The price limit of goals whose product costs too much for one."""

_LIMITS = tuple(10.0 * i for i in range(1, 100))


@dataclass(frozen=True, slots=True)
class Goal:
    """One task: the instruction, and the attributes, options and price limit that a purchase is scored by.

    `options` are by name in synthetic goals, a tuple of values in those by people. `weight` is how often the original
    draws the goal, relative to others.
    """

    asin: str
    text: str
    attributes: tuple[str, ...]
    price_upper: float
    options: Mapping[str, str] | tuple[str, ...]
    name: str
    category: str
    query: str
    product_category: str
    weight: float = 1.0

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Goal:
        """Returns a goal from a record with the original's names: asin, instruction_text, goal_options ...

        Raises `KeyError` for one that lacks a name; without a weight, it is 1.
        """
        options = record["goal_options"]
        return cls(
            text=record["instruction_text"],
            attributes=tuple(record["attributes"]),
            options=dict(options) if isinstance(options, Mapping) else tuple(options),
            weight=record.get("weight", 1.0),
            **{name: record[name] for name in ("asin", "price_upper", "name", "category", "query", "product_category")},
        )


class ProductPrices(Mapping[str, float]):
    """The price of each product by asin, kept as one number a product."""

    def __init__(self, catalogue: Catalogue, prices: npt.NDArray[np.float64]) -> None:
        self._catalogue = catalogue
        self._prices = prices

    def __getitem__(self, asin: str) -> float:
        number = self._catalogue.number(asin)
        if number is None:
            raise KeyError(asin)
        return float(self._prices[number])

    def __iter__(self) -> Iterator[str]:
        return iter(self._catalogue.store.asins())

    def __len__(self) -> int:
        return len(self._prices)


@dataclass(frozen=True)
class GoalSet:
    """All goals of a catalogue in the original's order, with the prices that they were made for.

    A goal is made when it is asked for, each time anew.
    """

    goals: Sequence[Goal]
    prices: Mapping[str, float] = field(repr=False)
    weights: Callable[[], npt.NDArray[np.float64]] = field(repr=False, compare=False)
    """Returns the weights of all goals without making the goals."""
    products: Callable[[], Numbers] = field(repr=False, compare=False)
    """Returns the number of each goal's product without making the goals."""

    @cached_property
    def cumulative_weights(self) -> npt.NDArray[np.float64]:
        """The weights summed up, from 0 to the sum of all."""
        sums = np.zeros(len(self.goals) + 1)
        np.cumsum(self.weights(), out=sums[1:])
        return sums

    def draw(self, random: Random) -> int:
        """Returns the number of a goal, drawn by weight as the original draws one for a session without a number.

        It is off by one, as the original is: the first goal is never drawn, the last one with its own weight and
        another.
        """
        sums = self.cumulative_weights
        place = int(np.searchsorted(sums, random.uniform(0, float(sums[-1])), side="right"))
        return min(place, len(self.goals) - 1)


def make_goals(catalogue: Catalogue, seed: int = 0, human: bool = False) -> GoalSet:
    """Returns the synthetic goals of a catalogue, or those by people, and the prices drawn before them.

    They are those of the original with its generator seeded so before it starts; it draws one number before prices.
    Raises `DataError` where products can be chosen in more ways than goals can be numbered.
    """
    random = Random(seed)
    random.getrandbits(32)
    prices = _draw_prices(catalogue, random)
    author: Author = "people" if human else "synthetic"
    store, instructions = catalogue.store, catalogue.store.instructions[author]
    count, products = instructions.goals, instructions.products
    if count > MAX_GOALS:
        raise DataError(f"the options of the products can be chosen in {count:,} ways: more than {MAX_GOALS:,}")
    limits = store.cached(f"limits-of-{author}-{seed}", len(products), lambda: _draw_limits(prices[products], random))
    order = store.shuffled(count, SHUFFLE_SEED)
    goals = LazySequence(order, lambda number: _make_goal(catalogue, instructions, limits, number))
    return GoalSet(
        goals,
        ProductPrices(catalogue, prices),
        lambda: np.repeat(instructions.weights, np.diff(instructions.ends))[order],
        lambda: np.repeat(products, np.diff(instructions.ends))[order],
    )


def split_goals(order: Numbers, shares: Mapping[str, float] = SPLIT_SHARES) -> dict[str, Numbers]:
    """Cuts a permutation of the goals' numbers into splits, so that each goal is in one of them.

    The splits follow each other in the order of `shares`, whose rounded sums are where the permutation is cut. Raises
    `ConfigError` for shares that do not add up to 1.
    """
    if any(share < 0 for share in shares.values()) or not 0.999 < sum(shares.values()) < 1.001:
        raise ConfigError(f"the shares of the splits must add up to 1, not {dict(shares)}")
    ends = [round(share * len(order)) for share in accumulate(shares.values())]
    return dict(zip(shares, np.split(order, ends), strict=False))


def split_products(order: Numbers, products: Numbers, turns: Numbers) -> dict[str, Numbers]:
    """Cuts a permutation of the goals' numbers into splits of `SPLIT_SHARES` that have no product in common.

    Products with more goals than a tenth of the smallest split are taken before all others, so they are in train: a few
    such products would be most of a test. That also keeps the shares.

    Args:
        order: The permutation, whose order the goals of each split keep.
        products: The number of each goal's product, by the number of the goal.
        turns: A permutation of the numbers of all products: the order in which they are taken.
    """
    goals = np.bincount(products, minlength=len(turns))
    large = goals > min(SPLIT_SHARES.values()) * len(order) / 10
    turns = turns[np.argsort(~large[turns], kind="stable")]
    middles = np.cumsum(goals[turns]) - goals[turns] / 2
    ends = np.array([*accumulate(SPLIT_SHARES.values())][:-1]) * len(order)
    split_of = np.empty(len(turns), np.uint8)
    split_of[turns] = np.searchsorted(ends, middles)
    places = split_of[products[order]]
    return {name: order[places == place] for place, name in enumerate(SPLIT_SHARES)}


def goals_of_split(name: str, order: Numbers, splits: Mapping[str, Numbers] | None = None) -> Numbers:
    """Returns the numbers of the goals of a split of ours, or of the original's.

    Ours are `splits`, or without them those that `split_goals` cuts from a permutation. Raises `ConfigError` for an
    unknown name, or an original split of a data set that has too few goals for it.
    """
    if (published := PUBLISHED_SPLITS.get(name)) is not None:
        numbers = np.arange(len(order), dtype=np.int32)[published]
        if not len(numbers):
            raise ConfigError(f"{name} is empty: there are only {len(order)} goals")
        return numbers
    if name not in SPLIT_SHARES:
        known = ", ".join([*SPLIT_SHARES, *PUBLISHED_SPLITS])
        raise ConfigError(f'webshop has no split "{name}": name one of {known}')
    return (split_goals(order) if splits is None else splits)[name]


def _draw_prices(catalogue: Catalogue, random: Random) -> npt.NDArray[np.float64]:
    """Returns a price for each product: its own, or one drawn from its range."""
    bounds = catalogue.store.price_bounds
    prices, high = bounds[:, 0].copy(), bounds[:, 1]
    ranges = np.flatnonzero(~np.isnan(high))
    drawn = np.array([random.random() for _ in range(len(ranges))])
    prices[ranges] += (high[ranges] - prices[ranges]) * drawn
    return prices


def _draw_limits(prices: npt.NDArray[np.float64], random: Random) -> npt.NDArray[np.uint8]:
    """Returns price limits in tens: the higher of two of the next four above a price, 0 where there are no two."""
    limits = bytearray()
    for price in prices.tolist():
        first = bisect(_LIMITS, price) + 1
        above = range(first, min(first + 4, len(_LIMITS) + 1))
        limits.append(max(random.sample(above, 2)) if len(above) > 1 else 0)
    return np.array(limits, np.uint8)


def _make_goal(catalogue: Catalogue, instructions: Instructions, limits: npt.NDArray[np.uint8], number: int) -> Goal:
    """Returns a goal by its number, which counts through the choices of options of each instruction's product."""
    place = int(np.searchsorted(instructions.ends, number, side="right")) - 1
    product = catalogue.product(int(instructions.products[place]))
    instruction, attributes, *by_people = instructions.lines[place]
    options: dict[str, str] | tuple[str, ...]
    if by_people:
        options, text = tuple(by_people[0]), instruction.strip(".")
    else:
        options = _choice_of_options(product.options, number - int(instructions.ends[place]))
        chosen = ", and ".join(f"{name}: {value}" for name, value in options.items())
        text = f"{instruction}{f' with {chosen}' if chosen else ''}"
    limit = _LIMITS[int(limits[place]) - 1] if limits[place] else NO_LIMIT
    return Goal(
        product.asin,
        text if limit == NO_LIMIT else f"{text}, and price lower than {limit:.2f} dollars",
        tuple(attributes),
        limit,
        options,
        product.title,
        product.category,
        product.query,
        product.product_category,
        float(instructions.weights[place]),
    )


def _choice_of_options(options: Mapping[str, Sequence[str]], choice: int) -> dict[str, str]:
    """Returns a choice of options by its number; the values of the last name change first."""
    chosen = []
    for name in sorted(options, reverse=True):
        choice, place = divmod(choice, len(options[name]))
        chosen.append((name, options[name][place]))
    return dict(reversed(chosen))
