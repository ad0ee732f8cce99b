"""Forward passes of a causal language model with gradients, in which sequences can have a beginning in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from d2skill.policies.causal_lm.packing import Packed, even_rows, packed
from d2skill.policies.causal_lm.prefix_sharing import Tokens

_WIDTHS = 3
"""Columns over which to attend takes as long as the rest of a layer, in widths of the model: a layer of GPT's form has
12 d² weights, used once for a token, and a token uses 4 d numbers of each column."""


def left_padded(rows: Sequence[Tokens], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows of tokens as a matrix and its mask, both [B, T], every row ending in the last column."""
    width = max(map(len, rows))
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = row
        mask[i, width - len(row) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def read(
    model: Any, sequences: Sequence[Tokens], places: Sequence[Sequence[int]], trunk: Tokens, shares: Sequence[int]
) -> torch.Tensor:
    """Reads sequences; returns the logits [n, V] of what follows some places in each, sequence after sequence.

    The trunk is read once for all sequences, of which each begins with a share of it (see prefixes) and has its places
    behind that. The rest is read in rows that are packed (see packing), or with one sequence in each under flash
    attention, which takes no masks.
    """
    cache = DynamicCache(config=model.config)
    rest = [sequence[share:] for sequence, share in zip(sequences, shares, strict=True)]
    lengths = [len(one) for one in rest]
    flash = attention(model).startswith("flash")
    rows = (
        [[i] for i in range(len(rest))] if flash else even_rows(lengths, len(trunk), _WIDTHS * model.config.hidden_size)
    )
    if trunk:
        ids, real = left_padded([trunk], model.device)
        forward(model, ids, real, real.cumsum(1) - 1, cache, 1)
        for layer in cache.layers:
            layer.keys = layer.keys.expand(len(rows), -1, -1, -1)
            layer.values = layer.values.expand(len(rows), -1, -1, -1)
    batch = packed(rest, shares, rows)
    wanted = [
        start + place - share for start, share, own in zip(batch.starts, shares, places, strict=True) for place in own
    ]
    ids, positions = (torch.from_numpy(part).to(model.device) for part in (batch.tokens, batch.positions))
    mask = (_unpadded if flash else _own)(batch, len(trunk), model)
    with _only(model, torch.tensor(wanted, device=model.device)):
        return forward(model, ids, mask, positions, cache, 0)[0]


def _own(batch: Packed, trunk: int, model: Any) -> torch.Tensor | None:
    """Returns the mask [B, 1, W, K + W] by which a token sees its share of a trunk, and its own sequence up to it.

    A sequence by itself needs none, which saves the memory of it.
    """
    if len(batch.starts) == 1 and not trunk:
        return None
    shares, owner = (torch.from_numpy(part).to(model.device) for part in (batch.shares, batch.owner))
    before = torch.arange(trunk, device=model.device) < shares[:, :, None]
    own = (owner[:, :, None] == owner[:, None]).tril()
    return maskable(model, torch.cat([before, own], 2)[:, None])


def _unpadded(batch: Packed, trunk: int, model: Any) -> torch.Tensor:
    """Returns the columns [B, K + W] that are real in rows with a sequence each."""
    shares, owner = (torch.from_numpy(part).to(model.device) for part in (batch.shares, batch.owner))
    return torch.cat([torch.arange(trunk, device=model.device) < shares[:, :1], owner >= 0], 1).long()


@contextmanager
def _only(model: Any, wanted: torch.Tensor) -> Iterator[None]:
    """Lets a model compute the logits of some tokens [n] of its batch alone: they are then [1, n, V]."""

    def pick(_: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return given[0].flatten(0, 1)[None, wanted], *given[1:]

    hook = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()


def attention(model: Any) -> str:
    """Returns how a model computes attention, by the name that Transformers has for it."""
    return str(model.config._attn_implementation)


def maskable(model: Any, mask: torch.Tensor) -> torch.Tensor:
    """Returns a mask of what is seen in the form that the attention of a model takes."""
    if attention(model) != "eager":
        return mask
    least = torch.finfo(model.dtype).min
    return torch.zeros(mask.shape, dtype=model.dtype, device=mask.device).masked_fill(~mask, least)


def forward(
    model: Any, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor, cache: Any, keep: int
) -> torch.Tensor:
    """Returns the last logits [B, keep, V] of tokens [B, T] at their positions, read on top of what is in a cache.

    With `keep` 0 they are those of all tokens.
    """
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
