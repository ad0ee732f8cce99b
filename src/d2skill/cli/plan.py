"""What a run would take, before it is begun: plan."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from d2skill.cli.bank.tables import print_rows, say
from d2skill.config import Config, cli_flags
from d2skill.errors import ConfigError
from d2skill.planning import cluster, local, memory, workload
from d2skill.planning.devices import Device, cpu, device, here, rounded, size
from d2skill.planning.model_shapes import Shape, find, tiny
from d2skill.planning.sharded_memory import devices_of
from d2skill.runs.folder import RunFolder
from d2skill.verl.checks import require_translatable
from d2skill.verl.overrides import row_tokens

_DESCRIPTION = """Say what a run would take: parameters, memory, tokens, calls, hours and money.

Nothing is loaded, downloaded or asked; settings are flags, as in train. Without --like everything is at its limit."""
_IN_BYTES = ("memory", "host memory", "disk")
_SCORER_BYTES = 150e6  # of a laptop run beside its weights: Python, NumPy, games and bank


def _own(name: str, kind: Any, default: Any, text: str) -> cli_flags.Field:
    return (name, Annotated[kind, tyro.conf.arg(help=text)], default)


_OWN = [
    _own("like", Path | None, None, "Finished run to take steps an episode, calls and tokens of reflection from"),
    _own("measure", bool, False, "Run two iterations here first, in a folder that goes again, and reckon from them"),
    _own(
        "gpu",
        str,
        "here",
        "h100, h200, a100, a100-40, l40s, rtx4090, cpu, or here, what this machine has; with "
        "--engine verl h100 where this machine has no GPU",
    ),
    _own(
        "gpus",
        int,
        1,
        "Such devices, for hours and money; memory is that of one, as the policy trains on one. With "
        "--engine verl it is --verl.nodes and --verl.gpus that count",
    ),
    _own("utilisation", float, 0.3, "Share of the peak that is reached"),
    _own("tokens_per_second", float | None, None, "Tokens, read and written, that acting gets through in a second"),
    _own("gpu_hour_price", float | None, None, "Price of an hour of one device"),
    _own("json", bool, False, "Print one JSON object"),
]


def plan(arguments: list[str]) -> None:
    """Prints what a run would take; the settings are flags, see `flags`."""
    given, config = cli_flags.parse_with(arguments, "d2skill plan", _DESCRIPTION, _OWN)
    if given.gpus < 1 or not 0 < given.utilisation <= 1 or (given.tokens_per_second or 1) <= 0:
        raise ConfigError("--gpus is at least 1, --utilisation in (0, 1] and --tokens-per-second above 0")
    if config.engine == "verl":
        _check_verl(config, given)
    report = planned(config, given)
    if given.json:
        print_json(report)
    else:
        _print(report)


def print_json(report: Mapping[str, Any]) -> None:
    """Prints one JSON object, as it is."""
    Console(soft_wrap=True).print(json.dumps(report, indent=2), markup=False, highlight=False)


def planned(config: Config, given: Any) -> dict[str, Any]:
    """Returns the plan: each part has figures and, as "from", what they are based on."""
    like = None
    if given.measure:
        like = _probed(config)
    elif given.like is not None:
        like = workload.measured(RunFolder.open(given.like))
    todo = workload.work(config, like)
    at_limit = "limits of the settings" if like is None else f"steps, calls and demonstrations of {like.source}"
    report: dict[str, Any] = {"policy": config.policy.kind}
    pace: workload.Speed | None = None
    least: dict[str, float] = {}
    if config.policy.kind == "causal-lm":
        shape = tiny(config.policy.lm) if config.policy.lm.model == "tiny" else find(config.policy.lm.model)
        where = _device(config, given)
        report["model"] = _model(config, shape)
        if config.engine == "verl":
            report |= cluster.parts_of(config, shape, where, sum(row_tokens(config)))
            if where.bandwidth is not None:
                answering = report["memory"]["answering"]["weights"]
                least = workload.least(config, todo, answering, where.bandwidth)
        else:
            report["memory"] = local.memory_of(config, shape, where)
        pace = workload.speed(
            config,
            shape,
            tokens_per_second=given.tokens_per_second,
            peak=where.peak,
            devices=_devices(config, given),
            utilised=given.utilisation,
        )
    elif config.policy.kind == "scorer":
        report |= {"model": _scorer(config), "memory": _scorer_memory(config)}
    if config.embedder.kind == "transformers":
        report["embedder"] = _embedder(config)
    report["iteration"] = {
        "episodes": todo.episodes,
        "decisions": round(todo.decisions),
        "prompt tokens": round(todo.prompt),
        "answer tokens": round(todo.written),
        "tokens learnt from": round(todo.learnt),
        "reflection calls": round(todo.calls, 2),
        "reflection tokens": round(todo.call_in + todo.call_out),
        "texts to embed": round(todo.texts),
        "from": f"{at_limit}; prompts and answers at their limits, prefixes not shared",
    }
    report["run"] = {
        "iterations": todo.iterations,
        "validations": todo.validations,
        "decisions": round(todo.iterations * todo.decisions + todo.validations * todo.validation_decisions),
        "policy tokens": round(todo.generated),
        "reflection calls": round(todo.iterations * todo.calls),
        "reflection tokens": round(todo.iterations * (todo.call_in + todo.call_out)),
        "from": f"train.iterations, and validation before, every {config.validation.every} iterations and at the end",
    }
    report["time"] = _time(config, todo, pace, like, given, least)
    report["money"] = _money(config, todo, report["time"]["hours"], given)
    return report


def _check_verl(config: Config, given: Any) -> None:
    """Raises `ConfigError` for what verl has no counterpart for, and for flags that make no sense of a cluster."""
    require_translatable(config)
    if given.gpus != 1:
        raise ConfigError("--gpus is of the local engine: with --engine verl use --verl.nodes and --verl.gpus")
    if given.gpu == "cpu":
        raise ConfigError("--gpu cpu is no device to plan a cluster with: name a GPU, such as h100")
    if given.measure:
        raise ConfigError("--measure runs the local engine: with --engine verl name a finished run with --like")


def _device(config: Config, given: Any) -> Device:
    """Returns the device to plan for; verl runs on GPUs, wherever the plan is made."""
    if given.gpu == "cpu":
        return cpu()
    if given.gpu != "here":
        return device(given.gpu)
    found = here()
    return device("h100") if config.engine == "verl" and found.kind == "cpu" else found


def _devices(config: Config, given: Any) -> int:
    return devices_of(config) if config.engine == "verl" else int(given.gpus)


def _model(config: Config, shape: Shape) -> dict[str, Any]:
    adapter = memory.adapter_of(config, shape)
    own = adapter.parameters(shape) if adapter else 0
    trained = own if adapter else shape.parameters
    return {
        "name": shape.name,
        "parameters": shape.parameters + own,
        "trainable": trained if config.policy.train else 0,
        "of embeddings": shape.embeddings,
        "embeddings": "tied" if shape.tied else "not tied",
        "from": shape.source,
    }


def _scorer(config: Config) -> dict[str, Any]:
    count = config.policy.scorer.buckets
    return {"name": "scorer", "parameters": count, "trainable": count, "from": "policy.scorer.buckets"}


def _scorer_memory(config: Config) -> dict[str, Any]:
    arrays = 8.0 * config.policy.scorer.buckets
    parts = {"weights": arrays, "reference": arrays, "Adam's two moments": 2 * arrays, "gradients": arrays}
    parts["Python, games and bank"] = _SCORER_BYTES
    where = cpu()
    return {
        "device": where.name,
        "device bytes": round(where.memory),
        "total": round(sum(parts.values())),
        "fits": sum(parts.values()) <= where.memory,
        "always": rounded(parts),
        "advice": [],
        "from": "float64 arrays, and what a laptop run takes beside them",
    }


def _embedder(config: Config) -> dict[str, Any]:
    try:
        shape = find(config.embedder.model)
    except ConfigError as error:
        return {"name": config.embedder.model, "from": str(error)}
    count = shape.parameters - (0 if shape.tied else shape.vocabulary * shape.hidden)
    size = count * (4 if config.embedder.dtype == "float32" else 2)
    return {"name": shape.name, "parameters": count, "weights": size, "from": shape.source}


def _time(
    config: Config, todo: workload.Work, pace: workload.Speed | None, like: Any, given: Any, least: Mapping[str, float]
) -> dict[str, Any]:
    """Returns hours by part, no fewer than the least; none where there is no pace to reckon from."""
    parts: dict[str, float] = {}
    source = "no speed is known: give --tokens-per-second, --like RUN or --measure"
    if like is not None and like.iteration_seconds and given.tokens_per_second is None:
        parts, source = workload.hours_like(todo, like), f"the pace of {like.source}, on the machine that it ran on"
    elif config.policy.kind == "scorer":
        parts = workload.hours_of_scorer(todo)
        source = f"{workload.SCORER_RATE:,.0f} decisions a second, as of a laptop run; --measure asks this machine"
    elif pace is not None:
        parts = workload.hours(todo, pace)
        source = f"{pace.source}; {pace.tokens:,.0f} tokens a second of acting; environment and reflection left out"
        if given.tokens_per_second is None and least:
            parts |= {name: max(parts[name], floor) for name, floor in least.items()}
            source += "; no less than the tokens of an episode take one after another, each a look at all weights"
    hours = round(sum(parts.values()), 3) if parts else None
    found: dict[str, Any] = {"hours": hours, "parts": rounded(parts, 3)}
    if config.engine == "verl" and hours is not None:
        found["GPU-hours"] = round(hours * devices_of(config), 1)
    return found | {"from": source}


def _money(config: Config, todo: workload.Work, hours: float | None, given: Any) -> dict[str, Any]:
    """Returns what devices, reflection and a served policy cost; None where no price is given."""
    paid = acting = None
    if given.gpu_hour_price is not None and hours is not None:
        paid = round(hours * _devices(config, given) * given.gpu_hour_price, 2)
    served, reflect = config.policy.served, config.reflect
    source = "--gpu-hour-price" + (" (none given)" if given.gpu_hour_price is None else "")
    source += ", reflect.price_in and price_out" + ("" if reflect.price_in or reflect.price_out else " (none given)")
    if config.policy.kind == "served":
        priced = bool(served.price_in or served.price_out)
        read, written = todo.asked
        acting = round(workload.acting_cost(config, todo), 2) if priced else None
        source += ", policy.served.price_in and price_out" + ("" if priced else " (none given)")
        source += f" for {read:,.0f} tokens of questions and {written:,.0f} of answers, as under run"
    return {
        "devices": paid,
        "reflection": round(workload.reflection_cost(config, todo), 2),
        "acting": acting,
        "from": source,
    }


def _probed(config: Config) -> workload.Measured:
    """Runs two iterations and returns what they measured."""
    from d2skill.components import Components
    from d2skill.trainer import Trainer

    train = config.train.model_copy(update={"iterations": 2, "max_env_steps": None, "checkpoint_every": 2})
    validation = config.validation.model_copy(update={"every": 2})
    short = config.model_copy(update={"train": train, "validation": validation}).resolved()
    with tempfile.TemporaryDirectory(prefix="d2skill-plan-") as folder:
        run = Path(folder) / "run"
        Trainer(short, run, Components.make(short)).start()
        return replace(workload.measured(RunFolder.open(run)), source="two iterations here")


def _print(report: Mapping[str, Any]) -> None:
    """Prints the plan part by part, and under each what it is based on."""
    for name, part in report.items():
        if not isinstance(part, Mapping):
            continue
        say(f"{name}")
        rows: list[tuple[str, str]] = []
        for key, value in part.items():
            if key == "from" or (not value and value is not False):
                continue
            if isinstance(value, Mapping):
                shown = [f"{each} {_shown(name, key, number)}" for each, number in value.items() if number]
                rows.append((f"  {key}", ", ".join(shown)))
            elif isinstance(value, list):
                rows += [(f"  {key}", line) for line in value]
            else:
                rows.append((f"  {key}", _shown(name, key, value)))
        print_rows([*rows, ("  based on", str(part["from"]))])
        say("")


def _shown(part: str, key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if (part in _IN_BYTES and not key.endswith("at once")) or key == "weights":
        return size(value)
    if part == "time":
        return f"{value:,.1f} h" if value >= 1 else f"{60 * value:,.1f} min"
    return f"{value:,}"
