"""What a model takes of the one device that the local engine trains it on, and what to set where it does not fit."""

from __future__ import annotations

from typing import Any

from d2skill.config import CausalLMConfig, Config
from d2skill.planning import memory
from d2skill.planning.devices import Device, rounded, size
from d2skill.planning.model_shapes import Shape


def memory_of(config: Config, shape: Shape, where: Device) -> dict[str, Any]:
    """Returns the memory by part and phase, whether it fits, and advice; "from" says what that is based on."""
    load = memory.load_of(config)
    found = memory.memory(config, shape, load, where)
    return {
        "device": where.name,
        "device bytes": round(where.memory),
        "total": round(found.total),
        "fits": found.total <= where.memory,
        "always": rounded(found.resting),
        "while learning": rounded(found.update),
        "in a step of Adam": rounded(found.step),
        "while acting": rounded(found.generation),
        "phases": rounded(found.phases),
        "rows at once": {"learning": load.update_rows, "acting": load.generate_rows},
        "advice": _advice(config, shape, where, found),
        "from": "tensors counted, at prompts and answers of full length; within 10 % of measured peaks (docs/plan.md)",
    }


def _advice(config: Config, shape: Shape, where: Device, found: memory.Memory) -> list[str]:
    """Returns what to set so that the model fits, each with the total that it alone would bring."""
    if found.total <= where.memory:
        return []
    lm = config.policy.lm
    changes: dict[str, dict[str, Any]] = {
        f"--policy.lm.microbatch-tokens {lm.microbatch_tokens // 4}": {"microbatch_tokens": lm.microbatch_tokens // 4},
        f"--policy.lm.generate-batch {lm.generate_batch // 8}": {"generate_batch": lm.generate_batch // 8},
        "--policy.lm.gradient-checkpointing": {"gradient_checkpointing": True},
        "--policy.lm.dtype bfloat16": {"dtype": "bfloat16"},
        "--policy.lm.lora-rank 16": {"lora_rank": 16},
    }
    said, together = [], lm
    for flag, update in changes.items():
        if any(getattr(lm, name) == value or not value for name, value in update.items()) or (
            "lora" in flag and lm.lora_rank
        ):
            continue
        one, together = _total(config, lm.model_copy(update=update), shape, where), together.model_copy(update=update)
        if one < found.total:
            said.append(f"{flag}: {size(one)}")
    every = _total(config, together, shape, where)
    fits = "fits" if every <= where.memory else "still does not fit: use a smaller model or a larger device"
    return [*said, f"all of these: {size(every)}, which {fits}"]


def _total(config: Config, lm: CausalLMConfig, shape: Shape, where: Device) -> float:
    policy = config.policy.model_copy(update={"lm": lm})
    changed = config.model_copy(update={"policy": policy})
    return memory.memory(changed, shape, memory.load_of(changed), where).total
