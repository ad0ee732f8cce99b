"""Batches of a language model that fit into memory: tokens in a forward pass, and slots.

They are powers of two, so that a little more or less memory gives the same numbers, and so the same run to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from d2skill.config import Config
from d2skill.planning.devices import Device
from d2skill.planning.memory import BatchSize, Memory, batch_size, local_memory
from d2skill.planning.model_shapes import ModelShape

PASSES = tuple(2**power for power in range(14, 7, -1))
SLOTS = tuple(2**power for power in range(6, -1, -1))
CPU_SHARE, GPU_SHARE = 0.5, 0.9
"""Shares of a machine's memory, and of a GPU's free memory, that batches are chosen for."""
CPU_FRAGMENTS = 1.4
"""Bytes that a process grows by for each byte of tensors that come and go, measured at 1.25 to 1.55 with glibc."""
UNKNOWN = 2**11, 2**4
"""Batches for a model whose shape is not known."""


def choose_batches(config: Config, shape: ModelShape, device: Device) -> Config:
    """Returns the settings with the largest batches that fit into `memory_meant`, where they leave batches open.

    If none fits they are the smallest.
    """
    lm, room = config.policy.lm, memory_meant(device)

    def largest(choices: Sequence[int], changed: Callable[[int], Config], *phases: str) -> int:
        for choice in choices:
            memory = filled_memory(changed(choice), shape, device)
            if all(memory.phases.get(phase, 0.0) <= room for phase in phases):
                return choice
        return choices[-1]

    passes = (lm.microbatch_tokens,) if lm.microbatch_tokens else PASSES
    tokens = largest(passes, lambda count: with_batches(config, count, lm.slots), "update", "step")
    slots = (lm.generate_batch,) if lm.generate_batch else SLOTS
    count = largest(slots, lambda count: with_batches(config, tokens, count), "generation")
    return with_batches(config, tokens, count)


def memory_meant(device: Device) -> float:
    """Returns the bytes that batches are chosen for.

    Of a machine it is half of the memory, or what is free if that is less; of a GPU nine tenths of what is free.
    """
    free = device.memory if device.free is None else device.free
    return min(CPU_SHARE * device.memory, free) if device.kind == "cpu" else GPU_SHARE * free


def with_batches(config: Config, tokens: int, slots: int) -> Config:
    """Returns settings with other tokens in a forward pass and other slots."""
    lm = config.policy.lm.model_copy(update={"microbatch_tokens": tokens, "generate_batch": slots})
    return config.model_copy(update={"policy": config.policy.model_copy(update={"lm": lm})})


def filled_memory(config: Config, shape: ModelShape, device: Device) -> Memory:
    """Returns the memory of a run whose forward passes are filled, with the fragments that a CPU's heap keeps.

    A pass of prompts at their limit can have room for a part of another row; shorter prompts fill it.
    """
    load, tokens = batch_size(config), config.policy.lm.pass_tokens
    rows = min(-(-tokens // (load.prompt + load.answer)), config.optim.minibatch_rows)
    prompt = min(load.prompt, max(1, tokens // rows - load.answer)) if rows > 1 else load.prompt
    memory = local_memory(config, shape, BatchSize(rows, load.generate_rows, prompt, load.answer, load.free), device)
    acting = local_memory(config, shape, load, device).phases["generation"]
    rest, more = sum(memory.parts["always"].values()), CPU_FRAGMENTS if device.kind == "cpu" else 1.0
    phases = memory.phases | {"generation": acting}
    return Memory(memory.parts, {name: rest + more * (total - rest) for name, total in phases.items()})
