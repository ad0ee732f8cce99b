"""Rollouts by several processes give the numbers of one; what goes wrong in one is a sentence and a run to resume."""

import json
import os
import signal
import threading
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import TreasureEnvironment, make_scorer, prompt, skill

from d2skill import api
from d2skill.bank.journal import Journal
from d2skill.cli.main import main
from d2skill.config import Config, EnvConfig
from d2skill.errors import ConfigError, DataError, RunError
from d2skill.policies.scorer import features as features_module
from d2skill.policies.scorer.features import Featurizer
from d2skill.runs.folder import RunFolder
from d2skill.runs.trajectories import read
from d2skill.types import Decision, Prompt, Trajectory, Turn
from d2skill.worker_rollouts import _pack, _Skills, _unpack, process_count

SECONDS = 120


class BrokenData(TreasureEnvironment):
    """Fails in a task that is no first one of an iteration, so not in the process that leads."""

    def start(self, task_id):
        if task_id.endswith("/007"):
            raise DataError("train/007 is damaged: fetch the data again")
        return super().start(task_id)


def config(out, **more):
    values = {
        "out": out,
        "env": EnvConfig(kind="toys:TreasureEnvironment", max_steps=4),
        "train": {"iterations": 4, "checkpoint_every": 1},
        "rollout": {"tasks": 5, "group_size": 4, "with_skills": 2},
        "warm_start": {"tasks": 6},
        "policy": {"scorer": {"buckets": 4096}},
        "optim": {"minibatch_rows": 16},
        "validation": {"every": 2, "tasks": 6},
        "bank": {"trial": 0.25, "task_capacity": 3, "step_capacity": 4, "protect": 0},
    }
    return Config.model_validate(values | more)


def workers():
    """The worker processes of this one, and none that other tests started."""
    return [child for child in psutil.Process().children() if "child_process" in " ".join(child.cmdline())]


def numbers(folder):
    """All that a run wrote but for times: metrics, bank, episodes, weights."""
    run = RunFolder(folder)
    metrics = [{k: v for k, v in line.items() if not k.startswith("time/")} for line in run.read_metrics()]
    episodes = [list(read(run.rollout(iteration))) for iteration in range(len(metrics) - 1)]
    (latest,) = sorted((folder / "checkpoints").iterdir())[-1:]
    with np.load(latest / "policy" / "scorer.npz") as archive:
        weights = archive["weights"].tobytes()
    return metrics, Journal(run.bank).replay().skills(), episodes, weights


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    api.train(config(folder, processes=1))
    return numbers(folder)


def test_two_processes_give_the_same_numbers_with_the_papers_skills(tmp_path):
    bank = {"skills": "paper", "trial": 0.25, "task_capacity": 3, "step_capacity": 4, "protect": 0}
    for processes in (1, 2):
        api.train(config(tmp_path / str(processes), bank=bank, processes=processes))
    assert numbers(tmp_path / "1") == numbers(tmp_path / "2")


def test_its_episodes_show_advice_that_is_followed(alone):
    """So the other tests compare what they are about: slots that are filled in, and acts that were done."""
    _, skills, episodes, _ = alone
    assert {skill.granularity for skill in skills if skill.supports} == {"task", "step"}
    assert any("{" in skill.task_text for skill in skills)
    assert {one.skills[0][0] for played in episodes for t in played for one in t.turns if one.skills} >= {"t"}


@pytest.mark.parametrize("processes", [2, 3])
def test_any_number_of_processes_gives_the_same_numbers(alone, tmp_path, processes):
    api.train(config(tmp_path / "run", processes=processes))
    assert numbers(tmp_path / "run") == alone
    assert not workers()
    assert RunFolder(tmp_path / "run").config().processes is None, "it is of the machine, not of the run"


def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path):
    class Stop:
        def log(self, metrics):
            if metrics["iteration"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="d2skill resume"):
        api.train(config(tmp_path / "run", processes=2), trackers=[Stop()])
    assert not workers()
    main(["resume", str(tmp_path / "run"), "--processes", "3"])
    assert numbers(tmp_path / "run") == alone


def test_a_worker_that_is_killed_is_a_sentence_and_the_run_goes_on(alone, tmp_path):
    class Kill:
        def log(self, metrics):
            if metrics["iteration"] == 1:
                for child in workers():
                    child.kill()

    with pytest.raises(RunError, match=r"a worker process ended with status .*go on by `d2skill resume`"):
        api.train(config(tmp_path / "run", processes=2), trackers=[Kill()])
    api.resume(tmp_path / "run", processes=2)
    assert numbers(tmp_path / "run") == alone


def test_an_error_in_a_worker_is_raised_as_it_is(tmp_path):
    env = EnvConfig(kind="test_worker_rollouts:BrokenData", max_steps=4)
    with pytest.raises(DataError, match=r"^train/007 is damaged: fetch the data again$"):
        api.train(config(tmp_path / "run", env=env, warm_start={"tasks": 0}, rollout={"tasks": 24}, processes=4))
    assert not workers()


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_in_a_rollout_leaves_no_process(tmp_path):
    threading.Timer(4, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        api.train(config(tmp_path / "run", train={"iterations": 100_000}, processes=2))
    assert not workers()
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["iteration"] == 0


def test_the_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("d2skill.worker_rollouts.available_cores", lambda: 16)
    assert process_count(Config()) == 8
    assert process_count(Config(processes=11)) == 11
    assert process_count(config(tmp_path)) == 1, "few episodes"
    alone = Config.model_validate({"policy": {"kind": "causal-lm"}})
    assert process_count(alone) == 1
    with pytest.raises(
        ConfigError, match=r"processes is 2, but policy.kind causal-lm works in one: leave processes out"
    ):
        process_count(alone.model_copy(update={"processes": 2}))
    mine = Config.model_validate({"env": {"kind": "__main__:Mine"}})
    assert process_count(mine) == 1
    with pytest.raises(ConfigError, match="other processes cannot import"):
        process_count(mine.model_copy(update={"processes": 2}))


# what is sent

SKILLS = {one.id: one for one in (skill(f"s{n}", "lamp", f"Open door {n}.") for n in range(4))}
texts = st.text("ab c", max_size=6)
prompts_seen = st.tuples(texts, st.lists(texts, min_size=1, max_size=3), st.sets(st.sampled_from(sorted(SKILLS))))


@given(st.lists(st.tuples(prompts_seen, st.integers(0, 2), st.booleans()), max_size=6), st.integers(0, 4))
def test_a_trajectory_is_sent_whole(steps, keep):
    task, past, turns = TreasureEnvironment().start("train/003").task, [], []
    for (seen, actions, ids), choice, admissible in steps:
        skills = tuple(SKILLS[one] for one in sorted(ids))
        history = tuple(past[-keep:]) if keep else ()
        shown = skills[:1], skills[1:]
        asked = Prompt(task.text, seen, tuple(actions), history, *shown, ("a[...]",), tuple(actions), choice - 1)
        action = actions[choice % len(actions)]
        made = Decision(action or "nothing", action, (choice,), (-0.5,))
        turns.append(Turn(asked, made, admissible))
        past.append((seen, action or "nothing"))
    sent = Trajectory(task, "skills", 2, tuple(turns), "the end", True, "", 0.25)
    bank = SimpleNamespace(get=SKILLS.__getitem__, knowledge=SimpleNamespace(fill=lambda skill, task: skill))
    assert _unpack(_pack(sent), _Skills(bank)) == sent


def test_features_of_another_process_are_those_computed_here(monkeypatch):
    doors = tuple(f"open door {n}" for n in range(3))
    some = [
        prompt(task=f"find the {thing}", actions=doors, observation=f"A hall {n}.") for n, thing in enumerate("xyz")
    ]
    there, here, alone = Featurizer(4096), Featurizer(4096), Featurizer(4096)
    assert here.adopt(some[:1], there.export(some[:1], whole=False))
    assert here.adopt(some, there.export(some, whole=False))
    monkeypatch.setattr(Featurizer, "_compute", lambda *given: pytest.fail("computed twice"))
    found = here(some)
    monkeypatch.undo()
    assert (found.index == alone(some).index).all()

    # a featurizer that begins anew needs the whole table
    monkeypatch.setattr(features_module, "_KEPT_ROWS", 0)
    here([prompt(task="another", actions=("wait",))])
    monkeypatch.undo()
    assert not here.adopt(some, there.export(some, whole=False))
    assert here.adopt(some, there.export(some, whole=True))


def test_a_replica_decides_as_the_policy_does():
    policy, replica = make_scorer(), make_scorer()
    asked = prompt(task="find the lamp", actions=("open door 1", "shut door 1"))
    versions = [policy.replica_state()[0]]
    policy.imitate([(asked, "shut door 1")] * 30, seed=0)
    version, state = policy.replica_state()
    assert version not in versions
    replica.set_replica_state(state.copy())
    assert replica.act([asked], [3], 1.0) == policy.act([asked], [3], 1.0)
    policy.update([], 0)
    assert policy.replica_state()[0] == version
