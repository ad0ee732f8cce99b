import subprocess
import sys
from collections import Counter

import pytest
import yaml
from toys import TreasureEnvironment, tiny_config

from d2skill.components import Components
from d2skill.errors import ConfigError
from d2skill.rollout import Rollouts
from d2skill.runs.tasks import RunTasks
from d2skill.trainer import Trainer
from d2skill.verl.data import AGENT_LOOP, training_rows, validation_rows, write_agent_loop, write_data


def made(**sections):
    config = tiny_config(seed=5, **sections)
    return config, RunTasks.choose(TreasureEnvironment(), config)


class Watched(Rollouts):
    """Rollouts that note the tasks they are asked to play in training."""

    def __init__(self, parts: Components, config) -> None:
        super().__init__(parts.environment, parts.policy, parts.bank, config.prompt, config.env.max_steps)
        self.asked: list[str] = []

    def groups(self, tasks, **how):
        self.asked += tasks
        return super().groups(tasks, **how)


def test_training_tasks_stand_in_the_order_in_which_the_local_engine_plays_them(tmp_path):
    config, tasks = made()
    parts = Components.make(config)
    watched = Watched(parts, config)
    Trainer(config, tmp_path / "run", parts, rollouts=watched).start()
    rows = training_rows(config, tasks)
    assert [row["extra_info"]["task"] for row in rows] == watched.asked
    assert len(rows) == config.train.iterations * config.rollout.tasks
    assert [row["extra_info"]["iteration"] for row in rows] == [n // 4 for n in range(12)]
    assert [row["extra_info"]["index"] for row in rows] == list(range(12))


def test_a_training_row_says_what_verl_asks_for():
    row = training_rows(*made())[0]
    task = row["extra_info"].pop("task")
    assert row == {
        "data_source": "train",
        "prompt": [{"role": "user", "content": task}],
        "agent_name": "d2skill",
        "reward_model": {"style": "rule", "ground_truth": ""},
        "extra_info": {"index": 0, "arm": "", "iteration": 0},
    }


def test_the_panel_is_played_once_in_each_arm():
    config, tasks = made()
    rows = validation_rows(config, tasks)
    panel = list(tasks.validation.task_ids)
    assert [row["extra_info"]["task"] for row in rows] == panel * 2
    assert Counter((row["data_source"], row["extra_info"]["arm"]) for row in rows) == {
        ("with_skills", "skills"): len(panel),
        ("without_skills", "none"): len(panel),
    }
    assert len({row["extra_info"]["index"] for row in rows}) == len(rows)


def test_a_run_without_skills_is_validated_without_them():
    config, tasks = made(rollout={"with_skills": 0})
    assert {row["data_source"] for row in validation_rows(config, tasks)} == {"without_skills"}


def test_fewer_tasks_than_a_batch_are_told_in_words():
    config, tasks = made(rollout={"tasks": 500})
    count = len(tasks.training.task_ids)
    with pytest.raises(ConfigError, match=rf"rollout\.tasks is 500.* {count} tasks to train on.* to {count}"):
        training_rows(config, tasks)


@pytest.mark.parametrize("name", ["plain", 'with "quotes"', "with: colon # and hash", "with\\backslash", "été"])
def test_the_agent_loop_reads_back_the_run_folder(name, tmp_path):
    run = tmp_path / name
    (run / "verl").mkdir(parents=True)
    write_agent_loop(run)
    (entry,) = yaml.safe_load((run / "verl" / "agent.yaml").read_text("utf-8"))
    assert entry == {"name": "d2skill", "_target_": AGENT_LOOP, "run": str(run)}


def test_the_agent_loop_is_named_by_where_it_is():
    agent_loop = pytest.importorskip("d2skill.verl.agent_loop", exc_type=ImportError)
    kind = agent_loop.SkillAgentLoop
    assert f"{kind.__module__}.{kind.__qualname__}" == AGENT_LOOP


def test_files_read_back(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    config, tasks = made()
    write_data(config, tasks, tmp_path)
    assert parquet.read_table(tmp_path / "verl/train.parquet").to_pylist() == training_rows(config, tasks)
    assert parquet.read_table(tmp_path / "verl/validation.parquet").to_pylist() == validation_rows(config, tasks)
    assert str(tmp_path) in (tmp_path / "verl/agent.yaml").read_text()
    assert sorted(path.name for path in (tmp_path / "verl").iterdir()) == [
        "agent.yaml",
        "train.parquet",
        "validation.parquet",
    ]


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    config, tasks = made(rollout={"tasks": 500})
    with pytest.raises(ConfigError):
        write_data(config, tasks, tmp_path)
    assert not list(tmp_path.iterdir())


def test_settings_data_and_checks_are_imported_without_verl_ray_or_torch():
    code = "import sys; from d2skill.verl import checks, data, overrides; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "d2skill.verl.overrides" in loaded
    assert not {"verl", "ray", "torch", "pandas", "pyarrow", "hydra", "omegaconf", "transformers"} & set(loaded)
