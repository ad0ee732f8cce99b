import json

import pytest
from toys import TreasureEnvironment, tiny_config

from d2skill.errors import ConfigError, RunError
from d2skill.runs.tasks import RunTasks, select_panel


class Listed:
    """An environment of which only the ids matter."""

    def __init__(self, ids) -> None:
        self.ids = ids

    def task_ids(self, split):
        return self.ids

    def start(self, task_id):
        raise AssertionError("a panel is selected without playing")


def test_the_same_panel_whatever_the_order_of_the_split():
    ids = [f"valid/{n:03d}" for n in range(300)]
    panel = select_panel(Listed(ids), "valid", 20)
    assert panel == sorted(panel) == select_panel(Listed(ids[::-1]), "valid", 20)
    assert len(set(panel)) == 20


def test_a_panel_is_no_mere_beginning_of_the_split_and_grows_by_adding():
    ids = [f"valid/{n:03d}" for n in range(300)]
    small, large = select_panel(Listed(ids), "valid", 20), select_panel(Listed(ids), "valid", 40)
    assert set(small) < set(large)
    assert small != ids[:20]


def test_a_small_split_is_taken_whole():
    assert select_panel(TreasureEnvironment(), "valid_unseen", 100) == [f"valid_unseen/{n:03d}" for n in range(8)]


def test_an_empty_split_is_told_in_words():
    with pytest.raises(ConfigError, match=r'split "valid" has no tasks.*validation-split'):
        select_panel(Listed([]), "valid", 5)


def listing(path, training=("train/001", "train/002"), panel=("valid_seen/000",)):
    record = {"training": {"split": "train", "task_ids": training}}
    record["validation"] = {"split": "valid_seen", "task_ids": panel}
    path.write_text(json.dumps(record))
    return path


def choose(path=None, **env):
    config = tiny_config()
    env = config.env.model_copy(update={"tasks": path, **env})
    return RunTasks.choose(TreasureEnvironment(), config.model_copy(update={"env": env}))


def test_training_has_what_the_panel_leaves():
    tasks = choose(validation_split="train")
    every = set(TreasureEnvironment().task_ids("train"))
    assert set(tasks.training.task_ids) == every - set(tasks.validation.task_ids) != every


def test_what_one_run_took_another_can_take(tmp_path):
    tasks = choose()
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks.record()))
    assert RunTasks.read(path) == tasks == choose(path)


def test_listed_tasks_are_taken_as_they_are(tmp_path):
    tasks = choose(listing(tmp_path / "tasks.json"))
    assert tasks.training.task_ids == ("train/001", "train/002")
    assert tasks.validation.task_ids == ("valid_seen/000",)


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"training": ["train/001", "train/999"]}, r'lists 1 tasks that split "train" does not have, first train/999'),
        ({"panel": []}, r"validation\.task_ids.*tasks\.json of a run"),
        ({"panel": "valid_seen/000"}, r"validation\.task_ids.*tasks\.json of a run"),
    ],
)
def test_lists_that_do_not_fit_are_told_in_words(tmp_path, lists, said):
    with pytest.raises(ConfigError, match=said):
        choose(listing(tmp_path / "tasks.json", **lists))


def test_a_task_in_both_lists(tmp_path):
    path = tmp_path / "tasks.json"
    both = {"split": "train", "task_ids": ["train/001"]}
    path.write_text(json.dumps({"training": both, "validation": both}))
    with pytest.raises(ConfigError, match="train/001 for training and for validation"):
        choose(path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"training": 3}'])
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "tasks.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"it should look like tasks\.json of a run"):
        RunTasks.read(path)


def test_a_file_that_is_missing_or_no_json(tmp_path):
    with pytest.raises(RunError, match="is missing"):
        RunTasks.read(tmp_path / "tasks.json")
    (tmp_path / "tasks.json").write_text("{")
    with pytest.raises(RunError, match="is not valid JSON"):
        RunTasks.read(tmp_path / "tasks.json")
