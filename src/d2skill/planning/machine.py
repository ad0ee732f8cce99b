"""What there is on this machine, in words or held against what is wanted."""

from __future__ import annotations

import os
import re
from pathlib import Path

from d2skill.planning.devices import size


def satisfies(have: str, wanted: str) -> bool:
    """Tells whether a version fits bounds such as ">=2.0,<3"; what is no number is not judged."""
    own = _numbers(have)
    for sign, bound in re.findall(r"(>=|<=|==|>|<)\s*([\d.]+)", wanted):
        other = _numbers(bound)
        if not {">=": own >= other, "<=": own <= other, "==": own == other, ">": own > other, "<": own < other}[sign]:
            return False
    return True


def _numbers(version: str) -> list[int]:
    """Returns the numbers that a version begins with, without zeros at the end."""
    leading = re.match(r"[\d.]*", version)
    return [int(part) for part in re.sub(r"(\.0+)*\.?$", "", leading[0] if leading else "").split(".") if part]


def nearest(path: Path) -> Path:
    """Returns the nearest folder above a path that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def memory_in_words() -> str:
    """Returns the memory of this machine and what of it is free, where the system tells."""
    try:
        told = Path("/proc/meminfo").read_text("utf-8")
        sizes = {name: int(kb) * 1024 for name, kb in re.findall(r"(\w+):\s+(\d+) kB", told)}
        return f"{size(sizes['MemAvailable'])} free of {size(sizes['MemTotal'])}"
    except (OSError, KeyError):
        return f"{size(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))}, free part not known"
