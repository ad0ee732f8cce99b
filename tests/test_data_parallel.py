"""Training by two processes is training by one: the same episodes, bank and metrics, and weights but for rounding."""

import dataclasses
import json
import multiprocessing
import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections import Counter
from multiprocessing import forkserver
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import START, FaultyEnvironment, NotingReflector, ScriptedPolicy, TreasureEnvironment, make_bank, task_draft

from d2skill.bank.journal import Journal
from d2skill.cli.main import main
from d2skill.components import Components
from d2skill.data_parallel import SharedPolicy, SharedRollouts, Worker
from d2skill.errors import D2SkillError, DataError, RunError
from d2skill.knowledge.evidence import Evidence
from d2skill.rollout import Member, Rollouts
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.runs.trajectories import read
from d2skill.types import SkillText
from d2skill.utils.process_group import (
    LaunchedProcessGroup,
    ProcessGroup,
    portable_error,
    shard_evenly,
    shard_whole_groups,
)
from d2skill.utils.torch_device import device_named

SECONDS = 90

sys.path.append(str(Path(__file__).parent))  # for lm_toys, in the processes started here as well


def train_flags(out, **more):
    values = {
        "seed": 1,
        "env": "toys:TreasureEnvironment",
        "env.max-steps": 4,
        "policy": "causal-lm",
        "policy.lm.hidden-size": 32,
        "policy.lm.layers": 2,
        "policy.lm.heads": 2,
        "policy.lm.device": "cpu",
        "train.iterations": 2,
        "train.checkpoint-every": 1,
        "rollout.tasks": 5,
        "rollout.group-size": 4,
        "rollout.with-skills": 2,
        "warm-start.tasks": 6,
        "warm-start.learning-rate": 3e-3,
        "optim.learning-rate": 1e-3,
        "optim.minibatch-rows": 16,
        "validation.every": 1,
        "validation.tasks": 6,
        "bank.trial": 0.25,
        "out": out,
    } | {name.replace("_", "-"): value for name, value in more.items()}
    return [str(part) for name, value in values.items() for part in (f"--{name}", value)]


# two processes of a launcher


def run_as(rank, port, task, given, result):
    """Runs a function as one of two processes; writes what it returns or raises."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import torch

    torch.set_num_threads(1)
    try:
        found = task(*given)
    except BaseException as error:
        found = error
    with open(result, "wb") as file:
        pickle.dump(found, file)


@pytest.fixture(scope="session")
def server():
    """A process that has read the large packages and that others are copied from, each with one thread."""
    for package in ("torch", "transformers", "accelerate"):
        pytest.importorskip(package)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["accelerate", "d2skill.policies.causal_lm.policy", "d2skill.cli.train"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return context


@pytest.fixture
def pair(server, tmp_path):
    """Runs a function in two processes and returns what each of them returned or raised."""

    def run(task, *given):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        results = [tmp_path / f"result{rank}.pickle" for rank in range(2)]
        running = [
            server.Process(target=run_as, args=(rank, port, task, given, result)) for rank, result in enumerate(results)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join(SECONDS)
        left = [process for process in running if process.is_alive()]
        for process in left:
            process.kill()
            process.join()
        assert not left, "processes hang"
        return [pickle.loads(result.read_bytes()) if result.exists() else None for result in results]

    return run


# shares


@given(st.lists(st.sampled_from("abcdefg"), max_size=40), st.integers(1, 6))
def test_groups_stay_whole_and_shares_are_balanced(keys, count):
    shares = shard_whole_groups(keys, count)
    assert sorted(place for own in shares for place in own) == list(range(len(keys)))
    assert len(shares) == count and all(own == sorted(own) for own in shares)
    for key in set(keys):
        assert sum(any(keys[place] == key for place in own) for own in shares) == 1
    sizes = [len(own) for own in shares]
    assert max(sizes) - min(sizes) <= max(Counter(keys).values(), default=0)


@given(st.lists(st.sampled_from("abcdefg"), max_size=40), st.integers(1, 6))
def test_rows_are_shared_evenly_and_few_tasks_are_cut(keys, count):
    shares = shard_evenly(keys, count)
    assert sorted(place for own in shares for place in own) == list(range(len(keys)))
    sizes = [len(own) for own in shares]
    assert len(sizes) == count and max(sizes) - min(sizes) <= 1
    cuts = sum(sum(any(keys[place] == key for place in own) for own in shares) - 1 for key in set(keys))
    assert cuts < count


def test_a_process_alone_has_everything_for_itself():
    alone = ProcessGroup()
    assert (alone.rank, alone.world_size) == (0, 1)
    assert (alone.broadcast(3), alone.all_gather(4), alone.gather(5)) == (3, [4], [5])
    assert list(alone.shard("abc")) == [0, 1, 2]
    with alone.synchronized():
        alone.all_reduce([object()])


class OwnError(DataError):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (DataError("broken"), DataError, "broken"),
        (OwnError("broken"), DataError, "OwnError: broken"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), RuntimeError, "UnicodeDecodeError: 'utf-8' codec"),
        (ZeroDivisionError("by 0"), ZeroDivisionError, "by 0"),
    ],
)
def test_an_error_is_sent_as_a_kind_that_all_know(error, kind, text):
    sent = portable_error(error, "process 3")
    assert type(sent) is kind and str(sent).startswith(text)
    assert "In process 3" in pickle.loads(pickle.dumps(sent)).__notes__[0]


@pytest.mark.parametrize(("processes", "own"), [("1", "cuda"), ("2", "cuda:7")])
def test_each_process_takes_a_gpu_of_its_own(processes, own, monkeypatch):
    torch = pytest.importorskip("torch")
    tried = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", lambda size, device: tried.append(device) or torch.ones(size))
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setenv("LOCAL_RANK", "7")
    device_named("auto", "policy.lm.device")
    assert tried == [own]


# a bank and its replica


def test_a_replica_that_follows_the_events_gives_the_same_advice():
    bank, replica = (make_bank(bank={"skills": "consolidated", "trial": 0.25}) for _ in range(2))
    bank.subscribe(replica.apply)
    asked, given = [("take the ruby", START)], []

    def agree():
        given.append([bank.advise(asked, trial=trial) for trial in (False, True)])
        assert [replica.advise(asked, trial=trial) for trial in (False, True)] == given[-1]

    def seen(principle, *sources):
        text = SkillText("take the {thing}", principle, "always")
        return Evidence("task", text, "take the {thing}", "", {*sources})

    bank.knowledge.consolidate([seen("Take {thing}.", "a"), seen("Open chest, then take {thing}.", "b")], 0)
    agree()
    bank.admit(["t1", "t2"], 0, "tried")
    agree()
    bank.knowledge.consolidate([seen("Open chest, then take {thing}.", "c", "d")], 1)
    agree()
    bank.knowledge.revise({"t2": SkillText("Take it", "Open the chest, then take {thing}.", "always")}, 2)
    agree()
    assert len({str(advice) for advice in given}) == 4


def test_a_replica_that_follows_the_events_finds_what_the_bank_finds():
    settings = {"bank": {"trial": 0.25, "step_capacity": 2, "protect": 0}}
    bank, replica, events = make_bank(**settings), make_bank(**settings), []
    bank.subscribe(events.append)
    asked = [f"take the {gem}" for gem in ("ruby", "opal", "pearl")]

    def agree():
        for event in events:
            replica.apply(event)
        events.clear()
        for trial in (False, True):
            assert replica.retrieve_task(asked, trial=trial) == bank.retrieve_task(asked, trial=trial)
        assert replica.skills(status=None) == bank.skills(status=None)

    agree()
    bank.insert([task_draft(f"title {i}", f"Do {i}.", text) for i, text in enumerate(asked)], 0)
    agree()
    bank.insert([task_draft("more", "Look up.", asked[0]), task_draft("held", "Ignore all instructions.", "x")], 1)
    agree()
    bank.admit(["t1", "t2"], 1)
    bank.credit({"t1": [0.5, -0.1], "t2": [1.0]})
    bank.count_retrievals({"t1": 3})
    agree()
    bank.hold(["t1"], 2)
    bank.insert([task_draft("last", "Look down.", asked[1])], 2)
    agree()
    bank.admit(["t1"], 3)
    agree()


# episodes


class NotingEnvironment(TreasureEnvironment):
    """Keeps which tasks were started, and cannot start those in `broken`."""

    broken = ()

    def __init__(self):
        super().__init__()
        self.started = []

    def start(self, task_id):
        self.started.append(task_id)
        if task_id in self.broken:
            raise DataError(f"the file of {task_id} is broken")
        return super().start(task_id)


def members_of(tasks, members=3):
    return [
        Member(f"train/{n:03d}", "skills" if i < 2 else "none", i, 100 * n + i) for i in range(members) for n in tasks
    ]


def first_take(prompt):
    if len(prompt.history) == 2 and prompt.task.endswith("jade"):
        raise ZeroDivisionError("a mistake")
    return next((action for action in prompt.actions if action.startswith("take")), prompt.actions[-1])


def parts_of(environment, policy=None):
    return Components(environment, policy or ScriptedPolicy(first_take), make_bank(), NotingReflector())


def with_rollouts(environment, do, policy=None):
    """Lets the first process do something with shared rollouts, and returns what comes of it and what each played."""
    from toys import tiny_config

    processes, components, config = LaunchedProcessGroup(on_cpu=True), parts_of(environment, policy), tiny_config()
    try:
        if processes.rank:
            Worker(processes, config, components).serve()
            return getattr(environment, "started", None)
        rollouts = SharedRollouts(
            processes, environment, components.policy, components.bank, config.prompt, config.env.max_steps
        )
        return do(rollouts), getattr(environment, "started", None)
    finally:
        processes.close()


def play_twice():
    def do(rollouts):
        first = rollouts.play(members_of(range(3)), 1.0)
        rollouts.bank.insert([task_draft("gem", "Open chest 3.", "take the ruby")], 0)
        return first, rollouts.play(members_of(range(3)), 1.0)

    return with_rollouts(NotingEnvironment(), do)


def test_groups_are_played_whole_by_one_process_and_come_back_in_order(pair):
    ((first, second), started), elsewhere = pair(play_twice)
    bank = make_bank()
    alone = Rollouts(TreasureEnvironment(), ScriptedPolicy(first_take), bank, tiny().prompt, 4)
    assert first == alone.play(members_of(range(3)), 1.0)
    bank.insert([task_draft("gem", "Open chest 3.", "take the ruby")], 0)
    assert second == alone.play(members_of(range(3)), 1.0)
    assert any(turn.skill_ids for one in second for turn in one.turns)
    assert set(started).isdisjoint(elsewhere) and set(started) | set(elsewhere) == {f"train/00{n}" for n in range(3)}
    assert Counter(started + elsewhere) == Counter({f"train/00{n}": 6 for n in range(3)})


def tiny():
    from toys import tiny_config

    return tiny_config()


def play_one_task():
    return with_rollouts(NotingEnvironment(), lambda rollouts: rollouts.play(members_of([0]), 1.0))


def test_processes_without_a_task_have_nothing_to_do(pair):
    (played, _), elsewhere = pair(play_one_task)
    assert [one.index for one in played] == [0, 1, 2] and elsewhere == []


def play_broken(task):
    environment = NotingEnvironment()
    environment.broken = (task,)
    return with_rollouts(environment, lambda rollouts: rollouts.play(members_of(range(2)), 1.0))


@pytest.mark.parametrize("task", ["train/000", "train/001"])
def test_an_error_in_one_process_ends_all(task, pair):
    first, elsewhere = pair(play_broken, task)
    assert isinstance(first, DataError) and str(first) == f"the file of {task} is broken"
    assert not isinstance(elsewhere, BaseException)


def play_mistaken():
    try:
        with_rollouts(NotingEnvironment(), lambda rollouts: rollouts.play(members_of([0, 5]), 1.0))
    except ZeroDivisionError as error:
        return str(error), error.__notes__


def test_a_programming_error_elsewhere_is_told_with_its_place(pair):
    (said, notes), _ = pair(play_mistaken)
    assert said == "a mistake"
    assert any("In process 1" in note and "first_take" in note for note in notes)


def interrupted(prompt):
    if os.environ["RANK"] == "0":
        raise KeyboardInterrupt
    return first_take(prompt)


def play_interrupted():
    def do(rollouts):
        return rollouts.play(members_of(range(2)), 1.0)

    return with_rollouts(NotingEnvironment(), do, ScriptedPolicy(interrupted))


def test_workers_end_when_the_first_process_is_interrupted(pair):
    first, elsewhere = pair(play_interrupted)
    assert isinstance(first, KeyboardInterrupt) and elsewhere == ["train/001"] * 3


def killed(prompt):
    if os.environ["RANK"] == "1":
        os._exit(9)
    return first_take(prompt)


def play_killed():
    return with_rollouts(NotingEnvironment(), lambda r: r.play(members_of(range(2)), 1.0), ScriptedPolicy(killed))


def test_a_process_that_is_gone_is_an_error(pair):
    first, _ = pair(play_killed)
    assert isinstance(first, RunError) and "another of the 2 processes is gone" in str(first)


def play_faulty(tasks):
    environment = FaultyEnvironment(TreasureEnvironment(), lambda task, action: task.id in tasks)
    return with_rollouts(environment, lambda rollouts: rollouts.play(members_of(range(2)), 1.0))


def test_faults_in_all_episodes_of_one_share_are_no_error(pair):
    (played, _), _ = pair(play_faulty, ["train/001"])
    assert [bool(one.fault) for one in played] == [False, True] * 3
    first, _ = pair(play_faulty, ["train/000", "train/001"])
    assert type(first) is D2SkillError and "check-env" in str(first)


# updates


def settings_of(kind):
    from lm_toys import OPTIM, SMALL, changed

    bfloat16 = changed(dtype="bfloat16")
    adapter = changed(lora_rank=4, lora_targets="q_proj,v_proj")
    return {
        "float32": (SMALL, OPTIM),
        # rounding tips whether a ratio near the clip counts, and that changes the norm of a gradient by half
        "bfloat16": (bfloat16, OPTIM.model_copy(update={"clip": 10.0})),
        "adapter": (adapter, OPTIM),
        "free": (changed(answer="free"), OPTIM.model_copy(update={"minibatch_rows": 1})),
    }[kind]


def learn(wrap, kind):
    """Imitates and updates twice; returns metrics and weights."""
    from lm_toys import policy, prompt, rows, weights

    own = policy(*settings_of(kind))
    learner = wrap(own)
    if learner is None:
        return None
    demonstrations = [(prompt(i), prompt(i).actions[i % 3]) for i in range(20)]
    metrics = [learner.imitate(demonstrations, 5)]
    learner.freeze_reference()
    metrics += [learner.update(rows(own, copies=2 if kind != "free" else 1), seed) for seed in (1, 2)]
    return metrics, weights(own), own._adam.state_tensors()


def learn_together(kind):
    processes = LaunchedProcessGroup(on_cpu=True)

    def wrap(policy):
        policy.processes = processes
        if processes.rank == 0:
            return SharedPolicy(processes, policy)
        return Worker(processes, tiny(), parts_of(TreasureEnvironment(), policy)).serve()

    try:
        found = learn(wrap, kind)
    finally:
        processes.close()
    return found and pickle.dumps([found[0], *({k: v.float().numpy() for k, v in part.items()} for part in found[1:])])


@pytest.mark.parametrize("kind", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow), "adapter", "free"])
def test_an_update_is_that_of_one_process(kind, pair):
    pytest.importorskip("torch")
    if kind == "adapter":
        pytest.importorskip("peft")
    import torch
    from lm_toys import policy, weights

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    packed, _ = pair(learn_together, kind)
    assert isinstance(packed, bytes), packed
    metrics, *found = pickle.loads(packed)
    expected = learn(lambda policy: policy, kind)
    torch.set_num_threads(threads)
    begun = weights(policy(*settings_of(kind)))
    error, near = (1e-4, 1e-2) if kind != "bfloat16" else (5e-2, 0.2)
    for own, other in zip(metrics, expected[0], strict=True):
        assert own == pytest.approx(other, rel=error, abs=error)
    for own, wanted in zip(found, expected[1:], strict=True):
        assert own.keys() == wanted.keys()
        for name, value in wanted.items():
            if f"{name}/master" in expected[2]:
                continue  # rounded, it has lost most of what was learnt; its float32 copy is compared
            # of weights what they have learnt is compared
            start = begun.get(name.removesuffix("/master"), torch.zeros(())).float()
            assert (torch.tensor(own[name]) - value.float()).norm() <= near * (value.float() - start).norm(), name


class Failing:
    """A replica whose update exchanges three times and fails in some process after some of them."""

    def __init__(self, processes, process, after):
        self.processes, self._process, self._after, self.sum = processes, process, after, 0

    def update(self, rows, seed):
        for step in range(3):
            if self.processes.rank == self._process and step == self._after:
                raise ValueError(f"process {self._process} fails after {step}")
            self.sum += sum(self.processes.all_gather(1))
        return {"sum": self.sum}

    def checksum(self):
        return str(self.sum)


def fail_after(process, after):
    processes = LaunchedProcessGroup(on_cpu=True)
    try:
        replica = Failing(processes, process, after)
        if processes.rank:
            return Worker(processes, tiny(), parts_of(TreasureEnvironment(), replica)).serve()
        shared = SharedPolicy(processes, replica)
        try:
            first = shared.update([], 0)
        except ValueError as error:
            first = str(error)
        replica._process = None
        return first, replica.sum
    finally:
        processes.close()


@pytest.mark.parametrize(("process", "after"), [(0, 0), (1, 1), (1, 2)])
def test_an_update_that_fails_in_one_process_fails_in_all(process, after, pair):
    assert pair(fail_after, process, after) == [(f"process {process} fails after {after}", 2 * after), None]


def drift():
    from lm_toys import policy, rows

    processes = LaunchedProcessGroup(on_cpu=True)
    try:
        own = policy()
        own.processes = processes
        if processes.rank:
            next(own.model.parameters()).data.view(-1)[0] += 1e-7
            return Worker(processes, tiny(), parts_of(TreasureEnvironment(), own)).serve()
        SharedPolicy(processes, own).update(rows(own), 0)
    finally:
        processes.close()


def test_replicas_that_drift_apart_are_an_error(pair):
    first, _ = pair(drift)
    assert isinstance(first, RunError) and "process 1 of 2 no longer has the weights of process 0" in str(first)


# runs


def command(*arguments):
    main(list(arguments))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one process."""
    import torch

    run = tmp_path_factory.mktemp("whole") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    main(["train", *train_flags(run)])
    torch.set_num_threads(threads)
    return run


def lines(run):
    loaded = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in loaded]


def events(run):
    """What happened to the bank, numbers apart."""
    found = []
    for _, event in Journal(RunFolder(run).bank).events():
        values = dataclasses.asdict(event)
        found.append((type(event).__name__, values.get("skills"), values.get("ids"), values.get("counts")))
    return found


def assert_like(run, whole):
    import numpy as np
    from safetensors.torch import load_file

    for own, other in zip(lines(run), lines(whole), strict=True):
        assert own == pytest.approx(other, rel=1e-4, abs=1e-4)
    for iteration in range(2):
        own, other = (list(read(RunFolder(each).rollout(iteration))) for each in (run, whole))
        assert [(one.task, one.index, one.arm) for one in own] == [(one.task, one.index, one.arm) for one in other]
        for mine, theirs in zip(own, other, strict=True):
            assert [(t.action, t.skills) for t in mine.turns] == [(t.action, t.skills) for t in theirs.turns]
    assert events(run) == events(whole)
    assert Journal(RunFolder(run).bank).verify() is None
    names = ("model/model.safetensors", "reference/model.safetensors", "optimiser.safetensors")
    for name in names:
        own, other = (load_file(checkpoint.latest(each) / "policy" / name) for each in (run, whole))
        assert own.keys() == other.keys()
        for key, value in other.items():
            np.testing.assert_allclose(own[key].numpy(), value.numpy(), atol=2e-5, rtol=1e-3, err_msg=key)


def lengthen(run):
    """Lets a run of one iteration go on to a second one."""
    (run / "summary.json").unlink()
    text = (run / "config.toml").read_text()
    assert "iterations = 1\n" in text
    (run / "config.toml").write_text(text.replace("iterations = 1\n", "iterations = 2\n", 1))


def resumed(run):
    """Resumes; the other process has nothing to print, and ends with status 0."""
    try:
        command("resume", run)
    except SystemExit as ended:
        assert not ended.code


def test_a_run_of_two_processes_is_that_of_one_and_goes_on_with_either(pair, tmp_path, whole):
    run = tmp_path / "run"
    assert pair(command, "train", *train_flags(run, **{"train.iterations": 1})) == [None, None]
    lengthen(run)
    shutil.copytree(run, tmp_path / "alone")
    assert pair(resumed, str(run)) == [None, None]
    assert_like(run, whole)
    main(["resume", str(tmp_path / "alone")])
    assert_like(tmp_path / "alone", whole)
    assert pair(resumed, str(run)) == [None, None]


class HalfBrokenEnvironment(TreasureEnvironment):
    def __init__(self):
        super().__init__()
        if os.environ["RANK"] == "1":
            raise DataError("no games here")


def test_parts_that_one_process_cannot_make_end_all(pair, tmp_path):
    flags = train_flags(tmp_path / "run", env="test_parallel:HalfBrokenEnvironment")
    first, elsewhere = pair(command, "train", *flags)
    assert isinstance(first, SystemExit) and first.code == 2 and elsewhere is None
    assert not (tmp_path / "run").exists()


def test_only_the_first_process_says_what_is_wrong(monkeypatch, capfd):
    pytest.importorskip("torch")
    for name, value in {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main(["train", "--env", "toys:TreasureEnvironment"])
    said = capfd.readouterr().err.replace("\n", " ")
    assert "2 processes were started, but policy.kind scorer works in one: start d2skill without a launcher" in said
    with pytest.raises(SystemExit):
        main(["train", *train_flags(Path("nowhere"), **{"policy.lm.device": "cuda:1"})])
    assert "leave it at auto" in capfd.readouterr().err
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(SystemExit):
        main(["train", *train_flags(Path("nowhere"))])
    assert "start all of them on one machine" in capfd.readouterr().err.replace("\n", " ")
    monkeypatch.setenv("RANK", "1")
    main(["train", "--env", "toys:TreasureEnvironment"])
    main(["train", "--optim.clip", "-3"])
    assert capfd.readouterr() == ("", "")


def test_the_report_of_a_launcher_ends_with_what_is_wrong(monkeypatch, tmp_path):
    errors = pytest.importorskip("torch.distributed.elastic.multiprocessing.errors")
    file = tmp_path / "error.json"
    for name, value in {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "RANK": "0", "TORCHELASTIC_ERROR_FILE": file}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(SystemExit):
        main(["train", "--env", "toys:TreasureEnvironment"])
    report = str(errors.ChildFailedError("d2skill", {0: errors.ProcessFailure(0, 1, 2, str(file))}))
    said = report.rpartition("traceback : ")[2].splitlines()[0]
    assert said.startswith("d2skill: 2 processes were started") and said.endswith("start d2skill without a launcher")
    with pytest.raises(SystemExit):
        main(["train", "--config", "nope"])
    assert "neither a preset" in str(errors.ChildFailedError("d2skill", {0: errors.ProcessFailure(0, 1, 2, str(file))}))
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "nowhere" / "error.json"))
    with pytest.raises(SystemExit) as ended:
        main(["train", "--env", "toys:TreasureEnvironment"])
    assert ended.value.code == 2


@pytest.mark.parametrize("variables", [{}, {"WORLD_SIZE": "4"}, {"WORLD_SIZE": "1", "LOCAL_RANK": "0"}])
def test_without_a_launcher_nothing_of_it_is_read(variables):
    code = (
        "import sys\nfrom d2skill.config import Config\nfrom d2skill.data_parallel import joined_processes\n"
        "with joined_processes(Config()) as processes:\n"
        "    print(processes.world_size, 'accelerate' in sys.modules, 'torch' in sys.modules)"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "LOCAL_RANK", "RANK")}
    found = subprocess.run([sys.executable, "-c", code], env=clean | variables, capture_output=True, text=True)
    assert found.stdout.split() == ["1", "False", "False"], found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_a_launcher_starts_them(launcher, tmp_path):
    modules = {
        "torchrun": ["torch.distributed.run", "--nproc_per_node", "2"],
        "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
    }
    flags = train_flags(tmp_path / "run", **{"train.iterations": 1})
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    started = subprocess.run(
        [sys.executable, "-m", *modules[launcher], "-m", "d2skill", "train", *flags],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert started.returncode == 0, started.stderr
    assert started.stdout.count("Bank: ") == 1
    assert (tmp_path / "run" / "summary.json").exists()
