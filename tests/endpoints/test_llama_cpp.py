"""A real server, llama.cpp's, with a real model, SmolLM2 of 135M parameters: policy, reflector, embedder, runs."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from llama_server import LlamaServer, missing
from toys import prompt, tiny_config, trajectory

from d2skill.cli.main import main
from d2skill.components import Components
from d2skill.config import EmbedderConfig, EndpointConfig, ReflectConfig, ServedConfig
from d2skill.config.toml_files import dump
from d2skill.embedders import make_embedder
from d2skill.errors import ConfigError, RunError
from d2skill.policies.served import ServedPolicy
from d2skill.reflectors.llm import LLMReflector
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.trainer import Trainer
from d2skill.types import Group

pytest.importorskip("openai")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

CONTEXT = 1536
ACTIONS = ("open chest 1", 'say "hello"', "go to the café", "take C:\\pearl")


@pytest.fixture(scope="module")
def server():
    with LlamaServer(n_ctx=CONTEXT) as server:
        yield server


def endpoint(server, **fields) -> EndpointConfig:
    return EndpointConfig(**{"model": server.model, "url": server.url, "concurrency": 2, "timeout": 120} | fields)


def served(server, answer="choice", answer_tokens=64, prompt_tokens=1000, **fields) -> ServedPolicy:
    settings = ServedConfig(endpoint=endpoint(server, **fields), answer=answer, answer_tokens=answer_tokens)
    return ServedPolicy(settings, prompt_tokens)


def config_of(server, **sections):
    """Settings of a run of a few decisions."""
    values = {"endpoint": endpoint(server).model_dump(exclude_none=True), "answer": "choice", "answer_tokens": 64}
    small = {
        "env": {"kind": "toys:TreasureEnvironment", "max_steps": 1},
        "policy": {"kind": "served", "train": False, "served": values},
        "rollout": {"tasks": 1, "group_size": 2, "with_skills": 1},
        "prompt": {"max_tokens": 1000},
        "validation": {"every": 3, "tasks": 1},
    }
    return tiny_config(**small | sections)


# acting


def test_each_choice_is_an_admissible_action_and_repeats_with_its_seed(server, caplog):
    policy = served(server)
    prompts, seeds = [prompt(actions=ACTIONS)] * 4, [0, 1, 2, 3]
    decisions = policy.act(prompts, seeds, 1.0)
    assert all(decision.action in ACTIONS for decision in decisions)
    assert all(len(one.tokens) == len(one.log_probs) > 3 and min(one.tokens) >= 0 for one in decisions)
    assert policy.act(prompts[:2], seeds[:2], 0.0)[0].action == policy.act(prompts[:1], [9], 0.0)[0].action
    assert not caplog.records


def test_a_free_answer_that_does_not_end_is_said(server, caplog):
    (decision,) = served(server, "free", 16).act([prompt(actions=ACTIONS)], [0], 1.0)
    assert decision.text and not decision.log_probs
    assert not caplog.records or "did not end an answer within policy.served.answer_tokens 16" in caplog.text


def test_extra_fields_are_taken_and_without_its_cache_it_repeats_to_the_digit(server):
    policy = served(server, extra={"cache_prompt": False}, thinking=False, concurrency=1)
    first, other, again = policy.act([prompt(actions=ACTIONS)] * 3, [5, 6, 5], 1.0)
    assert first == again and first.action in ACTIONS and other.action in ACTIONS


# what it says of itself


def test_a_name_of_another_model_is_refused_though_the_server_answers_to_it(server):
    with pytest.raises(ConfigError, match=f'no model "gpt-oss": llama.cpp answers to every name .*{server.model}'):
        served(server, model="gpt-oss")


def test_its_context_is_compared_with_what_the_run_may_send(server, caplog):
    served(server, prompt_tokens=4096)
    assert f"has a context of {CONTEXT:,} tokens for {server.model}, but prompt.max_tokens is 4,096" in caplog.text
    with pytest.raises(ConfigError, match=r"policy.served.answer_tokens alone is 2,048"):
        served(server, answer_tokens=2048)


def test_prompts_that_are_longer_than_its_context_end_the_run_with_the_way_out(server):
    long = replace(prompt(actions=ACTIONS), observation="You see a chest. " * 500)
    with pytest.raises(RunError, match=r"exceeds the available context size \(1536 tokens\).*lower prompt.max_tokens"):
        served(server).act([long] * 3, [0, 1, 2], 1.0)


# reflection and embeddings


def test_it_reflects_or_its_failure_is_recorded(server):
    lost, won = trajectory(arm="skills", success=False), trajectory(arm="none", index=1, success=True)
    settings = ReflectConfig(
        kind="llm", endpoint=endpoint(server), prompt_tokens=500, answer_tokens=100, max_calls=1, threshold=1.0
    )
    reflector = LLMReflector(settings)
    reflector.check()
    (reflection,) = reflector.reflect_batch([(lost, won)])
    ((call,), metrics) = reflector.drain_calls()
    assert call["answer"].lstrip().startswith("{") and call["tokens_out"], "it keeps to the schema"
    assert (reflection is not None) == call["outcome"].startswith("used"), call["outcome"]
    reflector.restore_usage([])
    (edits,) = reflector.reflect_groups([(Group(lost.task, (lost, won)), ())])
    ((call,), metrics) = reflector.drain_calls()
    assert (edits is not None) == call["outcome"].startswith("used"), call["outcome"]
    assert metrics["reflect/failed"] == 0


def test_it_embeds(server):
    made = make_embedder(EmbedderConfig(kind="openai", endpoint=endpoint(server), cache="none", batch_texts=2))
    vectors = made.embed(["a mug in the kitchen", "a cup in the kitchen", "the law of the sea"])
    assert vectors.shape == (3, made.dimension) and made.dimension == 576
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


# runs


def test_a_run_is_evaluated_with_it(server, tmp_path, capsys):
    config = config_of(server, policy={"scorer": {"buckets": 4096}, "served": config_of(server).policy.served})
    Trainer(config, tmp_path / "run", Components.make(config)).start()
    main(["evaluate", str(tmp_path / "run"), "--model", server.model, "--url", server.url, "--arms", "none"])
    assert f"with {server.model}" in capsys.readouterr().out


def test_a_run_that_is_killed_goes_on(server, tmp_path):
    config = config_of(server, train={"iterations": 2, "checkpoint_every": 1})
    (tmp_path / "config.toml").write_text(dump(config))
    command = ["d2skill", "train", "--config", str(tmp_path / "config.toml"), "--out", str(tmp_path / "run")]
    run = subprocess.Popen([sys.executable, "-m", *command], cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL)
    while len(checkpoint.folders(tmp_path / "run")) < 2 and run.poll() is None:  # the first is of the start
        time.sleep(0.1)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    main(["resume", str(tmp_path / "run")])
    lines = RunFolder(tmp_path / "run").read_metrics()
    assert [line["iteration"] for line in lines if "iteration" in line] == [0, 1, 2]


def test_a_server_that_dies_and_comes_back_is_asked_again():
    with LlamaServer(n_ctx=CONTEXT) as mortal:
        policy = served(mortal, retries=10)
        decisions = []
        acting = threading.Thread(
            target=lambda: decisions.extend(policy.act([prompt(actions=ACTIONS)] * 6, range(6), 1.0))
        )
        acting.start()
        time.sleep(0.5)
        mortal.kill()
        time.sleep(0.5)
        mortal.start()
        acting.join(200)
        assert [decision.action in ACTIONS for decision in decisions] == [True] * 6
