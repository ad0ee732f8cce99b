"""Which rows are read together, and what they begin with that is then read only once.

A row is a prompt and its answer. The steps of an episode repeat what came before, and the members of a group share
their task: `prompts.render` puts first what stays. So rows are cut into clusters, and a cluster can have a trunk, the
beginning of its longest prompt. The trunk is read as one row; then each row reads what is left of it from where it
leaves the trunk, with the keys and values of the trunk up to there.

A cluster is also what is read in one pass. Sorted by their tokens, rows with a prefix in common are neighbours, and of
all ways to cut that order into clusters, `clusters` finds the cheapest. What counts are the tokens computed and the
passes, which cost time of their own (`PASS`). Where passes are dear or little is shared, that is one batch without a
trunk. Tokens are counted as if each row were padded to the longest, an upper bound: packing, which comes after, leaves
most of the padding out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import inf

import numpy as np
import numpy.typing as npt

Tokens = tuple[int, ...]
_Numbers = npt.NDArray[np.int64]

PASS = {"cpu": 40}
"""Tokens that take as long as what a pass costs besides, by kind of device: what was fastest on a core, tiny model."""
PASS_ELSEWHERE = 1024
"""The same on accelerators, where a pass takes its time to start: an estimate, not measured."""


def pass_tokens(device: str) -> int:
    """Returns what a forward pass costs on a kind of device, in tokens."""
    return PASS.get(device, PASS_ELSEWHERE)


def overlap(one: Tokens, other: Tokens) -> int:
    """Returns how many tokens two rows begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # the first `low` are equal, and not more than `high`
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def trunk(prompts: Sequence[Tokens], answers: Sequence[int], device: str) -> tuple[Tokens, list[int]]:
    """Returns the trunk of a cluster, empty if none pays, and how much of it each row begins with.

    A row reads one token of its prompt at least by itself, whose logits begin its answer. `answers` are lengths.
    """
    longest = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    shares = [min(overlap(prompt, prompts[longest]), len(prompt) - 1) for prompt in prompts]
    length = max((share for i, share in enumerate(shares) if i != longest), default=0)
    shares[longest] = min(length, shares[longest])
    rows = [len(prompt) + answer for prompt, answer in zip(prompts, answers, strict=True)]
    left = max(row - share for row, share in zip(rows, shares, strict=True))
    if len(rows) * max(rows) <= length + len(rows) * left + pass_tokens(device):
        return (), [0] * len(rows)
    return prompts[longest][:length], shares


def clusters(prompts: Sequence[Tokens], answers: Sequence[int], device: str, budget: float = inf) -> list[list[int]]:
    """Cuts rows, given by their prompts and the lengths of their answers, into clusters; returns their indices.

    A cluster computes at most `budget` tokens, unless it is a single row.
    """
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i], answers[i]))
    tokens = [prompts[i] for i in order]
    costs = _Costs(tokens, np.array([answers[i] for i in order], dtype=np.int64), pass_tokens(device), budget)
    best, starts = np.zeros(len(order) + 1), [0]
    for end in range(1, len(order) + 1):
        totals = best[:end] + costs.of(end)
        starts.append(int(totals.argmin()))
        best[end] = totals[starts[-1]]
    found, end = [], len(order)
    while end:
        found.append(order[starts[end] : end])
        end = starts[end]
    return found[::-1]


class _Costs:
    """What clusters of neighbouring rows cost."""

    def __init__(self, prompts: Sequence[Tokens], answers: _Numbers, one_pass: int, budget: float) -> None:
        self._lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        self._rows = self._lengths + answers
        self._common = np.array([overlap(a, b) for a, b in pairwise(prompts)], dtype=np.int64)
        # by row: the nearest row before it whose prompt is no shorter, -1 without one
        self._before: list[int] = []
        for i, length in enumerate(self._lengths):
            before = i - 1
            while before >= 0 and self._lengths[before] < length:
                before = self._before[before]
            self._before.append(before)
        self._overlaps = lru_cache(maxsize=None)(self._overlaps_with)
        self._pass, self._budget = one_pass, budget

    def of(self, end: int) -> npt.NDArray[np.float64]:
        """Returns what rows start ... end - 1 cost as a cluster, for every start; inf where that is over the budget."""
        costs = np.empty(end)
        longest = end - 1
        while longest >= 0:
            first = self._before[longest] + 1
            costs[first : longest + 1] = self._with(longest, first, end)
            longest = first - 1
        return costs

    def _with(self, longest: int, first: int, end: int) -> npt.NDArray[np.float64]:
        """Returns what clusters cost that start at `first` ... `longest`, the row with their longest prompt."""
        at, lengths, rows = longest - first, self._lengths[first:end], self._rows[first:end]
        shares = np.minimum(self._overlaps(longest)[first:end], lengths - 1)
        left = rows - shares
        shares[at] = left[at] = 0
        trunks = _most(shares)[: at + 1]
        lefts = np.maximum(_most(left)[: at + 1], rows[at] - np.minimum(trunks, lengths[at] - 1))
        count = end - np.arange(first, longest + 1)
        plain, shared = count * _most(rows)[: at + 1], trunks + count * lefts
        pays = plain > shared + self._pass
        tokens = np.where(pays, shared, plain)
        return np.where((tokens > self._budget) & (count > 1), inf, tokens + (1 + pays) * self._pass)

    def _overlaps_with(self, row: int) -> _Numbers:
        """Returns how many tokens of its prompt each row has in common with a row."""
        before = np.minimum.accumulate(self._common[:row][::-1])[::-1]
        return np.concatenate([before, self._lengths[row : row + 1], np.minimum.accumulate(self._common[row:])])


def _most(values: _Numbers) -> _Numbers:
    """Returns the largest value from each place on."""
    return np.maximum.accumulate(values[::-1])[::-1]
