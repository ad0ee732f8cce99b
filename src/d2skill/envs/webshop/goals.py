"""What shoppers are asked to buy: the goals that the original makes of a catalogue, in its order.

The original draws prices while it loads products, then the price limits of the goals, from Python's generator, which it
does not seed; then it seeds it with 233 and shuffles the goals. Here the first seed is a parameter.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, product
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from d2skill.envs.webshop.catalogue import Catalogue

SHUFFLE_SEED = 233
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
    """All goals of a catalogue in the original's order, with the prices that they were made for."""

    goals: Sequence[Goal]
    prices: Mapping[str, float] = field(repr=False)

    @cached_property
    def cumulative_weights(self) -> list[float]:
        """The weights summed up, from 0 to the sum of all."""
        return [0.0, *accumulate(goal.weight for goal in self.goals)]

    def draw(self, random: Random) -> int:
        """Returns the number of a goal, drawn by weight as the original draws one for a session without a number.

        It is off by one there and here: the first goal is never drawn, the last one with its own weight and another.
        """
        at = bisect(self.cumulative_weights, random.uniform(0, self.cumulative_weights[-1]))
        return min(at, len(self.goals) - 1)


def make_goals(catalogue: Catalogue, seed: int = 0, human: bool = False) -> GoalSet:
    """Returns the synthetic goals of a catalogue, or those by people, and the prices drawn before them.

    They are those of the original with its generator seeded so before it starts; it draws one number before prices.
    """
    random = Random(seed)
    random.getrandbits(32)
    prices = draw_prices(catalogue, random)
    goals = _human(catalogue, prices, random) if human else _synthetic(catalogue, prices, random)
    Random(SHUFFLE_SEED).shuffle(goals)
    return GoalSet(tuple(goals), Prices(catalogue, prices))


def draw_prices(catalogue: Catalogue, random: Random) -> npt.NDArray[np.float64]:
    """Returns a price for each product: its own, or one drawn from its range."""
    bounds = catalogue.storage.bounds
    prices = bounds[:, 0].copy()
    for number in np.flatnonzero(~np.isnan(bounds[:, 1])):
        prices[number] = random.uniform(float(bounds[number, 0]), float(bounds[number, 1]))
    return prices


def _limit(price: float, random: Random) -> tuple[float, str]:
    """Returns a price limit, the higher of two of the next four round ones above the price, and how it is said."""
    above = [limit for limit in _LIMITS if limit > price][:4]
    if len(above) < 2:
        return NO_LIMIT, ""
    limit = max(random.sample(above, 2))
    return limit, f", and price lower than {limit:.2f} dollars"


def _synthetic(catalogue: Catalogue, prices: npt.NDArray[np.float64], random: Random) -> list[Goal]:
    """Returns a goal for each choice of options of each product that has an instruction."""
    goals: list[Goal] = []
    counts: Counter[str] = Counter()
    for number, synthetic, _ in catalogue.storage.instructions():
        if synthetic is None:
            continue
        instruction, attributes = synthetic
        limit, said = _limit(float(prices[number]), random)
        one = catalogue.product(number)
        names = sorted(one.options)
        for values in product(*(one.options[name] for name in names)):
            options = dict(zip(names, values, strict=True))
            wish = ", and ".join(f"{name}: {value}" for name, value in options.items())
            text = f"{instruction}{f' with {wish}' if wish else ''}{said}"
            goals.append(
                Goal(
                    one.asin,
                    text,
                    tuple(attributes),
                    limit,
                    options,
                    one.title,
                    one.category,
                    one.query,
                    one.product_category,
                )
            )
            counts.update(attributes)
    return [
        replace(goal, weight=sum(1.0 / counts[name] for name in goal.attributes) / len(goal.attributes))
        for goal in goals
    ]


def _human(catalogue: Catalogue, prices: npt.NDArray[np.float64], random: Random) -> list[Goal]:
    """Returns a goal for each instruction that a person wrote."""
    goals = []
    for number, _, people in catalogue.storage.instructions():
        for instruction, attributes, options in people:
            one = catalogue.product(number)
            limit, said = _limit(float(prices[number]), random)
            text = instruction.strip(".") + said
            kinds = (one.title, one.category, one.query, one.product_category)
            goals.append(Goal(one.asin, text, tuple(attributes), limit, tuple(options), *kinds))
    return goals
