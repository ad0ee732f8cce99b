"""What the bank costs: D2Skill iterations against GRPO iterations of the same run; prints one JSON object.

The two runs take turns, iteration by iteration, from the same warm start on the same tasks, so that what else the
machine does falls on both. `beside_acting_and_learning` is what D2Skill alone does (retrieval, probe, reflection,
credit, journal) as a share of the seconds in environment, policy and update. Longer prompts show in what a decision
takes, D2Skill over GRPO; GRPO has as many trajectories, none with skills.

    OPENBLAS_NUM_THREADS=1 python benchmarks/overhead.py
    OPENBLAS_NUM_THREADS=1 python benchmarks/overhead.py --config laptop-lm --iterations 6
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from d2skill.components import Components
from d2skill.config.toml_files import load
from d2skill.prompts import render
from d2skill.trainer import Trainer
from d2skill.utils.runtime import tuned_process

WARM = 2
"""Iterations that are played and not counted, while the bank fills and caches are cold."""
BESIDE = ("time/retrieval", "time/probe", "time/learn")
ITERATION = ("time/rollout", "time/probe", "time/update", "time/learn")


def started(config, folder: Path) -> Trainer:
    trainer = Trainer(config, folder, Components.make(config))
    trainer.run.create(folder)
    trainer._begin()
    return trainer


def iterate(trainer: Trainer, iteration: int) -> dict[str, float]:
    """Plays and learns one iteration; returns its seconds by part, its decisions and its tokens."""
    groups, metrics = trainer._iterate(iteration)
    turns = [turn for group in groups for one in group.trajectories for turn in one.turns]
    counts = {
        "decisions": len(turns),
        "generated_tokens": sum(len(turn.decision.tokens) for turn in turns),
        "prompt_tokens": sum(trainer._policy.count_tokens(render(turn.prompt)[0]["content"]) for turn in turns),
    }
    return counts | {name: metrics.get(name, 0.0) for name in {*BESIDE, *ITERATION, "time/environment", "time/policy"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="laptop")
    parser.add_argument("--iterations", type=int, default=30)
    given = parser.parse_args()
    base = load(given.config)
    settings = {
        "d2skill": base,
        "grpo": base.model_copy(update={"rollout": base.rollout.model_copy(update={"with_skills": 0})}),
    }
    # as `d2skill train` does: else the collector of cycles comes by now and then, and a part pays for all
    with tempfile.TemporaryDirectory() as folder, tuned_process(base.policy.kind):
        runs = {name: started(config, Path(folder) / name) for name, config in settings.items()}
        sums = {name: {} for name in runs}
        for iteration in range(WARM + given.iterations):
            for name, trainer in runs.items():
                for part, value in iterate(trainer, iteration).items():
                    if iteration >= WARM:
                        sums[name][part] = sums[name].get(part, 0.0) + value
        for trainer in runs.values():
            trainer.bank.close()
    report: dict[str, object] = {"config": given.config, "iterations": given.iterations}
    for name, own in sums.items():
        own["seconds"] = sum(own[part] for part in ITERATION)
        report[name] = {part: round(value, 3) for part, value in sorted(own.items())}
    ours, grpo = sums["d2skill"], sums["grpo"]
    beside = sum(ours[part] for part in BESIDE)
    report["beside_acting_and_learning"] = round(beside / (ours["seconds"] - beside), 4)
    for part in ("seconds", "prompt_tokens", "generated_tokens"):
        ratio = ours[part] / ours["decisions"] / (grpo[part] / grpo["decisions"])
        report[f"{part}_a_decision"] = round(ratio, 3)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
