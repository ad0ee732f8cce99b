"""Hours of a run on GPUs: the arithmetic, and what memory, communication and waiting add to it.

An iteration lasts as long as its longest episode, `env.max_steps` decisions one after another. Each of them is a
prompt to read and an answer, whose tokens come one after another too: each takes a look at all weights. So more GPUs
shorten reading and learning, not writing; and the fewer rows of a minibatch a GPU has, the more of its time goes into
gathering weights and waiting for the GPU with the longest rows.

Constants are measurements that others published, none of them of a run that docs/plan.md compares the plan with.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, sqrt

from d2skill.config import Config
from d2skill.planning.devices import Device
from d2skill.planning.lengths import Lengths
from d2skill.planning.memory import key_value_bytes, weight_bytes
from d2skill.planning.model_shapes import ModelShape, lora_parameters
from d2skill.planning.workload import HOUR, Workload, learning_operations

LAYER_SECONDS = 0.13e-3
BANDWIDTH_SHARE = 0.84
"""Seconds that a layer takes for a token beside reading its weights, and the share of the memory bandwidth of reading.

From Qwen2.5's speed benchmark, vLLM 0.6.3 on an A100, by the two models with 28 layers: 1.5B takes 5.45 ms a token, 7B
11.87. With both, 0.5B takes 3.7 (measured 3.2), 3B 8.3 (7.8), 72B on 4 GPUs 33 (32).
"""
LINK_SHARE, NETWORK_SHARE = 0.78, 0.94
"""Share of the bandwidth that NCCL reaches: 232.5 of 300 GB/s within a node of A100s (NVIDIA/nccl-tests issue 175), 46
to 48 of 50 GB/s over InfiniBand (issue 290)."""
REDUCE_SECONDS = 9e-6
"""Least seconds of an all-reduce of vLLM within a node of H100s (sgl-project/sglang pull request 2904)."""
HANDOVER = 5e9
"""Bytes of weights handed to the rollout engine in a second: 9B in 3.5 s on 8 H800 (verl issue 7203)."""
CALL_SECONDS, CALL_TOKENS = 23.0, 108.0
"""Seconds before a reasoning model answers, and its tokens a second: o3 by OpenAI (artificialanalysis.ai)."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """GPUs of a run: how many, how many share a copy of the model (`tensor`), and how many prompts a copy has room for.

    `speed` is the FLOP/s that a GPU reaches. In `lock_step` all episodes wait for the longest answer at each step.
    """

    device: Device
    gpus: int
    nodes: int
    tensor: int
    room: int
    speed: float
    lock_step: bool

    @property
    def bus(self) -> float:
        """Bytes/s of a collective operation over all GPUs; a node sends through the ports of all its GPUs."""
        inside = self.device.link * LINK_SHARE
        outside = self.device.network * NETWORK_SHARE * self.gpus / self.nodes
        return inside if self.nodes == 1 else min(inside, outside)

    def reduce_seconds(self, count: float) -> float:
        """Returns the time of an all-reduce of `count` bytes among the GPUs of a copy."""
        sent = 2 * (self.tensor - 1) / self.tensor * count / (self.device.link * LINK_SHARE)
        return REDUCE_SECONDS + sent if self.tensor > 1 else 0.0


def gpu_hours(
    config: Config, work: Workload, lengths: Lengths, shape: ModelShape, cluster: Cluster
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the hours of a run by part, and the hours among them that more GPUs do not shorten, by reason.

    Args:
        config: the settings of the run.
        work: its work.
        lengths: the lengths that the work is reckoned from.
        shape: the shape of the policy's model.
        cluster: the GPUs, whose memory bandwidth must be known.
    """
    is_verl, rounds = config.engine == "verl", config.env.max_steps / HOUR
    read, write = _turn(config, work, shape, cluster, work.episodes, work.decisions)
    learning, waiting, talking = _learning(config, work, shape, cluster)
    seats = config.validation.tasks * (2 if config.rollout.with_skills else 1)
    looks = _turn(config, work, shape, cluster, seats, work.validation_decisions)
    answer, longest = lengths.answer, lengths.longest_answer if cluster.lock_step else lengths.answer
    acting, validating = work.iterations * rounds, work.validations * rounds
    calls = ceil(work.calls / config.reflect.endpoint.concurrency) * CALL_SECONDS
    calls += work.call_out / CALL_TOKENS / config.reflect.endpoint.concurrency
    handover = weight_bytes(config.policy.lm) * shape.parameters / HANDOVER if is_verl else 0.0
    gradient, again = learning_operations(config)
    warm = work.demonstrated * shape.matmul_parameters * (gradient + again) / (cluster.gpus * cluster.speed)
    parts = {
        "acting": acting * (read + longest * write),
        "learning": work.iterations * (learning + waiting + talking) / HOUR,
        "validation": validating * (looks[0] + longest * looks[1]),
        "handing weights over": work.iterations * handover / HOUR,
        "reflection": work.iterations * calls / HOUR,
        "warm start": warm / HOUR,
    }
    written = acting * write + validating * looks[1]
    lost = {
        "one token after another": answer * written,
        "waiting for the longest answer": (longest - answer) * written,
        "waiting for the GPU with the longest rows": work.iterations * waiting / HOUR,
        "communication in learning": work.iterations * talking / HOUR,
    }
    return parts, lost


def _turn(
    config: Config, work: Workload, shape: ModelShape, cluster: Cluster, episodes: float, decisions: float
) -> tuple[float, float]:
    """Returns the seconds to read the prompts of a step, and to write a token of the answers to them.

    Episodes that have ended leave a mean of `decisions / env.max_steps` of them.
    """
    lm, tensor, device = config.policy.lm, cluster.tensor, cluster.device
    w, copies, length = weight_bytes(lm), cluster.gpus // tensor, work.prompt_tokens + work.answer_tokens
    rows = max(1.0, min(episodes, decisions / config.env.max_steps) / copies)
    waves, together = max(1.0, rows / cluster.room), min(rows, cluster.room)
    reads = w * shape.matmul_parameters / tensor + together * length * key_value_bytes(shape, w, tensor)
    arithmetic = 2 * shape.matmul_parameters / (tensor * cluster.speed)
    token = max(reads / ((device.bandwidth or 1.0) * BANDWIDTH_SHARE), together * arithmetic)
    token += shape.layers * (LAYER_SECONDS + 2 * cluster.reduce_seconds(together * shape.hidden * w))
    prompts = rows * work.prompt_tokens
    reduced = 2 * shape.layers * cluster.reduce_seconds(prompts * shape.hidden * w)
    return prompts * arithmetic + reduced, waves * token


def _learning(config: Config, work: Workload, shape: ModelShape, cluster: Cluster) -> tuple[float, float, float]:
    """Returns the seconds of an update: its arithmetic, waiting for the GPU with the longest rows, communication.

    Nothing of the communication is hidden behind arithmetic, as verl's `forward_prefetch` is off. Gradients are reduced
    in float32, once for a minibatch.
    """
    lm, gpus = config.policy.lm, cluster.gpus
    if not work.learnt:
        return 0.0, 0.0, 0.0
    gradient, again = learning_operations(config)
    reads = bool(config.optim.kl) + (config.engine == "verl")  # by the reference, and by the policy before the update
    checkpointed = again - 2 * reads
    pace = work.learnt * shape.matmul_parameters / (gpus * cluster.speed)
    update = pace * (gradient + checkpointed)
    rows = min(config.optim.minibatch_rows, work.decisions)
    waiting = update * work.spread * sqrt(2 * log(gpus) * gpus / rows)  # the largest of so many sums
    steps = ceil(work.decisions / rows)
    whole = weight_bytes(lm) * shape.parameters * (gpus - 1) / gpus / cluster.bus
    trained = lora_parameters(lm, shape) if lm.lora_rank else shape.parameters
    reduce = 4 * trained * (gpus - 1) / gpus / cluster.bus
    if config.engine == "verl" and config.verl.strategy == "megatron":
        return update + pace * 2 * reads, waiting, steps * (whole + reduce)
    if config.engine == "local":  # each device has all weights, and gradients go around twice
        return update + pace * 2 * reads, waiting, steps * 2 * reduce
    passes = ceil(rows * work.learnt / work.decisions / gpus / lm.pass_tokens)
    gathers = steps * passes * 2 + reads * ceil(work.learnt / gpus / lm.pass_tokens)
    return update + pace * 2 * reads, waiting, gathers * whole + steps * reduce
