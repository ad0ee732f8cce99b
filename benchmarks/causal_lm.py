"""How fast a language model acts and learns on one core, and what shared prefixes save; prints one JSON object.

Warms up the model of the preset laptop-lm, plays and learns some iterations as the trainer does, so that the bank has
skills, and then takes the same decisions and the same updates again, with prefixes read once and without, in turns.
Times are the best of some repetitions. Tokens are those in the prompts and answers that the trainer asked about,
against those that went through the trained model, padding included.

    python benchmarks/causal_lm.py
    python benchmarks/causal_lm.py --memory

With --memory, rows are learned with all weights and with an adapter, and with layers kept or computed again, each in a
process of its own (Linux). Megabytes are those of the process: with the model and its reference, and at the peak of two
updates; seconds are those of the second.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import tempfile
from collections import defaultdict
from math import inf
from pathlib import Path
from time import perf_counter

import torch

from d2skill import settings_files
from d2skill.config import CausalLMConfig, Config, OptimConfig, WarmStartConfig
from d2skill.parts import Parts
from d2skill.policies import prefixes
from d2skill.policies.causal_lm import CausalLMPolicy
from d2skill.trainer import Trainer
from d2skill.types import Prompt, Row
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


def megabytes(kind: str) -> int:
    """Returns what /proc says about this process: VmRSS is now, VmHWM the most so far."""
    found = re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return round(int(found[1]) / 1024)


def learn(variant: dict) -> dict[str, float]:
    """Learns from made-up rows, 8 answers to each of 8 prompts of some 400 tokens; returns time and memory."""
    torch.set_num_threads(1)
    words = " ".join(f"a mug {i}, a plate {i} and" for i in range(40))
    settings = CausalLMConfig(device="cpu", hidden_size=384, layers=12, heads=6, microbatch_tokens=4096, **variant)
    policy = CausalLMPolicy(settings, OptimConfig(), WarmStartConfig(), 0, lambda: [words])
    prompts = [
        Prompt(f"find mug {i % 8}", f"{i % 8} {words}", ("look", f"take mug {i % 8}", "take plate")) for i in range(64)
    ]
    policy.freeze_reference()
    decisions = policy.act(prompts, range(64), 1.0)
    decided = zip(prompts, decisions, strict=True)
    rows = [Row(prompt, decision, i % 3 - 1.0) for i, (prompt, decision) in enumerate(decided)]
    before = megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    policy.update(rows, 0)
    started = perf_counter()
    policy.update(rows, 1)
    weights = [weight for weight in policy.model.parameters() if weight.requires_grad]
    return {
        "trained_weights": sum(weight.numel() for weight in weights),
        "megabytes_before": before,
        "megabytes_at_the_peak": megabytes("VmHWM"),
        "seconds_per_update": round(perf_counter() - started, 2),
    }


def memory() -> dict[str, dict[str, float]]:
    report = {}
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(
        2**20
    )  # what is freed goes back at once, so that peaks are what is in use
    for name, rank in (("all_weights", 0), ("adapter_of_rank_16", 16)):
        for again in (False, True):
            variant = {"lora_rank": rank, "gradient_checkpointing": again}
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                report[name + ("_layers_computed_again" if again else "")] = pool.apply(learn, (variant,))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args()
    if given.memory:
        print(json.dumps(memory(), indent=2))
        return
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
