"""Checks before a run through verl starts. Each failure is a `ConfigError` of one sentence with the way out.

In order: the installation, settings that verl cannot honour, devices, the model, and the disk that nodes share.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Any
from uuid import uuid4

from packaging.version import Version

from d2skill.config import CausalLMConfig, Config
from d2skill.config.verl import row_tokens
from d2skill.errors import ConfigError
from d2skill.planning.model_shapes import require_divisible_heads
from d2skill.runs.folder import RunFolder

VERL = (0, 9)
"""The supported version of verl."""

MEGATRON = ("Llama", "Mixtral", "Qwen2", "Qwen2Moe", "Qwen3", "Qwen3Moe")
"""Kinds of model, each a ...ForCausalLM of Transformers, that verl trains by Megatron."""

_INSTALL = "make it an environment of its own and there pip install -c constraints-verl.txt '.[verl]'"
_PLATFORM = "VERL_PLATFORM"


def require_verl() -> None:
    """Raises `ConfigError` unless the supported verl is installed, and packages that it needs but does not ask for."""
    try:
        found = version("verl")
    except PackageNotFoundError:
        raise ConfigError(f"engine verl needs verl, which is not installed: {_INSTALL}") from None
    if Version(found).release[:2] != VERL:
        wanted = ".".join(map(str, VERL))
        raise ConfigError(f"engine verl needs verl {wanted}, and {found} is installed: {_INSTALL}")
    for module, package in (("ray", "ray"), ("transfer_queue", "TransferQueue"), ("tensordict", "tensordict")):
        if find_spec(module) is None:
            raise ConfigError(f"verl needs {package}, which is not installed: {_INSTALL}")


# Settings without a counterpart in verl: the values that ask nothing of it, and the way out for others.
_UNSUPPORTED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
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
    ("advantage.normalise", (None, "group", "half"), "set it to group, as in the paper, or half, or engine to local"),
    ("bank.probe", (0,), "set bank.probe to 0"),
    ("train.max_env_steps", (None,), "leave it out, and end the run by train.iterations"),
)


def require_translatable(config: Config) -> None:
    """Raises `ConfigError` for a setting without a counterpart in verl, and for sizes that verl cannot divide."""
    for name, allowed, way_out in _UNSUPPORTED:
        value = attrgetter(name)(config)
        if value not in allowed:
            text = str(value).lower() if isinstance(value, bool) else value
            raise ConfigError(f"{name} is {text}, for which engine verl has no counterpart: {way_out}")
    if config.reflect.kind == "policy":
        raise ConfigError(
            "reflect.kind is policy, for which engine verl has no counterpart: set reflect.kind to llm, or to "
            "contrast, which needs no model"
        )
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
    _require_sizes(config)


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
            f"{max(1, rows // members) * members}"
        )
    parts, gpus, tensor = data_parallel_size(config), config.verl.total_gpus, config.verl.tensor_parallel
    if parts < 1 or rows % parts:
        raise ConfigError(
            f"optim.minibatch_rows is {rows}, which verl cannot divide among the {parts} parts that verl.nodes "
            f"{config.verl.nodes} and verl.gpus {config.verl.gpus} make: set it to a multiple of {parts}, or use "
            "fewer GPUs"
        )
    if gpus % tensor:
        raise ConfigError(
            f"verl.tensor_parallel is {tensor}, which does not divide the {gpus} GPUs of verl.nodes and verl.gpus: "
            "set it to 1, or to a divisor"
        )
    row, budget = sum(row_tokens(config)), config.policy.lm.pass_tokens
    if budget < row:
        raise ConfigError(
            f"policy.lm.microbatch_tokens is {budget}, and verl does not take less than a row, {row} tokens by "
            "prompt.max_tokens and policy.lm.max_new_tokens: raise it, or lower those"
        )


def data_parallel_size(config: Config) -> int:
    """Returns how many parts a minibatch is divided into: GPUs, or sets of GPUs that learn from the same rows.

    Options of verl make such sets, by sequence parallelism with FSDP and by splitting the model with Megatron.
    """
    if is_megatron := config.verl.strategy == "megatron":
        names = [f"megatron.{kind}_parallel_size" for kind in ("tensor_model", "pipeline_model", "context")]
    else:  # FSDP has two names for one size
        names = [f"{section}ulysses_sequence_parallel_size" for section in ("", "fsdp_config.")]
    sizes = [int(size) for size in map(config.verl.actor_option, names) if size.isdigit()]
    return config.verl.total_gpus // max(1, prod(sizes) if is_megatron else max(sizes, default=1))


def require_devices(config: Config) -> None:
    """Raises `ConfigError` unless there are the GPUs of verl.nodes and verl.gpus.

    They are counted in the Ray cluster if this process has joined one, else on this machine, unless verl.address names
    another cluster. With a platform of verl that is not for GPUs, which a plug-in brings, nothing is counted.
    """
    if (name := os.environ.get(_PLATFORM, "").strip().lower()) not in ("", "nvidia", "cuda"):
        from verl.plugin.platform.platform_manager import PlatformRegistry

        if PlatformRegistry.get(name) is None:
            known = ", ".join(PlatformRegistry.registered_names())
            raise ConfigError(
                f"{_PLATFORM} is {name}, which verl does not know ({known}): name the module that brings it in "
                "VERL_USE_EXTERNAL_MODULES, or unset it"
            )
        return
    nodes, gpus = config.verl.nodes, config.verl.gpus
    if _joined_ray():
        counts = _gpus_of_nodes()
        enough = sum(count >= gpus for count in counts)
        if enough < nodes:
            raise ConfigError(
                f"verl.nodes is {nodes} and verl.gpus is {gpus}, and of the {len(counts)} nodes of the Ray cluster "
                f"{enough} have so many GPUs (they have {', '.join(map(str, counts))}): lower either, or start Ray on "
                "more nodes"
            )
    elif config.verl.address is None:
        if nodes > 1:
            raise ConfigError(
                f"verl.nodes is {nodes}, and Ray is started on this one alone: start it on each node by ray start, and "
                "set verl.address to auto"
            )
        found = _gpus_here()
        if not found:
            raise ConfigError(
                "engine verl needs a GPU, and there is none here: go to a machine that has some, or use engine local; "
                f"a platform without, for trials, is named by {_PLATFORM}"
            )
        if found < gpus:
            raise ConfigError(f"verl.gpus is {gpus}, and there are {found} GPUs here: set verl.gpus to {found}")


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
    """Raises `ConfigError` for a model, a folder or an id, that verl cannot divide or that reads too few tokens.

    Only its config.json is read. Servers divide attention heads among verl.tensor_parallel GPUs; FSDP divides layers
    that Transformers names; Megatron knows some kinds of model.
    """
    named = f'policy.lm.model "{model}"'
    if (Path(model) / "adapter_config.json").is_file():
        raise ConfigError(
            f"{named} is an adapter, which verl does not merge: merge it into its base first (peft's merge_and_unload) "
            "and name the folder of the result"
        )
    import transformers

    try:
        settings = transformers.AutoConfig.from_pretrained(str(model), trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"{named} has no config.json that can be read ({reason}): check its name, the network and HF_HUB_OFFLINE"
        ) from None
    text = settings.get_text_config()
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    require_divisible_heads(str(model), (heads, kv_heads), config.verl.tensor_parallel)
    names = settings.architectures or []
    if len(names) != 1 or not hasattr(transformers, names[0]):
        raise ConfigError(
            f"{named} says in its config.json that it is {' and '.join(names) or 'nothing'}, and verl shards a single "
            "architecture that Transformers has: use another model"
        )
    if config.verl.strategy == "megatron":
        if names[0].removesuffix("ForCausalLM") not in MEGATRON:
            raise ConfigError(
                f"{named} is a {names[0]}, which verl does not train by Megatron: set verl.strategy to fsdp2"
            )
    elif not getattr(getattr(transformers, names[0]), "_no_split_modules", None):
        raise ConfigError(
            f"{named} is a {names[0]}, whose layers Transformers does not name, so that FSDP cannot shard it: use "
            "another model"
        )
    context, (prompt, answer) = getattr(text, "max_position_embeddings", None), row_tokens(config)
    if context is not None and prompt + answer > context:
        raise ConfigError(
            f"{named} reads {context} tokens, too few for a prompt of {prompt} (prompt.max_tokens and what comes on "
            f"top) and an answer of {answer}: lower prompt.max_tokens or policy.lm.max_new_tokens"
        )


def require_shared(run: Path) -> None:
    """Raises `ConfigError` unless every node of the joined Ray cluster sees the run folder and env.data.

    Each node looks for a file that is written into the run folder for this.
    """
    run = run.absolute()
    data = RunFolder(run).config().env.data
    token = run / f".seen-{uuid4().hex}"
    token.write_text("")
    try:
        for node, missing in _missing_on_nodes([token, *([data.absolute()] if data else [])]):
            if str(token) in missing:
                raise ConfigError(
                    f"node {node} does not see the run folder {run}: choose an --out on a disk that all nodes share"
                )
            if missing:
                raise ConfigError(
                    f"node {node} does not see env.data, {missing[0]}: put it on a disk that all nodes share, or copy "
                    "it there"
                )
    finally:
        token.unlink()


def _missing_on_nodes(paths: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """Returns the address of each node with the paths that it does not see."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # A function that is made here travels as code, so nodes need not have this package.
    def missing(paths: list[str]) -> list[str]:
        # A network disk shows what was written elsewhere only after a while, unless its folder is read again.
        folders = {path: os.path.dirname(path) for path in paths if not os.path.exists(path)}
        listed = {folder: os.listdir(folder) for folder in folders.values() if os.path.isdir(folder)}
        return [path for path, folder in folders.items() if os.path.basename(path) not in listed.get(folder, [])]

    nodes, names = _alive_nodes(), [str(path) for path in paths]
    places = [NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False) for node in nodes]
    task = ray.remote(missing)
    found = ray.get([task.options(num_cpus=0, scheduling_strategy=place).remote(names) for place in places])
    return [(node["NodeManagerAddress"], paths) for node, paths in zip(nodes, found, strict=True)]
