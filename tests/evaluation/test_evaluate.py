"""Evaluation from Python: plain data, the same as what the run's validation measured."""

import json

import pytest
from toys import tiny_config

from d2skill.components import Components
from d2skill.errors import ConfigError
from d2skill.evaluation.evaluate import evaluate
from d2skill.trainer import Trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    config = tiny_config(train={"iterations": 1}).resolved()
    summary = Trainer(config, folder, Components.make(config)).start()
    return folder, summary["validation"]


def test_the_panel_is_played_as_in_validation(run):
    folder, validation = run
    progress = []
    result = evaluate(folder, arms=["bank", "none"], on_progress=lambda done, total: progress.append((done, total)))
    for arm, half in (("bank", "with_skills"), ("none", "without_skills")):
        figures = result["arms"][arm]
        assert {name: figures[name] for name in validation[half]} == validation[half]
    count = len(result["outcomes"])
    assert progress[0] == (0, count) and progress[-1] == (count, count)
    assert json.loads(json.dumps(result)) == result


def test_tasks_seeds_and_a_file_of_trajectories_can_be_chosen(run, tmp_path):
    folder, _ = run
    path = tmp_path / "played.jsonl"
    result = evaluate(folder, arms=["none"], tasks=2, seeds=3, seed=5, trajectories=path)
    assert (result["tasks"], result["seeds"], list(result["arms"])) == (2, [5, 6, 7], ["none"])
    assert len(path.read_text().splitlines()) == len(result["outcomes"]) == 6


def test_mistakes_are_config_errors(run):
    with pytest.raises(ConfigError, match='no arm "luck"'):
        evaluate(run[0], arms=["luck"])
    with pytest.raises(ConfigError, match="--seeds is 0"):
        evaluate(run[0], seeds=0)
