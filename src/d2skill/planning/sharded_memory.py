"""Memory of training through verl, in bytes: of a GPU and of a node's host part by part, and of checkpoints on disk.

Read off verl 0.9.1 and engines/verl/settings.py. FSDP shards weights, gradients and Adam's moments over all GPUs in
float32, whatever is computed in, and puts together a layer at a time; its reference policy is a model of its own that
stays in host memory, in the precision of computing. Megatron keeps weights and float32 gradients whole, unless an
option of verl splits them, and shards float32 weights and moments over all GPUs. What answers has weights of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from d2skill.config import Config
from d2skill.planning.devices import GB, Device
from d2skill.planning.memory import activations, load_of, width
from d2skill.planning.model_shapes import Shape

KEPT = 2
"""Checkpoints of verl that are kept."""
ASLEEP = 2 * GB
"""What an engine that answers keeps of a GPU while it sleeps, assumed: its context, communicators and graphs."""
BUCKET = 2.0**31
"""Weights that are handed over to the engine that answers at a time (verl's update_weights_bucket_megabytes)."""
READ_AT_ONCE = 8192
"""Prompt tokens that the engine reads at once (verl's max_num_batched_tokens)."""
WRITTEN_AT_ONCE = 256
"""Answers that it writes at once, at most (verl's max_num_seqs)."""
PROCESS = 1 * GB
"""Host memory of a process with PyTorch, Ray and verl, assumed; 0.5 GB of that are imports."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What answering makes of its share of a GPU: bytes by part, prompts at once on a GPU's copy, and all copies."""

    parts: dict[str, float]
    prompts: int
    copies: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """Bytes of each GPU by part and phase, of each node's host, and of a checkpoint; `resting` is what verl holds."""

    resting: dict[str, float]
    update: dict[str, float]
    step: dict[str, float]
    handover: dict[str, float]
    rollout: Rollout
    phases: dict[str, float]
    host: dict[str, float]
    checkpoint: dict[str, float]

    @property
    def total(self) -> float:
        """The most bytes of a GPU at any time."""
        return max(self.phases.values())

    def fits(self, device: Device) -> bool:
        """Tells whether no phase is larger than the device, and answering has room for a prompt."""
        return self.total <= device.memory and self.rollout.prompts > 0


def devices_of(config: Config) -> int:
    """Returns the GPUs of all nodes together."""
    return config.verl.nodes * config.verl.gpus


def split_of(config: Config) -> int:
    """Returns over how many GPUs Megatron splits the weights themselves, which verl.options say; 1 for FSDP."""
    if config.verl.strategy != "megatron":
        return 1
    sizes = [_given(config, f"megatron.{kind}_model_parallel_size") for kind in ("tensor", "pipeline")]
    return prod(int(size) for size in sizes if size.isdigit() and size != "0")


def cluster(config: Config, shape: Shape, device: Device, row: int) -> Cluster:
    """Returns the memory of training a model on GPUs of a kind, with rows of so many tokens at most."""
    w, m, every, count = width(config), _master(config), devices_of(config), shape.parameters
    if config.verl.strategy == "megatron":
        split = split_of(config)
        resting = {
            "weights": w * count / split,
            "gradients": 4.0 * count / split,
            "float32 copy of the weights": 4.0 * count / every,
            "Adam's two moments": 8.0 * count / every,
            "reference": w * count / split if config.optim.kl else 0.0,
        }
        update, step = _passing(config, shape, row), {}
    else:
        resting = {"weights": m * count / every, "Adam's two moments": 2 * m * count / every}
        gradients = {"gradients": m * count / every}
        update = gradients | {"layers put together": _gathered(config, shape)} | _passing(config, shape, row)
        step = gradients | {"temporaries of Adam": m * count / every}
    rollout = _rollout(config, shape, device, row)
    handover = {
        "weights that answer": rollout.parts["weights"],
        "weights on their way": BUCKET + float(m * shape.vocabulary * shape.hidden),
    }
    held = 0.0 if config.verl.offload else sum(resting.values())
    learning = sum(resting.values()) + device.framework + ASLEEP
    phases = {
        "learning": learning + sum(update.values()),
        "step of Adam": learning + sum(step.values()),
        "handing weights over": (held or resting["weights"]) + device.framework + ASLEEP + sum(handover.values()),
        "answering": held + device.framework + config.verl.gpu_memory * device.memory,
    }
    return Cluster(
        resting, update, step, handover, rollout, phases, _host(config, shape, resting), _checkpoint(config, count)
    )


def _given(config: Config, name: str) -> str:
    """Returns what the options of verl say of the actor last, "" if they are silent."""
    said = [one.partition("=") for one in config.verl.options]
    values = [value for key, _, value in said if key.lstrip("+") == f"actor_rollout_ref.actor.{name}"]
    return values[-1].strip("'\"") if values else ""


def _master(config: Config) -> int:
    """Returns the bytes of a weight that Adam steps: float32, unless an option of verl says otherwise."""
    return 2 if _given(config, "fsdp_config.model_dtype") in ("bf16", "bfloat16", "fp16", "float16") else 4


def _passing(config: Config, shape: Shape, row: int) -> dict[str, float]:
    """Returns what a pass makes: activations, and logits of all its tokens, prompts too, with their gradient."""
    w, lm = width(config), config.policy.lm
    tokens = max(lm.microbatch_tokens, row)
    # with flash attention rows are packed without padding, and there is no mask
    packed = w < 4 and lm.attention in ("auto", "flash_attention_2")
    rows, long = (1, tokens) if packed else (tokens // row, row)
    policy = config.policy.model_copy(
        update={"lm": lm.model_copy(update={"attention": "flash_attention_2" if packed else "sdpa"})}
    )
    load = replace(load_of(config), update_rows=rows, prompt=long, answer=1)
    kept, again = activations(shape, load, config.model_copy(update={"policy": policy}), None)
    read = rows * long
    if lm.gradient_checkpointing:
        kept -= read * shape.layers * 2 * shape.keys * w  # verl keeps the input of a layer alone
    copies = w + 8 if config.verl.strategy == "megatron" else w * (2 if config.rollout.temperature == 1 else 3)
    logits = float(read * shape.vocabulary * copies)
    parts = {"activations": kept, "logits": logits, "layers computed again": max(0.0, again - logits)}
    return {name: value / split_of(config) for name, value in parts.items()}


def _gathered(config: Config, shape: Shape) -> float:
    """Returns what FSDP puts together: the largest group, its gradient also in float32, and the next layer's weights.

    fsdp2 makes groups of layers, embeddings and head; fsdp has embeddings and head in one.
    """
    w = width(config)
    layer = (shape.parameters - shape.embeddings) / shape.layers
    apart = config.verl.strategy == "fsdp2"
    largest = max(layer, shape.vocabulary * shape.hidden if apart else shape.embeddings)
    return float((2 * w + 4) * largest + w * layer)


def _rollout(config: Config, shape: Shape, device: Device, row: int) -> Rollout:
    """Returns what the engine that answers does with its share of a GPU, at prompts and answers of full length."""
    w, tensor = width(config), config.verl.tensor_parallel
    inside = w * max(3 * shape.inner + 4 * shape.hidden, 3 * (shape.hidden + shape.queries) + 2 * shape.keys)
    parts = {
        "weights": w * shape.parameters / tensor,
        "framework": device.framework,
        "reading and sampling": float(READ_AT_ONCE * inside + 3 * 4 * WRITTEN_AT_ONCE * shape.vocabulary),
    }
    left = max(0.0, config.verl.gpu_memory * device.memory - sum(parts.values()))
    # where there are fewer heads with keys than GPUs, each of these has one of its own
    heads = max(1, shape.kv_heads // tensor)
    prompts = int(left / (w * shape.layers * 2 * heads * shape.head * row))
    return Rollout(parts | {"keys and values": left}, prompts, devices_of(config) // tensor)


def _host(config: Config, shape: Shape, resting: dict[str, float]) -> dict[str, float]:
    """Returns the host memory of a node; the first one loads the model beside what it keeps."""
    verl, w, m = config.verl, width(config), _master(config)
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


def _checkpoint(config: Config, count: int) -> dict[str, float]:
    """Returns the bytes of a checkpoint; FSDP's Hugging Face copy has the precision of the weights that are stepped."""
    m, w = _master(config), width(config)
    if config.verl.strategy == "megatron":
        return {"optimiser": 12.0 * count, "Hugging Face copy": float(w * count)}
    return {"weights": float(m * count), "optimiser": 2.0 * m * count, "Hugging Face copy": float(m * count)}
