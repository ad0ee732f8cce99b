"""How near the plan's memory is to what a language model takes; prints one JSON object, in megabytes.

Real policies act and learn on a CPU with prompts as long as the settings allow, and every allocation is counted as
PyTorch's profiler reports it; what was there before (weights, reference, Adam) is counted tensor by tensor. Python and
the libraries themselves (`framework`) are left out on both sides.

    python benchmarks/plan_memory.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from d2skill.config import Config, toml_files
from d2skill.planning.devices import Device
from d2skill.planning.memory import batch_size, local_memory
from d2skill.planning.model_shapes import parse_shape
from d2skill.policies.causal_lm.policy import CausalLMPolicy
from d2skill.policies.causal_lm.tiny_model import make_tokenizer
from d2skill.types import Prompt, Row

CPU = Device("cpu", 0, None, framework=0, kind="cpu")
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst"]
CASES = {
    "laptop-lm": {},
    "wide, choice": {"model": "qwen2"},
    "wide, free": {"model": "qwen2", "answer": "free"},
    "wide, free, long prompts": {"model": "qwen2", "answer": "free", "prompt": 1536},
    "wide, free, bfloat16": {"model": "qwen2", "answer": "free", "dtype": "bfloat16"},
    "wide Qwen3, free": {"model": "qwen3", "answer": "free"},
    "wide, free, checkpointing": {"model": "qwen2", "answer": "free", "gradient_checkpointing": True},
    "wide, free, LoRA": {"model": "qwen2", "answer": "free", "lora_rank": 8},
}


def settings(case: dict, folder: Path) -> Config:
    values = toml_files.load("laptop-lm").model_dump()
    lm = values["policy"]["lm"] | {"device": "cpu", "generate_batch": 8, "microbatch_tokens": 2304}
    lm |= {name: value for name, value in case.items() if name not in ("model", "prompt")}
    if "model" in case:
        lm |= {"model": str(folder), "max_new_tokens": 32}
        values["optim"]["minibatch_rows"] = 8
    values["policy"]["lm"] = lm
    values["prompt"]["max_tokens"] = case.get("prompt", 512)
    return Config.model_validate(values)


def make_model(kind: str, folder: Path) -> None:
    """Writes a random model, hidden 256, 6 layers, vocabulary 8192, and a tokenizer."""
    tokenizer = make_tokenizer(WORDS)
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 8}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 8192, "max_position_embeddings": 8192}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    if kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**sizes, **ends, tie_word_embeddings=True))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**sizes, **ends, head_dim=32, tie_word_embeddings=False))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prompts(policy: CausalLMPolicy, count: int, tokens: int) -> list[Prompt]:
    """Returns prompts of about so many tokens, a few fewer in some, that hardly begin alike."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        words = rng.choice(WORDS, tokens).tolist()
        wanted, kept = tokens - int(rng.integers(0, 8)), tokens
        actions = tuple(f"go to {a} {b}" for a, b in rng.choice(WORDS, (4, 2)))
        for _ in range(6):
            prompt = Prompt(" ".join(words[:kept]), "You are in a room.", actions)
            over = len(policy.chat.prompt_ids(prompt)) - wanted
            kept -= max(-4, over // 2 if over > 8 else over)
        found.append(prompt)
    return found


def peak(work) -> float:
    """Returns the most bytes that were allocated at a time while something worked."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        work()
    events = [event for event in run.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most


def resting(policy: CausalLMPolicy) -> float:
    """Returns the bytes of weights, reference, their float32 copies and Adam's moments."""
    tensors = [*policy.model.parameters(), *policy._adam.state_tensors().values()]
    if (copied := getattr(policy.fine_tuning, "_reference", None)) is not None:
        tensors += copied.parameters()
    return sum({t.data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def measured(name: str, case: dict) -> dict:
    """Returns estimate and measurement of a case, in update and in generation."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if "model" in case:
            make_model(case["model"], folder)
        config = settings(case, folder)
        policy = CausalLMPolicy(config.policy.lm, config.optim, config.warm_start, 0, lambda: WORDS)
        asked = prompts(policy, config.optim.minibatch_rows, config.prompt.max_tokens)
        lengths = [len(policy.chat.prompt_ids(prompt)) for prompt in asked]
        decisions = policy.act(asked, list(range(len(asked))), 1.0)
        rows = [Row(prompt, decision, 1.0) for prompt, decision in zip(asked, decisions, strict=True)]
        policy.update(rows, 0)  # makes reference and moments
        batch = config.policy.lm.generate_batch
        base = resting(policy)
        found = {
            "generation": base + peak(lambda: policy.act(asked[:batch], list(range(batch)), 1.0)),
            "update": base + peak(lambda: policy.update(rows, 0)),
        }
        shape = parse_shape(policy.model.config.to_dict(), name, "the model itself")
        sizes = replace(batch_size(config, max(lengths)), generate_rows=batch)
        planned = local_memory(config, shape, sizes, CPU)
        phases = {"generation": planned.phases["generation"]}
        phases["update"] = max(planned.phases["update"], planned.phases["step"])
        known = sum(planned.parts["always"].values())
    return {
        "case": name,
        "prompt_tokens": [min(lengths), max(lengths)],
        "answer_tokens": max(len(decision.tokens) for decision in decisions),
        "resting": {"planned": round(known / 1e6, 1), "measured": round(base / 1e6, 1)},
        **{
            phase: {
                "planned": round(phases[phase] / 1e6, 1),
                "measured": round(value / 1e6, 1),
                "planned_over_measured": round(phases[phase] / value, 3),
            }
            for phase, value in found.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="some of the cases only")
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    cases = given.case or list(CASES)
    print(json.dumps({"unit": "MB", "cases": [measured(name, CASES[name]) for name in cases]}, indent=2))


if __name__ == "__main__":
    main()
