"""Memory of training through verl, in bytes: each GPU and each node's host part by part, and checkpoints on disk.

Taken from verl 0.9.1 and verl/overrides.py. FSDP shards weights, gradients and Adam's moments over all GPUs in float32,
whatever the precision of computing, and gathers one layer at a time; its reference policy is a separate model that
stays in host memory, in the precision of computing. Megatron keeps weights and float32 gradients whole, unless an
option of verl splits them, and shards float32 weights and moments over all GPUs. The rollout engine has a copy of its
own.
"""

from __future__ import annotations

from math import prod

from d2skill.config import Config
from d2skill.config.verl import row_tokens
from d2skill.planning.devices import GB, Device
from d2skill.planning.memory import Memory, activations, key_value_bytes, layer_temporaries, weight_bytes
from d2skill.planning.model_shapes import ModelShape

CHECKPOINTS_KEPT = 2
"""Checkpoints of verl that are kept."""
SLEEPING_ENGINE = 2 * GB
"""GPU memory that a sleeping rollout engine keeps, assumed: its context, communicators and graphs."""
BUCKET = 2.0**31
"""Bytes of weights that are handed to the rollout engine at a time (verl's update_weights_bucket_megabytes)."""
BATCHED_TOKENS = 8192
"""Prompt tokens that the rollout engine reads at once (verl's max_num_batched_tokens)."""
SEQUENCES = 256
"""Answers that the rollout engine generates at once, at most (verl's max_num_seqs)."""
PROCESS = 1 * GB
"""Host memory of a process with PyTorch, Ray and verl, assumed; 0.5 GB of that are imports."""


def cluster_memory(config: Config, shape: ModelShape, device: Device) -> Memory:
    """Returns the memory of training a model on the GPUs of a cluster, which are of the kind `device`."""
    row = sum(row_tokens(config))
    w, m, gpus, count = weight_bytes(config.policy.lm), _stepped_bytes(config), config.verl.total_gpus, shape.parameters
    update, step = _forward_memory(config, shape, row), {}
    if config.verl.strategy == "megatron":
        split = model_split(config)
        resting = {
            "weights": w * count / split,
            "gradients": 4.0 * count / split,
            "float32 copy of the weights": 4.0 * count / gpus,
            "Adam's two moments": 8.0 * count / gpus,
            "reference": w * count / split if config.optim.kl else 0.0,
        }
    else:
        shard = m * count / gpus
        resting = {"weights": shard, "Adam's two moments": 2 * m * count / gpus}
        update = {"gradients": shard, "layers put together": _gathered(config, shape)} | update
        step = {"gradients": shard, "temporaries of Adam": shard}
    answering, prompts = _rollout_memory(config, shape, device, row)
    handover = {
        "weights that answer": answering["weights"],
        "weights on their way": BUCKET + float(m * shape.vocabulary * shape.hidden),
    }
    held = 0.0 if config.verl.offload else sum(resting.values())
    learning = sum(resting.values()) + device.framework + SLEEPING_ENGINE
    handing = (held or resting["weights"]) + device.framework + SLEEPING_ENGINE
    return Memory(
        parts={
            "held by verl": resting,
            "while learning": update,
            "in a step of Adam": step,
            "handing weights over": handover,
            "answering": answering,
        },
        phases={
            "learning": learning + sum(update.values()),
            "step of Adam": learning + sum(step.values()),
            "handing weights over": handing + sum(handover.values()),
            "answering": held + device.framework + config.verl.gpu_memory * device.memory,
        },
        prompts=prompts,
        copies=gpus // config.verl.tensor_parallel,
        host=_host_memory(config, shape, resting),
        checkpoint=_checkpoint_size(config, count),
    )


def model_split(config: Config) -> int:
    """Returns over how many GPUs Megatron splits the weights themselves, which verl.options set; 1 for FSDP."""
    if config.verl.strategy != "megatron":
        return 1
    sizes = [config.verl.actor_option(f"megatron.{kind}_model_parallel_size") for kind in ("tensor", "pipeline")]
    return prod(int(size) for size in sizes if size.isdigit() and size != "0")


def _stepped_bytes(config: Config) -> int:
    """Returns the bytes of a weight that Adam steps: float32, unless an option of verl says otherwise."""
    return 2 if config.verl.actor_option("fsdp_config.model_dtype") in ("bf16", "bfloat16", "fp16", "float16") else 4


def _forward_memory(config: Config, shape: ModelShape, row: int) -> dict[str, float]:
    """Returns activations and, for all tokens including prompts, logits with their gradient."""
    lm, w = config.policy.lm, weight_bytes(config.policy.lm)
    tokens = max(lm.pass_tokens, row)
    # with flash attention rows are packed without padding, and there is no mask
    packed = w < 4 and lm.attention in ("auto", "flash_attention_2")
    rows, length = (1, tokens) if packed else (tokens // row, row)
    kept, again = activations(shape, lm, rows, length, flash=packed)
    if lm.gradient_checkpointing:
        kept -= rows * length * shape.layers * 2 * shape.key_width * w  # verl keeps only the input of a layer
    copies = w + 8 if config.verl.strategy == "megatron" else w * (2 if config.rollout.temperature == 1 else 3)
    logits = float(rows * length * shape.vocabulary * copies)
    parts = {"activations": kept, "logits": logits, "layers computed again": max(0.0, again - logits)}
    return {name: value / model_split(config) for name, value in parts.items()}


def _gathered(config: Config, shape: ModelShape) -> float:
    """Returns what FSDP gathers: its largest group, its gradient also in float32, and the next layer's weights.

    fsdp2 makes groups of layers, embeddings and head; fsdp has embeddings and head in one.
    """
    w = weight_bytes(config.policy.lm)
    layer = (shape.parameters - shape.embedding_parameters) / shape.layers
    fsdp2 = config.verl.strategy == "fsdp2"
    largest = max(layer, shape.vocabulary * shape.hidden if fsdp2 else shape.embedding_parameters)
    return float((2 * w + 4) * largest + w * layer)


def _rollout_memory(config: Config, shape: ModelShape, device: Device, row: int) -> tuple[dict[str, float], int]:
    """Returns the parts of the rollout engine's share of a GPU, and how many rows of full length it has room for."""
    w, tensor = weight_bytes(config.policy.lm), config.verl.tensor_parallel
    parts = {
        "weights": w * shape.parameters / tensor,
        "framework": device.framework,
        "reading and sampling": BATCHED_TOKENS * layer_temporaries(shape, w) + 3 * 4 * SEQUENCES * shape.vocabulary,
    }
    left = max(0.0, config.verl.gpu_memory * device.memory - sum(parts.values()))
    return parts | {"keys and values": left}, int(left / (key_value_bytes(shape, w, tensor) * row))


def _host_memory(config: Config, shape: ModelShape, resting: dict[str, float]) -> dict[str, float]:
    """Returns the host memory of a node; the first one loads the model beside what it keeps."""
    verl, w, m = config.verl, weight_bytes(config.policy.lm), _stepped_bytes(config)
    fsdp, count = verl.strategy != "megatron", shape.parameters
    unused = sum(resting.values()) - resting.get("gradients", 0.0)
    parts = {
        "reference": w * count / verl.nodes if fsdp and config.optim.kl else 0.0,
        "weights and optimiser while not used": verl.offload * verl.gpus * unused,
        # only the first process loads a model and shares it out, but with tied embeddings each does
        "loading": float(m * count * (verl.gpus if shape.tied else 1) if fsdp else w * count),
        "processes": (3 * verl.gpus + verl.workers + 6) * PROCESS,
    }
    return {name: value for name, value in parts.items() if value}


def _checkpoint_size(config: Config, count: int) -> dict[str, float]:
    """Returns the bytes of a checkpoint; FSDP's Hugging Face copy has the precision of the weights that are stepped."""
    m, w = _stepped_bytes(config), weight_bytes(config.policy.lm)
    if config.verl.strategy == "megatron":
        return {"optimiser": 12.0 * count, "Hugging Face copy": float(w * count)}
    return {"weights": float(m * count), "optimiser": 2.0 * m * count, "Hugging Face copy": float(m * count)}
