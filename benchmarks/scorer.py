"""How fast the scorer acts and learns on one core; prints one JSON object.

Plays paired rollouts of the default run for some iterations and counts decisions a second in `act` and rows a second in
`update`, features included, and what share of an iteration each part takes.

    OPENBLAS_NUM_THREADS=1 python benchmarks/scorer.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter

from d2skill.components import Components
from d2skill.config import Config
from d2skill.runs.folder import RunFolder
from d2skill.trainer import Trainer


class Timed:
    """A policy that times another."""

    def __init__(self, policy) -> None:
        self._policy = policy
        self.acted = self.acting = self.learned = self.learning = 0.0

    def act(self, prompts, seeds, temperature):
        started = perf_counter()
        decisions = self._policy.act(prompts, seeds, temperature)
        self.acting += perf_counter() - started
        self.acted += len(prompts)
        return decisions

    def update(self, rows, seed):
        started = perf_counter()
        metrics = self._policy.update(rows, seed)
        self.learning += perf_counter() - started
        self.learned += len(rows)
        return metrics

    def __getattr__(self, name):
        return getattr(self._policy, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=20)
    given = parser.parse_args()
    config = Config.model_validate({"train": {"iterations": given.iterations}, "validation": {"tasks": 32}})
    parts = Components.make(config)
    policy = Timed(parts.policy)
    with tempfile.TemporaryDirectory() as folder:
        timed = Components(parts.environment, policy, parts.bank, parts.reflector)
        Trainer(config, Path(folder) / "run", timed).start()
        lines = RunFolder(Path(folder) / "run").read_metrics()[1:]
    total = sum(line["time/rollout"] + line["time/update"] + line["time/learn"] for line in lines)
    shares = {
        name: round(sum(line[f"time/{name}"] for line in lines) / total, 3)
        for name in ("environment", "retrieval", "policy", "update", "learn")
    }
    report = {
        "decisions_per_second": round(policy.acted / policy.acting),
        "rows_learned_per_second": round(policy.learned / policy.learning),
        "seconds_per_iteration": round(total / len(lines), 3),
        "share_of_iteration": shares,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
