"""The shape of a language model, from its config.json, and how many parameters that makes. No weights are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError
from d2skill.policies.causal_lm.lora import adapter_at

TINY_VOCABULARY = 2052
"""Pieces and tags of the tokenizer of the model "tiny", at most; it learns them from the environment's text."""

_TYPES = ("qwen2", "qwen3", "llama", "mistral")


def heads_divide(heads: int, kv_heads: int, ways: int) -> bool:
    """Tells whether so many GPUs can share attention heads; those of keys may be fewer, and are then there twice."""
    return not heads % ways and not max(kv_heads, ways) % min(kv_heads, ways)


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder of the Llama family: sizes, and what distinguishes its kinds.

    `source` says where the numbers are from. `qkv_bias` is of the projections to queries, keys and values, `out_bias`
    of the one back, `qk_norm` of a norm over each head.
    """

    name: str
    source: str
    vocabulary: int
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    tied: bool
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False

    @property
    def queries(self) -> int:
        """Width of all queries together."""
        return self.heads * self.head

    @property
    def keys(self) -> int:
        """Width of all keys together, which is also that of the values."""
        return self.kv_heads * self.head

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear maps of a layer, by their names in Transformers."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.inner),
            "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }

    @property
    def embeddings(self) -> int:
        """Parameters of the embeddings, and of the head where it has its own."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All parameters."""
        layer = sum(a * b for a, b in self.linears.values()) + 2 * self.hidden
        layer += self.qkv_bias * (self.queries + 2 * self.keys) + self.out_bias * self.hidden
        layer += self.mlp_bias * (2 * self.inner + self.hidden) + self.qk_norm * 2 * self.head
        return self.embeddings + self.layers * layer + self.hidden


_QWEN25 = "its published config.json"
KNOWN = {
    shape.name: shape
    for shape in (
        Shape("Qwen/Qwen2.5-7B-Instruct", _QWEN25, 152064, 3584, 18944, 28, 28, 4, 128, False, True),
        Shape("Qwen/Qwen2.5-1.5B-Instruct", _QWEN25, 151936, 1536, 8960, 28, 12, 2, 128, True, True),
        Shape("Qwen/Qwen2.5-0.5B-Instruct", _QWEN25, 151936, 896, 4864, 24, 14, 2, 64, True, True),
        Shape("Qwen/Qwen3-4B-Instruct-2507", _QWEN25, 151936, 2560, 9728, 36, 32, 8, 128, True, qk_norm=True),
        Shape("Qwen/Qwen3-Embedding-0.6B", _QWEN25, 151669, 1024, 3072, 28, 16, 8, 128, True, qk_norm=True),
    )
}
"""Models whose shape is known without their files, by id."""


def tiny(settings: CausalLMConfig) -> Shape:
    """Returns the shape of the model "tiny", with as large a vocabulary as it can get."""
    head = settings.hidden_size // settings.heads
    sizes = (TINY_VOCABULARY, settings.hidden_size, 3 * settings.hidden_size, settings.layers)
    return Shape("tiny", "policy.lm of the settings", *sizes, settings.heads, settings.heads, head, True, True)


def from_config(values: Mapping[str, Any], name: str, source: str) -> Shape:
    """Returns the shape that a config.json tells.

    Raises `ConfigError` for a model of a kind whose arithmetic is not known here, or a file that lacks a size.
    """
    kind = values.get("model_type")
    if kind not in _TYPES:
        raise ConfigError(f'{source} is of a model of type "{kind}", and a plan knows only {", ".join(_TYPES)}')
    try:
        hidden, heads = int(values["hidden_size"]), int(values["num_attention_heads"])
        return Shape(
            name,
            source,
            int(values["vocab_size"]),
            hidden,
            int(values["intermediate_size"]),
            int(values["num_hidden_layers"]),
            heads,
            int(values.get("num_key_value_heads") or heads),
            int(values.get("head_dim") or hidden // heads),
            bool(values.get("tie_word_embeddings", False)),
            qkv_bias=kind == "qwen2" or bool(values.get("attention_bias", False)),
            out_bias=kind != "qwen2" and bool(values.get("attention_bias", False)),
            mlp_bias=bool(values.get("mlp_bias", False)),
            qk_norm=kind == "qwen3",
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"{source} does not tell the model's sizes ({error}): get the model again") from None


def find(name: str) -> Shape:
    """Returns the shape of a model id or folder: from its files here if there are any, else from the table.

    The shape of an adapter is that of the model it is for.

    Raises `ConfigError` for a model that is neither here nor known; nothing is downloaded.
    """
    if adapter := adapter_at(name):
        return replace(find(adapter.base), name=name)
    path = config_file(name)
    if path is None:
        if name in KNOWN:
            return KNOWN[name]
        raise ConfigError(
            f'the shape of "{name}" is not known: it is no folder with a config.json, not in the Hugging Face cache, '
            f"and none of {', '.join(KNOWN)}; name a folder that has its config.json"
        )
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): get the model again") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no JSON object: get the model again")
    return from_config(values, name, str(path))


def config_file(name: str) -> Path | None:
    """Returns the config.json of a model id or folder, or of an adapter's model; None where it is not on this machine.

    Raises `ConfigError` for an adapter that is no use.
    """
    if adapter := adapter_at(name):
        return config_file(adapter.base)
    if Path(name).is_dir():
        file = Path(name) / "config.json"
        return file if file.is_file() else None
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, "config.json")
    except Exception:  # the client is not installed, or says that this is no id
        return None
    return Path(found) if isinstance(found, str) else None
