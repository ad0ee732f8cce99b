"""Compute devices: published figures of common GPUs, and the GPU or CPU of this machine."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files

import psutil

from d2skill.errors import ConfigError
from d2skill.utils.memory import cgroup_memory

GB = 1e9


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU or CPU.

    `memory` is in bytes, of which libraries take `framework`; `peak` in FLOP/s and `bandwidth` in bytes/s are None
    where they are not known. `link` and `network` are the bytes/s that it sends to others in its node, and beyond.
    `free` is the memory that this process can get, None for a device that is not here.
    """

    name: str
    memory: float
    peak: float | None
    framework: float = 1.0 * GB
    kind: str = "cuda"
    bandwidth: float | None = None
    link: float = 32 * GB
    network: float = 1.6 * GB
    free: float | None = None


_FIGURES = tomllib.loads((files("d2skill.planning") / "resources" / "gpus.toml").read_text("utf-8"))
GPUS = {name: Device(name, **figures) for name, figures in _FIGURES.items()}
"""Published figures of common accelerators, arithmetic in 16 bits."""

CPU_CORE = 20e9
"""FLOP/s assumed for a core at its peak, in float32: eight lanes, a few GHz, cautiously."""
CPU_FRAMEWORK = 0.35 * GB
"""Memory of Python, PyTorch and Transformers on a CPU."""


def find_device(name: str) -> Device:
    """Returns a GPU by its name, or the device of this machine for "cpu" or "here"; raises `ConfigError` for others."""
    if name == "cpu":
        return this_cpu()
    if name == "here":
        return this_device()
    if name not in GPUS:
        raise ConfigError(f'--gpu "{name}" is not known: use one of {", ".join(GPUS)}, cpu or here')
    return GPUS[name]


def this_cpu() -> Device:
    """Returns the CPU of this machine; its memory is shared evenly by the processes of a launcher."""
    cores, processes = os.cpu_count() or 1, int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    memory, limit = psutil.virtual_memory(), cgroup_memory() / processes
    total, free = min(memory.total / processes, limit), min(memory.available / processes, limit)
    return Device(f"cpu, {cores} cores", total, cores * CPU_CORE, CPU_FRAMEWORK, "cpu", free=free)


def this_device(name: str = "auto") -> Device:
    """Returns a device of this machine by its name in PyTorch.

    "auto" is the first GPU, or that of this process of a launcher; without a GPU it is the CPU.
    """
    try:
        import torch

        if not torch.cuda.is_available() or not (name == "auto" or name.startswith("cuda")):
            return this_cpu()
        number = int(name.partition(":")[2] or os.environ.get("LOCAL_RANK") or 0)
        gpu = torch.cuda.get_device_properties(number)
        free = float(torch.cuda.mem_get_info(number)[0])
    except (ImportError, OSError, RuntimeError, ValueError, AssertionError):
        return this_cpu()
    known = next((GPUS[name] for name in ("h200", "h100", "a100", "l40s") if name in gpu.name.lower()), None)
    if known is not None:
        return replace(known, name=gpu.name, memory=float(gpu.total_memory), free=free)
    return Device(gpu.name, float(gpu.total_memory), None, free=free)


def format_bytes(count: float) -> str:
    """Returns bytes as text, in GB or MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def round_values(values: Mapping[str, float], digits: int | None = None) -> dict[str, float]:
    """Returns the same names with rounded numbers; without `digits` they become integers."""
    return {name: round(value, digits) for name, value in values.items()}
