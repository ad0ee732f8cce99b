"""Architectures of language models, and the execution path on which each is computed here.

There are three execution paths, from fast to slow:
- `batched`: many sequences at a time on one KV cache, and updates with shared prefixes and packing. It needs layers
  that keep nothing but keys and values.
- `cached`: one sequence at a time with the model's own cache, for layers with a state (state space, linear attention,
  convolution). An update has one sequence in each row, padded on the right, where no state sees the padding.
- `recomputed`: the same without a cache, each token by a pass over all of its sequence.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from transformers import DynamicCache
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from d2skill.errors import ConfigError

ExecutionPath = Literal["batched", "cached", "recomputed"]
PATHS: tuple[ExecutionPath, ...] = ("batched", "cached", "recomputed")
CACHE_ARGUMENTS = ("past_key_values", "cache_params")
"""Names under which models of Transformers take and return their caches."""
_PLAIN_LAYERS = {"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"}
"""Layers of caches that hold keys and values alone, by name, as not every version of Transformers has them all"""
_CACHE_IS_OFF = {"zamba2", "recurrent_gemma"}
"""Types of models that, continued from their caches, do not give what one pass gives (Transformers 5.23)."""
_ATTRIBUTE = "d2skill_execution_path"


def text_config(config: Any) -> Any:
    """Returns the configuration of the decoder of a model, which for one that reads images is a part of the whole."""
    return config.get_text_config(decoder=True)


def decoder_of(model: Any) -> Any:
    """Returns the part of a model that reads text; the whole model if it does not say."""
    decoder = getattr(model, "get_decoder", lambda: None)()
    return model if decoder is None else decoder


def model_class(name: str, config: Any) -> Any:
    """Returns the class of Transformers for the causal language model of a configuration.

    Raises ConfigError if there is none, or if the weights are quantised.
    """
    kind = getattr(config, "model_type", type(config).__name__)
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised.quant_method
        raise ConfigError(
            f'policy.lm.model "{name}" has quantised weights ({getattr(method, "value", method)}), which cannot be '
            "trained here: name the model in full precision that it was made from, or a GGUF file, which is dequantised"
        )
    if getattr(config, "is_encoder_decoder", False) or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(
            f'policy.lm.model "{name}" is of the type {kind}, which Transformers does not have as a causal language '
            "model: use an instruction-tuned decoder, such as Qwen/Qwen3-4B"
        )
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return found[0] if isinstance(found, tuple) else found


def likely_paths(model_type: Any, config: Any) -> tuple[ExecutionPath, ...]:
    """Returns the paths on which a model can be computed as far as its class and configuration say, fastest first."""
    parameters = inspect.signature(model_type.forward).parameters
    if not any(name in parameters for name in CACHE_ARGUMENTS):
        return PATHS[2:]
    try:
        layers = {type(layer).__name__ for layer in DynamicCache(config=config).layers}
    except (AttributeError, KeyError, TypeError, ValueError):
        return PATHS[1:]
    if config.model_type in _CACHE_IS_OFF:
        return PATHS[2:]
    stateful = getattr(model_type, "_is_stateful", False) or "past_key_values" not in parameters
    return PATHS[1:] if stateful or not layers <= _PLAIN_LAYERS else PATHS


def execution_path(model: Any) -> ExecutionPath:
    """Returns the path on which a model is computed: the fastest that is likely, or the one that was set."""
    path: ExecutionPath | None = getattr(model, _ATTRIBUTE, None)
    if path is None:
        path = likely_paths(type(model), model.config)[0]
        set_path(model, path)
    return path


def set_path(model: Any, path: ExecutionPath) -> None:
    """Sets the path on which a model is computed."""
    setattr(model, _ATTRIBUTE, path)


def accepted(model: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments that the forward pass of a model takes by name."""
    parameters = inspect.signature(model.forward).parameters
    return {name: value for name, value in values.items() if name in parameters}


def chunks_of_one(tokens: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yields tokens one by one, as states can only be continued so."""
    yield from ((token,) for token in tokens)
