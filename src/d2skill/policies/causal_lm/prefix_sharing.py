"""Shared prefixes: groups sequences for a forward pass so that tokens with which many of them begin are computed once.

A sequence is a prompt and its answer. A group of sequences, which is one microbatch, can have a shared prefix, the
beginning of its longest prompt. The prefix is computed as one sequence; then each sequence computes what is left of it,
with the keys and values of as much of the prefix as it begins with (its prefix length).

Sorted by their tokens, sequences that begin alike are neighbours, and of all ways to cut that order into groups,
`group_sequences` finds the cheapest. The cost counts tokens and forward passes, which take time of their own
(`FORWARD_COST`). Tokens are counted as if each sequence were padded to the longest, an upper bound: packing, which
comes after, leaves most of the padding out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from math import inf

import numpy as np
import numpy.typing as npt

Tokens = tuple[int, ...]
_Numbers = npt.NDArray[np.int64]

NO_SHARING = "no sharing"
"""Kind of device on which no prefix pays, for models that cannot share any (see architectures)."""
FORWARD_COST = {"cpu": 40, NO_SHARING: 2**40}
"""Fixed cost of a forward pass in tokens, by kind of device: what was fastest on a core with the tiny model."""
FORWARD_COST_ELSEWHERE = 1024
"""The same on accelerators, where a pass takes its time to start: an estimate, not measured."""


def forward_cost(device: str) -> int:
    """Returns the fixed cost of a forward pass on a kind of device, in tokens."""
    return FORWARD_COST.get(device, FORWARD_COST_ELSEWHERE)


def common_length(one: Tokens, other: Tokens) -> int:
    """Returns the number of tokens with which both sequences begin, by bisection."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # the first `low` are equal, and not more than `high`
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def shared_prefix(prompts: Sequence[Tokens], answers: Sequence[int], device: str) -> tuple[Tokens, list[int]]:
    """Returns the shared prefix of a group, empty if none pays, and the prefix length of each sequence.

    A sequence computes at least the last token of its prompt by itself, whose logits begin its answer. `answers` are
    the lengths of answers.
    """
    longest = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    lengths = [min(common_length(prompt, prompts[longest]), len(prompt) - 1) for prompt in prompts]
    prefix = max((length for i, length in enumerate(lengths) if i != longest), default=0)
    lengths[longest] = min(prefix, lengths[longest])
    totals = [len(prompt) + answer for prompt, answer in zip(prompts, answers, strict=True)]
    left = max(total - length for total, length in zip(totals, lengths, strict=True))
    if len(totals) * max(totals) <= prefix + len(totals) * left + forward_cost(device):
        return (), [0] * len(totals)
    return prompts[longest][:prefix], lengths


def group_sequences(
    prompts: Sequence[Tokens], answers: Sequence[int], device: str, budget: float = inf
) -> list[list[int]]:
    """Returns the cheapest grouping of sequences, as their indices.

    Args:
        prompts: tokens of the prompts.
        answers: lengths of the answers, in tokens.
        device: kind of device, which decides the fixed cost of a forward pass.
        budget: tokens that a group computes, at most, unless it is a single sequence.
    """
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i], answers[i]))
    lengths = np.array([answers[i] for i in order], dtype=np.int64)
    costs = _GroupCosts([prompts[i] for i in order], lengths, forward_cost(device), budget)
    return [order[start:end] for start, end in cheapest_cuts(len(order), costs.ending_at)]


def cheapest_cuts(count: int, costs: Callable[[int], npt.NDArray[np.float64]]) -> list[tuple[int, int]]:
    """Returns the cheapest cut of `count` items into neighbours (start, end), by dynamic programming.

    `costs` returns, for an end, the costs [end] of the items from each start up to it.
    """
    best, starts = np.zeros(count + 1), [0]
    for end in range(1, count + 1):
        totals = best[:end] + costs(end)
        starts.append(int(totals.argmin()))
        best[end] = totals[starts[-1]]
    cuts, end = [], count
    while end:
        cuts.append((starts[end], end))
        end = starts[end]
    return cuts[::-1]


class _GroupCosts:
    """Costs of groups of neighbouring sequences, in tokens."""

    def __init__(self, prompts: Sequence[Tokens], answers: _Numbers, pass_cost: int, budget: float) -> None:
        self._lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        self._totals = self._lengths + answers
        self._common = np.array([common_length(a, b) for a, b in pairwise(prompts)], dtype=np.int64)
        # by sequence: the nearest one before it whose prompt is no shorter, -1 without one
        self._before: list[int] = []
        for i, length in enumerate(self._lengths):
            before = i - 1
            while before >= 0 and self._lengths[before] < length:
                before = self._before[before]
            self._before.append(before)
        self._common_with = lru_cache(maxsize=None)(self._common_lengths)
        self._pass_cost, self._budget = pass_cost, budget

    def ending_at(self, end: int) -> npt.NDArray[np.float64]:
        """Returns the cost of the group start ... end - 1 for every start; inf if it is over the budget."""
        costs = np.empty(end)
        longest = end - 1
        while longest >= 0:
            first = self._before[longest] + 1
            costs[first : longest + 1] = self._with_longest(longest, first, end)
            longest = first - 1
        return costs

    def _with_longest(self, longest: int, first: int, end: int) -> npt.NDArray[np.float64]:
        """Returns the costs of groups that start at `first` ... `longest`, the sequence with their longest prompt."""
        at, lengths, totals = longest - first, self._lengths[first:end], self._totals[first:end]
        shared = np.minimum(self._common_with(longest)[first:end], lengths - 1)
        left = totals - shared
        shared[at] = left[at] = 0
        prefixes = _largest_from(shared)[: at + 1]
        widths = np.maximum(_largest_from(left)[: at + 1], totals[at] - np.minimum(prefixes, lengths[at] - 1))
        count = end - np.arange(first, longest + 1)
        without, with_prefix = count * _largest_from(totals)[: at + 1], prefixes + count * widths
        pays = without > with_prefix + self._pass_cost
        tokens = np.where(pays, with_prefix, without)
        return np.where((tokens > self._budget) & (count > 1), inf, tokens + (1 + pays) * self._pass_cost)

    def _common_lengths(self, sequence: int) -> _Numbers:
        """Returns the number of prompt tokens that each sequence has in common with one of them."""
        before = np.minimum.accumulate(self._common[:sequence][::-1])[::-1]
        after = np.minimum.accumulate(self._common[sequence:])
        return np.concatenate([before, self._lengths[sequence : sequence + 1], after])


def _largest_from(values: _Numbers) -> _Numbers:
    """Returns, for each index, the largest value from there on."""
    return np.maximum.accumulate(values[::-1])[::-1]
