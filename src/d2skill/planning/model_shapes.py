"""Shapes of language models, read from config.json, and their numbers of parameters. No weights are read."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from d2skill.config import CausalLMConfig, Config
from d2skill.errors import ConfigError
from d2skill.policies.causal_lm.lora import find_adapter
from d2skill.utils.foreign_files import read_json, reason_of

TINY_VOCABULARY = 2052
"""Upper bound of the vocabulary of the model "tiny", whose tokenizer is trained on the environment's text."""

_TYPES = ("qwen2", "qwen3", "llama", "mistral")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder of the Llama family.

    `source` names the file that the sizes are from. `qkv_bias` belongs to the projections to queries, keys and values,
    `out_bias` to the one back; `qk_norm` is a norm over each head.
    """

    name: str
    source: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    tied: bool
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False

    @property
    def query_width(self) -> int:
        """Width of all queries together."""
        return self.heads * self.head_size

    @property
    def key_width(self) -> int:
        """Width of all keys together, which is also the width of all values."""
        return self.kv_heads * self.head_size

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Input and output widths of the linear maps of a layer, by their names in Transformers."""
        return {
            "q_proj": (self.hidden, self.query_width),
            "k_proj": (self.hidden, self.key_width),
            "v_proj": (self.hidden, self.key_width),
            "o_proj": (self.query_width, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embeddings, and of the output head unless it is tied to them."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All parameters."""
        layer = sum(a * b for a, b in self.projections.values()) + 2 * self.hidden
        layer += self.qkv_bias * (self.query_width + 2 * self.key_width) + self.out_bias * self.hidden
        layer += self.mlp_bias * (2 * self.intermediate + self.hidden) + self.qk_norm * 2 * self.head_size
        return self.embedding_parameters + self.layers * layer + self.hidden

    @property
    def matmul_parameters(self) -> int:
        """Parameters that each token is multiplied with: all but embeddings that are only looked up."""
        return self.parameters - (0 if self.tied else self.vocabulary * self.hidden)


def lora_targets(lm: CausalLMConfig, shape: ModelShape) -> list[str]:
    """Returns the names of the linear maps of a layer that get a LoRA adapter: none if the settings ask for none."""
    if not lm.lora_rank:
        return []
    names = [name.strip() for name in lm.lora_targets.split(",")]
    return [name for name in shape.projections if lm.lora_targets == "all-linear" or name in names]


def lora_parameters(lm: CausalLMConfig, shape: ModelShape) -> int:
    """Returns the parameters of the LoRA adapter that the settings ask for, 0 without one."""
    return shape.layers * lm.lora_rank * sum(sum(shape.projections[name]) for name in lora_targets(lm, shape))


def heads_divide(heads: int, kv_heads: int, gpus: int) -> bool:
    """Returns True if so many GPUs can share attention heads; fewer key heads than GPUs are held in several copies."""
    return not heads % gpus and not max(kv_heads, gpus) % min(kv_heads, gpus)


def require_divisible_heads(name: str, heads: tuple[int, int], gpus: int) -> None:
    """Raises `ConfigError` for a model whose heads, of queries and of keys, verl.tensor_parallel GPUs cannot share."""
    if not heads_divide(*heads, gpus):
        largest = max(n for n in range(1, gpus) if heads_divide(*heads, n))
        raise ConfigError(
            f'policy.lm.model "{name}" has {heads[0]} attention heads and {heads[1]} of keys and values, which cannot '
            f"be divided among verl.tensor_parallel {gpus} GPUs: set it to {largest}"
        )


def shape_of(lm: CausalLMConfig) -> ModelShape:
    """Returns the shape of a policy's model, with the largest possible vocabulary for the model "tiny"."""
    if lm.model != "tiny":
        return find_shape(lm.model)
    sizes = (TINY_VOCABULARY, lm.hidden_size, 3 * lm.hidden_size, lm.layers, lm.heads, lm.heads)
    return ModelShape("tiny", "policy.lm of the settings", *sizes, lm.hidden_size // lm.heads, True, True)


def find_shape(name: str) -> ModelShape:
    """Returns the shape of a model id or folder: from its files on this machine, else from the table `KNOWN`.

    An adapter has the shape of its base model. Nothing is downloaded. Raises `ConfigError` for a model that is
    neither on this machine nor known.
    """
    if adapter := find_adapter(name):
        return replace(find_shape(adapter.base), name=name)
    path = config_file(name)
    if path is None:
        if name in KNOWN:
            return KNOWN[name]
        raise ConfigError(
            f'the shape of "{name}" is not known: it is no folder with a config.json, not in the Hugging Face cache, '
            f"and none of the models by id, such as {', '.join(get_close_matches(name, KNOWN, 3, 0))}; name a folder "
            "that has its config.json"
        )
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({reason_of(error)}): get the model again") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no JSON object: get the model again")
    return parse_shape(values, name, str(path))


def parse_shape(values: Mapping[str, Any], name: str, source: str) -> ModelShape:
    """Returns the shape in the values of a config.json.

    Raises `ConfigError` for a model type that is not supported here, or values that lack a size.
    """
    kind = values.get("model_type")
    if kind not in _TYPES:
        raise ConfigError(f'{source} is of a model of type "{kind}", and a plan knows only {", ".join(_TYPES)}')
    try:
        hidden, heads = int(values["hidden_size"]), int(values["num_attention_heads"])
        return ModelShape(
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


def config_file(name: str) -> Path | None:
    """Returns the config.json of a model id or folder, or of an adapter's base model; None if it is not here.

    Raises `ConfigError` for an unusable adapter.
    """
    if adapter := find_adapter(name):
        return config_file(adapter.base)
    if Path(name).is_dir():
        file = Path(name) / "config.json"
        return file if file.is_file() else None
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, "config.json")
    except Exception:  # the client is not installed, or the name is no id
        return None
    return Path(found) if isinstance(found, str) else None


def hub_revisions(config: Config) -> dict[str, dict[str, str]]:
    """Returns the models of the Hub that a run uses, by the name of the setting: their ids and revisions (commits).

    A folder has none, and nothing is asked: it is the revision in the cache, which has just been loaded.
    """
    used = {}
    if config.policy.kind == "causal-lm":
        used["policy.lm.model"] = config.policy.lm.model
    if config.embedder.kind == "transformers":
        used["embedder.model"] = config.embedder.model
    revisions = {}
    for setting, name in used.items():
        file = None if Path(name).expanduser().is_dir() and not find_adapter(name) else config_file(name)
        if file is not None and file.parent.parent.name == "snapshots":
            revisions[setting] = {"model": name, "revision": file.parent.name}
    return revisions


_MODELS = tomllib.loads((files("d2skill.planning") / "resources" / "models.toml").read_text("utf-8"))
KNOWN = {
    name: parse_shape(_MODELS[values.get("same_as", name)], name, "its published config.json")
    for name, values in _MODELS.items()
}
"""Models whose shape is known without their files, by id."""
