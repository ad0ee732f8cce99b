"""Writing answers: rows of a causal language model that begin, go on and end independently of each other.

A row belongs to an episode and keeps the keys and values of what was read in it. The next prompt of the episode mostly
begins as the last one did, so only what is new is read. A row that is asked for the first time takes what another has
read already, if their prompts begin alike.

Answers end at different times. Rows whose answers have ended wait until there are enough of them, are given back
together, and are read together when they are asked again, while the others stay where they are in their answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil, inf, sqrt
from typing import Any

import numpy as np
import torch

from d2skill.policies.causal_lm.constrained_decoding import Walker
from d2skill.policies.causal_lm.forward import attention, forward, left_padded, log_softmax, maskable
from d2skill.policies.causal_lm.kv_cache import RowCache
from d2skill.policies.causal_lm.prefix_sharing import Tokens, overlap, pass_tokens


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn: at temperature 0 the best is taken.

    Of the distribution at that temperature, only the `top_k` likeliest tokens (0: all) and the fewest that together
    have a probability of `top_p` can be drawn. Log-probabilities are those of the whole distribution.
    """

    temperature: float
    top_p: float = 1.0
    top_k: int = 0


@dataclass(eq=False)
class _Row:
    """What was read in a row, where it is in the cache, and the answer that is being written."""

    key: int
    place: int
    read: Tokens = ()
    ahead: Tokens = ()
    walker: Walker | None = None
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    passes: int = 0


class Writer:
    """Rows in which a model writes answers.

    Args:
        model: a causal language model of Transformers.
        size: how many rows there are.
        sampling: how tokens are drawn. Each token takes one number from the answer's own generator.
        budget: tokens that are read in one pass, at most, padding included; a longer row goes alone.
    """

    def __init__(self, model: Any, size: int, sampling: Sampling, budget: float = inf) -> None:
        self.size = size
        self._model, self._sampling, self._budget = model, sampling, budget
        self._cache = RowCache(size)
        self._places: list[_Row | None] = []
        self._rows: dict[int, _Row] = {}
        self._asked: list[_Row] = []
        self._writing: list[_Row] = []
        self._answered, self._passes = 0, 1.0  # passes that an answer takes, on average over the latest

    def ask(self, key: int, prompt: Tokens, walker: Walker, rng: np.random.Generator) -> None:
        """Puts a prompt to the row of this key, or to a free one; the walker has tokens to choose from."""
        row = self._rows.get(key) or self._take(key)
        row.ahead, row.walker, row.rng, row.passes = prompt, walker, rng, 0
        self._asked.append(row)

    def leave(self, key: int) -> None:
        """Frees the row of a key whose answer has ended."""
        if row := self._rows.pop(key, None):
            self._places[row.place] = None

    def run(self) -> list[int]:
        """Writes until some answers have ended, and returns their keys; none only if nothing is asked."""
        with torch.no_grad(), _by_masks(self._model):
            ended = self._read()
            # Fewer at a time keep more rows busy, more at a time need fewer passes to read. With answers of n passes
            # these costs balance at sqrt(2 / n) of the rows.
            enough = ceil(len(self._rows) * min(1.0, sqrt(2 / self._passes)))
            while self._writing and len(ended) < enough:
                ended += self._step(self._writing, [row.ahead for row in self._writing])
        for row in ended:
            self._answered += 1
            self._passes += (row.passes - self._passes) / min(self._answered, 4 * self.size)
        return [row.key for row in ended]

    def _take(self, key: int) -> _Row:
        place = next((i for i, row in enumerate(self._places) if row is None), len(self._places))
        row = self._rows[key] = _Row(key, place)
        self._places[place : place + 1] = [row]
        return row

    def _read(self) -> list[_Row]:
        """Reads what is asked; returns the rows whose answers are at their end by that."""
        ended: list[_Row] = []
        fresh = [row for row in self._asked if not row.read]
        for row in self._asked:
            if row.read:
                row.read = row.read[: _share(row.read, row.ahead)]
        later = self._followers(fresh)
        for rows in ([row for row in self._asked if row not in later], list(later)):
            self._borrow([(later[row], row) for row in rows if row in later])
            ended += self._read_together(rows)
        self._asked = []
        return ended

    def _followers(self, fresh: Sequence[_Row]) -> dict[_Row, _Row]:
        """Returns those of some rows with nothing read that can go on from another, by what they follow.

        A row that has been read is followed at once; the others' turn is after that of those they follow, where a pass
        more pays.
        """
        known = [row for row in self._rows.values() if row.read]
        found: dict[_Row, _Row] = {}
        leader, saved = None, 0
        for row in sorted(fresh, key=lambda row: row.ahead):
            best = max(known, key=lambda other: _share(other.read, row.ahead), default=None)
            if best is not None and 2 * _share(best.read, row.ahead) >= len(row.ahead):
                self._borrow([(best, row)])
            elif leader is not None and 2 * (share := _share(leader.ahead, row.ahead)) >= len(row.ahead):
                found[row] = leader
                saved += share
            else:
                leader = row
        return found if saved > pass_tokens(self._model.device.type) else {}

    def _borrow(self, pairs: Sequence[tuple[_Row, _Row]]) -> None:
        """Lets rows begin with what others have read of their prompts; pairs are (other, row)."""
        moves, longest = [], 0
        for other, row in pairs:
            length = _share(other.read, row.ahead)
            row.read = other.read[:length]
            longest = max(longest, length)
            moves.append((other.place, row.place))
        self._cache.copy(moves, longest)

    def _read_together(self, rows: Sequence[_Row]) -> list[_Row]:
        """Reads the prompts of rows, those that are left of about the same length in one pass."""
        chunks = {row: row.ahead[len(row.read) :] for row in rows}
        rows = sorted(rows, key=lambda row: len(chunks[row]))
        ended: list[_Row] = []
        for start, stop in _cuts([len(chunks[row]) for row in rows], self._model.device.type, self._budget):
            ended += self._step(rows[start:stop], [chunks[row] for row in rows[start:stop]])
        return ended

    def _step(self, rows: Sequence[_Row], chunks: Sequence[Tokens]) -> list[_Row]:
        """Reads a chunk more in each row and draws a token; returns the rows whose answers have ended."""
        given = dict(zip(rows, chunks, strict=True))
        going = [row for row in self._writing if row not in given]
        self._gather(going, rows)
        rows = sorted(rows, key=lambda row: row.place)
        logits = self._forward(rows, [given[row] for row in rows])
        ended: list[_Row] = []
        for row, (token, log_prob) in zip(rows, self._draw(rows, logits), strict=True):
            assert row.walker is not None
            row.read += given[row]
            row.passes += 1
            row.ahead = row.walker.take(token, log_prob)
            (going if row.ahead else ended).append(row)
        self._writing = going
        return ended

    def _gather(self, *groups: Sequence[_Row]) -> None:
        """Moves groups of rows to the first places, one group behind the other, with as few moves as can be."""
        start, before = 0, {row: row.place for row in self._rows.values()}
        for group in groups:
            wanted = range(start, start + len(group))
            self._places += [None] * (wanted.stop - len(self._places))
            there = {row.place for row in group}
            holes = (place for place in wanted if place not in there)
            for row in group:
                if row.place not in wanted:
                    self._swap(row.place, next(holes))
            start = wanted.stop
        moved = [(row, place) for row, place in before.items() if row.place != place and row.read]
        if moved:
            self._cache.copy([(place, row.place) for row, place in moved], max(len(row.read) for row, _ in moved))

    def _swap(self, one: int, other: int) -> None:
        self._places[one], self._places[other] = self._places[other], self._places[one]
        for place in (one, other):
            if row := self._places[place]:
                row.place = place

    def _forward(self, rows: Sequence[_Row], chunks: Sequence[Tokens]) -> torch.Tensor:
        """Returns the logits [r, V] of what follows a chunk in each of some rows in neighbouring places."""
        model = self._model
        ids, real = left_padded(chunks, model.device)
        read = torch.tensor([len(row.read) for row in rows], device=model.device)
        seen = max(len(row.read) + len(chunk) for row, chunk in zip(rows, chunks, strict=True))
        positions = (read[:, None] + real.cumsum(1) - 1).clamp(min=0)
        self._cache.window(rows[0].place, positions, real.bool(), seen)
        mask = torch.arange(seen, device=model.device) <= positions[:, None, :, None]
        return forward(model, ids, maskable(model, mask), positions, self._cache, 1)[:, -1]

    def _draw(self, rows: Sequence[_Row], logits: torch.Tensor) -> list[tuple[int, float]]:
        """Returns the token drawn in each row, and its log-probability (0 at temperature 0)."""
        drawn: list[tuple[int, float]] = [(0, 0.0)] * len(rows)
        options = [row.walker.options if row.walker else None for row in rows]
        for free in (False, True):
            mine = [i for i, choices in enumerate(options) if (choices is None) == free]
            if not mine:
                continue
            choices = None if free else [options[i] or () for i in mine]
            log_probs = log_softmax(logits[mine], choices, self._sampling.temperature or 1.0)
            columns, found = draw(log_probs, [rows[i].rng for i in mine], self._sampling)
            for i, place, column, log_prob in zip(mine, range(len(mine)), columns, found, strict=True):
                drawn[i] = (choices[place][column] if choices else column, log_prob)
        return drawn


def draw(
    log_probs: torch.Tensor, rngs: Sequence[np.random.Generator], sampling: Sampling
) -> tuple[list[int], list[float]]:
    """Returns the column drawn in each row [n, C], by inverse transform, and its log-probability."""
    if sampling.temperature == 0:
        return log_probs.argmax(-1).tolist(), [0.0] * len(rngs)
    uniform = torch.tensor([rng.random() for rng in rngs], dtype=torch.float64).to(log_probs.device)
    below = _drawable(log_probs.double().exp(), sampling).cumsum(-1)
    columns = torch.searchsorted(below, (uniform * below[:, -1])[:, None], right=True)
    columns = columns.clamp(max=log_probs.shape[-1] - 1)
    return columns[:, 0].tolist(), log_probs.gather(1, columns)[:, 0].tolist()


def _drawable(probabilities: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Returns probabilities [n, C] with 0 where a token is cut off; the rest need not add up to one."""
    if 0 < sampling.top_k < probabilities.shape[-1]:
        least = probabilities.topk(sampling.top_k).values[:, -1:]
        probabilities = probabilities.where(probabilities >= least, 0)
    if sampling.top_p < 1:
        ordered = probabilities.sort(descending=True).values
        before = ordered.cumsum(-1) - ordered
        kept = before < sampling.top_p * probabilities.sum(-1, keepdim=True)
        least = ordered.where(kept, torch.inf).amin(-1, keepdim=True)
        probabilities = probabilities.where(probabilities >= least, 0)
    return probabilities


def _share(read: Tokens, prompt: Tokens) -> int:
    """Returns how much of a prompt need not be read again; its last token is, for its logits."""
    return min(overlap(read, prompt), len(prompt) - 1)


def _cuts(lengths: Sequence[int], device: str, budget: float) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of the cheapest passes over chunks of ascending lengths, padded to the longest of each."""
    one_pass, best, starts = pass_tokens(device), [0.0], [0]
    for stop in range(1, len(lengths) + 1):
        longest = lengths[stop - 1]
        fits = [n for n in range(1, stop + 1) if n == 1 or n * longest <= budget]
        cost, start = min((best[stop - n] + n * longest + one_pass, stop - n) for n in fits)
        best.append(cost)
        starts.append(start)
    found, stop = [], len(lengths)
    while stop:
        found.append((starts[stop], stop))
        stop = starts[stop]
    yield from reversed(found)


@contextmanager
def _by_masks(model: Any) -> Iterator[None]:
    """Lets a model attend by masks of any shape meanwhile, which flash attention does not."""
    usual = attention(model)
    if not usual.startswith("flash"):
        yield
        return
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)
