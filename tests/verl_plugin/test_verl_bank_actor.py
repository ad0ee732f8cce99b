"""The bank actor without Ray: batched retrieval, learning as the local engine learns, and nothing done twice."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from chat_server import ChatServer
from toys import GEMS, START, group, step_draft, task, task_draft, tiny_config, turn

from d2skill.bank import SkillBank
from d2skill.bank.journal import Journal, JournalWriter
from d2skill.components import Components
from d2skill.config import EmbedderConfig
from d2skill.embedders import make_embedder
from d2skill.errors import BankError, ConfigError, ReflectionFault, RunError
from d2skill.knowledge.evidence import Evidence
from d2skill.learner import BankUpdate
from d2skill.rollout import Rollouts
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks
from d2skill.trainer import Trainer
from d2skill.types import SkillText
from d2skill.utils.rng import derive
from d2skill.verl.bank_actor import BankActor, ObserveResult

TIGHT = {"task_capacity": 2, "step_capacity": 2, "protect": 1, "probe": 0}


def run_folder(path, **sections):
    """A run that has begun: settings and tasks, and no bank yet."""
    settings = tiny_config(**sections)
    folder = RunFolder.create(path / "run")
    folder.begin(settings, RunTasks.choose(Components.make(settings, check=False).environment, settings).record())
    return folder


def noted(run, *drafts):
    """Puts skills into the journal of a run, and leaves it."""
    bank = SkillBank(make_embedder(EmbedderConfig()))
    bank.record(run.bank)
    bank.insert(drafts, 0)
    bank.close()


def events(run):
    return [event for _, event in Journal(run.bank).events()]


def weak(*numbers):
    """Groups whose skill half fails, of tasks and in rooms that have nothing in common."""
    found = []
    for number in numbers:
        own = task(f"train/{number:03d}", f"{GEMS[number]} wanted")
        turns = [turn(task=own.text, observation=f"A {GEMS[-number]} shines.", actions=("left", "right"))] * 2
        found.append(group([False, False], [True, False], own, turns=turns))
    return found


class Died(BaseException):
    """Stands for the end of the process."""


# retrieval


def test_queries_of_all_kinds_are_answered_in_their_order_by_few_calls(tmp_path, monkeypatch):
    run = run_folder(tmp_path, bank={"trial": 0.5})
    noted(run, task_draft("Old"), step_draft("Old step", "Shut it."))
    actor = BankActor(run.path)
    bank = actor._bank
    bank.insert([task_draft("New", "Try it twice.")], 1)
    calls = []

    def counted(name):
        own = getattr(bank, name)

        def call(asked, *, trial):
            calls.append((name, trial, len(asked)))
            return own(asked, trial=trial)

        monkeypatch.setattr(bank, name, call)

    counted("retrieve_task")
    counted("retrieve_step")
    seen = step_draft("").observation
    asked = [
        ("step", "take the ruby", seen, False),
        ("task", "take the ruby", False),
        ("task", "take the ruby", True),
        ("step", "take the ruby", "Elsewhere entirely: nothing alike.", False),
        ("task", "no such thing", False),
    ]
    titles = [[r.skill.text.title for r in found] for found in actor.retrieve(asked)]
    assert [sorted(own) for own in titles] == [["Old step"], ["Old"], ["New", "Old"], [], []]
    assert len(calls) <= 4
    assert {call for call in calls if call[2]} == {
        ("retrieve_task", False, 2),
        ("retrieve_step", False, 2),
        ("retrieve_task", True, 1),
    }
    actor.close()


def test_advice_is_the_procedure_and_then_the_places(tmp_path):
    actor = BankActor(run_folder(tmp_path, bank={"skills": "consolidated", "trial": 0.5}).path)
    bank = actor._bank
    procedure = Evidence("task", SkillText("Take it", "Take {thing}.", "always"), "take the {thing}", "", {"a"})
    places = [
        Evidence(
            "step", SkillText(f"{gem}: in chest {n}", f"Open chest {n}, then take {gem}.", "now"), gem, START, {"a"}
        )
        for n, gem in enumerate(GEMS[:2])
    ]
    bank.knowledge.consolidate([procedure, *places], 0)
    bank.admit(["t1", "s1"], 1, "known")
    asked = [("advice", f"take the {GEMS[n]}", START, trial) for n in (0, 1) for trial in (False, True)]
    found = actor.retrieve([*asked, ("advice", "heat an egg", START, True)])
    assert [[r.skill.id for r in own] for own in found] == [["t1", "s1"], ["t1", "s1"], ["t1"], ["t1", "s2"], []]
    assert [own[0].skill.text.principle for own in found[:3:2]] == [f"Take {gem}." for gem in GEMS[:2]]
    actor.close()


def test_no_query_is_no_answer(tmp_path):
    actor = BankActor(run_folder(tmp_path).path)
    assert actor.retrieve([]) == []
    actor.close()


# learning


@pytest.mark.parametrize(
    "bank",
    [
        TIGHT,
        TIGHT | {"retire": True, "retire_after": 1},
        TIGHT | {"trial": 0.5},
        {"probe": 0, "skills": "consolidated"},
    ],
)
def test_what_the_bank_actor_does_to_the_bank_is_what_the_local_engine_does(tmp_path, monkeypatch, bank):
    untaught = {"warm_start": {"tasks": 0}, "reflect": {"threshold": 1.0}, "train": {"iterations": 6}}
    settings = tiny_config(bank=bank, **untaught)
    played, play = [], Rollouts.groups

    def noting(self, *args, **given):
        played.append(play(self, *args, **given))
        return played[-1]

    monkeypatch.setattr(Rollouts, "groups", noting)
    Trainer(settings, tmp_path / "local", Components.make(settings)).start()
    local = RunFolder(tmp_path / "local")
    run = RunFolder.create(tmp_path / "run")
    run.begin(settings, RunTasks.read(local.tasks).record())
    actor, added = BankActor(run.path), 0
    for iteration, groups in enumerate(played):
        seed = derive(settings.seed, "iteration", iteration)
        actor.reflect(groups, iteration, seed)
        added += actor.observe(groups, iteration, seed, actor.state()["event"]).update.added
        settled = actor.settle(iteration, actor.state()["event"])
        line = local.read_metrics()[iteration + 1]
        assert settled == {name: line[name] for name in ("bank/retired", "bank/evicted") if name in line}
        state = actor.state()
        assert (state["counts"]["task"], state["counts"]["step"]) == (line["bank/task"], line["bank/step"])
        assert state["mean_utility"] == line["bank/mean_utility"]
    assert added > 4, "skills were written, so there was something to compare"
    assert events(run) == events(local)
    actor.close()


# nothing twice


def test_a_call_that_was_done_before_a_restart_is_not_done_again(tmp_path):
    run = run_folder(tmp_path)
    actor = BankActor(run.path)
    first = actor.observe(weak(1, 2), 0, 7, after=0)
    assert first.update.added > 0
    actor.close()  # and its answer was lost
    actor, recorded = BankActor(run.path), events(run)
    assert actor.observe(weak(1, 2), 0, 7, after=0) == ObserveResult(None)
    assert events(run) == recorded
    actor.close()


def test_eviction_tells_the_same_counts_when_it_is_asked_again(tmp_path):
    run = run_folder(tmp_path, bank=TIGHT | {"retire": True})
    noted(run, *(task_draft(f"Note {n}", f"Open chest {n}, then look {n} times.") for n in range(5)))
    actor = BankActor(run.path)
    after = actor.state()["event"]
    first = actor.settle(3, after)
    assert first == {"bank/retired": 0, "bank/evicted": 3}
    actor.close()
    actor, recorded = BankActor(run.path), events(run)
    assert actor.settle(3, after) == first
    assert events(run) == recorded
    assert actor.settle(3, actor.state()["event"]) == {"bank/retired": 0, "bank/evicted": 0}
    actor.close()


def test_retirement_and_eviction_are_one_record(tmp_path, monkeypatch):
    run = run_folder(tmp_path, bank=TIGHT | {"retire": True, "retire_after": 1})
    noted(run, *(task_draft(f"Note {n}", f"Open chest {n}, then look {n} times.") for n in range(5)))
    actor = BankActor(run.path)
    for iteration in range(1, 4):
        with actor._bank.batch(iteration):
            actor._bank.credit({"t1": [-1.0, -0.9], "t2": [-1.0, -0.9]})
    records, append = [], JournalWriter.append

    def noting(self, *happened):
        records.append(happened)
        return append(self, *happened)

    monkeypatch.setattr(JournalWriter, "append", noting)
    assert actor.settle(3, actor.state()["event"]) == {"bank/retired": 2, "bank/evicted": 1}
    (record,) = records
    assert [(change.status, len(change.ids)) for change in record] == [("retired", 1), ("retired", 1), ("evicted", 1)]
    actor.close()


def test_a_death_within_the_record_leaves_all_of_it_to_be_done(tmp_path, monkeypatch):
    run = run_folder(tmp_path)
    actor, append = BankActor(run.path), JournalWriter.append

    def dies(self, *happened):
        raise Died

    monkeypatch.setattr(JournalWriter, "append", dies)
    with pytest.raises(Died):
        actor.observe(weak(1, 2), 0, 7, after=0)
    monkeypatch.setattr(JournalWriter, "append", append)
    actor.close()
    actor = BankActor(run.path)
    assert actor.state()["counts"] == {"task": 0, "step": 0}
    update = actor.observe(weak(1, 2), 0, 7, after=0).update
    actor.close()
    other = BankActor(run_folder(tmp_path / "other").path)
    assert update == other.observe(weak(1, 2), 0, 7, after=0).update
    other.close()


def test_an_iteration_that_changes_nothing_may_be_asked_twice(tmp_path):
    actor = BankActor(run_folder(tmp_path).path)
    won = [group([True, True], [True, False])]
    for _ in range(2):
        nothing = BankUpdate(credited=0, reflected=0, failed=0, added=0, refused=0)
        assert actor.observe(won, 0, 7, after=0) == ObserveResult(nothing)
    actor.close()


# reflections by a model


def llm(server):
    return {"kind": "llm", "endpoint": {"model": "toy", "url": server.url, "retries": 0}}


def test_questions_are_on_their_way_when_reflect_returns_and_each_is_asked_once(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    may_answer = threading.Event()
    with ChatServer(before=lambda number, body: may_answer.wait(60)) as server:
        actor = BankActor(run_folder(tmp_path, reflect=llm(server)).path)
        actor.check()
        actor.reflect(weak(1, 2), 0, 7)
        assert server.wait_for(1)
        actor.reflect(weak(1, 2), 0, 7)  # as Ray repeats a call whose answer was lost
        assert actor.retrieve([("task", "take the ruby", False)]) == [()]
        may_answer.set()
        observed = actor.observe(weak(1, 2), 0, 7, after=0)
        assert observed.update.added > 0
        assert len(observed.calls) == server.count("/v1/chat/completions") == 2
        assert {call["task"] for call in observed.calls} == {"train/001", "train/002"}
        assert (observed.metrics["reflect/calls"], observed.metrics["time/reflect"] > 0) == (2, True)
        actor.close()


def test_what_had_begun_before_a_restart_is_begun_anew(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ChatServer() as server:
        run = run_folder(tmp_path, reflect=llm(server))
        actor = BankActor(run.path)
        actor.reflect(weak(1), 0, 7)
        actor.close()
        actor = BankActor(run.path)
        assert actor.observe(weak(1), 0, 7, after=0).update.reflected == 1
        actor.close()


def test_a_restart_knows_what_the_run_has_spent(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ChatServer() as server:
        run = run_folder(tmp_path, reflect=llm(server) | {"max_calls": 1})
        actor = BankActor(run.path)
        observed = actor.observe(weak(1, 2), 0, 7, after=0)
        assert len(observed.calls) == 1
        run.append_reflections(0, observed.calls)
        actor.close()
        actor = BankActor(run.path)
        later = actor.observe(weak(3, 4), 1, 8, actor.state()["event"])
        assert (later.calls, later.metrics["reflect/fallback"]) == ([], 2)
        actor.close()


def test_an_unreachable_reflector_is_found_by_check_and_does_not_keep_the_bank_shut(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ChatServer() as server:
        reflect = llm(server)
    actor = BankActor(run_folder(tmp_path, reflect=reflect).path)
    with pytest.raises(ConfigError, match="reflect"):
        actor.check()
    assert actor.retrieve([("task", "take the ruby", False)]) == [()]
    actor.close()


def test_a_reflector_that_fails_for_good_fails_the_call_and_the_next_one_begins_anew(tmp_path, monkeypatch):
    actor = BankActor(run_folder(tmp_path).path)
    with monkeypatch.context() as patch:

        def fails(failure, success):
            raise ReflectionFault("no answer")

        patch.setattr(actor._reflector, "reflect", fails, raising=False)
        failed = actor.observe(weak(1), 0, 7, after=0).update
    assert (failed.reflected, failed.failed) == (1, 1)
    assert actor.observe(weak(1), 1, 8, actor.state()["event"]).update.added > 0
    actor.close()


# its journal


def test_it_goes_on_from_the_head_of_a_journal_that_was_rewound(tmp_path):
    run = run_folder(tmp_path)
    actor = BankActor(run.path)
    actor.observe(weak(1), 0, 7, after=0)
    checkpoint, skills = actor.state()["event"], actor._bank.skills()
    actor.snapshot()
    actor.observe(weak(2), 1, 8, checkpoint)
    actor.close()
    bank = SkillBank.open(run.bank, make_embedder(EmbedderConfig()), event=checkpoint)
    bank.record(run.bank, back_to=checkpoint)
    bank.close()
    actor = BankActor(run.path)
    assert actor._bank.skills() == skills
    assert actor.observe(weak(2), 1, 8, actor.state()["event"]).update.added > 0
    actor.close()


def test_it_waits_for_a_bank_actor_that_is_dying(tmp_path):
    run = run_folder(tmp_path)
    dying = BankActor(run.path)
    dying.observe(weak(1), 0, 7, after=0)

    def opened():
        actor = BankActor(run.path)
        skills = actor._bank.skills()
        actor.close()
        return skills

    with ThreadPoolExecutor() as others:
        following = others.submit(opened)
        with pytest.raises(TimeoutError):
            following.result(timeout=0.2)
        dying.observe(weak(2), 1, 8, dying.state()["event"])  # what it still writes counts
        dying.close()
        assert following.result(timeout=30) == dying._bank.skills() != []


def test_another_writer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("d2skill.verl.bank_actor.LOCK_SECONDS", 0.05)
    run = run_folder(tmp_path)
    actor = BankActor(run.path)
    with pytest.raises(BankError, match=r"this process has .* open for writing already"):
        BankActor(run.path)
    actor.close()


@pytest.mark.parametrize("call", ["observe", "settle"])
def test_a_journal_that_lacks_what_the_run_knows_is_refused(tmp_path, call):
    actor = BankActor(run_folder(tmp_path).path)
    with pytest.raises(BankError, match=r"ends at event 0, and the run was at 3"):
        actor.observe(weak(1), 0, 7, after=3) if call == "observe" else actor.settle(0, after=3)
    actor.close()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is not a run folder"):
        BankActor(tmp_path)
