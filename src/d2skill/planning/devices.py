"""Devices: those of this machine, and accelerators as their makers describe them (memory and arithmetic in 16 bits)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from d2skill.errors import ConfigError

GB = 1e9


@dataclass(frozen=True, slots=True)
class Device:
    """A device: bytes of memory, of which `framework` are gone, and operations and bytes a second (None: not known)."""

    name: str
    memory: float
    peak: float | None
    framework: float = 1.0 * GB
    kind: str = "cuda"
    bandwidth: float | None = None


KNOWN = {
    "h100": Device("h100", 80 * GB, 989e12, bandwidth=3.35e12),
    "h200": Device("h200", 141 * GB, 989e12, bandwidth=4.8e12),
    "a100": Device("a100", 80 * GB, 312e12, bandwidth=2.04e12),
    "a100-40": Device("a100-40", 40 * GB, 312e12, bandwidth=1.56e12),
    "l40s": Device("l40s", 48 * GB, 362e12, bandwidth=0.86e12),
    "rtx4090": Device("rtx4090", 24 * GB, 165e12, bandwidth=1.01e12),
}
"""Published figures of common accelerators."""

CPU_CORE = 20e9
"""Operations a second that a core is taken to do at its peak, in float32: eight lanes, a few GHz, cautiously."""
CPU_FRAMEWORK = 0.35 * GB
"""What Python, PyTorch and Transformers take by themselves on a CPU."""


def device(name: str) -> Device:
    """Returns a device of the table. Raises `ConfigError` for one that is not in it."""
    if name not in KNOWN:
        raise ConfigError(f'--gpu "{name}" is not known: use one of {", ".join(KNOWN)}, cpu or here')
    return KNOWN[name]


def cpu() -> Device:
    """Returns this machine without its accelerators."""
    cores = os.cpu_count() or 1
    try:
        total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        total = 8e9
    return Device(f"cpu, {cores} cores", total, cores * CPU_CORE, CPU_FRAMEWORK, "cpu")


def here() -> Device:
    """Returns the GPU of this machine, or else its processor."""
    if find_spec("torch") is None:
        return cpu()
    try:
        import torch

        if not torch.cuda.is_available():
            return cpu()
        found = torch.cuda.get_device_properties(0)
        named = next((key for key in ("h200", "h100", "a100", "l40s") if key in found.name.lower()), None)
        like = device(named) if named else Device("", 0.0, None)
        return Device(found.name, float(found.total_memory), like.peak, bandwidth=like.bandwidth)
    except (ImportError, OSError, RuntimeError):
        return cpu()


def size(count: float) -> str:
    """Returns bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def rounded(parts: Mapping[str, float], digits: int | None = None) -> dict[str, float]:
    """Returns numbers by name with so many digits after the point, without digits whole."""
    return {name: round(value, digits) for name, value in parts.items()}
