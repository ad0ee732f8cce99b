"""Memory of this machine that a process may use, and the refusal of what does not fit into it before it is begun."""

from __future__ import annotations

from math import inf
from pathlib import Path

from d2skill.errors import ConfigError

_LARGE = 1 << 30  # bytes from which on it is worth a look


def cgroup_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Returns the bytes that control groups (containers, jobs of a cluster) let this process have; inf for no limit."""
    limits = [inf]
    for line in own.read_text("utf-8").splitlines() if own.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        place = top / path.lstrip("/")
        for folder in (place, *place.parents):
            if folder.is_relative_to(top) and (folder / name).is_file():
                text = (folder / name).read_text("utf-8").strip()
                limits.append(float(text) if text.isdigit() else inf)
    return min(limits)


def require_memory(count: float, what: str, way_out: str) -> None:
    """Raises `ConfigError` if so many bytes are more than this process can have.

    Args:
        count: Bytes that are needed, about.
        what: What needs them, as the sentence begins.
        way_out: End of the sentence.
    """
    if count < _LARGE:
        return
    import psutil

    free = min(psutil.virtual_memory().available, cgroup_memory())
    if count > free:
        raise ConfigError(f"{what} needs {count / 1e9:.0f} GB of memory, and {free / 1e9:.1f} GB are free: {way_out}")
