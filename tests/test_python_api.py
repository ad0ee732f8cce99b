"""Training from Python: steps and callbacks, parts of one's own, a run to look at, settings for a program."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from test_api import metrics_of
from toys import NotingReflector, ScriptedPolicy, TreasureEnvironment, tiny_config

import d2skill
from d2skill.config import EmbedderConfig
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.errors import ConfigError, RunError
from d2skill.reflectors import ContrastReflector
from d2skill.runs import checkpoint
from d2skill.trainer import Trainer
from d2skill.types import Reflection, SkillText

NOTE = Reflection(0, task_skill=SkillText("Noted", "Open chest 3.", "always"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of six iterations, to compare with."""
    return d2skill.train(six(tmp_path_factory.mktemp("whole") / "run"))


def six(folder, **sections):
    train = {"iterations": 6, "checkpoint_every": 4}
    return tiny_config(out=folder, train=train, validation={"every": 2, "tasks": 8}, **sections)


# step by step


def test_stepping_is_the_same_as_training(tmp_path, whole):
    with Trainer(six(tmp_path / "run"), tmp_path / "run") as trainer:
        seen = []
        while not trainer.finished:
            seen.append(trainer.step())
    assert metrics_of(tmp_path / "run") == metrics_of(whole.folder)
    assert seen == whole_lines(tmp_path / "run")[1:] and trainer.summary == d2skill.Run(tmp_path / "run").summary
    with pytest.raises(RunError, match="is not training: call step in `with trainer:`"):
        trainer.step()


def whole_lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("error", [None, ValueError("mine"), KeyboardInterrupt()])
def test_leaving_between_two_steps_saves_a_checkpoint_to_go_on_from(tmp_path, whole, error):
    folder = tmp_path / "run"
    try:
        with Trainer(six(folder), folder) as trainer:
            trainer.step()
            if error:
                raise error
    except (ValueError, KeyboardInterrupt) as raised:
        assert raised is error
    assert checkpoint.read_progress(checkpoint.latest(folder)).iteration == 1 and not (folder / "summary.json").exists()
    assert d2skill.Run.open(folder).policy.count_tokens("two words") == 2
    run = d2skill.resume(folder)
    assert metrics_of(folder) == metrics_of(whole.folder) and run.summary["iterations"] == 6


def test_an_error_within_a_step_goes_back_to_the_last_checkpoint(tmp_path, whole):
    folder = tmp_path / "run"

    class Broken:
        def log(self, metrics):
            if metrics["iteration"] == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="go on by `d2skill resume"):
        d2skill.train(six(folder), trackers=[Broken()])
    assert checkpoint.read_progress(checkpoint.latest(folder)).iteration == 4
    d2skill.resume(folder)
    assert metrics_of(folder) == metrics_of(whole.folder)


# callbacks


def test_callbacks_see_each_iteration_and_may_add_metrics(tmp_path, whole):
    seen = []

    def note(trainer, metrics, groups):
        seen.append(
            (trainer.progress.iteration, metrics["iteration"], len(groups), "validation/with_skills" in metrics)
        )
        metrics["own/tasks"] = len(groups)

    run = d2skill.train(six(tmp_path / "run"), callbacks=[note])
    assert seen == [(n, n, 4, n % 2 == 0) for n in range(1, 7)]
    lines = metrics_of(run.folder)
    assert [line.pop("own/tasks", 0) for line in lines] == [0, *[4] * 6]
    assert lines == metrics_of(whole.folder)


def test_a_callback_ends_the_run_whole(tmp_path):
    config = six(tmp_path / "run")
    run = d2skill.train(config, callbacks=[lambda trainer, line, groups: line["iteration"] == 3 and trainer.stop()])
    *_, last = run.metrics
    assert last["iteration"] == 3 and run.summary["iterations"] == 3, "3 is no iteration with a validation of its own"
    assert last["validation/with_skills"] == run.summary["validation"]["with_skills"]["success"]
    assert checkpoint.read_progress(checkpoint.latest(run.folder)).iteration == 3
    assert d2skill.resume(run).summary == run.summary, "it has ended"


def test_an_error_of_a_callback_ends_the_run_and_loses_nothing(tmp_path, whole):
    folder = tmp_path / "run"

    def fail(trainer, line, groups):
        if line["iteration"] == 3:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        d2skill.train(six(folder), callbacks=[fail])
    assert [line["iteration"] for line in whole_lines(folder)] == [0, 1, 2, 3]
    assert checkpoint.read_progress(checkpoint.latest(folder)).iteration == 3
    iterations = []
    d2skill.resume(folder, callbacks=[lambda trainer, line, groups: iterations.append(line["iteration"])])
    assert metrics_of(folder) == metrics_of(whole.folder) and iterations == [4, 5, 6]


def test_metrics_of_callbacks_may_be_scalars_of_any_library(tmp_path):
    torch = pytest.importorskip("torch")
    own = {
        "own/scalar": np.float32(0.5),
        "own/whole": np.int64(3),
        "own/won": np.bool_(True),
        "own/array": np.array([[0.25]]),
        "own/tensor": torch.tensor(2.5),
        "own/several": [np.float64(1), {"a": torch.tensor([4])}],
    }
    told = []
    tracker = SimpleNamespace(log=lambda line: told.append(dict(line)))
    callbacks = [lambda trainer, line, groups: line.update(own)]
    run = d2skill.train(
        tiny_config(out=tmp_path / "run", train={"iterations": 1}), trackers=[tracker], callbacks=callbacks
    )
    plain = [0.5, 3, True, 0.25, 2.5, [1.0, {"a": 4}]]
    for line in (run.metrics[-1], told[-1]):
        assert [line[name] for name in own] == plain and type(line["own/scalar"]) is float


@pytest.mark.parametrize("value", [{1, 2}, np.zeros(3), object(), 1j])
def test_a_metric_that_cannot_be_written_is_a_sentence_and_loses_nothing(value, tmp_path, whole):
    folder = tmp_path / "run"

    def add(trainer, line, groups):
        if line["iteration"] == 3:
            line |= {"own/odd": value, "own/fine": 1}

    with pytest.raises(ConfigError, match=rf"metric 'own/odd' is a {type(value).__name__} .* JSON cannot hold"):
        d2skill.train(six(folder), callbacks=[add])
    assert whole_lines(folder)[-1]["own/fine"] == 1 and "own/odd" not in whole_lines(folder)[-1]
    assert checkpoint.read_progress(checkpoint.latest(folder)).iteration == 3
    d2skill.resume(folder)
    lines = metrics_of(folder)
    assert lines[3].pop("own/fine") and lines == metrics_of(whole.folder)


def test_metrics_are_json_and_none_is_lost(tmp_path):
    nan = float("nan")

    def clear(trainer, line, groups):
        line.clear()
        line |= {"own/nan": nan, "own/list": [1.0, -nan, np.float32("inf")], "own/array": np.array([nan])}

    run = d2skill.train(tiny_config(out=tmp_path / "run", train={"iterations": 1}), callbacks=[clear])
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    last = run.metrics[-1]
    assert (last["own/nan"], last["own/list"], last["own/array"]) == (None, [1.0, None, None], None)
    assert last["iteration"] == 1 and "iterations</th><td>1<" in run._repr_html_()


class FailsToEnter:
    def __enter__(self):
        raise ZeroDivisionError("no network")

    def __exit__(self, *_):
        raise AssertionError("it was not entered")

    def log(self, line):
        raise AssertionError("it was not entered")


def test_a_tracker_that_cannot_be_entered_leaves_no_folder(tmp_path):
    config, events = tiny_config(out=tmp_path / "run", track=["d2skill.testing:TinyTracker"]), []
    first = SimpleNamespace(log=events.append)
    with pytest.raises(ZeroDivisionError, match="no network"):
        d2skill.train(config, trackers=[first, FailsToEnter()])
    assert not any(tmp_path.iterdir()) and not events
    (tmp_path / "run").mkdir()
    d2skill.train(config)
    with pytest.raises(RunError, match="exists and is not empty"):
        d2skill.train(config, trackers=[FailsToEnter()])
    assert d2skill.Run.open(tmp_path / "run").summary, "what was there stays"


# parts of one's own


def test_own_parts_take_the_place_of_the_settings(tmp_path):
    reflector, config = NotingReflector(NOTE), tiny_config(out=tmp_path / "run", env={"kind": "houses", "max_steps": 4})
    own = {"environment": TreasureEnvironment(), "reflector": reflector, "embedder": HashedEmbedder(64)}
    run = d2skill.train(config, **own)
    assert reflector.asked and {skill.text.title for skill in run.bank.skills()} == {"Noted"}
    assert json.loads((run.folder / "parts.json").read_text()) == {
        "environment": "toys:TreasureEnvironment",
        "reflector": "toys:NotingReflector",
        "embedder": "d2skill.embedders.hashed:HashedEmbedder",
    }
    result = d2skill.evaluate(run, arms=["none", "bank"], tasks=8)
    assert result["arms"]["bank"]["success"] == run.summary["validation"]["with_skills"]["success"]
    opened = d2skill.Run.open(run.folder)
    for use in (lambda: opened.bank, lambda: opened.policy, lambda: d2skill.evaluate(run.folder)):
        with pytest.raises(RunError, match=r"give one again from Python, as e\w+=\.\.\."):
            use()
    del own["reflector"]
    again = d2skill.evaluate(str(run.folder), arms=["none", "bank"], tasks=8, **own)
    assert again["outcomes"] == result["outcomes"], "nothing is reflected"
    again = d2skill.Run.open(run.folder, **own)
    assert [skill.id for skill in again.bank.skills()] == [skill.id for skill in run.bank.skills()]
    assert again.policy.count_tokens("two words") == 2
    with pytest.raises(ConfigError, match="workers is 2, but objects of one's own are in this process alone"):
        d2skill.evaluate(again, workers=2)


def test_a_run_with_own_parts_is_resumed_with_the_same(tmp_path, whole):
    own = {"environment": TreasureEnvironment(), "reflector": ContrastReflector(), "embedder": HashedEmbedder(512)}
    folder = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        d2skill.train(six(folder), callbacks=[lambda *_: 1 / 0], **own)
    with pytest.raises(RunError, match="trained with an object of toys:TreasureEnvironment as its environment"):
        d2skill.resume(folder)
    d2skill.resume(folder, **own)
    assert metrics_of(folder) == metrics_of(whole.folder)


def test_an_own_policy_plays_learns_and_is_restored(tmp_path):
    policy = ScriptedPolicy(lambda prompt: prompt.actions[-1])
    run = d2skill.train(tiny_config(out=tmp_path / "run"), policy=policy)
    assert run.policy is policy and len(policy.updates) == 3
    with pytest.raises(RunError, match="as its policy"):
        d2skill.Run.open(run.folder).policy  # noqa: B018


def test_parts_that_cannot_work_are_sentences(tmp_path):
    config = tiny_config(out=tmp_path / "run")
    with pytest.raises(ConfigError, match="processes is 2, but the environment is an object of your own"):
        d2skill.train(config.model_copy(update={"processes": 2}), environment=TreasureEnvironment())
    with pytest.raises(ConfigError, match=r"NotingReflector writes the paper's skills.*set bank\.skills to paper"):
        d2skill.train(
            tiny_config(out=tmp_path / "run", bank={"skills": "consolidated"}), reflector=NotingReflector(NOTE)
        )
    with pytest.raises(ConfigError, match="verl trains in other processes and takes no reflector"):
        d2skill.train(config.model_copy(update={"engine": "verl"}), reflector=NotingReflector(NOTE))
    with pytest.raises(ConfigError, match=r"config is 'laptop': make settings by d2skill.load_config"):
        d2skill.train("laptop")
    with pytest.raises(ConfigError, match=r"environment is the class TreasureEnvironment: give an object of it, Trea"):
        d2skill.train(config, environment=TreasureEnvironment)
    with pytest.raises(ConfigError, match=r"builtins:object is no reflector, it lacks reflect or reflect_groups"):
        d2skill.train(config, reflector=object())
    with pytest.raises(TypeError, match="enviroment"):
        d2skill.train(config, enviroment=TreasureEnvironment())
    assert not (tmp_path / "run").exists()


# a run to look at


def test_metrics_and_trajectories_as_lists_and_frames(whole):
    assert whole.metrics == whole_lines(whole.folder)
    frame = whole.metrics_frame()
    assert (
        frame["iteration"].tolist() == list(range(7)) and frame["bank/task"].iloc[-1] == whole.metrics[-1]["bank/task"]
    )
    played, table = whole.trajectories(), whole.trajectories_frame()
    assert len(played) == len(table) == 16 and table["success"].tolist() == [one.success for one in played]
    rate = whole.summary["validation"]["with_skills"]["success"]
    assert table[table["arm"] == "skills"]["success"].mean() == rate
    assert list(whole.trajectories_frame(5)["task"]) == [one.task.id for one in whole.trajectories(5)]
    assert any(table["skills"]) and {len(one.turns) for one in played} == {*table["steps"]}
    with pytest.raises(RunError, match="keeps no trajectories of iteration 6: there are those of 0 to 5"):
        whole.trajectories(6)


def test_frames_without_pandas_are_a_sentence(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r'data frames need the package pandas: pip install "d2skill\[frames\]"'):
        whole.metrics_frame()


def test_a_run_says_what_it_is(tmp_path, whole):
    success = f"success with skills: {100 * whole.summary['validation']['with_skills']['success']:.1f} %"
    assert f"<Run {whole.folder}; iterations: 6; {success}; " in repr(whole)
    assert f"<tr><th>folder</th><td>{whole.folder}</td></tr>" in whole._repr_html_()
    with Trainer(six(tmp_path / "run"), tmp_path / "run") as trainer:
        trainer.step()
        under_way = d2skill.Run.open(tmp_path / "run")
        assert "iterations: 1 so far" in repr(under_way)
        with pytest.raises(RunError, match="has not ended"):
            under_way.summary  # noqa: B018
    with pytest.raises(RunError, match="is not a run folder"):
        d2skill.Run.open(tmp_path)


# settings


def test_settings_come_from_presets_files_and_runs_with_values_laid_over(tmp_path, whole):
    (tmp_path / "mine.toml").write_text("seed = 4\n[train]\niterations = 9\n")
    config = d2skill.load_config(tmp_path / "mine.toml", train={"checkpoint_every": 3}, **{"embedder.dimension": 64})
    assert (config.seed, config.train.iterations, config.train.checkpoint_every) == (4, 9, 3)
    assert config.embedder == EmbedderConfig(dimension=64)
    assert d2skill.load_config("laptop", embedder=EmbedderConfig(dimension=64)).embedder.dimension == 64
    again = d2skill.load_config(whole.folder)
    assert again.out is None and again == whole.config.model_copy(update={"out": None})


@pytest.mark.parametrize(
    ("source", "overrides", "said"),
    [
        ("latop", {}, '"latop" is no preset .* or run folder: did you mean laptop?'),
        ("laptop", {"train.iteration": 1}, "no setting train.iteration: did you mean train.iterations?"),
        ("laptop", {"train": {"iterations": 0}}, "train.iterations = 0: input should be greater"),
        ("laptop", {"qqq": {"x": 1}}, "there is no setting qqq; `d2skill config show` prints all of them"),
        ("laptop", {"seed.x": 1}, "seed = "),
    ],
)
def test_mistakes_in_settings_are_sentences(source, overrides, said):
    with pytest.raises(ConfigError, match=said):
        d2skill.load_config(source, **overrides)
