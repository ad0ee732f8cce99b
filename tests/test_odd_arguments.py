"""Odd arguments from Python: each is one sentence that names it, and nothing is done."""

import math

import numpy as np
import pytest
from toys import tiny_config

import d2skill
from d2skill import Draft, Group, SkillBank, SkillText, Task, Trajectory, outcome_signals, reflect, render_skills
from d2skill.config import CreditConfig
from d2skill.errors import D2SkillError
from d2skill.trainer import Trainer

NAN, INF = math.nan, math.inf
FAILURE = Trajectory.of("take the ruby", [("Two chests.", "open chest 1")], success=False)

SUCCESS = Trajectory.of("take the ruby", [("Two chests.", "open chest 2")], success=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of one iteration."""
    config = tiny_config(out=tmp_path_factory.mktemp("odd") / "run", train={"iterations": 1})
    return d2skill.train(config)


@pytest.fixture
def bank():
    made = SkillBank()
    made.insert(Draft("task", SkillText("Look first", "Open each drawer.", "a thing is sought"), "find the key"))
    return made


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda bank: bank.add_probes(5), r"5 is not a dict of \(log-probability, changed\) pairs"),
        (lambda bank: bank.add_probes({"t1": 5}), "5 is not a dict of"),
        (lambda bank: bank.add_probes({"t1": [5]}), "5 is not a dict of"),
        (lambda bank: bank.add_probes({"t1": [(1, 2, 3)]}), r"\(1, 2, 3\) of skill t1 is not in a dict of"),
        (lambda bank: bank.add_probes({"t1": [("much", True)]}), "an effect of skill t1 is 'much': it is a finite"),
        (lambda bank: bank.add_probes({"t1": [(NAN, True)]}), "an effect of skill t1 is nan"),
        (lambda bank: bank.add_probes({5: [(0.5, True)]}), "an id of a skill is a string, not 5"),
        (lambda bank: bank.add_probes({"t9": [(0.5, True)]}), "no skill 't9'"),
        (lambda bank: bank.learn("x"), r"'x' is not a list of groups, d2skill.Group\("),
        (lambda bank: bank.learn([5]), "5 is not one of a list of groups"),
        (lambda bank: bank.learn([Group("x", (FAILURE,))]), "is not one of a list of groups"),
        (lambda bank: bank.learn([Group(Task("a", "b", "c"), ("x",))]), "is not one of a list of groups"),
        (lambda bank: bank.learn([Group(Task("a", "b", "c"), 5)]), "5 is not a list of groups"),
        (lambda bank: bank.merge(similarity="x"), "similarity is 'x': it is a finite number"),
        (lambda bank: bank.merge(similarity=NAN), "similarity is nan: it is a finite number, 0 or more, 1 at most"),
        (lambda bank: bank.record("x.db", wait=NAN), "wait is nan"),
        (lambda bank: bank.record("x.db", back_to="x"), "an event is 'x': it is a whole number"),
        (lambda bank: bank.credit({"t1": NAN}), "signal nan is not between"),
        (lambda _: SkillBank.open("x.db", event="x"), "an event is 'x': it is a whole number"),
        (lambda _: SkillBank.open("x.db", at=0.5), "an iteration is 0.5: it is a whole number"),
        (lambda _: SkillBank(5), "5 is no embedder, it lacks fingerprint"),
        (lambda _: SkillBank(bank=5), r"5 is no BankConfig: make one by d2skill.config.BankConfig\("),
        (lambda _: SkillBank(credit={}), "{} is no CreditConfig"),
    ],
)
def test_a_bank_refuses(call, words, bank, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = bank._state.dump()
    refuses(lambda: call(bank), words)
    assert bank._state.dump() == before and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: d2skill.load_config(5), "a source of settings is a string or a Path, not 5"),
        (lambda: d2skill.load_config("laptop", rollout={"temperature": NAN}), "rollout.temperature = nan"),
        (lambda: d2skill.Run(5), "a run folder is a string or a Path, not 5"),
        (lambda: d2skill.Run.open(None), "a run folder is a string or a Path, not None"),
        (lambda: d2skill.resume(5), "a run folder is a string or a Path, not 5"),
        (lambda: render_skills(5), "5 is not a list of skills, as bank.retrieve_task"),
        (lambda: render_skills(["t1"]), "'t1' is no skill: render a list of skills"),
        (lambda: render_skills([], 5), "a heading is a string, not 5"),
        (lambda: reflect(5), "the failure is 5: reflect on a d2skill.Trajectory"),
        (lambda: reflect(None), "the failure is None"),
        (lambda: reflect(FAILURE, "x"), "the success is 'x'"),
        (lambda: reflect(FAILURE, reflector=5), "reflector 5 has no method reflect"),
        (lambda: outcome_signals(5, 0), r"5 is not a list of attempts, each the skills"),
        (lambda: outcome_signals([5], 0), "5 is not in a list of attempts"),
        (lambda: outcome_signals([(["t1"], 1, 2)], 0), r"\(\['t1'\], 1, 2\) is not in a list"),
        (lambda: outcome_signals([([5], 1)], 0), "5 is no skill and no id of one"),
        (lambda: outcome_signals([("t1", 1)], 0), "'t1' is not a list of attempts"),
        (lambda: outcome_signals([(["t1"], "won")], 0), "the outcome of an attempt is 'won': it is a finite number"),
        (lambda: outcome_signals([(["t1"], NAN)], 0), "the outcome of an attempt is nan"),
        (lambda: outcome_signals([(["t1"], 1)], NAN), "an outcome without skills is nan"),
        (lambda: outcome_signals([(["t1"], 1)], "x"), "an outcome without skills is 'x'|'x' is not an outcome"),
        (lambda: outcome_signals([(["t1"], 1)], None), "an outcome without skills is None"),
        (lambda: Trainer(5, "run"), r"config is 5: make settings by d2skill.load_config"),
        (lambda: Trainer(tiny_config(), 5), "a run folder is a string or a Path, not 5"),
    ],
)
def test_functions_refuse(call, words):
    refuses(call, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"callbacks": [5]}, "callback 5 is no function: it takes trainer, metrics and groups"),
        ({"callbacks": print}, "is not a list of callbacks"),
        ({"callbacks": [lambda metrics: None]}, "does not take three arguments: trainer, metrics and groups, as in"),
        ({"trackers": [5]}, "tracker 5 has no method log: see d2skill.Tracker"),
        ({"trackers": 5}, "5 is not a list of trackers"),
        ({"folder": 5}, "a run folder is a string or a Path, not 5"),
    ],
)
def test_training_refuses(arguments, words, tmp_path, run):
    refuses(lambda: d2skill.train(tiny_config(out=tmp_path / "run"), **arguments), words)
    assert not (tmp_path / "run").exists()
    if "folder" not in arguments:
        refuses(lambda: d2skill.resume(run, **arguments), words)


@pytest.mark.parametrize(
    ("arguments", "words"), [({"processes": "x"}, "processes is 'x': it is a whole"), ({"track": 5}, "track = 5")]
)
def test_a_resume_refuses(arguments, words, run):
    refuses(lambda: d2skill.resume(run, **arguments), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"run": 5}, "a run folder is a string or a Path, not 5"),
        ({"bank": 5}, "--bank is a string or a Path, not 5"),
        ({"panel": 5}, "--panel is a string or a Path, not 5"),
        ({"arms": 5}, "5 is not a list of arms"),
        ({"arms": [5]}, "an arm is a string, not 5"),
        ({"seeds": "x"}, "--seeds is 'x': it is a whole number"),
        ({"seeds": None}, "--seeds is None: it is a whole number"),
        ({"seed": 0.5}, "--seed is 0.5: it is a whole number"),
        ({"tasks": NAN}, "--tasks is nan: it is a whole number"),
        ({"workers": "two"}, "--workers is 'two': it is a whole number"),
        ({"temperature": NAN}, "--temperature is nan: it is a finite number, 0 or more"),
        ({"temperature": INF}, "--temperature is inf"),
        ({"temperature": -1}, "--temperature is -1"),
        ({"temperature": "warm"}, "--temperature is 'warm'"),
        ({"model": 5}, "--model is a string, not 5"),
        ({"model": "m", "url": 5}, "--url is a string, not 5"),
        ({"trajectories": 5}, "--trajectories is a string or a Path, not 5"),
    ],
)
def test_an_evaluation_refuses(arguments, words, run):
    refuses(lambda: d2skill.evaluate(**({"run": run} | arguments)), words)


def test_a_folder_is_named():
    with pytest.raises(TypeError, match="positional argument"):
        d2skill.train(tiny_config(), "runs/x")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: reflect(SUCCESS, FAILURE), "the failure succeeded: hand in the failure first"),
        (lambda: reflect(FAILURE, FAILURE), "the success failed: hand in the failure first"),
        (
            lambda: reflect(FAILURE, Trajectory.of("take the pearl", [("Two chests.", "open chest 1")], True)),
            "the failure is of task 'take the ruby' and the success of 'take the pearl': reflect on two of the same",
        ),
    ],
)
def test_a_reflection_on_what_does_not_belong_together_is_told(call, words):
    refuses(call, words)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1, 2], r"task_ids\('valid_seen'\) of Odd returns 1 among the ids: ids are texts, such as 'valid_seen/7'"),
        (None, r"None is not a list of ids, which task_ids\('valid_seen'\) of Odd has to return"),
    ],
)
def test_an_environment_without_proper_ids_is_told(ids, words, tmp_path):
    class Odd:
        def task_ids(self, split):
            return ids

        def start(self, task_id): ...

    refuses(lambda: d2skill.train(tiny_config(out=tmp_path / "run"), environment=Odd()), words)
    assert not (tmp_path / "run").exists()


def test_arms_may_be_one_text(run):
    result = d2skill.evaluate(run, arms="none, bank", tasks=1)
    assert list(result["arms"]) == ["none", "bank"]
    refuses(lambda: d2skill.evaluate(run, arms="bunk", tasks=1), 'there is no arm "bunk"')


STEP = ("Two chests.", "open chest 1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"success": "no"}, "success is 'no': it is True or False"),
        ({"success": 0.7}, "success is 0.7"),
        ({"success": None}, "success is None"),
        ({"arm": "skill"}, "arm is 'skill': it is skills or none"),
        ({"task": 5}, "the task of a trajectory is 5: hand in its text"),
        ({"steps": "open chest 1"}, "'open chest 1' is no step: write"),
        ({"steps": 5}, "5 is no step: write"),
        ({"steps": [STEP, "open chest 1"]}, "'open chest 1' is no step: write"),
        ({"steps": [(*STEP, "open chest 1")]}, r"is no step: write \(observation, action\), or"),
        ({"steps": [(*STEP, [5])]}, "is no step"),
        ({"steps": [(None, "open chest 1")]}, "is no step"),
        ({"steps": [("open chest 1",)]}, "is no step"),
    ],
)
def test_a_trajectory_refuses(arguments, words):
    refuses(lambda: Trajectory.of(**({"task": "take the ruby", "steps": [STEP], "success": False} | arguments)), words)


def test_a_trajectory_takes_what_numpy_says_and_refused_actions():
    played = Trajectory.of("take the ruby", [[*STEP, ["open chest 2"]]], np.bool_(True))
    assert played.success is True and played.invalid_actions == 1


def refuses(call, words):
    with pytest.raises(D2SkillError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_numbers_of_numpy_are_numbers(bank, run):
    bank.add_probes({"t1": np.array([[0.5, 1.0]])})
    assert bank.merge(similarity=np.float32(0.5)) == {}
    assert outcome_signals([(("t1",), np.float32(1))], np.float64(0.5)) == {"t1": [0.5]}
    assert outcome_signals([(("t1",), True)], np.array([0, 1])) == {"t1": [0.5]}
    result = d2skill.evaluate(run, tasks=np.int64(2), seeds=np.int64(1), temperature=np.float32(0.5), arms=("none",))
    assert result["temperature"] == 0.5
    assert SkillBank(credit=CreditConfig()).learn([]) is not None
