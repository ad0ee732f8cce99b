"""Memory report of a language model: bytes by part and phase, whether they fit, and settings that make them fit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from d2skill.config import CausalLMConfig, Config
from d2skill.config.base import Settings
from d2skill.config.verl import row_tokens
from d2skill.errors import ConfigError
from d2skill.planning.devices import Device, format_bytes, round_values, this_device
from d2skill.planning.memory import Memory, batch_size, local_memory
from d2skill.planning.memory_fit import UNKNOWN, choose_batches, filled_memory, with_batches
from d2skill.planning.model_shapes import ModelShape, heads_divide, require_divisible_heads, shape_of
from d2skill.planning.sharded_memory import CHECKPOINTS_KEPT, cluster_memory, model_split

_LOCAL_BASIS = "tensors counted, at prompts and answers of full length; within 10 % of measured peaks (docs/plan.md)"
_HEAP = "; fragments of the heap come on top, a fifth to a half of what is not always there"
_CLUSTER_BASIS = (
    "each GPU: tensors counted, at prompts and answers of full length, in the precision that verl 0.9.1 keeps them in; "
    "not measured on GPUs; of verl.options only the actor's model_dtype and how Megatron splits it count"
)
_MEGATRON = "actor_rollout_ref.actor.megatron"

_Change = tuple[str, Any]
"""The dotted name of a setting, and a value for it."""


def memory_report(config: Config, shape: ModelShape, device: Device) -> dict[str, Any]:
    """Returns the part "memory" of a plan; with engine verl also the parts "cluster", "host memory" and "disk".

    `device` is the kind of a cluster's GPUs then. Raises `ConfigError` for a model whose heads the GPUs of
    verl.tensor_parallel cannot share.
    """
    is_verl, row = config.engine == "verl", sum(row_tokens(config))
    given = config
    config = config if is_verl else choose_batches(config, shape, device)
    batch = batch_size(config)
    if is_verl:
        require_divisible_heads(shape.name, (shape.heads, shape.kv_heads), config.verl.tensor_parallel)

    def memory_of(changed: Config) -> Memory:
        if is_verl:
            return cluster_memory(changed, shape, device)
        changed = choose_batches(changed, shape, device)
        return local_memory(changed, shape, batch_size(changed), device)

    memory = memory_of(config)
    if is_verl:
        episodes = config.rollout.tasks * config.rollout.group_size
        prompts = {"of a copy": memory.prompts, "of all": memory.prompts * memory.copies, "wanted": episodes}
        tokens = {"learning": max(config.policy.lm.pass_tokens, row), "a row": row}
        at_once = {"tokens at once": tokens, "prompts at once": prompts}
        changes = _cluster_changes(config, shape, row, too_much=memory.total > device.memory)
    else:
        at_once = {
            "tokens at once": {"in a forward pass": config.policy.lm.pass_tokens},
            "rows at once": {"learning": batch.update_rows, "acting": batch.generate_rows},
        }
        changes = _local_changes(config)
    report = {
        "device": device.name,
        "device bytes": round(device.memory),
        "total": round(memory.total),
        "fits": memory.fits(device),
        **{group: round_values(parts) for group, parts in memory.parts.items()},
        "phases": round_values(memory.phases),
        **at_once,
        "advice": [] if memory.fits(device) else _advice(given, device, memory_of, changes),
        "from": _CLUSTER_BASIS if is_verl else _LOCAL_BASIS + _HEAP * (device.kind == "cpu"),
    }
    return _cluster(config, memory, report) if is_verl else {"memory": report}


def fit_to_memory(config: Config, *, check: bool = True, download: bool = False) -> Config:
    """Returns the settings of a run here, with batches chosen by the memory there is where they leave them open.

    Raises `ConfigError` if a language model cannot be trained in that memory; not so without `check`. With `download`
    the config.json of a model is got from the hub, as loading it does.
    """
    lm = config.policy.lm
    if config.policy.kind != "causal-lm" or config.engine == "verl":
        return config
    try:
        shape = _shape(lm, download)
    except ConfigError:
        return with_batches(config, lm.microbatch_tokens or UNKNOWN[0], lm.generate_batch or UNKNOWN[1])
    device = this_device(lm.device)
    chosen = choose_batches(config, shape, device)
    free = device.memory if device.free is None else device.free
    if check and filled_memory(chosen, shape, device).total > free:
        raise ConfigError(_refusal(chosen, shape, device, free))
    return chosen


def _shape(lm: CausalLMConfig, download: bool) -> ModelShape:
    try:
        return shape_of(lm)
    except ConfigError:
        if not download or Path(lm.model).is_dir():
            raise
        with suppress(Exception):  # loading the model says what is wrong
            import_module("huggingface_hub").hf_hub_download(lm.model, "config.json")
        return shape_of(lm)


def _refusal(config: Config, shape: ModelShape, device: Device, free: float) -> str:
    """Returns the sentence that a run does not fit, with changes that make it fit, each on top of those before."""

    def total(changed: Config) -> float:
        return filled_memory(changed, shape, device).total

    lm, now, advice = config.policy.lm, config, list[str]()
    open_ = _changed(_changed(config, "policy.lm.microbatch_tokens", None), "policy.lm.generate_batch", None)
    best = choose_batches(open_, shape, device).policy.lm
    changes: list[_Change] = [
        ("policy.lm.microbatch_tokens", best.microbatch_tokens),
        ("policy.lm.generate_batch", best.generate_batch),
        ("policy.lm.gradient_checkpointing", True),
        ("policy.lm.lora_rank", lm.lora_rank or 16),
        ("policy.lm.dtype", "bfloat16"),
        *(("prompt.max_tokens", config.prompt.max_tokens // part) for part in (2, 4, 8)),
    ]
    for change in changes:
        after = _changed(now, *change)
        if total(now) > free and total(after) < 0.98 * total(now):
            now = after
            advice.append(f"{_flag(*change)} ({format_bytes(total(now))})")
    if total(now) > free:
        advice.append("a smaller model or larger devices, as that is not enough")
    return (
        f'policy.lm.model "{shape.name}" takes {format_bytes(total(config))} with prompts of prompt.max_tokens '
        f"{config.prompt.max_tokens} (policy.lm.microbatch_tokens {lm.pass_tokens}, generate_batch {lm.slots}) and "
        f"{device.name} has {format_bytes(free)} free: use {' and '.join(advice)}"
    )


def _cluster(config: Config, memory: Memory, report: dict[str, Any]) -> dict[str, Any]:
    verl, tensor = config.verl, config.verl.tensor_parallel
    learning = "weights, gradients and Adam over all GPUs"
    if verl.strategy == "megatron":
        learning = f"weights split in {model_split(config)}, float32 weights and Adam over all GPUs"
    return {
        "cluster": {
            "nodes": verl.nodes,
            "GPUs": verl.total_gpus,
            "learning": f"{verl.strategy}: {learning}",
            "answering": f"{verl.rollout}: {memory.copies} copies of the model, {tensor} GPU{'s' * (tensor > 1)} each",
            "from": "verl.nodes, gpus, strategy, tensor_parallel",
        },
        "memory": report,
        "host memory": {
            "total": round(sum(memory.host.values())),
            "parts": round_values(memory.host),
            "from": "each node; the first loads the model, the processes are assumed to take 1 GB each",
        },
        "disk": {
            "total": round(CHECKPOINTS_KEPT * sum(memory.checkpoint.values())),
            "of a checkpoint": round_values(memory.checkpoint),
            "from": f"{CHECKPOINTS_KEPT} checkpoints of verl are kept; run folder and model files come on top",
        },
    }


def _advice(config: Config, device: Device, memory_of: Callable[[Config], Memory], changes: list[_Change]) -> list[str]:
    """Returns the changes that make a model fit, each with the total that it alone brings, and the total of all."""
    before, advice, together, tried = memory_of(config), list[str](), config, -1
    enough = device.memory if config.engine == "verl" else 0.0  # the local engine's advice does not end where it fits

    def helps(after: Memory, before: Memory) -> bool:
        return after.total < before.total > enough or after.prompts > before.prompts == 0

    while tried != len(changes):  # what does not help alone may help beside other changes
        tried = len(changes)
        for change in list(changes):
            alone, changed = memory_of(_changed(config, *change)), _changed(together, *change)
            if helps(alone, before) or (advice and helps(memory_of(changed), memory_of(together))):
                advice.append(f"{_flag(*change)}: {_total(alone)}")
                together = changed
                changes.remove(change)
    after = memory_of(together)
    fits = "fits" if after.fits(device) else "still does not fit: use a smaller model or larger devices"
    return [*advice, f"all of these: {_total(after)}, which {fits}"]


def _local_changes(config: Config) -> list[_Change]:
    lm = config.policy.lm
    changes: list[_Change] = [
        ("policy.lm.microbatch_tokens", lm.pass_tokens // 4),
        ("policy.lm.generate_batch", lm.slots // 8),
        ("policy.lm.gradient_checkpointing", True),
        ("policy.lm.dtype", "bfloat16"),
        ("policy.lm.lora_rank", lm.lora_rank or 16),
    ]
    return [change for change in changes if change[1]]


def _cluster_changes(config: Config, shape: ModelShape, row: int, *, too_much: bool) -> list[_Change]:
    """Returns settings that need less memory, or leave room for prompts, each of which verl takes."""
    verl, gpus = config.verl, config.verl.total_gpus
    gpu_memory = round(verl.gpu_memory * (0.75 if too_much else 1.25), 2)
    tensor, split = 2 * verl.tensor_parallel, 2 * model_split(config)
    changes: list[_Change] = [
        ("policy.lm.microbatch_tokens", max(row, config.policy.lm.pass_tokens // 4)),
        ("policy.lm.gradient_checkpointing", True),
        ("verl.offload", True),
    ]
    if gpu_memory < 1:
        changes.append(("verl.gpu_memory", gpu_memory))
    if gpus % tensor == 0 and heads_divide(shape.heads, shape.kv_heads, tensor):
        changes.append(("verl.tensor_parallel", tensor))
    if verl.strategy == "megatron" and gpus % split == 0:
        changes.append(("verl.options", (*verl.options, f"{_MEGATRON}.tensor_model_parallel_size={split}")))
    if config.optim.minibatch_rows % (2 * gpus) == 0:  # rows are divided among all GPUs
        changes.append(("verl.nodes", 2 * verl.nodes))
    return changes


def _changed(settings: Settings, name: str, value: Any) -> Any:
    """Returns settings with another value for the setting of a dotted name."""
    first, _, rest = name.partition(".")
    return settings.model_copy(update={first: _changed(getattr(settings, first), rest, value) if rest else value})


def _flag(name: str, value: Any) -> str:
    if name == "verl.options":
        return f"{value[-1].removeprefix(f'{_MEGATRON}.')} of {_MEGATRON} in --verl.options"
    return f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")


def _total(memory: Memory) -> str:
    return f"{format_bytes(memory.total)}{'' if memory.prompts else ' without room for a prompt'}"
