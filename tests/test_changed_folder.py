"""A run, a bank and a tracker that were opened by a relative path keep writing there when it goes elsewhere."""

import pytest
from toys import tiny_config

import d2skill
from d2skill import Draft, SkillBank, SkillText
from d2skill.trainer import Trainer


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to go to, beside the current one."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "elsewhere"


def test_a_bank_stays_where_it_is(elsewhere, monkeypatch):
    draft = Draft("task", SkillText("Look first", "Open each drawer.", "a thing is sought"), "find the key")
    with SkillBank.open("bank.db", create=True) as bank:
        monkeypatch.chdir(elsewhere)
        bank.insert(draft)
        bank.snapshot()
        assert bank.path == elsewhere.parent / "here" / "bank.db"
    assert len(SkillBank.open("../here/bank.db")) == 1 and not any(elsewhere.iterdir())


def test_a_run_and_its_trackers_stay_where_they_are(elsewhere, monkeypatch):
    config = tiny_config(out="run", track=["d2skill.testing:TinyTracker"])
    run = d2skill.train(config, callbacks=[lambda *_: monkeypatch.chdir(elsewhere)])
    assert not any(elsewhere.iterdir())
    assert run.summary["iterations"] == run.metrics[-1]["iteration"] == config.train.iterations
    assert (run.folder / "trackers.json").exists() and run.folder == elsewhere.parent / "here" / "run"
    assert len(d2skill.evaluate(run, arms=["none"], tasks=2)["outcomes"]) == 2


def test_a_run_that_is_resumed_stays_where_it_is(elsewhere, monkeypatch):
    config = tiny_config(out="run", train={"iterations": 4})
    with Trainer(config, "run") as trainer:
        trainer.step()
        monkeypatch.chdir(elsewhere)
    monkeypatch.chdir(elsewhere.parent / "here")
    run = d2skill.resume("run", callbacks=[lambda *_: monkeypatch.chdir(elsewhere)])
    assert [line["iteration"] for line in run.metrics] == [0, 1, 2, 3, 4] and not any(elsewhere.iterdir())
