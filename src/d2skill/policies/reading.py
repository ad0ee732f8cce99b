"""Forward passes of a causal language model with gradients, in which rows can have a beginning in common.

Rows of a batch are padded on the left, with the mask and the positions saying what is real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from d2skill.policies.prefixes import Tokens


@dataclass
class Context:
    """What the model has read: keys and values, the columns that are real [B, K], their number [B]."""

    cache: DynamicCache
    mask: torch.Tensor
    lengths: torch.Tensor

    def branch(self, shares: Sequence[int]) -> Context:
        """Makes rows of a single one, each of which goes on after so many of its tokens. The former is used up."""
        for layer in self.cache.layers:
            layer.keys = layer.keys.expand(len(shares), -1, -1, -1)
            layer.values = layer.values.expand(len(shares), -1, -1, -1)
        lengths = torch.tensor(shares, device=self.mask.device)
        columns = torch.arange(self.mask.shape[1], device=self.mask.device)
        return Context(self.cache, (columns < lengths[:, None]).long(), lengths)


def left_padded(rows: Sequence[Tokens], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows of tokens as a matrix and its mask, both [B, T], every row ending in the last column."""
    width = max(map(len, rows))
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = row
        mask[i, width - len(row) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def read(model: Any, rows: Sequence[Tokens], keep: int, trunk: Tokens, shares: Sequence[int]) -> torch.Tensor:
    """Reads rows; returns the logits [B, keep, V] of what follows their last tokens.

    The trunk is read once for all rows, of which each begins with a share of it (see `prefixes.trunk`).
    """
    context = Context(DynamicCache(config=model.config), *_nothing(len(rows), model.device))
    if trunk:
        _, context = extend(model, Context(DynamicCache(config=model.config), *_nothing(1, model.device)), [trunk], 1)
        context = context.branch(shares)
    logits, _ = extend(model, context, [row[share:] for row, share in zip(rows, shares, strict=True)], keep)
    return logits


def extend(model: Any, context: Context, chunks: Sequence[Tokens], keep: int) -> tuple[torch.Tensor, Context]:
    """Reads a chunk more in each row; returns the last logits [B, keep, V] and the context."""
    ids, real = left_padded(chunks, model.device)
    mask = torch.cat([context.mask, real], 1)
    positions = (context.lengths[:, None] + real.cumsum(1) - 1).clamp(min=0)
    logits = forward(model, ids, mask, positions, context.cache, keep)
    return logits, Context(context.cache, mask, context.lengths + real.sum(1))


def forward(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any, keep: int
) -> torch.Tensor:
    """Returns the last logits [B, keep, V] of tokens [B, T] at their positions, read on top of what is in a cache."""
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    )
    logits: torch.Tensor = out.logits
    return logits


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


def _nothing(rows: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros((rows, 0), dtype=torch.int64, device=device)
    return mask, mask.sum(1)
