"""The files that verl reads: which task is played when, and what plays it. Prompts are made while playing, not here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from d2skill.config import Config
from d2skill.errors import ConfigError
from d2skill.evaluation import arms_of
from d2skill.runs.tasks import RunTasks, sample_tasks
from d2skill.types import Arm
from d2skill.utils.atomic_files import write_bytes, write_text
from d2skill.utils.rng import derive

LOOP = "d2skill.verl.agent_loop.SkillLoop"
SOURCES: dict[Arm, str] = {"skills": "with_skills", "none": "without_skills"}
"""What verl's metrics call the arms of validation."""

Row = dict[str, Any]


def write_data(config: Config, tasks: RunTasks, run: Path) -> None:
    """Writes train.parquet, validation.parquet and agent.yaml into verl/ of a run; needs pyarrow, which verl brings.

    Raises `ConfigError` when there are fewer training tasks than an iteration plays.
    """
    folder = run.absolute() / "verl"
    rows = {"train": training_rows(config, tasks), "validation": validation_rows(config, tasks)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in rows.items():
        write_bytes(folder / f"{name}.parquet", _parquet(table))
    write_text(folder / "agent.yaml", agent_loops(run))


def training_rows(config: Config, tasks: RunTasks) -> list[Row]:
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
        _row(iteration * count + place, "train", task, arm="", iteration=iteration)
        for iteration in range(config.train.iterations)
        for place, task in enumerate(sample_tasks(ids, count, derive(config.seed, "iteration", iteration)))
    ]


def validation_rows(config: Config, tasks: RunTasks) -> list[Row]:
    """Returns the panel, once for each arm that the run is validated in."""
    panel = tasks.validation.task_ids
    return [
        _row(number * len(panel) + place, SOURCES[arm], task, arm=arm, iteration=0)
        for number, arm in enumerate(arms_of(config.rollout.with_skills))
        for place, task in enumerate(panel)
    ]


def agent_loops(run: Path) -> str:
    """Returns the YAML that tells verl's workers what plays episodes."""
    # Strings of JSON are strings of YAML, whatever is in them.
    return f"- name: d2skill\n  _target_: {LOOP}\n  run: {json.dumps(str(run.absolute()), ensure_ascii=False)}\n"


def _row(index: int, source: str, task: str, *, arm: str, iteration: int) -> Row:
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": task}],
        "agent_name": "d2skill",
        "reward_model": {"style": "rule", "ground_truth": ""},
        "extra_info": {"index": index, "task": task, "arm": arm, "iteration": iteration},
    }


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return file.getvalue()
