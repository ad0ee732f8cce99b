import pytest

from d2skill.config import toml_files
from d2skill.runs.folder import RunFolder


@pytest.fixture
def finished(tmp_path):
    """The metrics of a run of two iterations."""
    run = RunFolder.create(tmp_path / "run")
    run.begin(toml_files.load("laptop"), {})
    run.append_metrics({"iteration": 0, "warm_start/demonstrations": 50, "time/warm_start": 3.0, "time/validate": 2.0})
    for number in (1, 2):
        halves = {"rollout/skill_half_steps": 8.0, "rollout/baseline_half_steps": 12.0}
        run.append_metrics({"iteration": number, **halves, "time/rollout": 1.5, "time/update": 0.5})
    return run
