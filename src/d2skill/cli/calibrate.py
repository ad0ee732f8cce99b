"""`d2skill calibrate` and `d2skill bank reembed`: an embedder's similarity gates, and a bank for another embedder."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import ValidationError
from tyro.conf import Positional

from d2skill.bank.reembed import reembed_bank
from d2skill.cli.bank.open import open_journal, settings_of
from d2skill.cli.bank.tables import print_table, say, table_of
from d2skill.cli.output import Output
from d2skill.config import Config, EmbedderConfig, toml_files
from d2skill.config.key_hosts import allow_named
from d2skill.embedders import make_embedder
from d2skill.envs import make_environment
from d2skill.errors import BankError, ConfigError, D2SkillError
from d2skill.evaluation.gate_calibration import GateMeasurement, measure_gates
from d2skill.protocols import Embedder
from d2skill.types import Granularity
from d2skill.utils.text import counted


@dataclass(frozen=True)
class EmbedderFlags:
    """The embedder; what is not given is as in --config."""

    kind: str | None = None
    """hashed (words), transformers (a model here), openai (a model at a server), or package.module:Class."""
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
            settings = EmbedderConfig.model_validate(base.model_dump() | given)
        except ValidationError as error:
            raise ConfigError(toml_files.explain(error)) from None
        if url:
            allow_named(Config(embedder=settings), {"embedder.endpoint.url"})
        return settings


_Flags = Annotated[EmbedderFlags, tyro.conf.arg(name="")]


def calibrate_gates(
    embedder: _Flags = EmbedderFlags(),
    env: str | None = None,
    data: Path | None = None,
    split: str = "train",
    tasks: int = 480,
    config: str = "laptop",
) -> Output:
    """Measure an embedder's similarity gates: the thresholds that best separate related keys from unrelated ones.

    Task keys are related if the tasks are about the same object, step keys if they are also in the same room. The best
    gate has the highest balanced accuracy.

    Args:
        embedder: The embedder.
        env: Kind of environment, as in training.
        data: Folder with its data.
        split: Split that the tasks are drawn from.
        tasks: Number of tasks, at most.
        config: Preset or TOML file with the embedder and the environment, such as config.toml of a run.
    """
    chosen = make_embedder(embedder.settings(config))
    update = {name: value for name, value in (("kind", env), ("data", data)) if value is not None}
    environment = make_environment(toml_files.load(config).env.model_copy(update=update))
    found = measure_gates(chosen, environment, split, tasks)

    def show() -> None:
        say(f"{found.embedder}, {counted(found.tasks, 'task')}:")
        for granularity in found.calibrations:
            _print(granularity, found)
        gates = [f"{name}_gate = {calibration.gate}" for name, calibration in found.calibrations.items()]
        say("", "For a TOML file:", "", "[embedder]", *gates)

    return Output(found.record(), show)


def _print(granularity: Granularity, found: GateMeasurement) -> None:
    """Prints the gates of one granularity, and a table of the similarities of pairs."""
    calibration, in_use = found.calibrations[granularity], found.in_use[granularity]
    gate, best = calibration.gate, calibration.accuracy_at(calibration.gate)
    sentence = f"{granularity} keys: the best gate is {gate}, with a balanced accuracy of {best:.1%}"
    if in_use is not None and in_use != gate:
        sentence += f"; the one in use, {in_use:g}, has {calibration.accuracy_at(in_use):.1%}"
    say("", f"{sentence}.")
    columns = [f"pairs with {granularity} keys of", "pairs", "10 %", "median", "90 %", "at or above"]
    table = table_of(columns, left=columns[:1])
    for name, row in calibration.pairs(gate).items():
        label = f"{name} (related)" if name in calibration.related else name
        quantiles = [f"{value:.2f}" for value in row["p10_p50_p90"]]
        table.add_row(label, f"{row['pairs']:,}", *quantiles, f"{row['share_above_gate']:.1%}")
    print_table(table)


def bank_reembed(
    run: Positional[Path],
    out: Positional[Path],
    embedder: _Flags = EmbedderFlags(),
    config: str = "laptop",
) -> Output:
    """Make a bank that belongs to another embedder, with all skills and the whole history; the old one stays.

    Embeds the active skills once, and prints the change in their nearest neighbours.

    Args:
        run: Run folder, or a journal.
        out: New journal, such as bank.db.
        embedder: The embedder that the new bank is for.
        config: Preset or TOML file with that embedder, such as config.toml of a run.
    """
    journal = open_journal(run)
    if os.path.lexists(out):
        raise BankError(f"{out} exists: choose another name, or remove it first")
    if not out.absolute().parent.is_dir():
        raise BankError(f"{out}: the folder {out.parent} does not exist")
    new = make_embedder(embedder.settings(config))
    old, why = _old_embedder(run, journal.embedder)
    events, neighbourhoods = reembed_bank(journal, out, new, old)

    def show() -> None:
        written = f"{counted(events, 'event')} written to {out}"
        say(f"{written}, for embedder {new.fingerprint}; {journal.path} stays as it is.")
        for granularity, found in neighbourhoods.items():
            sentence = f"{granularity} skills: {found.skills}, on average {found.similarity:.2f} similar to the nearest"
            if found.kept is not None:
                sentence += f" ({found.similarity_before:.2f} before), which is the same one for {found.kept:.0%}"
            say(f"{sentence}.")
        if why:
            say(why)

    return Output({"out": out, "embedder": new.fingerprint, "events": events, "neighbours": neighbourhoods}, show)


def _old_embedder(run: Path, fingerprint: str) -> tuple[Embedder | None, str]:
    """Returns the embedder that a bank was made with; None and the reason if it cannot be had."""
    try:
        embedder = make_embedder(settings_of(run).embedder)
    except D2SkillError as error:
        return None, f"The old neighbourhoods are unknown: {error}."
    if embedder.fingerprint != fingerprint:
        return None, f"The old neighbourhoods are unknown: no settings beside {run} are of {fingerprint}."
    return embedder, ""
