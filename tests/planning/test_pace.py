"""Hours on GPUs: by hand, beside published ones, and on more GPUs."""

from itertools import pairwise
from math import log, sqrt

import pytest
from planning_cases import COUNT, HEAD, SEVEN, seven

from d2skill.planning.devices import find_device
from d2skill.planning.lengths import Lengths
from d2skill.planning.model_shapes import KNOWN
from d2skill.planning.pace import Cluster, gpu_hours
from d2skill.planning.plan import PlanOptions, plan
from d2skill.planning.workload import estimate_workload

H100 = find_device("h100")
READ = COUNT - HEAD  # parameters that a token is multiplied with
SPEED = 989e12 * 0.3


def cluster(**given) -> Cluster:
    usual = {"device": H100, "gpus": 8, "nodes": 1, "tensor": 1, "room": 256, "speed": SPEED, "lock_step": False}
    return Cluster(**(usual | given))


def hours(config=None, shape=SEVEN, lengths=None, **given):
    config, lengths = config or seven(), lengths or Lengths(400, 0, 100, 25, 512, 100)
    return gpu_hours(config, estimate_workload(config, lengths), lengths, shape, cluster(**given))


def test_hours_by_hand():
    parts, lost = hours()
    # 128 episodes of 25 steps are 64 at a time over 50 steps, 8 for each GPU; both arms of validation 256 and 16
    token, looks = (28 * 0.13e-3 + (2 * READ + rows * 500 * 28 * 2 * 512 * 2) / (3.35e12 * 0.84) for rows in (8, 16))
    reading = 400 * 2 * READ / SPEED
    assert parts["acting"] == pytest.approx(160 * 50 * (8 * reading + 100 * token) / 3600)
    assert parts["validation"] == pytest.approx(33 * 50 * (16 * reading + 100 * looks) / 3600)
    assert lost["one token after another"] == pytest.approx((160 * 50 * token + 33 * 50 * looks) * 100 / 3600)
    # 6N to learn and 2N each for the old probabilities, the reference and what was not kept
    tokens = 128 * 25 * 500
    waiting = tokens * 8 * READ / (8 * SPEED) * 0.2 * sqrt(2 * log(8) * 8 / 128)
    # 25 minibatches gather twice and reduce float32 once; the two readings of 200,000 tokens a GPU take 13 passes each
    bus = 450e9 * 0.78
    talking = 7 / 8 * COUNT * (2 * (25 * 2 + 2 * 13) + 4 * 25) / bus
    assert lost["waiting for the GPU with the longest rows"] == pytest.approx(160 * waiting / 3600)
    assert lost["communication in learning"] == pytest.approx(160 * talking / 3600)
    assert parts["learning"] == pytest.approx(160 * (tokens * 12 * READ / (8 * SPEED) + waiting + talking) / 3600)
    assert parts["handing weights over"] == pytest.approx(160 * 2 * COUNT / 5e9 / 3600)
    # in lock step each token of the longest answer is waited for
    slow, late = hours(lock_step=True)
    assert slow["acting"] - parts["acting"] == pytest.approx(160 * 50 * 412 * token / 3600)
    assert late["waiting for the longest answer"] == pytest.approx(412 / 100 * lost["one token after another"])


def test_what_changes_the_hours():
    lost = hours()[1]
    # without room for all of its prompts a copy writes in turns
    assert hours(room=4)[1]["one token after another"] > 1.9 * lost["one token after another"]
    # four GPUs that share a copy read a quarter each, but talk twice in each layer
    shared = hours(tensor=4)[1]["one token after another"]
    assert lost["one token after another"] / 4 < shared < lost["one token after another"]
    # between nodes a slow network counts
    slow = hours(device=find_device("l40s"), nodes=4)[1]["communication in learning"]
    assert slow > 4 * hours(device=find_device("l40s"))[1]["communication in learning"]
    # megatron gathers once a minibatch; a local run has all weights on each device
    split = hours(seven(strategy="megatron"))[1]["communication in learning"]
    assert split < lost["communication in learning"]
    local = seven().model_copy(update={"engine": "local"})
    alone, apart = hours(local, gpus=1)
    assert apart["communication in learning"] == alone["handing weights over"] == 0
    still = local.model_copy(update={"policy": local.policy.model_copy(update={"train": False})})
    assert hours(still)[0]["learning"] == 0


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.3-70B-Instruct"])
def test_more_gpus_are_faster_but_not_by_as_much(name):
    tensor = 1 if "7B" in name else 8
    totals = []
    for nodes in (1, 2, 4, 8):
        config = seven(nodes=nodes, tensor_parallel=tensor, lm={"model": name})
        parts, lost = hours(config, KNOWN[name], gpus=8 * nodes, nodes=nodes, tensor=tensor)
        totals.append((nodes, sum(parts.values()), sum(lost.values())))
    for (few, slow, _), (many, fast, _) in pairwise(totals):
        assert fast < slow and many * fast > 1.1 * few * slow
    assert totals[-1][2] / totals[-1][1] > 1.5 * totals[0][2] / totals[0][1]


def test_published_hours_are_met_within_30_percent():
    """GRPO 20.8 h, D2Skill with o3 25.6 h on 8 H100 (arXiv 2603.28716); see benchmarks/plan_hours.py."""
    as_released = PlanOptions(gpu="h100", lock_step=True)
    config = seven().model_copy(update={"bank": seven().bank.model_copy(update={"probe": 0})})
    endpoint = {"model": "o3", "concurrency": 10}
    values = config.model_dump() | {"reflect": config.reflect.model_dump() | {"kind": "llm", "endpoint": endpoint}}
    skilled = plan(type(config).model_validate(values), as_released)["time"]["hours"]
    rollout = config.rollout.model_copy(update={"with_skills": 0})
    plain = plan(config.model_copy(update={"rollout": rollout}), as_released)["time"]["hours"]
    assert plain == pytest.approx(20.8, rel=0.3) and skilled == pytest.approx(25.6, rel=0.3)
    assert 1.1 < skilled / plain < 1.4
