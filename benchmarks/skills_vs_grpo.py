"""D2Skill against GRPO at the same number of environment steps; prints one JSON object.

For each seed, a run with skills is trained first, then plain GRPO from the same settings until it has used as many
environment steps. Both are validated on the same panel at their end; the pair is success with skills of the first
against success of the second.

    python benchmarks/skills_vs_grpo.py --seeds 0 1 2 --jobs 2 -- --env houses
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

UNBOUNDED = "100000"


def train(folder: Path, flags: list[str]) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "d2skill", "train", "--out", str(folder), *flags]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return json.loads((folder / "summary.json").read_text())


def pair(root: Path, seed: int, flags: list[str]) -> dict:
    skilled = train(root / f"d2skill-{seed}", ["--seed", str(seed), *flags])
    limit = ["--train.iterations", UNBOUNDED, "--train.max-env-steps", str(skilled["env_steps"])]
    plain = train(root / f"grpo-{seed}", ["--seed", str(seed), *flags, "--rollout.with-skills", "0", *limit])
    validation = skilled["validation"]
    return {
        "seed": seed,
        "d2skill": validation["with_skills"],
        "d2skill_without_its_bank": validation["without_skills"],
        "grpo": plain["validation"]["without_skills"],
        "difference": validation["with_skills"]["success"] - plain["validation"]["without_skills"]["success"],
        "env_steps": {"d2skill": skilled["env_steps"], "grpo": plain["env_steps"]},
        "wall_seconds": {"d2skill": skilled["wall_seconds"], "grpo": plain["wall_seconds"]},
        "bank": skilled["bank"],
        "version": skilled["version"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="pairs that run at the same time")
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    parser.add_argument("flags", nargs="*", help="flags for both runs, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(given.jobs) as pool:
        root = given.out or Path(temporary)
        pairs = list(pool.map(lambda seed: pair(root, seed, given.flags), given.seeds))
    mean = sum(p["difference"] for p in pairs) / len(pairs)
    print(json.dumps({"flags": given.flags, "mean_difference": mean, "pairs": pairs}, indent=2))


if __name__ == "__main__":
    main()
