from pathlib import Path

import pytest
from toys import tiny_config

from d2skill.errors import RunError
from d2skill.runs.folder import RunFolder
from d2skill.utils.atomic_files import read_json

LINES = [{"iteration": i, "rollout/skill_half_success": i / 4} for i in range(4)]
TASKS = {"validation": {"split": "valid_seen", "task_ids": ["valid_seen/003", "valid_seen/001"]}}


@pytest.fixture
def run(tmp_path) -> RunFolder:
    made = RunFolder.create(tmp_path / "runs" / "one")
    made.begin(tiny_config(), TASKS)
    for line in LINES:
        made.append_metrics(line)
    return made


def test_settings_and_tasks_are_kept(run):
    opened = RunFolder.open(run.path)
    assert opened.config() == tiny_config()
    assert read_json(opened.tasks) == TASKS


def test_an_empty_folder_can_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(tmp_path / "empty").path == tmp_path / "empty"


def test_what_is_in_the_way_stays_there(run, tmp_path):
    with pytest.raises(RunError, match=r"is not empty: choose another --out$"):
        RunFolder.create(run.path)
    (run.path / "checkpoints" / "000002").mkdir(parents=True)
    with pytest.raises(RunError, match=r"is not empty: choose another --out, or go on with it by `d2skill resume"):
        RunFolder.create(run.path)
    assert run.read_metrics() == LINES
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(RunError, match="choose another --out"):
        RunFolder.create(file)
    assert file.read_text() == "mine"


def test_a_folder_that_is_no_run_is_told_in_words(tmp_path):
    for path in (tmp_path, tmp_path / "missing", Path("/dev/null")):
        with pytest.raises(RunError, match=r"is not a run folder: it has no config\.toml"):
            RunFolder.open(path)


def test_metrics_are_lines(run):
    assert run.read_metrics() == LINES
    assert run.metrics.read_text().count("\n") == 4


def test_no_metrics_yet(tmp_path):
    assert RunFolder.create(tmp_path / "one").read_metrics() == []


def test_a_line_that_a_kill_cut_short_is_left_out(run):
    with run.metrics.open("a") as file:
        file.write('{"iteration": 4, "rollo')
    assert run.read_metrics() == LINES


def test_going_on_from_a_checkpoint_cuts_what_came_after(run):
    with run.metrics.open("a") as file:
        file.write('{"iteration": 4, "rollo')
    run.cut_metrics(2)
    assert run.read_metrics() == LINES[:3]
    run.append_metrics({"iteration": 3})
    assert run.read_metrics() == [*LINES[:3], {"iteration": 3}]


def keep(run, *iterations):
    run.rollouts.mkdir()
    for iteration in iterations:
        run.rollout(iteration).write_bytes(b"episodes")


def test_rollouts_are_found_by_iteration(run):
    assert run.kept_rollouts() == []
    keep(run, 12, 2, 1234567)
    for other in ("000003.jsonl", ".000004.jsonl.gz.part", "5.jsonl.gz", "notes.txt"):
        (run.rollouts / other).touch()
    assert run.kept_rollouts() == [2, 12, 1234567]
    assert run.rollout(12) == run.path / "rollouts" / "000012.jsonl.gz"


def test_going_on_from_a_checkpoint_removes_the_rollouts_that_came_after(run):
    run.cut_rollouts(0)
    keep(run, 0, 1, 2, 3, 10)
    for other in (".000003.jsonl.gz.part", "notes.txt", "9.txt"):
        (run.rollouts / other).touch()
    run.cut_rollouts(2)
    assert {path.name for path in run.rollouts.iterdir()} == {
        "000000.jsonl.gz",
        "000001.jsonl.gz",
        "notes.txt",
        "9.txt",
    }


def test_a_run_that_is_discarded_leaves_nothing_of_its_own(run):
    keep(run, 0, 1)
    (run.path / "mine").touch()
    run.discard()
    assert [path.name for path in run.path.iterdir()] == ["mine"]
    (run.path / "mine").unlink()
    run.discard()
    assert not run.path.exists()


def test_the_summary_is_json(run):
    run.write_summary({"validation": None})
    assert read_json(run.summary) == {"validation": None}
