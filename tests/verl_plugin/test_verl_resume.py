"""What `resume` does before it needs verl."""

import pytest
from toys import tiny_config

from d2skill.cli.main import main
from d2skill.errors import ConfigError
from d2skill.runs import checkpoint
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.utils.atomic_files import write_json
from d2skill.verl import checks, launch


class Weights:
    def save(self, folder):
        (folder / "weights").touch()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run through verl with a checkpoint, on a machine without verl."""
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    monkeypatch.setattr(checks, "version", lambda name: "0.1")
    folder = RunFolder.create(tmp_path / "run")
    folder.begin(tiny_config(engine="verl"), {})
    checkpoint.save(folder.path, Progress(3, 40, 1.0), Weights())
    return folder


def test_a_run_that_has_ended_is_read_without_verl(run):
    write_json(run.summary, {"iterations": 3, "env_steps": 40})
    assert launch.resume(run.path) == {"iterations": 3, "env_steps": 40}


def test_one_that_has_not_needs_it_and_nothing_is_lost(run, capsys):
    write_json(run.summary, {"iterations": 2})  # of an earlier, shorter run
    with pytest.raises(ConfigError, match=r"needs verl 0\.9"):
        launch.resume(run.path)
    with pytest.raises(SystemExit):
        main(["resume", str(run.path)])
    assert "needs verl 0.9" in capsys.readouterr().err
    assert checkpoint.latest(run.path).name == "000003"
