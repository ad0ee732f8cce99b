"""What stands in the way of a run on verl, told before anything of it starts, each in one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any
from uuid import uuid4

from d2skill.config import CausalLMConfig, Config
from d2skill.errors import ConfigError
from d2skill.planning.model_shapes import heads_divide
from d2skill.runs.folder import RunFolder
from d2skill.verl.overrides import row_tokens

VERL = (0, 9)
"""The version of verl that this is for."""

MEGATRON = ("Llama", "Mixtral", "Qwen2", "Qwen2Moe", "Qwen3", "Qwen3Moe")
"""Kinds of model, each a ...ForCausalLM of Transformers, that verl trains by Megatron."""

_WAY_OUT = "make it an environment of its own and there pip install -c constraints-verl.txt '.[verl]'"
_PLATFORM = "VERL_PLATFORM"


def require_verl() -> None:
    """Raises `ConfigError` unless verl is here, in a version that this is for, and what it needs and never asks for."""
    try:
        found = version("verl")
    except PackageNotFoundError:
        raise ConfigError(f"engine verl needs verl, which is not installed: {_WAY_OUT}") from None
    if _first_two(found) != VERL:
        wanted = ".".join(map(str, VERL))
        raise ConfigError(f"engine verl needs verl {wanted}, and {found} is installed: {_WAY_OUT}")
    for module, package in (("ray", "ray"), ("transfer_queue", "TransferQueue"), ("tensordict", "tensordict")):
        if find_spec(module) is None:
            raise ConfigError(f"verl needs {package}, which is not installed: {_WAY_OUT}")


def _first_two(found: str) -> tuple[int, ...]:
    return tuple(int(part) for part in found.split(".")[:2] if part.isdigit())


def require_devices(config: Config) -> None:
    """Raises `ConfigError` unless there are the GPUs of verl.nodes and verl.gpus.

    They are counted in the Ray cluster if this process has joined one, else here, unless verl.address names a cluster
    elsewhere. With a platform of verl that is not for GPUs, which a plug-in brings, nothing is counted.
    """
    if (platform := os.environ.get(_PLATFORM, "").strip().lower()) not in ("", "nvidia", "cuda"):
        _require_platform(platform)
        return
    nodes, gpus = config.verl.nodes, config.verl.gpus
    if _joined_ray():
        _require_cluster(_gpus_of_nodes(), nodes, gpus)
    elif config.verl.address is None:
        if nodes > 1:
            raise ConfigError(
                f"verl.nodes is {nodes}, and Ray is started on this one alone: start it on each node by ray start, and "
                "set verl.address to auto"
            )
        _require_here(_gpus_here(), gpus)


def _require_platform(name: str) -> None:
    from verl.plugin.platform.platform_manager import PlatformRegistry

    if PlatformRegistry.get(name) is None:
        known = ", ".join(PlatformRegistry.registered_names())
        raise ConfigError(
            f"{_PLATFORM} is {name}, which verl does not know ({known}): name the module that brings it in "
            "VERL_USE_EXTERNAL_MODULES, or unset it"
        )


def _require_here(found: int, gpus: int) -> None:
    if not found:
        raise ConfigError(
            "engine verl needs a GPU, and there is none here: go to a machine that has some, or use engine local; a "
            f"platform without, for trials, is named by {_PLATFORM}"
        )
    if found < gpus:
        raise ConfigError(f"verl.gpus is {gpus}, and there are {found} GPUs here: set verl.gpus to {found}")


def _require_cluster(found: Sequence[int], nodes: int, gpus: int) -> None:
    """Takes the GPUs of each node."""
    enough = sum(count >= gpus for count in found)
    if enough < nodes:
        raise ConfigError(
            f"verl.nodes is {nodes} and verl.gpus is {gpus}, and of the {len(found)} nodes of the Ray cluster {enough} "
            f"have so many GPUs (they have {', '.join(map(str, found))}): lower either, or start Ray on more nodes"
        )


def _gpus_here() -> int:
    import torch

    return int(torch.cuda.device_count())


def _joined_ray() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _gpus_of_nodes() -> list[int]:
    return [int(node["Resources"].get("GPU", 0)) for node in _alive_nodes()]


def _alive_nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def require_shardable(config: Config, model: Path | str) -> None:
    """Raises `ConfigError` for a model, a folder or an id, that verl cannot divide or that reads too little.

    Only its config.json is read. Servers divide attention heads among verl.tensor_parallel GPUs; FSDP divides layers
    of which Transformers says what they are; Megatron knows some kinds of model.
    """
    if (Path(model) / "adapter_config.json").is_file():
        raise ConfigError(
            f'policy.lm.model "{model}" is an adapter, which verl does not merge: merge it into its base first '
            "(peft's merge_and_unload) and name the folder of the result"
        )
    settings = _read(model)
    text = settings.get_text_config()
    _require_heads(str(model), text, config.verl.tensor_parallel)
    _require_architecture(str(model), settings.architectures or [], config.verl.strategy)
    context = getattr(text, "max_position_embeddings", None)
    if context is not None and sum(row_tokens(config)) > context:
        prompt, answer = row_tokens(config)
        raise ConfigError(
            f'policy.lm.model "{model}" reads {context} tokens, too few for a prompt of {prompt} (prompt.max_tokens '
            f"and what comes on top) and an answer of {answer}: lower prompt.max_tokens or policy.lm.max_new_tokens"
        )


def _read(model: Path | str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(model))
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f'policy.lm.model "{model}" has no config.json that can be read ({first}): check its name, the network and '
            "HF_HUB_OFFLINE"
        ) from None


def _require_heads(model: str, text: Any, sharing: int) -> None:
    heads = text.num_attention_heads
    pairs = getattr(text, "num_key_value_heads", None) or heads
    if not heads_divide(heads, pairs, sharing):
        fitting = [n for n in range(1, sharing) if heads_divide(heads, pairs, n)]
        raise ConfigError(
            f'policy.lm.model "{model}" has {heads} attention heads and {pairs} of keys and values, which cannot be '
            f"divided among verl.tensor_parallel {sharing} GPUs: set it to {fitting[-1]}"
        )


def _require_architecture(model: str, names: Sequence[str], strategy: str) -> None:
    import transformers

    if len(names) != 1 or not hasattr(transformers, names[0]):
        raise ConfigError(
            f'policy.lm.model "{model}" says in its config.json that it is {" and ".join(names) or "nothing"}, and '
            "verl shards a single architecture that Transformers has: use another model"
        )
    if strategy == "megatron":
        if names[0].removesuffix("ForCausalLM") not in MEGATRON:
            raise ConfigError(
                f'policy.lm.model "{model}" is a {names[0]}, which verl does not train by Megatron: set verl.strategy '
                "to fsdp2"
            )
    elif not getattr(getattr(transformers, names[0]), "_no_split_modules", None):
        raise ConfigError(
            f'policy.lm.model "{model}" is a {names[0]}, whose layers Transformers does not name, so that FSDP cannot '
            "shard it: use another model"
        )


def require_shared(run: Path) -> None:
    """Raises `ConfigError` unless every node of the Ray cluster, which has to be joined, sees the run and its data.

    Each node is asked for a file that is written into the run folder for that, and for env.data if that is set.
    """
    run = run.absolute()
    data = RunFolder(run).config().env.data
    token = run / f".seen-{uuid4().hex}"
    token.write_text("")
    try:
        _require_seen(_missing_on_nodes([token, *([data.absolute()] if data else [])]), token)
    finally:
        token.unlink()


def _require_seen(missing: Iterable[tuple[str, Sequence[str]]], token: Path) -> None:
    """Takes what each node does not see."""
    for node, paths in missing:
        if str(token) in paths:
            raise ConfigError(
                f"node {node} does not see the run folder {token.parent}: choose an --out on a disk that all "
                "nodes share"
            )
        if paths:
            raise ConfigError(
                f"node {node} does not see env.data, {paths[0]}: put it on a disk that all nodes share, or copy it "
                "there"
            )


def _missing_on_nodes(paths: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """Returns the address of each node with those of the paths that it does not see."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(_looker())
    names = [str(path) for path in paths]
    nodes = _alive_nodes()
    asked = [
        look.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        ).remote(names)
        for node in nodes
    ]
    return [(node["NodeManagerAddress"], found) for node, found in zip(nodes, ray.get(asked), strict=True)]


def _looker() -> Callable[[list[str]], list[str]]:
    """Returns what looks for paths; a function made here travels as code, so nodes need not have this package."""

    def look(paths: list[str]) -> list[str]:
        # A network disk shows what was written elsewhere only after a while, unless its folder is read again.
        return [path for path in paths if not os.path.exists(path) and not _listed(path)]

    def _listed(path: str) -> bool:
        folder = os.path.dirname(path)
        return os.path.isdir(folder) and os.path.basename(path) in os.listdir(folder)

    return look


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
