"""Generation engine: continuous batching of a causal language model with a KV cache that lasts from prompt to prompt.

Each episode has a sequence, which keeps a row of the KV cache. The next prompt of the episode mostly begins as the last
one did, so only its new tokens are prefilled. A new sequence copies the beginning that it shares with another one.
Sequences whose answers have ended are returned when there are enough of them, so that their next prompts are prefilled
together; the others stay where they are in their answers meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from d2skill.policies.causal_lm.architectures import CACHE_ARGUMENTS, accepted, chunks_of_one, execution_path
from d2skill.policies.causal_lm.constrained_decoding import DecodingState
from d2skill.policies.causal_lm.forward import attention, forward, left_padded, log_softmax, mask_for
from d2skill.policies.causal_lm.kv_cache import BatchKVCache
from d2skill.policies.causal_lm.prefix_sharing import Tokens, cheapest_cuts, common_length, forward_cost


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings; temperature 0 is greedy.

    Of the distribution at the temperature, only the `top_k` likeliest tokens (0: all) and the fewest that together
    have a probability of `top_p` can be drawn. Log-probabilities are those of the whole distribution.
    """

    temperature: float
    top_p: float = 1.0
    top_k: int = 0


@dataclass(eq=False)
class _Sequence:
    """Prompt and answer of one key: its row of the cache, the tokens cached there, and those to feed next."""

    key: int
    row: int
    state: DecodingState
    cached: Tokens = ()
    pending: Tokens = ()
    passes: int = 0


class GenerationEngine:
    """Generates answers for many sequences at a time, each of which has a row of the KV cache.

    Args:
        model: a causal language model of Transformers.
        capacity: number of sequences at a time.
        sampling: each token takes one random number from the state of its answer.
        budget: tokens of a prefill pass, at most, padding included; a longer sequence goes alone.
    """

    def __init__(self, model: Any, capacity: int, sampling: Sampling, budget: float = inf) -> None:
        self.capacity = capacity
        self._model, self._sampling, self._budget = model, sampling, budget
        self._cache = BatchKVCache(capacity)
        self._rows: list[_Sequence | None] = []
        self._sequences: dict[int, _Sequence] = {}
        self._submitted: list[_Sequence] = []
        self._decoding: list[_Sequence] = []
        self._answers, self._passes = 0, 1.0  # passes that an answer takes, on average over the latest

    def submit(self, key: int, prompt: Tokens, state: DecodingState) -> None:
        """Queues a whole prompt for the sequence of a key (any number), which takes a free row if it has none.

        `state` is that of the answer, which has tokens to choose from.
        """
        sequence = self._sequences.get(key)
        if sequence is None:
            row = next((i for i, holder in enumerate(self._rows) if holder is None), len(self._rows))
            sequence = self._sequences[key] = _Sequence(key, row, state)
            self._rows[row : row + 1] = [sequence]
        sequence.pending, sequence.state, sequence.passes = prompt, state, 0
        self._submitted.append(sequence)

    def release(self, key: int) -> None:
        """Frees the row of a key whose answer has ended."""
        if sequence := self._sequences.pop(key, None):
            self._rows[sequence.row] = None

    def run(self) -> list[int]:
        """Generates until some answers have ended, and returns their keys; none only if nothing is submitted."""
        with torch.no_grad(), _attention_by_masks(self._model):
            ended = self._prefill()
            # Fewer at a time keep more rows busy, more at a time need fewer prefill passes. With answers of n passes
            # these costs balance at sqrt(2 / n) of the rows.
            enough = ceil(len(self._sequences) * min(1.0, sqrt(2 / self._passes)))
            while self._decoding and len(ended) < enough:
                ended += self._step(self._decoding, [sequence.pending for sequence in self._decoding])
        for sequence in ended:
            self._answers += 1
            self._passes += (sequence.passes - self._passes) / min(self._answers, 4 * self.capacity)
        return [sequence.key for sequence in ended]

    def run_all(self, prompts: Sequence[Tokens], states: Sequence[DecodingState]) -> None:
        """Generates the answers to any number of prompts, at temperature 0."""
        waiting = deque(sorted(range(len(prompts)), key=lambda i: prompts[i]))
        running = 0
        while waiting or running:
            while waiting and running < self.capacity:
                i = waiting.popleft()
                self.submit(i, prompts[i], states[i])
                running += 1
            for i in self.run():
                self.release(i)
                running -= 1

    def _prefill(self) -> list[_Sequence]:
        """Prefills all submitted prompts; returns the sequences whose answers have ended by that."""
        ended: list[_Sequence] = []
        new = [sequence for sequence in self._submitted if not sequence.cached]
        for sequence in self._submitted:
            if sequence.cached:
                sequence.cached = sequence.cached[: _reusable(sequence.cached, sequence.pending)]
        leaders = self._share_prefixes(new)
        for batch in ([sequence for sequence in self._submitted if sequence not in leaders], list(leaders)):
            self._copy_prefixes([(leaders[sequence], sequence) for sequence in batch if sequence in leaders])
            ended += self._prefill_batch(batch)
        self._submitted = []
        return ended

    def _share_prefixes(self, new: Sequence[_Sequence]) -> dict[_Sequence, _Sequence]:
        """Lets new sequences copy prefixes that are cached; returns, for those that have to wait, their leaders.

        A sequence waits if another new one, its leader, begins alike, and then copies the prefix that the leader has
        prefilled, where that is worth one more pass.
        """
        known = [sequence for sequence in self._sequences.values() if sequence.cached]
        leaders: dict[_Sequence, _Sequence] = {}
        leader, saved = None, 0
        for sequence in sorted(new, key=lambda sequence: sequence.pending):
            prompt = sequence.pending
            best = max(known, key=lambda other: _reusable(other.cached, prompt), default=None)
            if best is not None and 2 * _reusable(best.cached, prompt) >= len(prompt):
                self._copy_prefixes([(best, sequence)])
            elif leader is not None and 2 * (length := _reusable(leader.pending, prompt)) >= len(prompt):
                leaders[sequence] = leader
                saved += length
            else:
                leader = sequence
        return leaders if saved > forward_cost(self._model.device.type) else {}

    def _copy_prefixes(self, pairs: Sequence[tuple[_Sequence, _Sequence]]) -> None:
        """Copies keys and values of the prefix that two sequences share; pairs are (from, to)."""
        moves, longest = [], 0
        for source, target in pairs:
            length = _reusable(source.cached, target.pending)
            target.cached = source.cached[:length]
            longest = max(longest, length)
            moves.append((source.row, target.row))
        self._cache.copy_rows(moves, longest)

    def _prefill_batch(self, sequences: Sequence[_Sequence]) -> list[_Sequence]:
        """Prefills prompts, those with about the same number of new tokens in one pass."""
        chunks = {sequence: sequence.pending[len(sequence.cached) :] for sequence in sequences}
        sequences = sorted(sequences, key=lambda sequence: len(chunks[sequence]))
        lengths = [len(chunks[sequence]) for sequence in sequences]
        ended: list[_Sequence] = []
        for start, stop in _split_passes(lengths, self._model.device.type, self._budget):
            batch = sequences[start:stop]
            ended += self._step(batch, [chunks[sequence] for sequence in batch])
        return ended

    def _step(self, batch: Sequence[_Sequence], chunks: Sequence[Tokens]) -> list[_Sequence]:
        """Feeds a chunk to each sequence and samples a token; returns the sequences whose answers have ended."""
        chunk_of = dict(zip(batch, chunks, strict=True))
        decoding = [sequence for sequence in self._decoding if sequence not in chunk_of]
        self._make_contiguous(decoding, batch)
        batch = sorted(batch, key=lambda sequence: sequence.row)
        logits = self._forward(batch, [chunk_of[sequence] for sequence in batch])
        ended: list[_Sequence] = []
        for sequence, (token, log_prob) in zip(batch, self._sample(batch, logits), strict=True):
            sequence.cached += chunk_of[sequence]
            sequence.passes += 1
            sequence.pending = sequence.state.append(token, log_prob)
            (decoding if sequence.pending else ended).append(sequence)
        self._decoding = decoding
        return ended

    def _make_contiguous(self, *groups: Sequence[_Sequence]) -> None:
        """Moves groups of sequences to the first rows, one group behind the other, with as few moves as can be."""
        start, before = 0, {sequence: sequence.row for sequence in self._sequences.values()}
        for group in groups:
            wanted = range(start, start + len(group))
            self._rows += [None] * (wanted.stop - len(self._rows))
            taken = {sequence.row for sequence in group}
            holes = (row for row in wanted if row not in taken)
            for sequence in group:
                if sequence.row not in wanted:
                    self._swap_rows(sequence.row, next(holes))
            start = wanted.stop
        moved = [(sequence, row) for sequence, row in before.items() if sequence.row != row and sequence.cached]
        if moved:
            longest = max(len(sequence.cached) for sequence, _ in moved)
            self._cache.copy_rows([(row, sequence.row) for sequence, row in moved], longest)

    def _swap_rows(self, one: int, other: int) -> None:
        self._rows[one], self._rows[other] = self._rows[other], self._rows[one]
        for row in (one, other):
            if sequence := self._rows[row]:
                sequence.row = row

    def _forward(self, batch: Sequence[_Sequence], chunks: Sequence[Tokens]) -> torch.Tensor:
        """Returns the logits [r, V] of what follows a chunk in each of some sequences in neighbouring rows."""
        model = self._model
        ids, real = left_padded(chunks, model.device)
        cached = torch.tensor([len(sequence.cached) for sequence in batch], device=model.device)
        seen = max(len(sequence.cached) + len(chunk) for sequence, chunk in zip(batch, chunks, strict=True))
        positions = (cached[:, None] + real.cumsum(1) - 1).clamp(min=0)
        self._cache.prepare(batch[0].row, positions, real.bool(), seen)
        mask = torch.arange(seen, device=model.device) <= positions[:, None, :, None]
        return forward(model, ids, mask_for(model, mask), positions, self._cache, 1)[:, -1]

    def _sample(self, batch: Sequence[_Sequence], logits: torch.Tensor) -> list[tuple[int, float]]:
        """Returns the token sampled for each sequence, and its log-probability (0 at temperature 0)."""
        sampled: list[tuple[int, float]] = [(0, 0.0)] * len(batch)
        options = [sequence.state.options for sequence in batch]
        for free in (False, True):
            indices = [i for i, choices in enumerate(options) if (choices is None) == free]
            if not indices:
                continue
            choices = None if free else [options[i] or () for i in indices]
            log_probs = log_softmax(logits[indices], choices, self._sampling.temperature or 1.0)
            columns, values = sample(log_probs, [batch[i].state.rng for i in indices], self._sampling)
            for place, i in enumerate(indices):
                sampled[i] = (choices[place][columns[place]] if choices else columns[place], values[place])
        return sampled


class UnsharedGeneration(GenerationEngine):
    """Generates answers one after the other, for models with states that cannot be cut back, copied or padded.

    Each prompt is read anew, as one sequence without padding. With the path `cached` the model's own cache is continued
    token by token; with `recomputed` each token is computed from the whole sequence.
    """

    def submit(self, key: int, prompt: Tokens, state: DecodingState) -> None:
        """See GenerationEngine."""
        sequence = self._sequences[key] = _Sequence(key, 0, state, pending=prompt)
        self._submitted.append(sequence)

    def release(self, key: int) -> None:
        """See GenerationEngine; nothing is kept."""
        self._sequences.pop(key, None)

    def run(self) -> list[int]:
        """Generates all submitted answers to their ends, and returns their keys."""
        submitted, self._submitted = self._submitted, []
        with torch.no_grad():
            for sequence in submitted:
                self._answer(sequence)
        return [sequence.key for sequence in submitted]

    def _answer(self, sequence: _Sequence) -> None:
        cache: Any = None
        while sequence.pending:
            logits, cache = self._next_logits(sequence, cache)
            sequence.cached += sequence.pending
            ((token, log_prob),) = self._sample([sequence], logits)
            sequence.pending = sequence.state.append(token, log_prob)

    def _next_logits(self, sequence: _Sequence, cache: Any) -> tuple[torch.Tensor, Any]:
        """Returns the logits [1, V] of what follows the pending tokens, and the cache after them."""
        if execution_path(self._model) == "recomputed":
            return self._pass((*sequence.cached, *sequence.pending), 0, None)
        chunks = chunks_of_one(sequence.pending) if cache is not None else [sequence.pending]
        start = len(sequence.cached)
        for chunk in chunks:
            logits, cache = self._pass(chunk, start, cache)
            start += len(chunk)
        return logits, cache

    def _pass(self, tokens: Tokens, start: int, cache: Any) -> tuple[torch.Tensor, Any]:
        model = self._model
        keep = execution_path(model) == "cached"
        values: dict[str, Any] = {"use_cache": keep, "logits_to_keep": 1}
        if keep:
            seen = start + len(tokens)
            values["position_ids"] = torch.arange(start, seen, device=model.device)[None]
            values |= dict.fromkeys(CACHE_ARGUMENTS, cache)
        out = model(input_ids=torch.tensor([tokens], device=model.device), **accepted(model, values))
        after = next((out[name] for name in CACHE_ARGUMENTS if keep and out.get(name) is not None), None)
        return out.logits[:, -1], after


def make_engine(model: Any, capacity: int, sampling: Sampling, budget: float = inf) -> GenerationEngine:
    """Returns the generation engine for the architecture of a model; see GenerationEngine for the arguments.

    Args:
        model: a causal language model of Transformers.
        capacity: number of sequences at a time.
        sampling: temperature, top-p and top-k.
        budget: tokens of a prefill pass, at most.
    """
    kind = GenerationEngine if execution_path(model) == "batched" else UnsharedGeneration
    return kind(model, capacity, sampling, budget)


def sample(
    log_probs: torch.Tensor, rngs: Sequence[np.random.Generator], sampling: Sampling
) -> tuple[list[int], list[float]]:
    """Returns the column sampled from each row of [n, C] by inverse transform, and its log-probability."""
    if sampling.temperature == 0:
        return log_probs.argmax(-1).tolist(), [0.0] * len(rngs)
    uniform = torch.tensor([rng.random() for rng in rngs], dtype=torch.float64).to(log_probs.device)
    below = _truncated(log_probs.double().exp(), sampling).cumsum(-1)
    columns = torch.searchsorted(below, (uniform * below[:, -1])[:, None], right=True)
    columns = columns.clamp(max=log_probs.shape[-1] - 1)
    return columns[:, 0].tolist(), log_probs.gather(1, columns)[:, 0].tolist()


def _truncated(probabilities: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Returns probabilities [n, C] with 0 for tokens outside top-k or top-p; the rest need not add up to one."""
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


def _reusable(cached: Tokens, prompt: Tokens) -> int:
    """Returns the number of prompt tokens that are cached; the last one is fed in any case, for its logits."""
    return min(common_length(cached, prompt), len(prompt) - 1)


def _split_passes(lengths: Sequence[int], device: str, budget: float) -> list[tuple[int, int]]:
    """Returns (start, end) of the cheapest passes over chunks of ascending lengths, padded to the longest of each."""

    def costs(end: int) -> npt.NDArray[np.float64]:
        count = np.arange(end, 0, -1.0)
        tokens = count * lengths[end - 1]
        return np.where((tokens > budget) & (count > 1), inf, tokens + forward_cost(device))

    return cheapest_cuts(len(lengths), costs)


@contextmanager
def _attention_by_masks(model: Any) -> Iterator[None]:
    """Replaces flash attention, which takes no masks of any shape, by sdpa meanwhile."""
    usual = attention(model)
    flash = usual.startswith("flash")
    if flash:
        model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if flash:
            model.set_attn_implementation(usual)
