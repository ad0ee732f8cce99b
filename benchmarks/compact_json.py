"""Rewrites result files in results/ in few lines: what fits on a line stands on one, floats have six digits.

python benchmarks/compact_json.py results/*.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

WIDTH = 140


def compact(value: Any, indent: int = 0) -> str:
    """Returns JSON in which every list or object that fits into the width is on one line."""
    line = json.dumps(_rounded(value), ensure_ascii=False)
    if len(line) + indent <= WIDTH or not isinstance(value, (dict, list)):
        return line
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        names = {key: json.dumps(key, ensure_ascii=False) for key in value}
        inside = [f"{pad}{names[key]}: {compact(one, indent + 1)}" for key, one in value.items()]
    else:
        inside = [pad + compact(one, indent + 1) for one in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n" + ",\n".join(inside) + f"\n{' ' * indent}{last}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(compact(json.loads(path.read_text())) + "\n")
