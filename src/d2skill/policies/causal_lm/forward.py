"""Forward passes of a causal language model over packed sequences with a shared prefix, and their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from d2skill.policies.causal_lm.architectures import accepted, execution_path, text_config
from d2skill.policies.causal_lm.packing import PackedBatch, assign_rows, pack_sequences
from d2skill.policies.causal_lm.prefix_sharing import Tokens

_BREAK_EVEN_WIDTHS = 3
"""Columns over which attention takes as long as the rest of a layer, in widths of the model: a layer of GPT's form has
12 d² weights, used once for a token, and a token uses 4 d numbers of each column."""


def _padded(sequences: Sequence[Sequence[int]], side: str, device: Any) -> torch.Tensor:
    """Returns sequences as a matrix [B, T], with -1 as padding on one side."""
    tensors = [torch.tensor(sequence, dtype=torch.long) for sequence in sequences]
    matrix: torch.Tensor = pad_sequence(tensors, batch_first=True, padding_value=-1, padding_side=side)
    return matrix.to(device)


def left_padded(sequences: Sequence[Tokens], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns sequences as token ids and mask, both [B, T], every sequence ending in the last column."""
    ids = _padded(sequences, "left", device)
    return ids.clamp(min=0), (ids >= 0).long()


def sequence_logits(
    model: Any,
    sequences: Sequence[Tokens],
    positions: Sequence[Sequence[int]],
    prefix: Tokens,
    prefix_lengths: Sequence[int],
) -> torch.Tensor:
    """Returns the logits [n, V] of the tokens that follow chosen positions, sequence after sequence.

    The shared prefix is computed once. The rest of the sequences is packed into rows, or has a row for each sequence
    under flash attention, which takes no masks. A model with states shares nothing (see architectures).

    Args:
        model: a causal language model of Transformers.
        sequences: tokens of the sequences.
        positions: the chosen positions of each sequence, all behind its part of the prefix.
        prefix: tokens of the shared prefix (see prefix_sharing), empty without one.
        prefix_lengths: number of prefix tokens with which each sequence begins.
    """
    if execution_path(model) != "batched":
        return _unshared_logits(model, sequences, positions)
    cache = DynamicCache(config=model.config)
    rest = [sequence[length:] for sequence, length in zip(sequences, prefix_lengths, strict=True)]
    flash = attention(model).startswith("flash")
    if flash:
        rows = [[i] for i in range(len(rest))]
    else:
        rows = assign_rows(
            [len(tokens) for tokens in rest], len(prefix), _BREAK_EVEN_WIDTHS * text_config(model.config).hidden_size
        )
    if prefix:
        ids, real = left_padded([prefix], model.device)
        forward(model, ids, real, real.cumsum(1) - 1, cache, 1)
        for layer in cache.layers:
            if layer.keys is None:  # a layer that uses the keys and values of another
                continue
            layer.keys = layer.keys.expand(len(rows), -1, -1, -1)
            layer.values = layer.values.expand(len(rows), -1, -1, -1)
    batch = pack_sequences(rest, prefix_lengths, rows)
    # A padding token, whose embedding is zero, makes gradients of some models nan (Gemma 3n): pad with another one.
    batch.tokens[batch.owner < 0] = sequences[0][0]
    chosen = [
        start + position - length
        for start, length, own in zip(batch.starts, prefix_lengths, positions, strict=True)
        for position in own
    ]
    ids, places = (torch.from_numpy(part).to(model.device) for part in (batch.tokens, batch.positions))
    mask = (_padding_mask if flash else _attention_mask)(batch, len(prefix), model)
    with _only_logits_of(model, torch.tensor(chosen, device=model.device)):
        return forward(model, ids, mask, places, cache, 0)[0]


def _unshared_logits(model: Any, sequences: Sequence[Tokens], positions: Sequence[Sequence[int]]) -> torch.Tensor:
    """Returns the logits as `sequence_logits` does, by one pass over whole sequences, padded on the right."""
    matrix = _padded(sequences, "right", model.device)
    real = (matrix >= 0).long()
    ids = matrix.where(matrix >= 0, matrix[0, 0])
    mask = None if bool(real.all()) else real
    width = ids.shape[1]
    chosen = [row * width + position for row, own in enumerate(positions) for position in own]
    with _only_logits_of(model, torch.tensor(chosen, device=model.device)):
        values = accepted(model, {"attention_mask": mask, "use_cache": False})
        logits: torch.Tensor = model(input_ids=ids, **values).logits
        return logits[0]


def _attention_mask(batch: PackedBatch, prefix: int, model: Any) -> torch.Tensor | None:
    """Returns the mask [B, 1, W, K + W] by which a token sees its part of a prefix, and its own sequence up to itself.

    A single sequence without a prefix needs none, which saves the memory of it.
    """
    if len(batch.starts) == 1 and not prefix:
        return None
    lengths, owner = (torch.from_numpy(part).to(model.device) for part in (batch.prefix_lengths, batch.owner))
    in_prefix = torch.arange(prefix, device=model.device) < lengths[:, :, None]
    in_sequence = (owner[:, :, None] == owner[:, None]).tril()
    return mask_for(model, torch.cat([in_prefix, in_sequence], 2)[:, None])


def _padding_mask(batch: PackedBatch, prefix: int, model: Any) -> torch.Tensor:
    """Returns the mask [B, K + W] of columns that are no padding, in rows with one sequence each."""
    lengths, owner = (torch.from_numpy(part).to(model.device) for part in (batch.prefix_lengths, batch.owner))
    return torch.cat([torch.arange(prefix, device=model.device) < lengths[:, :1], owner >= 0], 1).long()


@contextmanager
def _only_logits_of(model: Any, chosen: torch.Tensor) -> Iterator[None]:
    """Lets a model compute the logits of chosen tokens [n] of its batch alone: they are then [1, n, V]."""

    def select(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return args[0].flatten(0, 1)[None, chosen], *args[1:]

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def attention(model: Any) -> str:
    """Returns the implementation of attention that a model uses, by its name in Transformers."""
    return str(model.config._attn_implementation)


def mask_for(model: Any, mask: torch.Tensor) -> torch.Tensor:
    """Returns a mask of the columns seen in the form that the attention of a model takes."""
    if attention(model) != "eager":
        return mask
    least = torch.finfo(model.dtype).min
    return torch.zeros(mask.shape, dtype=model.dtype, device=mask.device).masked_fill(~mask, least)


def forward(
    model: Any, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor, cache: Any, keep: int
) -> torch.Tensor:
    """Returns the logits [B, keep, V] of the last tokens of a batch, on top of a KV cache.

    Args:
        model: a causal language model of Transformers.
        ids: token ids [B, T].
        mask: in the form that `mask_for` returns, None for a plain causal one.
        positions: positions [B, T] of the tokens in their sequences.
        cache: the KV cache, which is extended.
        keep: number of last tokens whose logits are computed, 0 for all.
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
        table = _padded(options, "right", logits.device)
        logits = logits.gather(1, table.clamp(min=0)).masked_fill(table < 0, -torch.inf)
    return (logits.float() / temperature).log_softmax(-1)
