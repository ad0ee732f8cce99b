"""Forward passes of a causal language model over a growing cache, and sampling on top of them.

Sampling and training share `prefill` and `extend`, so that the probabilities recorded at one are those
recomputed at the other. Rows of a batch are padded on the left, the prompt first and each later chunk again,
with the mask and the positions saying what is real. Both functions carry gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from d2skill.policies.chat import Chat
from d2skill.policies.prefixes import Tokens, clusters, shared
from d2skill.policies.trie import TokenTrie


@dataclass
class Context:
    """What the model has read: keys and values, the columns that are real [B, K], their number [B]."""

    cache: DynamicCache
    mask: torch.Tensor
    lengths: torch.Tensor

    def select(self, rows: Sequence[int]) -> Context:
        """Keeps these rows, in this order, repeated where a number repeats. The former context is used up."""
        if list(rows) == list(range(len(self.lengths))):
            return self
        index = torch.tensor(rows, device=self.mask.device)
        for layer in self.cache.layers:
            layer.keys = layer.keys.index_select(0, index)
            layer.values = layer.values.index_select(0, index)
        return Context(self.cache, self.mask[index], self.lengths[index])

    @classmethod
    def join(cls, contexts: Sequence[Context]) -> Context:
        """Puts the rows of contexts below each other, padded on the left. The former contexts are used up."""
        if len(contexts) == 1:
            return contexts[0]
        cache = max(contexts, key=lambda context: context.mask.shape[1]).cache
        for layer, *layers in zip(cache.layers, *(context.cache.layers for context in contexts), strict=True):
            width = layer.keys.shape[-2]
            layer.keys, layer.values = (
                torch.cat([pad(tensor, (0, 0, width - tensor.shape[-2], 0)) for tensor in tensors])
                for tensors in zip(*((each.keys, each.values) for each in layers), strict=True)
            )
        width = max(context.mask.shape[1] for context in contexts)
        masks = [pad(context.mask, (width - context.mask.shape[1], 0)) for context in contexts]
        return cls(cache, torch.cat(masks), torch.cat([context.lengths for context in contexts]))


def left_padded(rows: Sequence[Tokens], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows of tokens as a matrix and its mask, both [B, T], every row ending in the last column."""
    width = max(map(len, rows))
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = row
        mask[i, width - len(row) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def prefill(model: Any, prompts: Sequence[Tokens]) -> tuple[torch.Tensor, Context]:
    """Reads prompts; returns the logits [B, V] of what follows each of them, and the context."""
    width = torch.zeros((len(prompts), 0), dtype=torch.int64, device=model.device)
    empty = Context(DynamicCache(config=model.config), width, width.sum(1))
    logits, context = extend(model, empty, prompts, keep=1)
    return logits[:, -1], context


def read(model: Any, prompts: Sequence[Tokens]) -> tuple[torch.Tensor, Context]:
    """Reads different prompts as `prefill` does, but what all of them begin with only once, where that pays."""
    length = shared(prompts, model.device.type)
    if not length:
        return prefill(model, prompts)
    _, context = prefill(model, [prompts[0][:length]])
    context = context.select([0] * len(prompts))
    logits, context = extend(model, context, [prompt[length:] for prompt in prompts], keep=1)
    return logits[:, -1], context


def read_clusters(model: Any, prompts: Sequence[Tokens]) -> tuple[list[Tokens], torch.Tensor, Context]:
    """Reads different prompts cluster by cluster; returns them in the order of the rows of logits and context."""
    groups = [[prompts[i] for i in group] for group in clusters(prompts, [0] * len(prompts), model.device.type)]
    logits, contexts = zip(*(read(model, group) for group in groups), strict=True)
    return list(chain.from_iterable(groups)), torch.cat(logits), Context.join(contexts)


def extend(model: Any, context: Context, chunks: Sequence[Tokens], keep: int) -> tuple[torch.Tensor, Context]:
    """Reads a chunk more in each row; returns the last logits [B, keep, V] and the context."""
    ids, real = left_padded(chunks, model.device)
    mask = torch.cat([context.mask, real], 1)
    positions = (context.lengths[:, None] + real.cumsum(1) - 1).clamp(min=0)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=context.cache,
        use_cache=True,
        logits_to_keep=keep,
    )
    return out.logits, Context(context.cache, mask, context.lengths + real.sum(1))


def log_softmax(logits: torch.Tensor, options: Sequence[Sequence[int]] | None, temperature: float) -> torch.Tensor:
    """Returns log-probabilities [n, V], or [n, C] over n lists of options with -inf beyond a list's end."""
    if options is not None:
        width = max(map(len, options))
        table = np.zeros((len(options), width), dtype=np.int64)
        beyond = np.ones(table.shape, dtype=bool)
        for i, row in enumerate(options):
            table[i, : len(row)] = row
            beyond[i, : len(row)] = False
        logits = logits.gather(1, torch.from_numpy(table).to(logits.device))
        logits = logits.masked_fill(torch.from_numpy(beyond).to(logits.device), -torch.inf)
    return (logits.float() / temperature).log_softmax(-1)


class Walker(Protocol):
    """The state of one answer that is being written."""

    tokens: list[int]
    log_probs: list[float]

    @property
    def options(self) -> tuple[int, ...] | None:
        """The tokens to choose among, at least two; None for all of the vocabulary."""

    def take(self, token: int, log_prob: float) -> tuple[int, ...]:
        """Takes the token chosen; returns what to read before the next choice, () at the end."""


@dataclass
class ChoiceWalker:
    """An answer held to a trie. Tokens that the trie leaves no choice about are written without the model."""

    trie: TokenTrie
    node: int = 0
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    def lead(self) -> tuple[int, ...]:
        """Writes and returns what follows without a choice."""
        forced, self.node = self.trie.forced(self.node)
        self.tokens.extend(forced)
        self.log_probs.extend([0.0] * len(forced))
        return forced

    @property
    def options(self) -> tuple[int, ...] | None:
        """See Walker; at the end of an answer, no options."""
        return self.trie.options(self.node)

    def take(self, token: int, log_prob: float) -> tuple[int, ...]:
        """See Walker."""
        self.tokens.append(token)
        self.log_probs.append(log_prob)
        self.node = self.trie.child(self.node, token)
        chunk = (token, *self.lead())
        return chunk if self.options else ()


@dataclass
class FreeWalker:
    """Any text, up to the end of the turn, a closed action or a number of tokens."""

    chat: Chat
    limit: int
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    @property
    def options(self) -> tuple[int, ...] | None:
        """See Walker."""
        return None

    def take(self, token: int, log_prob: float) -> tuple[int, ...]:
        """See Walker."""
        self.tokens.append(token)
        self.log_probs.append(log_prob)
        return () if len(self.tokens) == self.limit or self.chat.closes(self.tokens) else (token,)


def generate(
    model: Any,
    prompts: Sequence[Tokens],
    walkers: Sequence[Walker],
    rngs: Sequence[np.random.Generator],
    temperature: float,
) -> None:
    """Lets walkers write their answers. All of them choose among options, or all among the whole vocabulary.

    Equal prompts are read once, and so is what a cluster of them begins with. An answer that ends leaves the
    batch. Each token takes one number from its own generator; at temperature 0 the best token is taken, with
    log-probability 0.
    """
    order, logits, context = read_clusters(model, list(dict.fromkeys(prompts)))
    place = {prompt: i for i, prompt in enumerate(order)}
    which = [place[prompt] for prompt in prompts]
    logits, context = logits[which], context.select(which)
    active = list(zip(walkers, rngs, strict=True))
    while True:
        options = None if active[0][0].options is None else [walker.options or () for walker, _ in active]
        columns, log_probs = _draw(log_softmax(logits, options, temperature or 1.0), active, temperature == 0)
        chunks = []
        for i, (walker, _) in enumerate(active):
            token = columns[i] if options is None else options[i][columns[i]]
            chunks.append(walker.take(token, log_probs[i]))
        left = [i for i, chunk in enumerate(chunks) if chunk]
        if not left:
            return
        active = [active[i] for i in left]
        logits, context = extend(model, context.select(left), [chunks[i] for i in left], keep=1)
        logits = logits[:, -1]


def _draw(
    log_probs: torch.Tensor, active: Sequence[tuple[Walker, np.random.Generator]], greedy: bool
) -> tuple[list[int], list[float]]:
    """Returns the column drawn in each row [n, C], by inverse transform, and its log-probability."""
    if greedy:
        return log_probs.argmax(-1).tolist(), [0.0] * len(active)
    uniform = torch.tensor([rng.random() for _, rng in active], dtype=torch.float64).to(log_probs.device)
    below = log_probs.double().exp().cumsum(-1)
    columns = torch.searchsorted(below, (uniform * below[:, -1])[:, None], right=True)
    columns = columns.clamp(max=log_probs.shape[-1] - 1)
    return columns[:, 0].tolist(), log_probs.gather(1, columns)[:, 0].tolist()
