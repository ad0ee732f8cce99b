"""A run that is killed and resumed ends as one that was left alone; the same seed twice gives the same run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import SMALL

from d2skill.bank.journal import Journal
from d2skill.cli.bank.open import read

FLAGS = [*SMALL, "--train.iterations", "24", "--bank.step-capacity", "4", "--bank.protect", "1"]


def command(*arguments):
    return [sys.executable, "-m", "d2skill", *map(str, arguments)]


def lines(run):
    """The metrics of a run without its times."""
    loaded = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in loaded]


def weights(run):
    with np.load(run / "checkpoints" / "000024" / "policy" / "scorer.npz") as archive:
        return {name: archive[name] for name in archive.files}


def rollouts(run):
    return {path.name: path.read_bytes() for path in (run / "rollouts").iterdir()}


def assert_same(first: Path, second: Path):
    assert lines(first) == lines(second)
    assert read(first) == read(second)
    assert Journal(first / "bank.db").verify() is None and Journal(second / "bank.db").verify() is None
    assert rollouts(first) == rollouts(second)
    left, right = weights(first), weights(second)
    assert left.keys() == right.keys()
    assert all(np.array_equal(left[name], right[name]) for name in left)
    summaries = [json.loads((run / "summary.json").read_text()) for run in (first, second)]
    for summary in summaries:
        del summary["wall_seconds"], summary["peak_memory_mb"]
    assert summaries[0] == summaries[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was left alone."""
    run = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(command("train", *FLAGS, "--out", run), check=True, capture_output=True)
    return run


def test_every_iteration_is_kept(whole):
    assert sorted(rollouts(whole)) == [f"{iteration:06d}.jsonl.gz" for iteration in range(24)]


def test_the_same_seed_gives_the_same_run(whole, tmp_path):
    subprocess.run(command("train", *FLAGS, "--out", tmp_path / "run"), check=True, capture_output=True)
    assert_same(whole, tmp_path / "run")


def test_another_seed_gives_another_run(whole, tmp_path):
    other = command("train", *FLAGS, "--seed", 1, "--out", tmp_path / "run")
    subprocess.run(other, check=True, capture_output=True)
    assert lines(whole) != lines(tmp_path / "run")


@pytest.mark.parametrize("kills", [1, 3])
def test_a_killed_run_ends_as_if_it_had_not_been(kills, whole, tmp_path):
    run = tmp_path / "run"
    start(command("train", *FLAGS, "--out", run), run, after=1)
    for more in range(1, kills):
        start(command("resume", run), run, after=1 + 2 * more)
    assert not (run / "summary.json").exists()
    for left_over in ("000099.jsonl.gz", ".000023.jsonl.gz.part"):
        (run / "rollouts" / left_over).write_bytes(b"of another life")
    subprocess.run(command("resume", run), check=True, capture_output=True)
    assert_same(whole, run)


def start(arguments, run, after):
    """Starts a command and kills it as soon as the run has passed an iteration and has a checkpoint."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(process.stderr.read().decode())
        ready = list((run / "checkpoints").glob("[0-9]*")) if run.exists() else []
        if ready and metrics.read_text().count("\n") > after + 1:
            break
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
