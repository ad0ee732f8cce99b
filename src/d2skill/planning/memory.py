"""Memory of training a language model with the local engine, part by part, in bytes.

The tensors that `policies.causal_lm` keeps and makes are counted, at prompts as long as the settings allow and without
shared prefixes; benchmarks/plan_memory.py compares the sums with real models. Fragments that the allocator cannot use
and other programs on the device are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from d2skill.config import CausalLMConfig, Config
from d2skill.planning.devices import Device
from d2skill.planning.model_shapes import ModelShape, lora_parameters, lora_targets
from d2skill.policies.causal_lm.lora import find_adapter

CHOICE_TOKENS = 8
"""Tokens assumed for an admissible action, the answer of a "choice"."""
KV_BUFFER_GROWTH = 5 / 4
"""Allocated columns of the key-value buffers for each used one, at most: buffers grow by a quarter at a time."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each device: by group and part, and the total in each phase of an iteration.

    Only verl sets the rest: a copy of the model can answer `prompts` at a time, there are `copies` of it, `host` is
    memory of a node and `checkpoint` disk space.
    """

    parts: Mapping[str, dict[str, float]]
    phases: dict[str, float]
    prompts: int = 1
    copies: int = 1
    host: dict[str, float] = field(default_factory=dict)
    checkpoint: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """The most bytes in any phase."""
        return max(self.phases.values())

    def fits(self, device: Device) -> bool:
        """Returns True if the device has room for each phase, and for at least one prompt."""
        return self.total <= device.memory and self.prompts > 0


@dataclass(frozen=True, slots=True)
class BatchSize:
    """Rows in a forward pass of the update and of generation, and the tokens of a prompt and an answer in a row."""

    update_rows: int
    generate_rows: int
    prompt: int
    answer: int
    free: bool


def batch_size(config: Config, prompt: int | None = None) -> BatchSize:
    """Returns the batch of a forward pass; `prompt` is the longest prompt in tokens, the limit if it is not given."""
    lm = config.policy.lm
    free = lm.answer == "free"
    prompt, answer = prompt or config.prompt.max_tokens, lm.max_new_tokens if free else CHOICE_TOKENS
    rows = max(1, lm.pass_tokens // (prompt + answer))
    episodes = config.rollout.tasks * config.rollout.group_size
    together = min(lm.slots, max(episodes, 2 * config.validation.tasks))
    return BatchSize(min(rows, config.optim.minibatch_rows), together, prompt, answer, free)


def local_memory(config: Config, shape: ModelShape, batch: BatchSize, device: Device) -> Memory:
    """Returns the memory of acting and learning on one device.

    Args:
        config: the settings of the run.
        shape: the shape of the policy's model.
        batch: the batch of a forward pass, as `batch_size` returns it.
        device: the device that has the model.
    """
    lm, kl, trains = config.policy.lm, config.optim.kl > 0, config.policy.train
    w, is_adapter = weight_bytes(lm), lm.lora_rank > 0
    trained = lora_parameters(lm, shape) if is_adapter else shape.parameters
    # an adapter has a reference only if it has learnt something before
    has_reference = kl and trains and (not is_adapter or bool(config.warm_start.tasks or find_adapter(lm.model)))
    always = {
        "weights": float(w * shape.parameters + (4 * trained if is_adapter else 0)),  # adapters are in float32
        "reference": float((4 * trained if is_adapter else w * shape.parameters) if has_reference else 0),
        "float32 copy of the weights": float(4 * trained if w < 4 and not is_adapter else 0),
        "Adam's two moments": 8.0 * trained if trains else 0.0,
        "framework": device.framework,
    }
    parts = {"always": always, "while learning": {}, "in a step of Adam": {}, "while acting": {}}
    if trains:
        parts["while learning"] = _update_memory(config, shape, batch, trained)
        # on a GPU Adam steps all weights at once, with a temporary as large as they are
        temporaries = 4.0 * trained if device.kind != "cpu" else 0.0
        parts["in a step of Adam"] = {"gradients": 4.0 * trained, "temporaries of Adam": temporaries}
    parts["while acting"] = _generation_memory(lm, shape, batch)
    base = sum(always.values())
    names = {"update": "while learning", "step": "in a step of Adam", "generation": "while acting"}
    return Memory(parts, {name: base + sum(parts[group].values()) for name, group in names.items() if parts[group]})


def _update_memory(config: Config, shape: ModelShape, batch: BatchSize, trained: int) -> dict[str, float]:
    lm = config.policy.lm
    w, rows, read = weight_bytes(lm), batch.update_rows, batch.prompt + batch.answer - 1  # no answer's last token
    kept, again = activations(shape, lm, rows, read, flash=lm.attention == "flash_attention_2")
    logits = shape.vocabulary * float(rows * batch.answer) * ((w + 12) if batch.free else 3 * w)
    update = {
        "gradients": float((4 if lm.lora_rank else w) * trained),
        "activations": kept,
        "logits": logits,
        "layers computed again": max(0.0, again - logits),
    }
    # the reference reads before the policy does, when none of its activations is there
    reading = rows * read * key_value_bytes(shape, w) + max(rows * read * layer_temporaries(shape, w, read), logits)
    if not config.optim.kl:
        reading = 0.0
    return update | {"reading with the reference": max(0.0, reading - sum(update.values()) + update["gradients"])}


def _generation_memory(lm: CausalLMConfig, shape: ModelShape, batch: BatchSize) -> dict[str, float]:
    w, rows, tokens = weight_bytes(lm), batch.generate_rows, batch.prompt + batch.answer
    rows_at_once = min(rows, max(1, lm.pass_tokens // batch.prompt))
    reading = rows_at_once * batch.prompt * layer_temporaries(shape, w, batch.prompt)
    repeated = 2.0 * w * rows * tokens * shape.query_width if shape.heads > shape.kv_heads else 0.0
    sampling = shape.vocabulary * rows * (w + 4.0 + (24.0 if batch.free else 0.0))
    return {
        "keys and values": rows * tokens * KV_BUFFER_GROWTH * key_value_bytes(shape, w),
        "reading and sampling": max(reading, repeated, sampling),
    }


def weight_bytes(lm: CausalLMConfig) -> int:
    """Returns the bytes of a weight, in the precision of computing."""
    return 4 if lm.dtype == "float32" else 2


def activations(shape: ModelShape, lm: CausalLMConfig, rows: int, tokens: int, *, flash: bool) -> tuple[float, float]:
    """Returns the bytes that a forward pass keeps for its gradients, and those of one layer that is computed again.

    The second number is 0 without gradient checkpointing. A float32 norm keeps its input, the normalised input and its
    output; one of lower precision keeps a float32 copy of the input instead. Attention keeps queries, keys, values, its
    output and, over several rows, a mask in each layer. A weight that does not train keeps nothing for itself.

    Args:
        shape: the shape of the model.
        lm: the settings of the model.
        rows: rows of the pass.
        tokens: tokens of each row.
        flash: whether flash attention is used, which needs no mask and repeats no keys.
    """
    w, targets = weight_bytes(lm), lora_targets(lm, shape)
    h, i, a, k = shape.hidden, shape.intermediate, shape.query_width, shape.key_width
    repeated = 2 * a if shape.heads > shape.kv_heads and not flash else 2 * k
    if lm.lora_rank:
        norm, maps = (8, 4) if w == 4 else (4, 3)
    else:
        norm, maps = (12, 4) if w == 4 else (8, 4)
    token = float(2 * norm * h + w * maps * i + w * 2 * a + 4 * shape.heads)
    token += (8 if w == 4 else 6) * (a + k) * shape.qk_norm
    token += sum(4 * lm.lora_rank + (4 * shape.projections[name][0] if w < 4 else 0) for name in targets)
    total, mask = float(rows * tokens), 0 if flash or rows == 1 else w
    layer = total * (token + w * repeated + mask * tokens)
    last_norm = norm * h * total
    if not lm.gradient_checkpointing:
        return shape.layers * layer + last_norm, 0.0
    return total * shape.layers * (w * h + 2 * k * w) + last_norm, layer


def key_value_bytes(shape: ModelShape, w: int, gpus: int = 1) -> float:
    """Returns the bytes of a token's keys and values, w bytes a number, on each of the GPUs that share the heads.

    Where there are more GPUs than heads of keys, each GPU has one of its own.
    """
    return float(shape.layers * 2 * max(1, shape.kv_heads // gpus) * shape.head_size * w)


def layer_temporaries(shape: ModelShape, w: int, context: int | None = None) -> float:
    """Returns the bytes that a token takes within a layer that is read without gradients.

    `context` is the number of tokens that it attends to; without one, attention makes nothing of that length.
    """
    h, a, k = shape.hidden, shape.query_width, shape.key_width
    mlp, attention = 3 * shape.intermediate + 4 * h, 3 * h + 3 * a + 2 * k
    if context is None:
        return float(w * max(mlp, attention))
    attention += (2 * a if shape.heads > shape.kv_heads else 0) + context
    return float(w * max(mlp, attention) + 2 * w * shape.head_size + context)
