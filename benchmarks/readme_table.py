"""Writes README's results table from the files in results/; `--check` only says whether it is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
START, END = "<!-- results: made by benchmarks/readme_table.py -->\n", "<!-- end of results -->\n"


NAMES = {"own": "validation panel"}


def table() -> str:
    rows = [
        "| setting, tasks | seeds | D2Skill, with skills | without its bank | GRPO | D2Skill − GRPO | with − without |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in sorted((ROOT / "results").glob("skills_vs_grpo_*.json")):
        result = json.loads(path.read_text())
        name = path.stem.removeprefix("skills_vs_grpo_").replace("_", " ")
        for split, found in result["splits"].items():
            arms, gaps = found["success"]["arms"], found["success"]["differences"]
            where = f"{name}, {found['tasks']} of {NAMES.get(split, split.partition(':')[0])}"
            rates = [f"{100 * arms[arm]['mean']:.1f} %" for arm in ("bank", "none", "grpo")]
            told = [_gap(gaps[gap]) for gap in ("bank - grpo", "bank - none")]
            rows.append(f"| {' | '.join([where, str(len(result['seeds'])), *rates, *told])} |")
    return "\n".join(rows) + "\n"


def _gap(estimate: dict) -> str:
    low, high = (100 * end for end in estimate["ci95"])
    return f"{100 * estimate['mean']:+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    path = ROOT / "README.md"
    before, _, rest = path.read_text().partition(START)
    _, _, after = rest.partition(END)
    text = before + START + table() + END + after
    if "--check" in sys.argv:
        sys.exit(text != path.read_text())
    path.write_text(text)


if __name__ == "__main__":
    main()
