"""What verl has no counterpart for, and what it cannot divide: refused by name, with the way out."""

from __future__ import annotations

from math import prod
from typing import Any

from d2skill.config import CausalLMConfig, Config
from d2skill.engines.verl.settings import row_tokens
from d2skill.errors import ConfigError

_ACTOR = "actor_rollout_ref.actor"

# What splits rows, or the model, among GPUs that then learn from the same rows. FSDP has two names for one size.
_FSDP_SPLITS = tuple(f"{_ACTOR}{part}.ulysses_sequence_parallel_size" for part in ("", ".fsdp_config"))
_MEGATRON_SPLITS = tuple(
    f"{_ACTOR}.megatron.{kind}_parallel_size" for kind in ("tensor_model", "pipeline_model", "context")
)


def learners(config: Config) -> int:
    """Returns among how many the rows of a minibatch are divided: GPUs, or sets of them that share the model."""
    given = dict(option.split("=", 1) for option in config.verl.options if "=" in option)
    megatron = config.verl.strategy == "megatron"
    names = _MEGATRON_SPLITS if megatron else _FSDP_SPLITS
    sizes = [int(given[name]) for name in names if given.get(name, "").isdigit()]
    ways = prod(sizes) if megatron else max(sizes, default=1)
    return config.verl.nodes * config.verl.gpus // max(1, ways)


def require_translatable(config: Config) -> None:
    """Raises `ConfigError` for a setting without a counterpart in verl, and for sizes that verl cannot divide."""
    for name, without, way in _MISSING:
        value = _value(config, name)
        if value not in without:
            raise ConfigError(f"{name} is {_told(value)}, for which engine verl has no counterpart: {way}")
    _require_megatron(config)
    _require_sizes(config)


# Settings without a counterpart: the values that ask nothing of verl, and the way out for others.
_MISSING: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("policy.kind", ("causal-lm",), "it trains language models, so set policy.kind to causal-lm, or engine to local"),
    ("policy.train", (True,), "train the bank alone with engine local"),
    ("policy.lm.answer", ("free",), "its servers are not held to a list of actions, so set policy.lm.answer to free"),
    ("policy.lm.lora_rank", (0,), "set policy.lm.lora_rank to 0 to train all weights, or engine to local"),
    ("policy.lm.device", ("auto",), "it places models by itself, so leave policy.lm.device at auto"),
    (
        "policy.lm.generate_batch",
        (CausalLMConfig().generate_batch,),
        "leave it out, and limit its servers by actor_rollout_ref.rollout.max_num_seqs in verl.options",
    ),
    (
        "warm_start.tasks",
        (0,),
        "imitate with engine local first, then set policy.lm.model to the folder policy/model of that run's checkpoint "
        "and warm_start.tasks to 0",
    ),
    ("advantage.normalise", ("group",), "set it to group, as in the paper, or engine to local"),
    ("bank.probe", (0,), "set bank.probe to 0"),
    ("reflect.kind", ("contrast", "llm"), "set reflect.kind to llm, or to contrast, which needs no model"),
    ("train.max_env_steps", (None,), "leave it out, and end the run by train.iterations"),
)


def _require_megatron(config: Config) -> None:
    lm = config.policy.lm
    if config.verl.strategy == "megatron":
        if lm.dtype != "bfloat16":
            raise ConfigError(
                f"policy.lm.dtype is {lm.dtype}, in which verl does not train by Megatron: set it to bfloat16, or "
                "verl.strategy to fsdp2"
            )
        if lm.attention != "auto":
            raise ConfigError(
                f"policy.lm.attention is {lm.attention}, but Megatron has attention of its own: set it to auto, or "
                "verl.strategy to fsdp2"
            )
    elif lm.attention == "flash_attention_2" and lm.dtype != "bfloat16":
        raise ConfigError(f"policy.lm.attention is {lm.attention}, which needs policy.lm.dtype bfloat16: use auto")


def _require_sizes(config: Config) -> None:
    rows, members = config.optim.minibatch_rows, config.rollout.group_size
    if members < 2:
        raise ConfigError(
            f"rollout.group_size is {members}, and verl takes the return of a lone trajectory for its advantage: set "
            "it to 2 or more"
        )
    if rows % members:
        raise ConfigError(
            f"optim.minibatch_rows is {rows}, and verl takes multiples of rollout.group_size, {members}: set it to "
            f"{_multiple(rows, members)}"
        )
    parts = learners(config)
    if parts < 1 or rows % parts:
        raise ConfigError(
            f"optim.minibatch_rows is {rows}, which verl cannot divide among the {parts} parts that verl.nodes "
            f"{config.verl.nodes} and verl.gpus {config.verl.gpus} make: set it to a multiple of {parts}, or use "
            "fewer GPUs"
        )
    gpus, sharing = config.verl.nodes * config.verl.gpus, config.verl.tensor_parallel
    if gpus % sharing:
        raise ConfigError(
            f"verl.tensor_parallel is {sharing}, which does not divide the {gpus} GPUs of verl.nodes and verl.gpus: "
            "set it to 1, or to a divisor"
        )
    row, budget = sum(row_tokens(config)), config.policy.lm.microbatch_tokens
    if budget < row:
        raise ConfigError(
            f"policy.lm.microbatch_tokens is {budget}, and verl does not take less than a row, {row} tokens by "
            "prompt.max_tokens and policy.lm.max_new_tokens: raise it, or lower those"
        )


def _multiple(rows: int, members: int) -> int:
    return max(1, rows // members) * members


def _told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value
