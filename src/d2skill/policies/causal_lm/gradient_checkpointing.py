"""Gradient checkpointing that goes with a cache of keys and values.

Transformers drops the cache where it computes layers again, since these would add their keys and values to it a second
time. Here each layer is given the keys and values that it found, and hands out those that it leaves, so that prompts
are still read once for all their answers. What is kept of a layer is what goes into it, and its keys and values.
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

_STATE = ("keys", "values")


def layers_of(model: Any) -> list[Any]:
    """Returns the layers of a model that can be computed again, in order. Raises ConfigError if there are none."""
    found = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not found or any("past_key_values" not in inspect.signature(layer.forward).parameters for layer in found):
        raise ConfigError(
            f"policy.lm.gradient_checkpointing cannot be had for a {type(model).__name__}, whose layers are of another "
            "kind: turn it off"
        )
    return found


@contextmanager
def recomputing(model: Any) -> Iterator[None]:
    """Lets forward passes keep little for their gradients; a backward pass may come later, and computes the rest again.

    Nothing about the model stays changed, so that it can be copied and saved.
    """
    layers = layers_of(model)
    for index, layer in enumerate(layers):
        layer.forward = _recomputed(layer.forward, index)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _recomputed(forward: Callable[..., Any], index: int) -> Callable[..., Any]:
    """Returns the forward pass of layer `index` as a function of its input and of what the cache has of it."""

    def run(hidden: Any, *args: Any, past_key_values: Any, **given: Any) -> Any:
        before, left = past_key_values.layers[index], {}
        # what is kept for the backward pass must not hold on to the caches of other layers
        shell = copy.copy(past_key_values)
        shell.layers = []

        def inside(hidden: Any, keys: Any, values: Any) -> Any:
            own, cache = copy.copy(before), copy.copy(shell)
            own.keys, own.values = keys, values
            cache.layers = [own] * (index + 1)
            out = forward(hidden, *args, past_key_values=cache, **given)
            left.update({name: value for name, value in vars(own).items() if name not in _STATE})
            return out, own.keys, own.values

        out, keys, values = checkpoint(
            inside, hidden, before.keys, before.values, use_reentrant=False, preserve_rng_state=False
        )
        after = copy.copy(before)
        vars(after).update(left, keys=keys, values=values)
        past_key_values.layers[index] = after
        return out

    return run
