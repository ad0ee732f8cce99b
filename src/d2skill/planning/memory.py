"""Memory of the causal-lm policy, part by part, in bytes.

Counted are the tensors that policies/ keeps and makes, at prompts as long as the settings allow, none of which begins
like another; benchmarks/plan_memory.py holds it against real models. What is left out: the fragments that an allocator
cannot use, and whatever else is on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from d2skill.config import Config
from d2skill.planning.devices import Device
from d2skill.planning.model_shapes import Shape
from d2skill.policies.causal_lm.lora import adapter_at

CHOICE_TOKENS = 8
"""Tokens of an admissible action, about, with which a "choice" is answered."""
ROOM = 5 / 4
"""Columns of the buffers of keys and values for each that is used, at most: as prompts grow, so do they, by so much."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A low-rank adapter: its rank, and the linear maps of a layer that get one."""

    rank: int
    targets: Sequence[str]

    def parameters(self, shape: Shape) -> int:
        """Returns the parameters of the adapter, which alone are trained."""
        return shape.layers * self.rank * sum(sum(shape.linears[name]) for name in self.targets)


@dataclass(frozen=True, slots=True)
class Load:
    """What goes through a model at once: rows, and the tokens of a prompt and of an answer."""

    update_rows: int
    generate_rows: int
    prompt: int
    answer: int
    free: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by part. `resting` is there all the time; of `update`, `step` and `generation` only one at a time."""

    resting: dict[str, float]
    update: dict[str, float]
    step: dict[str, float]
    generation: dict[str, float]

    @property
    def phases(self) -> dict[str, float]:
        """Bytes in all at each phase."""
        base = sum(self.resting.values())
        named = {"update": self.update, "step": self.step, "generation": self.generation}
        return {name: base + sum(parts.values()) for name, parts in named.items() if parts}

    @property
    def total(self) -> float:
        """The most bytes at any time."""
        return max(self.phases.values())


def adapter_of(config: Config, shape: Shape) -> Adapter | None:
    """Returns the adapter that the settings ask for; names that the shape does not have are left out."""
    lm = config.policy.lm
    rank, wanted = lm.lora_rank, lm.lora_targets
    if not rank:
        return None
    names = list(shape.linears) if wanted == "all-linear" else [name.strip() for name in wanted.split(",")]
    return Adapter(rank, [name for name in shape.linears if name in names])


def load_of(config: Config, prompt: float | None = None, answer: float | None = None) -> Load:
    """Returns what goes through the model at once: prompts and answers at their limits, unless they are given."""
    lm = config.policy.lm
    free = lm.answer == "free"
    longest = int(prompt or config.prompt.max_tokens)
    written = int(answer or (lm.max_new_tokens if free else CHOICE_TOKENS))
    rows = max(1, lm.microbatch_tokens // (longest + written))
    episodes = config.rollout.tasks * config.rollout.group_size
    together = min(lm.generate_batch, max(episodes, 2 * config.validation.tasks))
    return Load(min(rows, config.optim.minibatch_rows), together, longest, written, free)


def memory(config: Config, shape: Shape, load: Load, device: Device) -> Memory:
    """Returns the memory of acting and learning with a model."""
    w = width(config)
    adapter = adapter_of(config, shape)
    trained = adapter.parameters(shape) if adapter else shape.parameters
    copied = bool(config.optim.kl) and adapter is None and config.policy.train
    # an adapter that has learnt something before it is held to that
    learnt = bool(config.warm_start.tasks or adapter_at(config.policy.lm.model))
    again = bool(config.optim.kl and adapter and config.policy.train and learnt)
    learns = trained if config.policy.train else 0
    resting = {
        "weights": float(w * shape.parameters + (4 * trained if adapter else 0)),  # adapters are float32 always
        "reference": float(w * shape.parameters if copied else 4 * trained if again else 0),
        "float32 copy of the weights": float(4 * trained if w < 4 and not adapter else 0),
        "Adam's two moments": 8.0 * learns,
        "framework": device.framework,
    }
    update: dict[str, float] = {}
    step: dict[str, float] = {}
    if learns:
        kept, inner = activations(shape, load, config, adapter)
        logits = shape.vocabulary * float(load.update_rows * load.answer) * ((w + 12) if load.free else 3 * w)
        fed = load.prompt + load.answer - 1
        keys = load.update_rows * fed * cached(shape, w)
        inside = load.update_rows * fed * inside_of(shape, fed, w)
        reading = keys + max(inside, logits) if config.optim.kl else 0.0
        update = {
            "gradients": float((4 if adapter else w) * learns),
            "activations": kept,
            "logits": logits,
            "layers computed again": max(0.0, inner - logits),
        }
        # the reference reads before the policy does, when none of its activations is there
        update["reading with the reference"] = max(0.0, reading - sum(update.values()) + update["gradients"])
        # on accelerators Adam steps all weights at once, with a temporary as large as they are
        step = {"gradients": 4.0 * learns, "temporaries of Adam": 4.0 * learns if device.kind != "cpu" else 0.0}
    rows, seen = load.generate_rows, load.prompt + load.answer
    written = rows * seen * ROOM * cached(shape, w)
    at_once = min(rows, max(1, config.policy.lm.microbatch_tokens // load.prompt))
    reading = at_once * load.prompt * inside_of(shape, load.prompt, w)
    heads = 2.0 * w * rows * seen * shape.queries if shape.heads > shape.kv_heads else 0.0
    choosing = shape.vocabulary * rows * (w + 4.0 + (24.0 if load.free else 0.0))
    generation = {"keys and values": written, "reading and sampling": max(reading, heads, choosing)}
    return Memory(resting, update, step, generation)


def width(config: Config) -> int:
    """Returns the bytes of a weight."""
    return 4 if config.policy.lm.dtype == "float32" else 2


def activations(shape: Shape, load: Load, config: Config, adapter: Adapter | None) -> tuple[float, float]:
    """Returns what a pass keeps for its gradients, and with checkpointing what it makes again of a layer, else 0.

    A float32 norm keeps its input, what it normalised and its output, one of less precision a float32 copy of the
    input; attention keeps queries, keys, values, its output and, over several rows, a mask of its own in each layer.
    A weight that does not train keeps nothing for itself.
    """
    lm, w = config.policy.lm, width(config)
    h, i, a, k = shape.hidden, shape.inner, shape.queries, shape.keys
    flash = lm.attention == "flash_attention_2"
    in_heads = 2 * a if shape.heads > shape.kv_heads and not flash else 2 * k
    norm, maps = (12, 4) if w == 4 else (8, 4)
    if adapter:
        norm, maps = (8, 4) if w == 4 else (4, 3)
    token = float(2 * norm * h + w * maps * i + w * 2 * a + 4 * shape.heads)
    token += (8 if w == 4 else 6) * (a + k) * shape.qk_norm
    if adapter:
        token += sum(4 * adapter.rank + (4 * shape.linears[name][0] if w < 4 else 0) for name in adapter.targets)
    fed = load.prompt + load.answer - 1
    tokens, mask = float(load.update_rows * fed), 0 if flash or load.update_rows == 1 else w
    layer = tokens * (token + w * in_heads + mask * fed)
    last = norm * h * tokens
    if not lm.gradient_checkpointing:
        return shape.layers * layer + last, 0.0
    return tokens * shape.layers * (w * h + 2 * k * w) + last, layer


def cached(shape: Shape, w: int) -> float:
    """Returns the keys and values of a token."""
    return float(shape.layers * 2 * shape.keys * w)


def inside_of(shape: Shape, prompt: int, w: int) -> float:
    """Returns what a token takes inside a layer that is read without gradients, beside those of so many tokens."""
    h, i, a, k = shape.hidden, shape.inner, shape.queries, shape.keys
    in_heads = 2 * a if shape.heads > shape.kv_heads else 0
    return float(w * max(3 * i + 4 * h, 3 * h + 3 * a + 2 * k + in_heads + prompt) + 2 * w * shape.head + prompt)
