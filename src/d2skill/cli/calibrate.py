"""What hangs on the embedder: calibrate measures its gates, bank reembed makes a bank that belongs to another one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import tyro
from pydantic import ValidationError
from rich.console import Console
from tyro.conf import Positional

from d2skill.bank.index import Index
from d2skill.bank.journal import BankState, Journal
from d2skill.bank.journal.journal import reembedded
from d2skill.bank.ranking import Vectors
from d2skill.cli.bank.open import config_of, journal_of
from d2skill.cli.bank.tables import say, table_of
from d2skill.config import EmbedderConfig, toml_files
from d2skill.embedders import make_embedder
from d2skill.embedders.calibrate import Calibration, Situation, calibrate
from d2skill.envs import make_environment
from d2skill.envs.alfworld.expert import parse_task
from d2skill.errors import BankError, ConfigError, D2SkillError
from d2skill.protocols import Embedder, Environment
from d2skill.types import Granularity
from d2skill.utils.atomic_files import write_json
from d2skill.utils.rng import generator

_CHUNK = 1024  # skills that are held against all at once
_SAME = 1e-6  # similarities that differ by less are the same


@dataclass(frozen=True)
class EmbedderFlags:
    """Which embedder; what is not given is as in --config."""

    kind: Literal["hashed", "transformers", "openai"] | None = None
    """hashed (words), transformers (a model here) or openai (a model at a server)."""
    model: str | None = None
    """Model id or folder, or name at the server."""
    url: str | None = None
    """Base URL of the server, such as http://localhost:8000/v1."""
    dimension: int | None = None
    """Length of a hashed vector."""
    device: str | None = None
    """cpu, cuda, cuda:1 or auto."""
    cache: str | None = None
    """Folder that keeps a model's vectors; none for no such folder."""

    def settings(self, config: str) -> EmbedderConfig:
        """Returns the settings of a preset or file with these laid over; raises `ConfigError` if they do not fit."""
        base = toml_files.load(config).embedder
        given: dict[str, Any] = {name: value for name, value in asdict(self).items() if value is not None}
        url, kind = given.pop("url", None), given.get("kind", base.kind)
        for name, value, needed in (("--url", url, "openai"), ("--dimension", self.dimension, "hashed")):
            if value is not None and kind != needed:
                raise ConfigError(
                    f"{name} is of --kind {needed}, and the embedder is {kind}: set --kind, or leave it out"
                )
        if self.model is not None and kind == "hashed":
            raise ConfigError("--model is of --kind transformers or openai: set --kind, or leave it out")
        if kind == "openai":
            named = given.pop("model", base.endpoint.model)
            if not named:
                raise ConfigError("--kind openai needs --model, the name of the model at the server")
            given["endpoint"] = base.endpoint.model_dump() | {"model": named} | ({"url": url} if url else {})
        try:
            return EmbedderConfig.model_validate(base.model_dump() | given)
        except ValidationError as error:
            raise ConfigError(toml_files.explain(error)) from None


_Flags = Annotated[EmbedderFlags, tyro.conf.arg(name="")]


def calibrate_gates(
    embedder: _Flags = EmbedderFlags(),
    env: str | None = None,
    data: Path | None = None,
    split: str = "train",
    tasks: int = 480,
    config: str = "laptop",
    json: Path | None = None,
) -> None:
    """Measure where an embedder's gates belong: what separates keys that share what matters from those that do not.

    Task keys are related when the tasks are about the same thing, step keys when they are so in the same room. A gate
    is where the balanced accuracy is best.

    Args:
        embedder: The embedder.
        env: Kind of environment, as in training.
        data: Folder with its data.
        split: Split whose tasks are taken, at random.
        tasks: Tasks, at most.
        config: Preset or TOML file with the embedder and the environment, such as config.toml of a run.
        json: File for the figures.
    """
    chosen = make_embedder(embedder.settings(config))
    given = {name: value for name, value in (("kind", env), ("data", data)) if value is not None}
    environment = make_environment(toml_files.load(config).env.model_copy(update=given))
    task, step, count = measure(chosen, environment, split, tasks)
    say(f"{chosen.fingerprint}, {count} tasks:")
    for kind, found in (("task", task), ("step", step)):
        _print(kind, found, gate_in_use(chosen, kind))
    say("", "For a TOML file:", "", "[embedder]", f"task_gate = {task.gate}", f"step_gate = {step.gate}")
    if json:
        write_json(json, report(chosen, task, step, count))


def measure(
    embedder: Embedder, environment: Environment, split: str, tasks: int
) -> tuple[Calibration, Calibration, int]:
    """Returns the calibrations of task keys and of step keys, and how many tasks they are from."""
    ids = list(environment.task_ids(split))
    picks = generator("gate").permutation(len(ids))[:tasks]
    situations = list(_situations(environment, [ids[i] for i in picks]))
    if not situations:
        raise ConfigError(f'split "{split}" has no tasks to calibrate on: choose another with --split')
    index = Index(BankState(), embedder)
    task = np.stack(index.keys("task", [(one.task, "") for one in situations]))
    step = np.stack(index.keys("step", [(one.task, one.room) for one in situations]))
    return *calibrate(situations, task, step), len(situations)


def report(embedder: Embedder, task: Calibration, step: Calibration, count: int) -> dict[str, Any]:
    """Returns the figures of a calibration for JSON; the shares are those above the gate in use, else the best one."""
    figures: dict[str, Any] = {"embedder": embedder.fingerprint, "tasks": count}
    for kind, found in (("task", task), ("step", step)):
        in_use = gate_in_use(embedder, kind)
        gate = found.gate if in_use is None else in_use
        figures[kind] = {
            "best_gate": found.gate,
            "best_balanced_accuracy": round(found.accuracy, 4),
            "gate": gate,
            "balanced_accuracy": round(found.accuracy_at(gate), 4),
            **found.report(gate),
        }
    return figures


def gate_in_use(embedder: Embedder, kind: str) -> float | None:
    """Returns a gate that an embedder has, None if nobody knows it."""
    try:
        return embedder.task_gate if kind == "task" else embedder.step_gate
    except ConfigError:
        return None


def _situations(environment: Environment, ids: Sequence[str]) -> Iterator[Situation]:
    """Yields how tasks start; a task that is none of ALFWorld's is about its kind."""
    for task_id in ids:
        session = environment.start(task_id)
        request = parse_task(session.task.text)
        thing = request.target if request else session.task.kind
        yield Situation(session.task.text, thing, session.observation.text)


def _print(kind: str, found: Calibration, in_use: float | None) -> None:
    told = f"{kind} keys: the best gate is {found.gate}, with a balanced accuracy of {found.accuracy:.1%}"
    if in_use is not None and in_use != found.gate:
        told += f"; the one in use, {in_use:g}, has {found.accuracy_at(in_use):.1%}"
    say("", f"{told}.")
    table = table_of([f"pairs with {kind} keys of", "pairs", "10 %", "median", "90 %", "at or above"], left=[])
    table.columns[0].justify = "left"
    for name, row in found.report(found.gate).items():
        marked = f"{name} (related)" if name in found.related else name
        quantiles = [f"{value:.2f}" for value in row["p10_p50_p90"]]
        table.add_row(marked, f"{row['pairs']:,}", *quantiles, f"{row['share_above_gate']:.1%}")
    Console().print(table)


def bank_reembed(
    run: Positional[Path],
    out: Positional[Path],
    embedder: _Flags = EmbedderFlags(),
    config: str = "laptop",
) -> None:
    """Make a bank that belongs to another embedder, with all skills and the whole history; the old one stays.

    Embeds the active skills once, and tells how much their neighbourhoods changed.

    Args:
        run: Run folder, or a journal.
        out: New journal, such as bank.db.
        embedder: The embedder that the new bank is for.
        config: Preset or TOML file with that embedder, such as config.toml of a run.
    """
    journal = journal_of(run)
    if os.path.lexists(out):
        raise BankError(f"{out} exists: choose another name, or remove it first")
    if not out.absolute().parent.is_dir():
        raise BankError(f"{out}: the folder {out.parent} does not exist")
    new = make_embedder(embedder.settings(config))
    state = journal.replay(BankState())
    after = _keys(state, new)
    before, why = _keys_before(run, journal, state)
    events = reembedded(journal.path, out, new.fingerprint)
    say(f"{events} events written to {out}, for embedder {new.fingerprint}; {journal.path} stays as it is.")
    for granularity, keys in after.items():
        if len(keys) < 2:
            continue
        told = f"{granularity} skills: {len(keys)}, on average {_nearest(keys).mean():.2f} alike to the nearest"
        if before:
            kept = _kept(before[granularity], keys)
            told += f" ({_nearest(before[granularity]).mean():.2f} before), which is the same one for {kept:.0%}"
        say(f"{told}.")
    if why:
        say(why)


def _keys(state: BankState, embedder: Embedder) -> dict[Granularity, Vectors]:
    """Returns the keys of the active skills of each granularity, [n, d]."""
    index = Index(state, embedder)
    return {granularity: index.choice(granularity).keys for granularity in ("task", "step")}


def _keys_before(run: Path, journal: Journal, state: BankState) -> tuple[dict[Granularity, Vectors], str]:
    """Returns the keys by the embedder that a bank was made with; where that is not to be had none, and why."""
    try:
        embedder = make_embedder(config_of(run).embedder)
    except D2SkillError as error:
        return {}, f"How near they were before is not told: {error}."
    if embedder.fingerprint != journal.embedder:
        return {}, f"How near they were before is not told: no settings beside {run} are of {journal.embedder}."
    return _keys(state, embedder), ""


def _nearest(keys: Vectors) -> Vectors:
    """Returns the similarity of each skill [n] to the one that is most like it."""
    return np.concatenate([similarity.max(axis=1) for _, similarity in _chunks(keys)])


def _kept(before: Vectors, after: Vectors) -> float:
    """Returns the share of skills whose nearest one was the nearest before as well, or as near."""
    kept = []
    for (rows, old), (_, new) in zip(_chunks(before), _chunks(after), strict=True):
        kept.append(old[np.arange(len(rows)), new.argmax(axis=1)] >= old.max(axis=1) - _SAME)
    return float(np.concatenate(kept).mean())


def _chunks(keys: Vectors) -> Iterator[tuple[npt.NDArray[np.intp], Vectors]]:
    """Yields some rows and their similarities to all, -2 to themselves."""
    for start in range(0, len(keys), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(keys)))
        similarity = keys[rows] @ keys.T
        similarity[np.arange(len(rows)), rows] = -2.0
        yield rows, similarity
