"""Writes the tables of README, docs/results.md and docs/skills.md from results/*.json.

Those of *_start_*.json are of benchmarks/weak_start.py: few demonstrated games (weak) or many (strong). Those of search
QA are of benchmarks/skills_vs_grpo.py and benchmarks/search_ceiling.py.

`--check` only says whether they are up to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
STRONG = ", strong start"
NAMES = {"panel": "validation panel", "test": "held-out tasks", "unseen": "unseen floor plans"}


def results() -> dict[str, dict[str, Any]]:
    """Returns the results of all settings by name, such as "alfworld 25 steps", and then those of strong starts."""
    found = {}
    for start, ending in (("weak", ""), ("strong", STRONG)):
        for file in sorted((ROOT / "results").glob(f"{start}_start_*.json")):
            name = file.stem.removeprefix(f"{start}_start_").replace("_", " ") + ending
            found[name] = json.loads(file.read_text())
    return found


def summary_table() -> str:
    """Returns the table of README: success at a third and at the end of the environment steps.

    Of strong starts it has the held-out tasks alone; docs/results.md has all panels.
    """
    rows = [
        "| environment, tasks | seeds | steps | D2Skill | GRPO | difference | D2Skill without its bank − GRPO |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in results().items():
        for panel, found in result["panels"].items():
            if name.endswith(STRONG) and panel != "test":
                continue
            skilled, plain, alone = (found[method] for method in ("d2skill", "grpo", "d2skill, no skills"))
            for at in (len(result["marks"]) // 3, len(result["marks"]) - 1):
                rates = [f"{row['at'][at]['mean']:.1f} %" for row in (skilled, plain)]
                gaps = [_gap(row["minus_grpo"][at]) for row in (skilled, alone)]
                seeds, steps = str(skilled["at"][at]["n"]), f"{result['marks'][at]:,}"
                rows.append(f"| {' | '.join([f'{name}, {NAMES[panel]}', seeds, steps, *rates, *gaps])} |")
    return "\n".join(rows) + "\n"


def curve_tables() -> str:
    """Returns the tables of docs/results.md: success of each method at all marks, and its mean difference to GRPO."""
    parts = []
    for name, result in results().items():
        for panel, found in result["panels"].items():
            marks = result["marks"]
            rows = [
                f"**{name}, {NAMES[panel]}**\n",
                f"| method (seeds) | {' | '.join(f'{mark:,}' for mark in marks)} | − GRPO, over the curve |",
                "|---|" + "---|" * (len(marks) + 1),
            ]
            for method, row in found.items():
                cells = [f"{_mean(one):.1f}" for one in row["at"]]
                seeds = 1 if isinstance(row["at"][0], float) else row["at"][0]["n"]
                over = _gap(row["minus_grpo_over_curve"]) if "minus_grpo_over_curve" in row else ""
                rows.append(f"| {method} ({seeds}) | {' | '.join(cells)} | {over} |")
            parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def skills_page() -> str:
    """Returns the lists of docs/skills.md: skills drawn at random from the bank of seed 0 of each setting."""
    parts = []
    for name, result in results().items():
        for granularity, skills in ({} if name.endswith(STRONG) else result.get("skills") or {}).items():
            rows = [f"**{name}, {granularity} skills**\n", "| title | principle | tally |", "|---|---|---|"]
            rows += [f"| {s['title']} | {s['principle']} | {s['supports']}/{s['refutes']} |" for s in skills]
            parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def search_table() -> str:
    """Returns the table of search QA: exact match on the test part, by set, beside what the listed answers allow."""
    played = json.loads((ROOT / "results/skills_vs_grpo_search_qa.json").read_text())["splits"]["test"]
    ceiling = json.loads((ROOT / "results/search_ceiling.json").read_text())["sets"]
    arms, gaps = played["success"]["arms"], played["success"]["differences"]
    heads = "questions,D2Skill,without its bank,placebo,GRPO,D2Skill − GRPO,first listed,after one search,after three"
    rows = [f"| {heads.replace(',', ' | ')} |", "|" + "---|" * (heads.count(",") + 1)]
    for name, one in played["types"].items():
        limits = ceiling[name]
        cells = [*(_percent(one[arm]["success"]) for arm in ("bank", "none")), "", _percent(one["grpo"]["success"]), ""]
        cells += [f"{value:.1f} %" for value in (limits["top"], limits["first"]["40"], limits["best"]["40"])]
        rows.append(f"| {name}, {one['tasks']} | {' | '.join(cells)} |")
    gap = {key: value for key, value in gaps["bank - grpo"].items() if key in ("mean", "ci95")}
    low, high = gap["ci95"]
    all_arms = [_percent(arms[arm]) for arm in ("bank", "none", "shuffled", "grpo")]
    told = f"{100 * gap['mean']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    rows.append(f"| all, {played['tasks']} | {' | '.join([*all_arms, told])} | | | |")
    return "\n".join(rows) + "\n"


def _percent(share: dict[str, Any]) -> str:
    return f"{100 * share['mean']:.1f} %"


def _mean(estimate: dict[str, Any] | float) -> float:
    return estimate if isinstance(estimate, float) else estimate["mean"]


def _gap(estimate: dict[str, Any] | float) -> str:
    """Returns a difference with its interval, which one seed has not."""
    if isinstance(estimate, float):
        return f"{estimate:+.1f}"
    low, high = estimate["ci95"]
    return f"{estimate['mean']:+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    stale = False
    tables = {
        "README.md": {"results": summary_table(), "search QA": search_table()},
        "docs/results.md": {"results": curve_tables()},
        "docs/skills.md": {"results": skills_page()},
    }
    for file, parts in tables.items():
        text = (ROOT / file).read_text()
        for name, table in parts.items():
            start, end = f"<!-- {name}: made by benchmarks/readme_table.py -->\n", f"<!-- end of {name} -->\n"
            before, _, rest = text.partition(start)
            text = before + start + table + end + rest.partition(end)[2]
        stale |= text != (ROOT / file).read_text()
        if "--check" not in sys.argv:
            (ROOT / file).write_text(text)
    sys.exit(stale and "--check" in sys.argv)


if __name__ == "__main__":
    main()
