"""How fast a language model acts and learns on one core, and what it need not read twice; prints one JSON object.

For each kind of answer, at the settings of the preset laptop-lm and with a long history, the model is warmed up and
trained for some iterations, so that the bank has skills. Then, in turns:

- act: the same rollouts (weights, tasks, seeds) in slots that keep a KV cache from step to step, and step by
  step, where nothing is kept (of prompts asked together, what they have in common is read once in either case);
- update: the same rows with what prompts have in common computed once (a shared prefix), and without;
- packing: the same updates with several sequences in a row of a pass, and with one in each, so that short ones are
  padded; with shared prefixes as a CPU makes them worth, and as on accelerators, where a pass is dear.

Seconds, on the clock and of the processor, are the least of some repetitions. Tokens are those that go through the
trained model: all, and the share of them that is padding.

    python benchmarks/causal_lm.py
    python benchmarks/causal_lm.py --memory
    python benchmarks/causal_lm.py --tokenizer

With --memory, rows are learned with all weights and with an adapter, and with layers kept or computed again, each in a
process of its own (Linux). Megabytes are those of the process: with the model and its reference, and at the peak of two
updates; seconds are those of the second.

With --tokenizer, an iteration of choices, by a model that was not taught, is played and learned with the tokens of
texts and prompts kept and made anew, in turns: calls of the tokenizer, its processor seconds (chat template included),
and those of the whole iteration but the update itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import perf_counter, process_time
from unittest.mock import patch

import torch

from d2skill import credit
from d2skill.components import Components
from d2skill.config import CausalLMConfig, Config, OptimConfig, WarmStartConfig, toml_files
from d2skill.policies.causal_lm import forward, generation, prefix_sharing
from d2skill.policies.causal_lm.policy import CausalLMPolicy
from d2skill.rollout import Rollouts
from d2skill.trainer import Trainer
from d2skill.types import Group, Prompt, Row
from d2skill.utils.rng import derive
from d2skill.warm_start import warm_start

SETTINGS = {
    "preset": {},
    "long history": {"env": {"max_steps": 20}, "prompt": {"history": 20, "max_tokens": 4096}},
}


class StepByStep:
    """A policy without its slots, which is asked for the decisions of all episodes together."""

    def __init__(self, policy: CausalLMPolicy) -> None:
        self.act, self.count_tokens = policy.act, policy.count_tokens


@dataclass
class Measured:
    """The least seconds of some repetitions, and the passes of the last one as (real tokens, all tokens)."""

    seconds: float = inf
    processor: float = inf
    passes: tuple[tuple[int, int], ...] = ()

    @property
    def tokens(self) -> int:
        return sum(computed for _, computed in self.passes)

    def figures(self) -> dict[str, float]:
        real = sum(one for one, _ in self.passes)
        return {
            "seconds": round(self.seconds, 2),
            "processor_seconds": round(self.processor, 2),
            "tokens": self.tokens,
            "padding": round(1 - real / self.tokens, 3),
            "passes": len(self.passes),
        }


@contextmanager
def counted(learning: bool) -> Iterator[list[tuple[int, int]]]:
    """Gives a list of the passes with gradients, or without: tokens that are real, and all with padding."""
    padded, packed, passes = forward.left_padded, forward.pack_sequences, []

    def note(real, computed):
        if torch.is_grad_enabled() == learning:  # the reference reads without gradients
            passes.append((real, computed))

    def count(rows, device):
        note(sum(map(len, rows)), len(rows) * max(map(len, rows)))
        return padded(rows, device)

    def count_packed(sequences, *given):
        batch = packed(sequences, *given)
        note(sum(map(len, sequences)), batch.tokens.size)
        return batch

    with (
        patch.multiple(forward, left_padded=count, pack_sequences=count_packed),
        patch.object(generation, "left_padded", count),
    ):
        yield passes


def compare(ways: dict[str, Callable[[], object]], repetitions: int, learning: bool = False) -> dict[str, Measured]:
    """Measures ways of doing the same, in turns."""
    found = {name: Measured() for name in ways}
    for _ in range(repetitions):
        for name, work in ways.items():
            with counted(learning) as passes:
                started, busy = perf_counter(), process_time()
                work()
                seconds, processor = perf_counter() - started, process_time() - busy
            one = found[name]
            one.seconds, one.processor = min(one.seconds, seconds), min(one.processor, processor)
            one.passes = tuple(passes)
    return found


def prepared(changes: dict, answer: str, iterations: int, taught: int = 40) -> tuple[Config, Components, list[str]]:
    """Returns settings, parts that imitated `taught` tasks and trained for some iterations, and training tasks."""
    settings = toml_files.load("laptop-lm").model_dump()
    for name, values in changes.items():
        settings[name] |= values
    settings["policy"]["lm"] |= {"device": "cpu", "answer": answer}
    settings["warm_start"] |= {"epochs": 2, "tasks": taught}
    settings["train"]["keep_rollouts"] = False
    config = Config.model_validate(settings)
    parts = Components.make(config)
    ids = parts.environment.task_ids(config.env.train_split)
    warm_start(config, parts.environment, parts.policy, parts.reflector, ids)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder), parts)
        for iteration in range(iterations):
            trainer._iterate(iteration)
    return config, parts, ids


def case(changes: dict, answer: str, iterations: int, repetitions: int) -> dict[str, object]:
    """Returns the figures of one kind of answer at one kind of settings."""
    config, parts, ids = prepared(changes, answer, iterations)
    policy, played, rollout = parts.policy, {}, config.rollout

    def play(name, actor):
        rollouts = Rollouts(parts.environment, actor, parts.bank, config.prompt, config.env.max_steps)
        played[name] = rollouts.groups(
            ids[: rollout.tasks],
            group_size=rollout.group_size,
            with_skills=rollout.with_skills,
            temperature=rollout.temperature,
            seed=derive(config.seed, "benchmark"),
        )

    acted = compare(
        {"slots": lambda: play("slots", policy), "step_by_step": lambda: play("step_by_step", StepByStep(policy))},
        repetitions,
    )
    groups = played["slots"]
    rows = credit.policy_batch(groups, credit.hindsight(groups), config.reward, config.advantage)

    def update(one_pass, in_rows):
        with patch.dict(prefix_sharing.FORWARD_COST, cpu=one_pass), patch.object(forward, "assign_rows", in_rows):
            policy.update(rows, 0)

    usual, several = prefix_sharing.FORWARD_COST["cpu"], forward.assign_rows
    learned = compare(
        {
            "shared_prefix": lambda: update(usual, several),
            "no_shared_prefix": lambda: update(10**9, several),
            "one_in_a_row": lambda: update(usual, one_in_a_row),
            "dear_passes": lambda: update(prefix_sharing.FORWARD_COST_ELSEWHERE, several),
            "dear_passes_one_in_a_row": lambda: update(prefix_sharing.FORWARD_COST_ELSEWHERE, one_in_a_row),
        },
        repetitions,
        learning=True,
    )
    packing = ("shared_prefix", "one_in_a_row"), ("dear_passes", "dear_passes_one_in_a_row")
    lengths = [len(policy.chat.prompt_ids(row.prompt)) for row in rows]
    return {
        "decisions": len(rows),
        "prompt_tokens": {"mean": round(sum(lengths) / len(rows)), "most": max(lengths)},
        "same_decisions": same(played["slots"], played["step_by_step"]),
        "act": sides(acted, "slots", "step_by_step", len(rows)),
        "update": sides(learned, "shared_prefix", "no_shared_prefix", len(rows)),
        "packing": [sides(learned, *pair, len(rows)) for pair in packing],
    }


def one_in_a_row(lengths, *_given) -> list[list[int]]:
    return [[i] for i in range(len(lengths))]


def same(groups: list[Group], others: list[Group]) -> float:
    """Returns the share of decisions that are the same ones in the same places."""
    one, other = (
        [[turn.decision.tokens for turn in t.turns] for g in gs for t in g.trajectories] for gs in (groups, others)
    )
    pairs = [(a, b) for mine, theirs in zip(one, other, strict=True) for a, b in zip(mine, theirs, strict=False)]
    return round(sum(a == b for a, b in pairs) / max(sum(map(len, one)), sum(map(len, other))), 3)


def sides(found: dict[str, Measured], new: str, old: str, decisions: int) -> dict[str, object]:
    """Returns the figures of two ways and what the first saves."""
    return {
        "a_second": round(decisions / found[new].seconds),
        **{name: found[name].figures() for name in (new, old)},
        "tokens_saved": round(1 - found[new].tokens / found[old].tokens, 3),
        "times_as_fast": round(found[old].processor / found[new].processor, 2),
    }


class Counted:
    """A tokenizer that counts its calls and the processor seconds that it takes."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer, self.calls, self.seconds = tokenizer, 0, 0.0

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, *given, **named):
        self.calls += 1
        return self._timed(self._tokenizer, *given, **named)

    def apply_chat_template(self, *given, **named):
        return self._timed(self._tokenizer.apply_chat_template, *given, **named)

    def _timed(self, work, *given, **named):
        started = process_time()
        try:
            return work(*given, **named)
        finally:
            self.seconds += process_time() - started


def tokenizing(changes: dict, answer: str, iterations: int, repetitions: int) -> dict[str, object]:
    """Returns what the tokenizer takes in an iteration, with tokens kept and made anew."""
    config, parts, ids = prepared(changes, answer, iterations, taught=0)
    chat, rollout, found = parts.policy.chat, config.rollout, {"kept": [], "made_anew": []}
    plain, decided = chat.tokenizer, {}
    kept, anew = (chat.count_tokens, chat.kept_prompts), (chat._count_tokens, chat._packed_prompt)
    for _ in range(repetitions):
        for name, (count, prompt) in {"kept": kept, "made_anew": anew}.items():
            chat.count_tokens, chat.kept_prompts, chat.tokenizer = count, prompt, Counted(plain)
            for cache in (*kept, chat.action_ids, chat.trie):
                cache.cache_clear()
            started = process_time()
            rollouts = Rollouts(parts.environment, parts.policy, parts.bank, config.prompt, config.env.max_steps)
            groups = rollouts.groups(
                ids[: rollout.tasks],
                group_size=rollout.group_size,
                with_skills=rollout.with_skills,
                temperature=rollout.temperature,
                seed=derive(config.seed, "benchmark"),
            )
            rows = credit.policy_batch(groups, credit.hindsight(groups), config.reward, config.advantage)
            for row in rows:
                parts.policy._example(row)  # the update itself would change the model
            seconds = process_time() - started
            found[name].append((chat.tokenizer.calls, chat.tokenizer.seconds, seconds))
            decided[name] = groups
    figures = {
        name: {"calls": min(calls), "tokenizer_seconds": round(min(own), 3), "seconds": round(min(whole), 2)}
        for name, (calls, own, whole) in ((name, zip(*rounds, strict=True)) for name, rounds in found.items())
    }
    return {"decisions": len(rows), "same_decisions": same(decided["kept"], decided["made_anew"]), **figures}


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
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--tokenizer", action="store_true")
    given = parser.parse_args()
    if given.memory:
        print(json.dumps(memory(), indent=2))
        return
    torch.set_num_threads(1)
    measured = tokenizing if given.tokenizer else case
    report = {
        f"{name}, {answer}": measured(changes, answer, given.iterations, given.repetitions)
        for name, changes in SETTINGS.items()
        for answer in ("choice", "free")[: 1 if given.tokenizer else 2]
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
