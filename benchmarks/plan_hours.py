"""Hours that `d2skill plan` foresees beside hours that others published; prints one JSON object.

Nothing in the plan was fitted to these runs. D2Skill and GRPO: arXiv 2603.28716, 160 iterations on 8 H100; the release
is built on verl-agent, whose episodes move in lock step, and asks o3 ten questions at a time. SDAR: seconds of a first
iteration of verl-agent with Qwen2.5-3B-Instruct, where nearly all episodes take 50 steps: on 4 A100 as logged, on 8
A100 "7 to 8 minutes" (ZJU-REAL/SDAR, issue 51; a third model that it reads with is left out of the former). NeMo RL:
seconds of an iteration on mathematics, an answer an episode (docs/about/performance-summary.md of NVIDIA-NeMo/RL, 0.4);
it lasts for an answer at the limit, and of the mean of 1,060 or 3,206 tokens 110 are assumed to be the prompt's.

    python benchmarks/plan_hours.py
"""

from __future__ import annotations

import json

from d2skill.config import Config, toml_files
from d2skill.planning.plan import PlanOptions, plan

HERE = {"lock_step": True, "gpu": "h100"}


def settings(**changed: object) -> Config:
    """Returns the settings of the preset alfworld-verl with others in place of some, by dotted name."""
    values = toml_files.load("alfworld-verl").model_dump()
    for name, value in ({"bank.probe": 0} | {key.replace("__", "."): each for key, each in changed.items()}).items():
        *path, last = name.split(".")
        place = values
        for part in path:
            place = place[part]
        place[last] = value
    return Config.model_validate(values)


def line(published: float, config: Config, **options: object) -> dict:
    """Returns a published number of hours, or of seconds of one iteration without validation, and the plan's."""
    time = plan(config, PlanOptions(**(HERE | options)))["time"]
    if config.train.iterations > 1:
        found = time["hours"]
    else:
        found = 3600 * sum(value for name, value in time["parts"].items() if name != "validation")
    return {
        "published": published,
        "plan": round(found, 1),
        "ratio": round(found / published, 2),
        "parts": time["parts"],
    }


def main() -> None:
    o3 = {"reflect__kind": "llm", "reflect__endpoint": {"model": "o3", "concurrency": 10}}
    three = {"policy__lm__model": "Qwen/Qwen2.5-3B-Instruct", "rollout__with_skills": 0, "train__iterations": 1}
    few = {"verl__gpus": 4, "optim__minibatch_rows": 64}
    # verl-agent's prompts, longer than ours: benchmarks/prompt_lengths.py with its template counts 506 tokens
    first = {"gpu": "a100", "prompt_tokens": 506, "steps": 48}
    maths = {"env__max_steps": 1, "rollout__tasks": 64, "rollout__group_size": 32, "rollout__with_skills": 0}
    maths |= {"train__iterations": 1, "policy__lm__max_new_tokens": 3990, "optim__minibatch_rows": 512}
    maths |= {"policy__lm__gradient_checkpointing": False}
    llama = maths | {"policy__lm__model": "meta-llama/Llama-3.1-8B-Instruct", "verl__nodes": 2}
    qwen = maths | {"policy__lm__model": "Qwen/Qwen3-32B", "verl__nodes": 4, "verl__tensor_parallel": 4}
    report = {
        "GRPO, 7B, 8 H100, hours": line(20.8, settings(rollout__with_skills=0)),
        "D2Skill, 7B, 8 H100, hours": line(25.6, settings(**o3)),
        "SDAR, 3B, 4 A100, seconds": line(424.6 + 179.3 + 175.4 + 773.6, settings(**three, **few), **first),
        "SDAR, 3B, 8 A100, seconds": line(450, settings(**three), **first),
        "NeMo RL, 8B, 16 H100, seconds": line(97.7, settings(**llama), prompt_tokens=110, answer_tokens=950, steps=1),
        "NeMo RL, 32B, 32 H100, seconds": line(393, settings(**qwen), prompt_tokens=110, answer_tokens=3096, steps=1),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
