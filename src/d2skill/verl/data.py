"""Data files that verl reads: the tasks in the order in which they are played, and the agent loop that plays them.

Prompts are not in them: they are made while an episode is played.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from d2skill.config import Config
from d2skill.errors import ConfigError
from d2skill.evaluation import validation_arms
from d2skill.runs.tasks import RunTasks, sample_tasks
from d2skill.types import Arm
from d2skill.utils.atomic_files import write_bytes, write_text
from d2skill.utils.rng import derive

AGENT_LOOP = "d2skill.verl.agent_loop.SkillAgentLoop"
SOURCES: dict[Arm, str] = {"skills": "with_skills", "none": "without_skills"}
"""Names of the arms of validation in verl's metrics."""

DataRow = dict[str, Any]
"""A row of a data file: a task to play, in the columns that verl wants."""


def write_data(config: Config, tasks: RunTasks, run: Path) -> None:
    """Writes train.parquet, validation.parquet and agent.yaml into verl/ of a run; needs pyarrow, which verl brings.

    Raises `ConfigError` when there are fewer training tasks than an iteration plays.
    """
    folder = run.absolute() / "verl"
    tables = {"train": training_rows(config, tasks), "validation": validation_rows(config, tasks)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        write_bytes(folder / f"{name}.parquet", _parquet(rows))
    write_agent_loop(run)


def write_agent_loop(run: Path) -> None:
    """Writes agent.yaml, which names the agent loop and its run folder, into verl/ of a run."""
    # strings of JSON are strings of YAML, whatever is in them
    folder = json.dumps(str(run.absolute()), ensure_ascii=False)
    write_text(run / "verl" / "agent.yaml", f"- name: d2skill\n  _target_: {AGENT_LOOP}\n  run: {folder}\n")


def training_rows(config: Config, tasks: RunTasks) -> list[DataRow]:
    """Returns the tasks of all iterations one after another, as the local engine draws them; verl reads them in order.

    Raises `ConfigError` when there are fewer tasks than an iteration plays: verl's batches are of one size.
    """
    ids, count = tasks.training.task_ids, config.rollout.tasks
    if len(ids) < count:
        raise ConfigError(
            f"rollout.tasks is {count}, and there are {len(ids)} tasks to train on, while verl takes batches of one "
            f"size: lower rollout.tasks to {len(ids)}"
        )
    return [
        _row("train", iteration * count + place, task, iteration=iteration)
        for iteration in range(config.train.iterations)
        for place, task in enumerate(sample_tasks(ids, count, derive(config.seed, "iteration", iteration)))
    ]


def validation_rows(config: Config, tasks: RunTasks) -> list[DataRow]:
    """Returns the panel, once for each arm that the run is validated in."""
    panel = tasks.validation.task_ids
    return [
        _row(SOURCES[arm], number * len(panel) + place, task, arm=arm)
        for number, arm in enumerate(validation_arms(config.rollout.with_skills))
        for place, task in enumerate(panel)
    ]


def _row(source: str, index: int, task: str, *, arm: str = "", iteration: int = 0) -> DataRow:
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": task}],
        "agent_name": "d2skill",
        "reward_model": {"style": "rule", "ground_truth": ""},
        "extra_info": {"index": index, "task": task, "arm": arm, "iteration": iteration},
    }


def _parquet(rows: Sequence[DataRow]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return file.getvalue()
