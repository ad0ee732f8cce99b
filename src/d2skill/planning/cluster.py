"""What a model takes of each GPU, each node and the disk when verl trains it, and what to set if it is too much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from d2skill.config import Config
from d2skill.errors import ConfigError
from d2skill.planning.devices import Device, rounded, size
from d2skill.planning.model_shapes import Shape, heads_divide
from d2skill.planning.sharded_memory import KEPT, Cluster, cluster, devices_of, split_of

_BASIS = (
    "tensors counted, at prompts and answers of full length, in the precision that verl 0.9.1 keeps them in; "
    "not measured on GPUs; of verl.options only the actor's model_dtype and how Megatron splits it count"
)
_MEGATRON = "actor_rollout_ref.actor.megatron"

_Update = Mapping[str, Any]


def check(config: Config, shape: Shape) -> None:
    """Raises `ConfigError` for a model whose heads the GPUs that answer cannot share out."""
    tensor = config.verl.tensor_parallel
    if not heads_divide(shape.heads, shape.kv_heads, tensor):
        raise ConfigError(
            f"{shape.name} has {shape.heads} attention heads and {shape.kv_heads} of keys and values, which "
            f"verl.tensor_parallel {tensor} cannot share out evenly: use a divisor"
        )


def parts_of(config: Config, shape: Shape, where: Device, row: int) -> dict[str, dict[str, Any]]:
    """Returns the parts of a plan that are about a cluster: the cluster, its GPUs' and hosts' memory, and the disk.

    Args:
        config: settings that verl has counterparts for.
        shape: the model.
        where: the kind of the GPUs.
        row: tokens that a prompt and its answer have, at most.

    Raises `ConfigError` for a model whose heads the GPUs that answer cannot share out.
    """
    check(config, shape)
    found, verl = cluster(config, shape, where, row), config.verl
    rollout, shared = found.rollout, verl.tensor_parallel
    wanted = config.rollout.tasks * config.rollout.group_size
    learning = "weights, gradients and Adam over all GPUs"
    if verl.strategy == "megatron":
        learning = f"weights split in {split_of(config)}, float32 weights and Adam over all GPUs"
    return {
        "cluster": {
            "nodes": verl.nodes,
            "GPUs": devices_of(config),
            "learning": f"{verl.strategy}: {learning}",
            "answering": f"{verl.rollout}: {rollout.copies} copies of the model, {shared} GPU{'s' * (shared > 1)} each",
            "from": "verl.nodes, gpus, strategy, tensor_parallel",
        },
        "memory": {
            "device": where.name,
            "device bytes": round(where.memory),
            "total": round(found.total),
            "fits": found.fits(where),
            "held by verl": rounded(found.resting),
            "while learning": rounded(found.update),
            "in a step of Adam": rounded(found.step),
            "handing weights over": rounded(found.handover),
            "answering": rounded(rollout.parts),
            "phases": rounded(found.phases),
            "tokens at once": {"learning": max(config.policy.lm.microbatch_tokens, row), "a row": row},
            "prompts at once": {
                "of a copy": rollout.prompts,
                "of all": rollout.prompts * rollout.copies,
                "wanted": wanted,
            },
            "advice": _advice(config, shape, where, row, found),
            "from": f"each GPU: {_BASIS}",
        },
        "host memory": {
            "total": round(sum(found.host.values())),
            "parts": rounded(found.host),
            "from": "each node; the first loads the model, the processes are assumed to take 1 GB each",
        },
        "disk": {
            "total": round(KEPT * sum(found.checkpoint.values())),
            "of a checkpoint": rounded(found.checkpoint),
            "from": f"{KEPT} checkpoints of verl are kept; run folder and model files come on top",
        },
    }


def _advice(config: Config, shape: Shape, where: Device, row: int, found: Cluster) -> list[str]:
    """Returns what to set so that the model fits, each with the total that it alone would bring."""
    if found.fits(where):
        return []

    def of(changed: Config) -> Cluster:
        return cluster(changed, shape, where, row)

    said: list[str] = []
    together, rest = config, _changes(config, shape, row, too_much=found.total > where.memory)
    # what helps alone comes first, then what helps beside that
    for _ in range(2):
        left = []
        for change in rest:
            flag, *updates = change
            before, after = of(together), of(_changed(together, *updates))
            alone = of(_changed(config, *updates))
            if _helps(alone, found, where) or (said and _helps(after, before, where)):
                said.append(f"{flag}: {_told(alone)}")
                together = _changed(together, *updates)
            else:
                left.append(change)
        rest = left
    every = of(together)
    fits = "fits" if every.fits(where) else "still does not fit: use a smaller model or larger devices"
    return [*said, f"all of these: {_told(every)}, which {fits}"]


def _helps(found: Cluster, before: Cluster, where: Device) -> bool:
    """Tells whether there is less where it was too much, or room for prompts where there was none."""
    return found.total < before.total > where.memory or found.rollout.prompts > before.rollout.prompts == 0


def _told(found: Cluster) -> str:
    return f"{size(found.total)}{'' if found.rollout.prompts else ' without room for a prompt'}"


def _changes(config: Config, shape: Shape, row: int, *, too_much: bool) -> list[tuple[str, _Update, _Update]]:
    """Returns flags that help, of which verl takes each, with what they set of policy.lm and of verl."""
    lm, verl, every = config.policy.lm, config.verl, devices_of(config)
    tokens, share = max(row, lm.microbatch_tokens // 4), round(verl.gpu_memory * (0.75 if too_much else 1.25), 2)
    changes: list[tuple[str, _Update, _Update]] = [
        (f"--policy.lm.microbatch-tokens {tokens}", {"microbatch_tokens": tokens}, {}),
        ("--policy.lm.gradient-checkpointing", {"gradient_checkpointing": True}, {}),
        ("--verl.offload", {}, {"offload": True}),
    ]
    if share < 1:
        changes.append((f"--verl.gpu-memory {share}", {}, {"gpu_memory": share}))
    tensor = 2 * verl.tensor_parallel
    if every % tensor == 0 and heads_divide(shape.heads, shape.kv_heads, tensor):
        changes.append((f"--verl.tensor-parallel {tensor}", {}, {"tensor_parallel": tensor}))
    split = 2 * split_of(config)
    if verl.strategy == "megatron" and every % split == 0:
        said = f"tensor_model_parallel_size={split} of {_MEGATRON} in --verl.options"
        option = f"{_MEGATRON}.tensor_model_parallel_size={split}"
        changes.append((said, {}, {"options": (*verl.options, option)}))
    if config.optim.minibatch_rows % (2 * every) == 0:  # rows are divided among all GPUs
        changes.append((f"--verl.nodes {2 * verl.nodes}", {}, {"nodes": 2 * verl.nodes}))
    return changes


def _changed(config: Config, of_lm: _Update, of_verl: _Update) -> Config:
    policy = config.policy.model_copy(update={"lm": config.policy.lm.model_copy(update=of_lm)})
    return config.model_copy(update={"policy": policy, "verl": config.verl.model_copy(update=of_verl)})
