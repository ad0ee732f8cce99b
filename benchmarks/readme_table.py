"""Writes README's results table from the files in results/; `--check` only says whether it is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
START, END = "<!-- results: made by benchmarks/readme_table.py -->\n", "<!-- end of results -->\n"


def table() -> str:
    rows = [
        "| setting | seed | D2Skill, with skills | GRPO | difference | environment steps |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted((ROOT / "results").glob("skills_vs_grpo_*.json")):
        result = json.loads(path.read_text())
        name = path.stem.removeprefix("skills_vs_grpo_").replace("_", " ")
        for pair in result["pairs"]:
            figures = [f"{100 * pair[arm]['success']:.1f} %" for arm in ("d2skill", "grpo")]
            steps = " / ".join(f"{pair['env_steps'][arm]:,}" for arm in ("d2skill", "grpo"))
            gap = f"{100 * pair['difference']:+.1f}"
            rows.append(f"| {name} | {pair['seed']} | {figures[0]} | {figures[1]} | {gap} | {steps} |")
        rows.append(f"| {name} | mean | | | {100 * result['mean_difference']:+.1f} | |")
    return "\n".join(rows) + "\n"


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
