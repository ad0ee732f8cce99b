"""Gradient checkpointing that works together with a KV cache.

Transformers drops the cache where it recomputes layers, since these would add their keys and values to it twice. Here
each layer takes keys and values as inputs and returns the new ones, so that a shared prefix is still computed once.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from d2skill.errors import ConfigError
from d2skill.policies.causal_lm.architectures import decoder_of


def checkpointable_layers(model: Any) -> list[Any]:
    """Returns the layers of a model that can be recomputed, in order. Raises ConfigError if there are none."""
    kind = GradientCheckpointingLayer
    layers = [layer for layer in decoder_of(model).modules() if isinstance(layer, kind)]
    if not layers or any("past_key_values" not in inspect.signature(layer.forward).parameters for layer in layers):
        raise ConfigError(
            f"policy.lm.gradient_checkpointing does not work with the layers of a {type(model).__name__}: turn it off"
        )
    return layers


@contextmanager
def gradient_checkpointing(model: Any) -> Iterator[None]:
    """Lets forward passes keep only the inputs of layers; a backward pass, which may come later, recomputes the rest.

    Afterwards the model is as before, so that it can be copied and saved.
    """
    layers = checkpointable_layers(model)
    for index, layer in enumerate(layers):
        layer.forward = _checkpointed(layer.forward, index)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _checkpointed(forward: Callable[..., Any], index: int) -> Callable[..., Any]:
    """Returns the forward pass of layer `index` as a checkpointed function of its input and of its keys and values."""

    def _run(hidden: Any, *args: Any, past_key_values: Any, **kwargs: Any) -> Any:
        before, left = past_key_values.layers[index], {}
        # what is kept for the backward pass must not hold on to the caches of other layers
        shell = copy.copy(past_key_values)
        shell.layers = []

        def recomputed(hidden: Any, keys: Any, values: Any) -> Any:
            layer, cache = copy.copy(before), copy.copy(shell)
            layer.keys, layer.values = keys, values
            cache.layers = [layer] * (index + 1)
            out = forward(hidden, *args, past_key_values=cache, **kwargs)
            left.update({name: value for name, value in vars(layer).items() if name not in ("keys", "values")})
            return out, layer.keys, layer.values

        out, keys, values = checkpoint(
            recomputed, hidden, before.keys, before.values, use_reentrant=False, preserve_rng_state=False
        )
        after = copy.copy(before)
        vars(after).update(left, keys=keys, values=values)
        past_key_values.layers[index] = after
        return out

    return _run
