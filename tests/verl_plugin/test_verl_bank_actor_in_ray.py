"""The bank actor in Ray: found by name, killed without loss, and its errors raised as ours."""

import os
import random
import signal
import time
from threading import Event, Thread

import pytest
from toys import group, task, tiny_config, turn

from d2skill.bank import SkillBank
from d2skill.bank.journal import Journal
from d2skill.errors import BankError, D2SkillError, RunError
from d2skill.runs.folder import RunFolder
from d2skill.verl.bank_actor import BankActor, find_bank_actor, start_bank_actor, stop_bank_actor, unwrapped_ray_errors

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

WORDS = "copper amber velvet marble cotton silver walnut linen bronze ivory".split()


@pytest.fixture(scope="module", autouse=True)
def cluster():
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": tests}},
    )
    yield
    ray.shutdown()


def run_folder(path):
    folder = RunFolder.create(path / "run")
    folder.begin(tiny_config(bank={"probe": 0}), {})
    return folder


def failed(number):
    """A group whose skill half fails where no other does."""
    names = [WORDS[number % 10], WORDS[number // 10], WORDS[(7 * number + 3) % 10]]
    own = task(f"train/{number:03d}", f"put {names[0]} {number} beside {names[1]}")
    turns = [turn(task=own.text, observation=f"You see {names[2]} {number} and {names[1]}.")] * 3
    return [group([False, False], [True, False], own, turns=turns)]


def process_of(run):
    """Returns the process that writes the journal of a run, None while none does."""
    side = run.bank.with_name("bank.db-lock")
    words = side.read_text("ascii").split() if side.exists() else []
    return int(words[1]) if words else None


def events(run):
    return [event for _, event in Journal(run.bank).events()]


def test_a_bank_actor_that_is_killed_again_and_again_loses_nothing_and_does_nothing_twice(tmp_path):
    run, done, killed = run_folder(tmp_path), Event(), []
    actor = start_bank_actor(run.path)

    def kill():
        rng = random.Random(0)
        while not done.wait(0.2 + 0.4 * rng.random()) and len(killed) < 4:
            process = process_of(run)
            if process and process not in killed and process != os.getpid():
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    killer = Thread(target=kill, daemon=True)
    killer.start()
    iteration = after = 0
    while len(killed) < 4 or iteration < 40:
        actor.reflect.remote(failed(iteration), iteration, 7)
        asked = [actor.retrieve.remote([("task", WORDS[n], False), ("task", WORDS[n], True)]) for n in range(5)]
        ray.get(actor.observe.remote(failed(iteration), iteration, 7, after))
        assert [len(found) for found in ray.get(asked)] == [2] * 5
        if iteration % 5 == 4:
            settled = ray.get(actor.settle.remote(iteration, ray.get(actor.state.remote())["event"]))
            assert settled == {"bank/evicted": 0}
        state = ray.get(actor.state.remote())
        assert state["event"] > after, "what was acknowledged is there"
        after, iteration = state["event"], iteration + 1
        time.sleep(0.01)
    done.set()
    killer.join()
    stop_bank_actor(actor)
    unharmed = run_folder(tmp_path / "unharmed")
    actor, after = BankActor(unharmed.path), 0
    for number in range(iteration):
        actor.observe(failed(number), number, 7, after)
        after = actor.state()["event"]
    actor.close()
    assert events(run) == events(unharmed)
    assert len(SkillBank.open(run.bank)) > 40
    assert len(set(killed)) == 4


def test_all_processes_find_the_bank_actor_of_a_run_and_of_no_other(tmp_path):
    one, other = run_folder(tmp_path / "one"), run_folder(tmp_path / "other")
    actor, second = start_bank_actor(one.path), start_bank_actor(other.path)
    assert start_bank_actor(one.path)._actor_id == actor._actor_id != second._actor_id

    @ray.remote
    def elsewhere(path):
        return find_bank_actor(path)._actor_id, ray.get(
            find_bank_actor(path).retrieve.remote([("task", "take the ruby", False)])
        )

    assert ray.get(elsewhere.remote(one.path)) == (actor._actor_id, [()])
    assert ray.get(elsewhere.remote(other.path))[0] == second._actor_id
    with pytest.raises(RunError, match="has no bank actor in this Ray cluster"):
        find_bank_actor(run_folder(tmp_path / "third").path)
    for handle in (actor, second):
        stop_bank_actor(handle)
    BankActor(one.path).close()  # the journal is free again


def test_errors_of_a_bank_actor_are_told_in_one_sentence(tmp_path):
    run = run_folder(tmp_path)
    run.bank.write_bytes(b"no journal")
    with pytest.raises(D2SkillError, match=r"^\S*bank.db is no journal of a bank: .*d2skill bank import") as told:
        start_bank_actor(run.path)
    assert "\n" not in str(told.value)
    with pytest.raises(RunError, match=r"^\S* is not a run folder"):
        start_bank_actor(tmp_path / "nothing")
    run = run_folder(tmp_path / "sound")
    actor = start_bank_actor(run.path)
    with (
        pytest.raises(BankError, match=r"^\S*bank.db ends at event 0, and the run was at 3 already") as told,
        unwrapped_ray_errors(),
    ):
        ray.get(actor.observe.remote(failed(0), 0, 7, 3))
    assert "\n" not in str(told.value)
    stop_bank_actor(actor)
