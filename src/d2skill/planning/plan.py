"""Plans: estimates of what a run with given settings takes, as plain data that can be printed or saved as JSON."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from pydantic import Field

from d2skill.components import Components
from d2skill.config import Config
from d2skill.config.base import Settings
from d2skill.config.verl import row_tokens
from d2skill.errors import ConfigError
from d2skill.planning import workload
from d2skill.planning.devices import Device, find_device, round_values, this_cpu
from d2skill.planning.lengths import Lengths, limit_lengths, typical_lengths
from d2skill.planning.memory_report import memory_report
from d2skill.planning.model_shapes import ModelShape, find_shape, lora_parameters, shape_of
from d2skill.planning.pace import Cluster, gpu_hours
from d2skill.planning.sharded_memory import SEQUENCES
from d2skill.planning.workload import RunStatistics, Workload
from d2skill.runs.folder import RunFolder
from d2skill.trainer import Trainer
from d2skill.verl.checks import require_translatable

_SCORER_RATE = 5000.0  # decisions per second of a laptop run on one core, everything included, as in the README
_SCORER_BYTES = 150e6  # memory of a laptop run beside its weights: Python, NumPy, games and bank


class PlanOptions(Settings):
    """Options of a plan beside the settings of the run."""

    like: Path | None = None
    """Finished run to take steps an episode, calls and tokens of reflection from"""
    measure: bool = False
    """Run two iterations here first, in a folder that goes again, and reckon from them"""
    gpu: str = "here"
    """h100, h200, a100, a100-40, l40s, rtx4090, cpu, or here: this machine's, with --engine verl h100 if it has none"""
    gpus: int = Field(1, ge=1, le=10**7)
    """Such devices, for hours and money; with --engine verl it is --verl.nodes and --verl.gpus that count"""
    utilisation: float = Field(0.3, gt=0, le=1)
    """Share of the peak that reading and learning reach"""
    tokens_per_second: float | None = Field(None, gt=0, le=10**9)
    """Tokens, read and written, that acting gets through in a second"""
    gpu_hour_price: float | None = Field(None, ge=0, le=10**9)
    """Price of an hour of one device"""
    limits: bool = False
    """Reckon with prompts, answers and episodes at the limits of the settings, in place of typical lengths"""
    prompt_tokens: float | None = Field(None, ge=0, le=10**7)
    """Tokens of a prompt on average, skills included"""
    answer_tokens: float | None = Field(None, gt=0, le=10**6)
    """Tokens of an answer on average"""
    steps: float | None = Field(None, gt=0, le=10**5)
    """Steps of an episode on average"""
    lock_step: bool = False
    """Let each step of all episodes wait for the longest answer, as verl-agent does, whose hours are published"""


def plan(config: Config, options: PlanOptions | None = None) -> dict[str, Any]:
    """Returns model size, memory, work, hours and money of a run, each a dict of figures.

    In each part "from" says what the figures are based on. Memory is in bytes. Nothing is loaded or downloaded.

    Raises:
        ConfigError: the settings cannot be planned, or the options do not go with them.
        RunError: `options.like` is not a run folder, or has no finished iteration.
    """
    options = options or PlanOptions()
    if config.engine == "verl":
        _check_verl(config, options)
    gpus = config.verl.total_gpus if config.engine == "verl" else options.gpus
    like = None
    if options.measure:
        like = _run_two_iterations(config)
    elif options.like is not None:
        like = workload.run_statistics(RunFolder.open(options.like))
    lengths = _lengths(config, options)
    work = workload.estimate_workload(config, lengths, like)
    report: dict[str, Any] = {"policy": config.policy.kind}
    hours, source = _hours_without_device(config, work, None if options.tokens_per_second else like)
    lost: dict[str, float] = {}
    if config.policy.kind == "scorer":
        report |= _scorer(config)
    elif config.policy.kind == "causal-lm":
        shape, device = shape_of(config.policy.lm), find_device(options.gpu)
        if config.engine == "verl" and device.kind == "cpu":
            device = find_device("h100")
        report["model"] = _model(config, shape)
        report |= memory_report(config, shape, device)
        speed = options.tokens_per_second
        basis = f"--tokens-per-second {speed:g}" if speed else ""
        if speed is None and device.peak is not None:
            speed = device.peak * gpus * options.utilisation / (2 * shape.matmul_parameters)
            gradient, again = workload.learning_operations(config)
            basis = f"{gpus} x {device.peak / 1e12:.3g} TFLOP/s at {options.utilisation:.0%}"
            basis += f", 2N a token read, {gradient}N learnt" + f" and {again}N to read it again" * (again > 0)
        if device.peak and device.bandwidth and not options.tokens_per_second and not hours:
            cluster = _cluster(config, options, device, gpus, report["memory"], lengths)
            hours, lost = gpu_hours(config, work, lengths, shape, cluster)
            source = f"{basis}; a token written takes a look at all weights; environment and loading left out"
        elif speed and not hours:
            hours = workload.model_hours(config, work, speed)
            source = f"{basis}; {speed:,.0f} tokens a second of acting; environment and reflection left out"
    if options.lock_step and not lost:
        raise ConfigError("--lock-step needs hours reckoned for a GPU: give --gpu, and no speed, --like or --measure")
    if config.embedder.kind == "transformers":
        report["embedder"] = _embedder(config)
    if config.policy.kind != "scorer":
        report["lengths"] = _assumed(lengths, work)
    report |= _work(config, work, lengths, like)
    total = round(sum(hours.values()), 3) if hours else None
    device_hours = {"GPU-hours": round(total * gpus, 1)} if total is not None and config.engine == "verl" else {}
    same = {"not shortened by more GPUs": round_values(lost, 3)} if lost else {}
    report["time"] = {"hours": total, "parts": round_values(hours, 3), **device_hours, **same, "from": source}
    price = options.gpu_hour_price
    paid = None if price is None or total is None else round(total * gpus * price, 2)
    report["money"] = _money(config, work, paid, has_price=price is not None)
    return report


def _check_verl(config: Config, options: PlanOptions) -> None:
    require_translatable(config)
    if options.gpus != 1:
        raise ConfigError("--gpus is of the local engine: with --engine verl use --verl.nodes and --verl.gpus")
    if options.gpu == "cpu":
        raise ConfigError("--gpu cpu is no device to plan a cluster with: name a GPU, such as h100")
    if options.measure:
        raise ConfigError("--measure runs the local engine: with --engine verl name a finished run with --like")


def _lengths(config: Config, options: PlanOptions) -> Lengths:
    """Returns the lengths that the options ask for; a prompt's includes what skills add to it."""
    lengths = limit_lengths(config) if options.limits else typical_lengths(config)
    prompt, answer, steps = options.prompt_tokens, options.answer_tokens, options.steps
    if config.policy.kind == "scorer" and (prompt or answer):
        raise ConfigError("--prompt-tokens and --answer-tokens are of language models, and the policy is a scorer")
    if prompt is not None:
        lengths = replace(lengths, prompt=prompt, skills=0.0)
    given = [name for name, value in (("prompt", prompt), ("answer", answer), ("steps", steps)) if value is not None]
    answer = lengths.answer if answer is None else answer
    return replace(
        lengths,
        answer=answer,
        steps=lengths.steps if steps is None else steps,
        longest_answer=max(lengths.longest_answer, ceil(answer)),
        source=f"{' and '.join(given)} as given, else {lengths.source}" if given else lengths.source,
    )


def _cluster(
    config: Config, options: PlanOptions, device: Device, gpus: int, memory: dict[str, Any], lengths: Lengths
) -> Cluster:
    """Returns the GPUs of a run; a copy of verl's has room for more prompts than at the limits, as they are shorter."""
    is_verl = config.engine == "verl"
    room = config.policy.lm.slots
    if is_verl:
        tokens = memory["prompts at once"]["of a copy"] * sum(row_tokens(config))
        room = min(SEQUENCES, int(tokens / (lengths.prompt + lengths.skills + lengths.answer)))
    nodes, tensor = (config.verl.nodes, config.verl.tensor_parallel) if is_verl else (1, 1)
    return Cluster(
        device, gpus, nodes, tensor, max(1, room), (device.peak or 0.0) * options.utilisation, options.lock_step
    )


def _assumed(lengths: Lengths, work: Workload) -> dict[str, Any]:
    return {
        "tokens of a prompt": round(lengths.prompt),
        "tokens that skills add": round(lengths.skills),
        "tokens of an answer": round(lengths.answer),
        "steps of an episode": round(work.decisions / work.episodes, 1),
        "from": f"{lengths.source}; others by --prompt-tokens, --answer-tokens, --steps, --like RUN, or --limits",
    }


def _run_two_iterations(config: Config) -> RunStatistics:
    train = config.train.model_copy(update={"iterations": 2, "max_env_steps": None, "checkpoint_every": 2})
    validation = config.validation.model_copy(update={"every": 2})
    short = config.model_copy(update={"train": train, "validation": validation}).resolved()
    with tempfile.TemporaryDirectory(prefix="d2skill-plan-") as folder:
        run = Path(folder) / "run"
        Trainer(short, run, Components.make(short)).start()
        return replace(workload.run_statistics(RunFolder.open(run)), source="two iterations here")


def _hours_without_device(config: Config, work: Workload, like: RunStatistics | None) -> tuple[dict[str, float], str]:
    """Returns the hours by part, empty if they depend on the device, and what they are based on."""
    if like is not None and like.iteration_seconds:
        source = f"the pace of {like.source}, on the machine that it ran on"
        validation = work.validations * (like.validation_seconds or 0.0)
        seconds = {"iterations": work.iterations * like.iteration_seconds, "validation": validation}
        seconds["warm start"] = like.warm_start_seconds
    elif config.policy.kind == "scorer":
        source = f"{_SCORER_RATE:,.0f} decisions a second, as of a laptop run; --measure asks this machine"
        seconds = {"iterations": work.iterations * work.decisions / _SCORER_RATE}
        seconds |= {"validation": work.validations * work.validation_decisions / _SCORER_RATE}
    else:
        return {}, "no speed is known: give --tokens-per-second, --like RUN or --measure"
    return {part: value / workload.HOUR for part, value in seconds.items()}, source


def _model(config: Config, shape: ModelShape) -> dict[str, Any]:
    adapter = lora_parameters(config.policy.lm, shape)
    trained = adapter if config.policy.lm.lora_rank else shape.parameters
    return {
        "name": shape.name,
        "parameters": shape.parameters + adapter,
        "trainable": trained if config.policy.train else 0,
        "of embeddings": shape.embedding_parameters,
        "embeddings": "tied" if shape.tied else "not tied",
        "from": shape.source,
    }


def _embedder(config: Config) -> dict[str, Any]:
    try:
        shape = find_shape(config.embedder.model)
    except ConfigError as error:
        return {"name": config.embedder.model, "from": str(error)}
    count = shape.matmul_parameters
    size = count * (4 if config.embedder.dtype == "float32" else 2)
    return {"name": shape.name, "parameters": count, "weights": size, "from": shape.source}


def _scorer(config: Config) -> dict[str, Any]:
    count, device = config.policy.scorer.buckets, this_cpu()
    array = 8.0 * count
    parts = {"weights": array, "reference": array, "Adam's two moments": 2 * array, "gradients": array}
    parts["Python, games and bank"] = _SCORER_BYTES
    total = sum(parts.values())
    return {
        "model": {"name": "scorer", "parameters": count, "trainable": count, "from": "policy.scorer.buckets"},
        "memory": {
            "device": device.name,
            "device bytes": round(device.memory),
            "total": round(total),
            "fits": total <= device.memory,
            "always": round_values(parts),
            "advice": [],
            "from": "float64 arrays, and what a laptop run takes beside them",
        },
    }


def _work(config: Config, work: Workload, lengths: Lengths, like: RunStatistics | None) -> dict[str, Any]:
    """Returns the parts "iteration" and "run"."""
    validated, every = work.validations * work.validation_decisions, config.validation.every
    basis = lengths.source if like is None else f"steps, calls and demonstrations of {like.source}, {lengths.source}"
    return {
        "iteration": {
            "episodes": work.episodes,
            "decisions": round(work.decisions),
            "prompt tokens": round(work.read),
            "answer tokens": round(work.written),
            "tokens learnt from": round(work.learnt),
            "reflection calls": round(work.calls, 2),
            "reflection tokens": round(work.call_in + work.call_out),
            "texts to embed": round(work.texts),
            "from": f"{basis}; prefixes not shared",
        },
        "run": {
            "iterations": work.iterations,
            "validations": work.validations,
            "decisions": round(work.iterations * work.decisions + validated),
            "policy tokens": round(sum(work.policy_tokens)),
            "reflection calls": round(work.iterations * work.calls),
            "reflection tokens": round(work.iterations * (work.call_in + work.call_out)),
            "from": f"train.iterations, and validation before, every {every} iterations and at the end",
        },
    }


def _money(config: Config, work: Workload, paid: float | None, *, has_price: bool) -> dict[str, Any]:
    """Returns the cost of devices, reflection and a served policy; None where no price is given."""
    served, reflect, acting = config.policy.served, config.reflect, None

    def named(prices: str, is_given: float) -> str:
        return prices if is_given else f"{prices} (none given)"

    sources = [named("--gpu-hour-price", has_price)]
    sources.append(named("reflect.price_in and price_out", reflect.price_in or reflect.price_out))
    if config.policy.kind == "served":
        priced, (read, written) = served.price_in or served.price_out, work.policy_tokens
        acting = round((read * served.price_in + written * served.price_out) / 1e6, 2) if priced else None
        tokens = f"for {read:,.0f} tokens of questions and {written:,.0f} of answers, as under run"
        sources.append(f"{named('policy.served.price_in and price_out', priced)} {tokens}")
    reflection = work.iterations * (work.call_in * reflect.price_in + work.call_out * reflect.price_out) / 1e6
    return {"devices": paid, "reflection": round(reflection, 2), "acting": acting, "from": ", ".join(sources)}
