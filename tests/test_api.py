"""Training from Python: the same run as from the shell, as fast, with trackers of one's own."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SMALL
from threadpoolctl import threadpool_info
from toys import tiny_config

from d2skill import api
from d2skill.cli.main import main
from d2skill.config import Config
from d2skill.config.cli_flags import parse_settings
from d2skill.errors import ConfigError, RunError


class Watching:
    """A tracker that notes how the process is set up while it is told metrics."""

    def __init__(self):
        self.events, self.thresholds, self.threads = [], [], []

    def __enter__(self):
        self.events.append("entered")
        return self

    def __exit__(self, *_):
        self.events.append("left")

    def log(self, metrics):
        self.events.append(metrics["iteration"])
        self.thresholds.append(gc.get_threshold())
        self.threads.append({one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"})


def metrics_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]


def test_a_run_from_python_is_the_run_from_the_shell(tmp_path):
    words = [*SMALL, "--train.iterations", "3", "--seed", "5"]
    main(["train", *words, "--out", str(tmp_path / "shell")])
    run = api.train(parse_settings([*words, "--out", str(tmp_path / "python")], "test"))
    assert run.folder == tmp_path / "python"
    assert metrics_of(run.folder) == metrics_of(tmp_path / "shell")
    assert run.summary["iterations"] == 3 and run.summary == json.loads((run.folder / "summary.json").read_text())
    assert len(run.bank) == run.summary["bank"]["task"] + run.summary["bank"]["step"]


def test_the_trainer_itself_makes_a_run_fast_and_leaves_the_process_as_it_was(tmp_path):
    before, watching = gc.get_threshold(), Watching()
    api.train(tiny_config(out=tmp_path / "run", train={"iterations": 2}), trackers=[watching])
    assert set(watching.thresholds) == {(100_000, 50, 100)} and gc.get_threshold() == before
    assert all(threads <= {1} for threads in watching.threads)


def test_trackers_are_entered_told_and_left_also_when_training_fails(tmp_path):
    watching = Watching()
    api.train(tiny_config(out=tmp_path / "run", train={"iterations": 2}), trackers=[watching])
    assert watching.events == ["entered", 0, 1, 2, "left"]

    class Failing(Watching):
        def log(self, metrics):
            super().log(metrics)
            raise ValueError("no room")

    failing = Failing()
    with pytest.raises(ValueError, match="no room"):
        api.train(tiny_config(out=tmp_path / "other", train={"iterations": 2}), trackers=[failing])
    assert failing.events == ["entered", 0, "left"] and not (tmp_path / "other").exists()


def test_resuming_goes_on_and_a_run_that_has_ended_is_only_read(tmp_path):
    folder = tmp_path / "run"
    retrieval = {"k_task": 1, "k_step": 1, "gate": -1.0}
    whole = api.train(
        tiny_config(out=tmp_path / "whole", train={"iterations": 4, "checkpoint_every": 2}, retrieval=retrieval)
    )
    api.train(tiny_config(out=folder, train={"iterations": 2, "checkpoint_every": 2}, retrieval=retrieval))
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace("iterations = 2\n", "iterations = 4\n"))
    (folder / "summary.json").unlink()
    watching = Watching()
    run = api.resume(folder, trackers=[watching])
    assert watching.events == ["entered", 3, 4, "left"]
    assert metrics_of(folder) == metrics_of(whole.folder)
    assert [skill.id for skill in run.bank.skills()] == [skill.id for skill in whole.bank.skills()]
    again = Watching()
    ended = api.resume(str(folder), trackers=[again])
    assert ended.summary == run.summary and again.events == []
    (shown,) = ended.bank.retrieve_step([("anything", "at all")])
    assert len(shown) == 1 and [shown] == run.bank.retrieve_step([("anything", "at all")]), "by the run's settings"


def test_the_laptop_run_needs_neither_fcntl_nor_resource(tmp_path):
    """Windows has neither: a run trains, is evaluated and listed with both blocked."""
    code = (
        "import psutil, sys  # psutil first: on Linux it has resource inside, on Windows it does without\n"
        "sys.modules['fcntl'] = sys.modules['resource'] = None\n"
        "from d2skill.cli.main import main\n"
        "main(['train', *sys.argv[2:], '--out', sys.argv[1]])\n"
        "main(['evaluate', sys.argv[1]]); main(['bank', 'list', sys.argv[1]])\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "run"), *SMALL, "--train.iterations", "2"]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["iterations"] == 2 and summary["peak_memory_mb"] > 10


def test_mistakes_are_sentences(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep me")
    with pytest.raises(RunError, match="exists and is not empty: choose another --out"):
        api.train(tiny_config(out=tmp_path / "run"))
    with pytest.raises(RunError, match="is not a run folder"):
        api.resume(Path(tmp_path))
    with pytest.raises(ConfigError, match="nothing:Here"):
        api.train(tiny_config(out=tmp_path / "other", env={"kind": "nothing:Here"}))


def test_two_runs_that_begin_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        folders.append(api.new_folder(Config()))
        folders[-1].mkdir(parents=True)
    assert len({*folders}) == 3
