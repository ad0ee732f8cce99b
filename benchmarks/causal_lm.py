"""How fast a language model acts and learns on one core, and what shared prefixes save; prints one JSON object.

Warms up the model of the preset laptop-lm, plays and learns some iterations as the trainer does, so that the bank has
skills, and then takes the same decisions and the same updates again, with prefixes read once and without, in turns.
Times are the best of some repetitions. Tokens are those in the prompts and answers that the trainer asked about,
against those that went through the trained model, padding included.

    python benchmarks/causal_lm.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from math import inf
from pathlib import Path
from time import perf_counter

import torch

from d2skill import settings_files
from d2skill.config import Config
from d2skill.parts import Parts
from d2skill.policies import prefixes
from d2skill.trainer import Trainer
from d2skill.warmstart import warm_start


class Recorded:
    """A policy that keeps what another is asked."""

    def __init__(self, policy) -> None:
        self._policy = policy
        self.acts, self.updates = [], []

    def act(self, *asked):
        self.acts.append(asked)
        return self._policy.act(*asked)

    def update(self, *asked):
        self.updates.append(asked)
        return self._policy.update(*asked)

    def __getattr__(self, name):
        return getattr(self._policy, name)


def play(iterations: int):
    """Returns the policy and what the trainer asked of it in some iterations."""
    settings = settings_files.load("laptop-lm").model_dump()
    settings["policy"]["lm"]["device"] = "cpu"
    settings["warm_start"]["epochs"] = 1
    config = Config.model_validate(settings)
    parts = Parts.make(config)
    ids = parts.environment.task_ids(config.env.train_split)
    warm_start(config, parts.environment, parts.policy, parts.reflector, ids)
    policy = Recorded(parts.policy)
    with tempfile.TemporaryDirectory() as folder:
        recorded = Parts(parts.environment, policy, parts.bank, parts.reflector)
        trainer = Trainer(config, Path(folder), recorded)
        for iteration in range(iterations):
            trainer._iterate(iteration)
    return parts.policy, policy.acts, policy.updates


def measure(policy, asked, method, repetitions: int):
    """Returns (best seconds, tokens computed) of answering all that was asked, with shared prefixes and without."""
    counted, usual = [], prefixes.PASS["cpu"]
    hook = policy.model.register_forward_pre_hook(
        lambda _module, _args, given: counted.append(given["input_ids"].numel()), with_kwargs=True
    )
    seconds, tokens = defaultdict(lambda: inf), {}
    for _ in range(repetitions):
        for share in (True, False):
            prefixes.PASS["cpu"] = usual if share else 10**9
            counted.clear()
            started = perf_counter()
            for arguments in asked:
                method(*arguments)
            seconds[share] = min(seconds[share], perf_counter() - started)
            tokens[share] = sum(counted)
    prefixes.PASS["cpu"] = usual
    hook.remove()
    return seconds, tokens


def figures(seconds, tokens, asked: int) -> dict[str, float]:
    return {
        "tokens_asked": asked,
        "tokens_computed": tokens[True],
        "tokens_computed_without_sharing": tokens[False],
        "share_saved": round(1 - tokens[True] / tokens[False], 3),
        "time_against_without_sharing": round(seconds[True] / seconds[False], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    policy, acts, updates = play(given.iterations)
    prompts = [prompt for asked, *_ in acts for prompt in asked]
    rows = [row for asked, _ in updates for row in asked]
    acting = measure(policy, acts, policy.act, given.repetitions)
    learning = measure(policy, updates, policy.update, given.repetitions)
    length = policy.chat.prompt_ids
    report = {
        "decisions_per_second": round(len(prompts) / acting[0][True]),
        "rows_learned_per_second": round(len(rows) / learning[0][True]),
        "act": figures(*acting, sum(len(length(prompt)) for prompt in prompts)),
        "update": figures(*learning, sum(len(length(row.prompt)) + len(row.decision.tokens) for row in rows)),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
