"""What shoppers are asked to buy: the goals that the original makes of a catalogue, in its order.

The original draws prices while it loads products, then the price limits of the goals, from Python's generator, which it
does not seed; then it seeds it with 233 and shuffles the goals. Here the first seed is a parameter.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from d2skill.envs.webshop.catalogue import Catalogue
from d2skill.envs.webshop.lazy_sequence import Made
from d2skill.envs.webshop.product_store import PEOPLE, SYNTHETIC, Instructions
from d2skill.errors import DataError

SHUFFLE_SEED = 233
MOST_GOALS = (1 << 31) - 1
NO_LIMIT = 1_000_000
"""The price limit of goals whose product costs too much for one."""

_LIMITS = tuple(10.0 * i for i in range(1, 100))


@dataclass(frozen=True, slots=True)
class Goal:
    """One task: the text that the shopper reads, and what the purchase is held against.

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
    def of(cls, told: Mapping[str, Any]) -> Goal:
        """Returns a goal from a record with the original's names: asin, instruction_text, goal_options ...

        Raises `KeyError` for one that lacks a name; without a weight, it is 1.
        """
        options = told["goal_options"]
        return cls(
            told["asin"],
            told["instruction_text"],
            tuple(told["attributes"]),
            told["price_upper"],
            dict(options) if isinstance(options, Mapping) else tuple(options),
            told["name"],
            told["category"],
            told["query"],
            told["product_category"],
            told.get("weight", 1.0),
        )


class Prices(Mapping[str, float]):
    """What each product costs, by asin; one number a product, so that a million of them take little."""

    def __init__(self, catalogue: Catalogue, values: npt.NDArray[np.float64]) -> None:
        self._catalogue = catalogue
        self._values = values

    def __getitem__(self, asin: str) -> float:
        number = self._catalogue.number(asin)
        if number is None:
            raise KeyError(asin)
        return float(self._values[number])

    def __iter__(self) -> Iterator[str]:
        return (one.asin for one in self._catalogue)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class GoalSet:
    """All goals of a catalogue in the original's order, with the prices that they were made for.

    A goal is made when it is asked for, each time anew.
    """

    goals: Sequence[Goal]
    prices: Mapping[str, float] = field(repr=False)
    score_answers: Callable[[], npt.NDArray[np.float64]] = field(repr=False, compare=False)
    """Returns the weights of all goals without making them."""

    @cached_property
    def cumulative_weights(self) -> npt.NDArray[np.float64]:
        """The weights summed up, from 0 to the sum of all."""
        sums = np.zeros(len(self.goals) + 1)
        np.cumsum(self.score_answers(), out=sums[1:])
        return sums

    def draw(self, random: Random) -> int:
        """Returns the number of a goal, drawn by weight as the original draws one for a session without a number.

        It is off by one there and here: the first goal is never drawn, the last one with its own weight and another.
        """
        sums = self.cumulative_weights
        at = int(np.searchsorted(sums, random.uniform(0, float(sums[-1])), side="right"))
        return min(at, len(self.goals) - 1)


def make_goals(catalogue: Catalogue, seed: int = 0, human: bool = False) -> GoalSet:
    """Returns the synthetic goals of a catalogue, or those by people, and the prices drawn before them.

    They are those of the original with its generator seeded so before it starts; it draws one number before prices.
    Raises `DataError` where products can be chosen in more ways than goals can be numbered.
    """
    random = Random(seed)
    random.getrandbits(32)
    prices = draw_prices(catalogue, random)
    storage, teller = catalogue.storage, PEOPLE if human else SYNTHETIC
    told = storage.instructions(teller)
    if told.goals > MOST_GOALS:
        raise DataError(f"the options of the products can be chosen in {told.goals:,} ways: more than {MOST_GOALS:,}")
    name = f"limits-of-{teller}-{seed}"
    limits = storage.kept(name, len(told.products), lambda: _limits(prices[told.products], random))
    order = storage.shuffled(told.goals, SHUFFLE_SEED)
    goals = Made(order, _Maker(catalogue, told, limits))
    return GoalSet(goals, Prices(catalogue, prices), lambda: np.repeat(told.weights, np.diff(told.ends))[order])


def draw_prices(catalogue: Catalogue, random: Random) -> npt.NDArray[np.float64]:
    """Returns a price for each product: its own, or one drawn from its range."""
    bounds = catalogue.storage.bounds
    prices, high = bounds[:, 0].copy(), bounds[:, 1]
    ranges = np.flatnonzero(~np.isnan(high))
    drawn = np.array([random.random() for _ in range(len(ranges))])
    prices[ranges] += (high[ranges] - prices[ranges]) * drawn
    return prices


def _limits(prices: npt.NDArray[np.float64], random: Random) -> npt.NDArray[np.uint8]:
    """Returns price limits in tens: the higher of two of the next four above a price, 0 where there are no two."""
    limits = bytearray()
    for price in prices.tolist():
        first = bisect(_LIMITS, price) + 1
        above = range(first, min(first + 4, len(_LIMITS) + 1))
        limits.append(max(random.sample(above, 2)) if len(above) > 1 else 0)
    return np.array(limits, np.uint8)


class _Maker:
    """Makes goals by their numbers, which count through the choices of options of each instruction's product."""

    def __init__(self, catalogue: Catalogue, told: Instructions, limits: npt.NDArray[np.uint8]) -> None:
        self._catalogue = catalogue
        self._told = told
        self._limits = limits

    def __call__(self, number: int) -> Goal:
        at = int(np.searchsorted(self._told.ends, number, side="right")) - 1
        one = self._catalogue.product(int(self._told.products[at]))
        instruction, attributes, *by_people = self._told.lines[at]
        options: dict[str, str] | tuple[str, ...]
        if by_people:
            options, text = tuple(by_people[0]), instruction.strip(".")
        else:
            options = _chosen(one.options, number - int(self._told.ends[at]))
            wish = ", and ".join(f"{name}: {value}" for name, value in options.items())
            text = f"{instruction}{f' with {wish}' if wish else ''}"
        limit = _LIMITS[int(self._limits[at]) - 1] if self._limits[at] else NO_LIMIT
        return Goal(
            one.asin,
            text if limit == NO_LIMIT else f"{text}, and price lower than {limit:.2f} dollars",
            tuple(attributes),
            limit,
            options,
            one.title,
            one.category,
            one.query,
            one.product_category,
            float(self._told.weights[at]),
        )


def _chosen(options: Mapping[str, Sequence[str]], choice: int) -> dict[str, str]:
    """Returns a choice of options by its number; the values of the last name change first."""
    chosen = []
    for name in sorted(options, reverse=True):
        choice, at = divmod(choice, len(options[name]))
        chosen.append((name, options[name][at]))
    return dict(reversed(chosen))
