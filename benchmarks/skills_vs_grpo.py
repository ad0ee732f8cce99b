"""D2Skill against GRPO at the same number of environment steps, over seeds; prints one JSON object.

For each seed, a run with skills is trained first, then plain GRPO from the same settings until it has used as many
environment steps. Then both play the same tasks from the same sampling seed with `d2skill evaluate`: the panel that
they were validated on in training ("own"), and the splits that are named, of which nobody looked at the test splits
before. GRPO plays without skills (grpo); D2Skill without (none), with its bank, with what that is compared to (see
docs/evaluation.md), and with the bank of the next seed's run (other_bank).

Figures are means over seeds with Student's interval: a run counts once. Differences are paired by seed. `headline` is
the mean of a run's last three evaluations in training.

    python benchmarks/skills_vs_grpo.py --seeds 0 1 2 3 4 --jobs 2 --splits test_seen:140 valid_unseen:140

With --out, what was trained and played is kept there, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from d2skill.evaluation.curves import read_curve
from d2skill.utils.statistics import mean_over_seeds, paired_over_seeds

UNBOUNDED = "100000"
ARMS = "none,bank,shuffled,task,step,top"
GAPS = (
    ("bank", "grpo"),
    ("none", "grpo"),
    ("bank", "none"),
    ("bank", "shuffled"),
    ("other_bank", "none"),
    ("task", "none"),
    ("step", "none"),
    ("top", "none"),
)


def d2skill(*words: object) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "d2skill", *map(str, words)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def train(folder: Path, *flags: object) -> dict:
    if not (folder / "summary.json").exists():
        d2skill("train", "--out", folder, *flags)
    return json.loads((folder / "summary.json").read_text())


def pair(root: Path, seed: int, flags: list[str]) -> None:
    skilled = train(root / f"d2skill-{seed}", "--seed", seed, *flags)
    limit = ["--train.iterations", UNBOUNDED, "--train.max-env-steps", skilled["env_steps"]]
    train(root / f"grpo-{seed}", "--seed", seed, *flags, "--rollout.with-skills", 0, *limit)


def played(run: Path, split: str, name: str, *options: object) -> dict:
    """Returns what `d2skill evaluate` writes of a run on its own panel, or on SPLIT:TASKS."""
    file = run.with_name(f"{run.name}.{name}.{split.replace(':', '-')}.json")
    if not file.exists():
        panel, _, tasks = split.partition(":")
        where = [] if split == "own" else ["--panel", panel, *(["--tasks", tasks] if tasks else [])]
        d2skill("evaluate", run, *where, "--workers", 1, "--json", file, *options)
    return json.loads(file.read_text())


def on_split(root: Path, seeds: list[int], split: str) -> dict:
    """Returns the figures of one split: each arm by seed, and differences."""
    arms: dict[str, dict[int, dict]] = {}
    types: dict[tuple[str, int], dict] = {}
    for at, seed in enumerate(seeds):
        run = root / f"d2skill-{seed}"
        own = played(run, split, "arms", "--arms", ARMS)
        grpo = played(root / f"grpo-{seed}", split, "arms", "--arms", "none")
        for name, arm in (own["arms"] | {"grpo": grpo["arms"]["none"]}).items():
            arms.setdefault(name, {})[seed] = arm
        for name, source, arm in (("bank", own, "bank"), ("none", own, "none"), ("grpo", grpo, "none")):
            types[name, seed] = {kind: found[arm] for kind, found in source["types"].items()}
        if len(seeds) > 1:
            other = root / f"d2skill-{seeds[(at + 1) % len(seeds)]}"
            found = played(run, split, "other", "--arms", "bank", "--bank", other)
            arms.setdefault("other_bank", {})[seed] = found["arms"]["bank"]
    measured = [name for name in ("success", "score", "steps") if name in arms["none"][seeds[0]]]
    return {
        "tasks": arms["none"][seeds[0]]["n"],
        **{
            name: {
                "arms": {
                    arm: mean_over_seeds([own[seed][name] for seed in seeds]).record()
                    | {"by_seed": [own[seed][name] for seed in seeds]}
                    for arm, own in arms.items()
                },
                "differences": {
                    f"{one} - {other}": paired_over_seeds(
                        *({seed: arms[arm][seed][name] for seed in seeds} for arm in (one, other))
                    ).record()
                    for one, other in GAPS
                    if one in arms
                },
            }
            for name in measured
        },
        "shown": mean_over_seeds([arms["bank"][seed]["shown"] for seed in seeds]).record(),
        "types": by_type({name: [types[name, seed] for seed in seeds] for name in ("bank", "none", "grpo")}),
    }


def by_type(arms: dict[str, list[dict]]) -> dict:
    """Returns success and steps of each arm for each type of task, means over seeds."""
    first = arms["none"][0]
    return {
        kind: {"tasks": found["n"]}
        | {
            name: {
                "success": mean_over_seeds([own[kind]["success"] for own in seeds]).record(),
                "steps": mean_over_seeds([own[kind]["steps"] for own in seeds]).record(),
            }
            for name, seeds in arms.items()
        }
        for kind, found in first.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--splits", nargs="*", default=[], help="further splits to play, SPLIT or SPLIT:TASKS")
    parser.add_argument("--jobs", type=int, default=1, help="pairs that are trained at the same time")
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    parser.add_argument("flags", nargs="*", help="flags for both runs, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(given.jobs) as pool:
        root = given.out or Path(temporary)
        list(pool.map(lambda seed: pair(root, seed, given.flags), given.seeds))
        splits = {split: on_split(root, given.seeds, split) for split in ("own", *given.splits)}
        curves = {kind: {s: read_curve(root / f"{kind}-{s}") for s in given.seeds} for kind in ("d2skill", "grpo")}
        last = {seed: json.loads((root / f"d2skill-{seed}" / "summary.json").read_text()) for seed in given.seeds}
    heads = {kind: {seed: curve.headline for seed, curve in own.items()} for kind, own in curves.items()}
    report = {
        "version": version("d2skill"),
        "command": shlex.join(["python", "benchmarks/skills_vs_grpo.py", *command(given)]),
        "seeds": given.seeds,
        "headline": {kind: mean_over_seeds(list(own.values())).record() for kind, own in heads.items()}
        | {"difference": paired_over_seeds(heads["d2skill"], heads["grpo"]).record()},
        "env_steps": {kind: [curve.points[-1].env_steps for curve in own.values()] for kind, own in curves.items()},
        "wall_seconds": {kind: [curve.points[-1].seconds for curve in own.values()] for kind, own in curves.items()},
        "bank": [summary["bank"] for summary in last.values()],
        "splits": splits,
    }
    print(json.dumps(report, indent=2))


def command(given: argparse.Namespace) -> list[str]:
    """Returns the arguments that the result hangs on; data lies elsewhere on another machine."""
    flags = [
        "FOLDER" if before == "--data" else flag for before, flag in zip(["", *given.flags], given.flags, strict=False)
    ]
    splits = ["--splits", *given.splits] if given.splits else []
    return ["--seeds", *map(str, given.seeds), *splits, *(["--", *flags] if flags else [])]


if __name__ == "__main__":
    main()
