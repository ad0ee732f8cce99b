"""What settings change: the same seeds with each of some flags, played in the same arms; prints one JSON object.

Each variant is D2Skill with flags of its own over those that all have. Runs play the panel of their validation ("own")
and the splits that are named, without skills (none) and with their bank, from the same sampling seed. Figures are means
over seeds with Student's interval; differences are paired by seed, and to the first variant.

    python benchmarks/variants.py --seeds 0 1 2 3 4 --splits test_seen:140 \\
        --variants "d2skill:" "half:--advantage.normalise half" "frozen:--policy.train false"

With --out, what was trained and played is kept there, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from skills_vs_grpo import played, train

from d2skill.evaluation.curves import read_curve
from d2skill.utils.statistics import mean_over_seeds, paired_over_seeds

ARMS = "none,bank"


def on_split(root: Path, variants: list[str], seeds: list[int], split: str) -> dict:
    """Returns success of each variant in each arm, by seed, and differences to the first variant."""
    rates: dict[str, dict[str, dict[int, float]]] = {name: {} for name in variants}
    tasks = 0
    for name in variants:
        for seed in seeds:
            found = played(root / f"{name}-{seed}", split, "arms", "--arms", ARMS)
            tasks = found["tasks"]
            for arm, figures in found["arms"].items():
                rates[name].setdefault(arm, {})[seed] = figures["success"]
    first = rates[variants[0]]
    return {
        "tasks": tasks,
        "variants": {
            name: {
                arm: mean_over_seeds(list(by_seed.values())).record()
                | {"by_seed": list(by_seed.values())}
                | ({"difference": paired_over_seeds(by_seed, first[arm]).record()} if name != variants[0] else {})
                for arm, by_seed in arms.items()
            }
            | {"bank - none": paired_over_seeds(arms["bank"], arms["none"]).record()}
            for name, arms in rates.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", required=True, help="NAME:FLAGS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--splits", nargs="*", default=[], help="further splits to play, SPLIT or SPLIT:TASKS")
    parser.add_argument("--jobs", type=int, default=1, help="runs that are trained at the same time")
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    parser.add_argument("flags", nargs="*", help="flags for all runs, after --")
    given = parser.parse_args()
    variants = {name: shlex.split(flags) for name, _, flags in (one.partition(":") for one in given.variants)}
    names = list(variants)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(given.jobs) as pool:
        root = given.out or Path(temporary)
        runs = {(name, seed): root / f"{name}-{seed}" for seed in given.seeds for name in names}
        list(pool.map(lambda key: train(runs[key], "--seed", key[1], *given.flags, *variants[key[0]]), runs))
        report = {
            "version": version("d2skill"),
            "seeds": given.seeds,
            "variants": {name: shlex.join(flags) for name, flags in variants.items()},
            "flags": shlex.join(given.flags),
            "headline": {
                name: mean_over_seeds([read_curve(runs[name, seed]).headline for seed in given.seeds]).record()
                for name in names
            },
            "splits": {split: on_split(root, names, given.seeds, split) for split in ("own", *given.splits)},
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
