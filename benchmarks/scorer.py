"""Processor time of the scorer, on one core: acting and learning, features included; prints one JSON object.

Plays iterations of the default run and counts the microseconds of a decision in `act` and of a row in `update`. The
first half of the iterations, in which all texts are new, is left out. Beside each decision, as the least there could
be, the weights of all its features are gathered and added up.

    OPENBLAS_NUM_THREADS=1 python benchmarks/scorer.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import process_time

import numpy as np

from d2skill.components import Components
from d2skill.config import Config
from d2skill.policies.scorer.features import Featurizer
from d2skill.trainer import Trainer
from d2skill.utils.runtime import tuned_process


class Timed:
    """A policy that times another."""

    def __init__(self, policy, buckets) -> None:
        self._policy = policy
        self._featurize = Featurizer(buckets)
        self._weights = np.zeros(buckets)
        self.on = False
        self.acted = self.acting = self.gathering = self.learned = self.learning = 0.0

    def act(self, prompts, seeds, temperature):
        started = process_time()
        decisions = self._policy.act(prompts, seeds, temperature)
        acted = process_time()
        if self.on and temperature == 1.0:
            index = self._featurize(prompts).index
            self._featurize.forget_prompts()
            gathering = process_time()
            self._weights[index].sum(axis=1)
            self.gathering += process_time() - gathering
            self.acting += acted - started
            self.acted += len(prompts)
        return decisions

    def update(self, rows, seed):
        started = process_time()
        metrics = self._policy.update(rows, seed)
        if self.on:
            self.learning += process_time() - started
            self.learned += len(rows)
        return metrics

    def __getattr__(self, name):
        return getattr(self._policy, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=40)
    given = parser.parse_args()
    config = Config.model_validate({"train": {"iterations": given.iterations}, "validation": {"tasks": 32}})
    parts = Components.make(config)
    policy = Timed(parts.policy, config.policy.scorer.buckets)

    class HalfWay:
        def log(self, metrics):
            policy.on = metrics["iteration"] >= given.iterations // 2

    with tempfile.TemporaryDirectory() as folder, tuned_process("scorer"):
        timed = Components(parts.environment, policy, parts.bank, parts.reflector)
        Trainer(config, Path(folder) / "run", timed, [HalfWay()]).start()
    report = {
        "decisions": int(policy.acted),
        "microseconds_acting": round(policy.acting / policy.acted * 1e6, 1),
        "microseconds_of_gather_and_sum_alone": round(policy.gathering / policy.acted * 1e6, 1),
        "microseconds_learning": round(policy.learning / policy.learned * 1e6, 1),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
