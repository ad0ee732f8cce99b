import errno
import os
from dataclasses import asdict

import pytest
from toys import ScriptedPolicy, make_scorer, prompt, tiny_config

from d2skill.cli.bank.open import read
from d2skill.components import Components, restore
from d2skill.errors import RunError
from d2skill.runs import checkpoint
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.trainer import Trainer
from d2skill.utils.atomic_files import read_json, write_json


def save(run, iteration, policy=None, bank_event=0):
    progress = Progress(iteration, 100 * iteration, 1.5, bank_event)
    checkpoint.save(run, progress, policy or ScriptedPolicy(lambda p: ""))
    return progress


def test_a_checkpoint_holds_policy_and_progress(tmp_path):
    policy = make_scorer(buckets=1024)
    policy.imitate([(prompt(), "left")], 0)
    progress = save(tmp_path, 20, policy, bank_event=7)
    folder = checkpoint.latest(tmp_path)
    assert folder == tmp_path / "checkpoints" / "000020"
    assert checkpoint.read_progress(folder) == progress
    other = make_scorer(buckets=1024)
    other.load(folder / "policy")
    assert (other.distribution(prompt()) == policy.distribution(prompt())).all()


def test_the_newest_two_are_kept(tmp_path):
    for iteration in (0, 5, 10, 15):
        save(tmp_path, iteration)
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["000010", "000015"]
    assert checkpoint.latest(tmp_path).name == "000015"


def test_saving_the_same_iteration_again_replaces_it(tmp_path):
    save(tmp_path, 5)
    save(tmp_path, 5, bank_event=3)
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["000005"]
    assert checkpoint.read_progress(checkpoint.latest(tmp_path)).bank_event == 3


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    save(tmp_path, 5)

    class Broken(ScriptedPolicy):
        def save(self, folder):
            (folder / "half").touch()
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 10, Broken(lambda p: ""))
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["000005"]

    def fail(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 15)
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["000005"]


def test_what_a_kill_left_half_written_is_no_checkpoint(tmp_path):
    save(tmp_path, 5)
    (tmp_path / "checkpoints" / ".000010.part").mkdir()
    assert checkpoint.latest(tmp_path).name == "000005"


def test_no_checkpoint_is_told_in_words(tmp_path):
    with pytest.raises(RunError, match="has no checkpoint: it was stopped before the first one"):
        checkpoint.latest(tmp_path)


@pytest.mark.parametrize("version", [0, 1, 3, None, "2"])
def test_another_version_is_told_in_words(tmp_path, version):
    save(tmp_path, 5)
    folder = checkpoint.latest(tmp_path)
    write_json(folder / "progress.json", asdict(Progress(5, 500, 1.5)) | {"version": version})
    with pytest.raises(RunError, match=r"000005 has version .*this d2skill reads version 2"):
        checkpoint.read_progress(folder)


@pytest.mark.parametrize("content", [[], {"version": 2}, {"version": 2, "iteration": 5, "steps": 3, "seconds": 1.0}])
def test_a_progress_file_of_other_content_is_told_in_words(tmp_path, content):
    save(tmp_path, 5)
    folder = checkpoint.latest(tmp_path)
    write_json(folder / "progress.json", content)
    with pytest.raises(RunError, match="000005"):
        checkpoint.read_progress(folder)


class Kill:
    """A tracker that stops the run while it reports an iteration."""

    def __init__(self, at: int) -> None:
        self.at = at

    def log(self, metrics) -> None:
        if metrics["iteration"] == self.at:
            raise KeyboardInterrupt


def timeless(run):
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in RunFolder(run).read_metrics()]


def test_a_killed_run_goes_on_as_if_it_had_never_stopped(tmp_path):
    config = tiny_config(train={"iterations": 4, "checkpoint_every": 2}, bank={"step_capacity": 3, "protect": 1})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    straight = Components.make(config)
    summary = Trainer(config, whole, straight).start()
    with pytest.raises(KeyboardInterrupt):
        Trainer(config, cut, Components.make(config), [Kill(at=3)]).start()
    assert [line["iteration"] for line in RunFolder(cut).read_metrics()] == [0, 1, 2, 3]
    parts, progress = restore(RunFolder(cut).config(), checkpoint.latest(cut))
    assert progress.iteration == 2
    resumed = Trainer(config, cut, parts).resume(progress)
    assert resumed["validation"] == summary["validation"]
    assert resumed["env_steps"] == summary["env_steps"]
    assert timeless(cut) == timeless(whole)
    assert read(cut) == read(whole)
    assert parts.bank.skills(status=None) == straight.bank.skills(status=None)
    assert any(skill.evicted is not None for skill in straight.bank.skills(status=None))
    assert (parts.policy._weights == straight.policy._weights).all()
    assert read_json(cut / "summary.json")["validation"] == summary["validation"]
