"""Resuming a run through verl: what is done before verl is needed, and runs of older versions."""

import pytest
from toys import tiny_config

from d2skill.bank import SkillBank
from d2skill.cli.main import main
from d2skill.embedders import make_embedder
from d2skill.errors import ConfigError
from d2skill.runs import checkpoint
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.utils.atomic_files import write_json
from d2skill.verl import checks, launch
from d2skill.verl.data import AGENT_LOOP


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


def test_a_run_of_an_older_version_finds_the_agent_loop(run, monkeypatch):
    bank = SkillBank(make_embedder(run.config().embedder))
    bank.record(run.bank)
    bank.close()
    file = run.path / "verl" / "agent.yaml"
    file.parent.mkdir()
    file.write_text(f"- name: d2skill\n  _target_: d2skill.engines.verl.loop.SkillLoop\n  run: {run.path}\n")
    monkeypatch.setattr(launch, "require_verl", lambda: None)
    monkeypatch.setattr(launch, "_train", lambda config, folder, done: {"loop": file.read_text(), "done": done})
    result = launch.resume(run.path)
    assert f"_target_: {AGENT_LOOP}\n" in result["loop"] and result["done"] == 3
