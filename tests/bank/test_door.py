"""A bank checks what callers hand in, from Python as from the command line, before anything changes."""

import os

import numpy as np
import pytest
from rich.console import Console

from d2skill import BankError, Draft, Group, SkillBank, SkillText, Task, Trajectory, render_skills
from d2skill.config import BankConfig, RetrievalConfig

TEXT = SkillText("Look first", "Open each drawer before you leave.", "a thing is sought")


def filled():
    bank = SkillBank()
    bank.insert([Draft("task", TEXT, "find the key"), Draft("step", TEXT, "find the key", "You are in a hall.")], 3)
    return bank


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda bank: bank.credit({"t1": 1.5}), "t1: signal 1.5 is not between -1 and 1"),
        (lambda bank: bank.credit({"t1": [0.5, float("nan")]}), "signal nan is not between"),
        (lambda bank: bank.credit({"t1": "much"}), "a signal is a number, not 'much'"),
        (lambda bank: bank.credit({"t1": None}), "a signal is a number, not None"),
        (lambda bank: bank.credit([0.5]), "signals are a dict by id"),
        (lambda bank: bank.credit({"t9": 0.5}), "no skill 't9' among the 2"),
        (lambda bank: bank.credit({1: 0.5}), "an id of a skill is a string, not 1"),
        (lambda bank: bank.count_retrievals({"t1": 0.5}), "a count is a whole number, not 0.5"),
        (lambda bank: bank.count_retrievals({"t1": -1}), "a count is 0 or more"),
        (lambda bank: bank.count_retrievals(["t9"]), "no skill 't9'"),
        (lambda bank: bank.insert("look"), "'look' is not a Draft or a list of drafts"),
        (lambda bank: bank.insert(["look"]), "'look' is no Draft"),
        (lambda bank: bank.insert(Draft("tasks", TEXT, "x")), "'tasks' is no granularity: task or step"),
        (lambda bank: bank.insert(Draft("task", "look", "x")), r"is a SkillText\(title"),
        (lambda bank: bank.insert(Draft("task", TEXT, None)), "the task_text of a draft is a string, not None"),
        (lambda bank: bank.insert(Draft("task", SkillText("a", 1, "b"), "x")), "the principle of a draft is a string"),
        (lambda bank: bank.insert([], 2), "iteration 2 comes before iteration 3, which the bank has reached"),
        (lambda bank: bank.insert([], "now"), "an iteration is a whole number, not 'now'"),
        (lambda bank: bank.evict(1), "iteration 1 comes before iteration 3"),
        (lambda bank: bank.retrieve_task(7), "7 is not a text or a list of texts"),
        (lambda bank: bank.retrieve_task([None]), "a text is a string, not None"),
        (lambda bank: bank.retrieve_step("find"), "'find' is not a pair of a task text and an observation"),
        (lambda bank: bank.retrieve_step([("find",)]), "is not a pair"),
        (lambda bank: bank.advise([3]), "3 is not a pair"),
        (lambda bank: bank.skills("tasks"), "'tasks' is no granularity"),
        (lambda bank: bank.merge(granularity="tasks"), "'tasks' is no granularity"),
        (lambda bank: bank.hold("t9"), "no skill 't9'"),
        (lambda bank: bank.admit(5), "5 is not an id of a skill or a list of ids"),
        (lambda bank: bank.count_retrievals({"t1": 2**63}), "0 or more and below a billion"),
        (lambda bank: bank.credit({"t1": 10**400}), "a signal is a number"),
        (lambda bank: bank.credit({"t1": [1, 0.5]}, {"t1": ["a"]}), "t1: there is one source for each of its signals"),
        (lambda bank: bank.credit({"t1": 1}, {"t2": ["a"]}), "t2: there is one source for each of its signals"),
        (lambda bank: bank.credit({"t1": 1}, origin={"a": 3}), "an origin is a string, not 3"),
        (lambda bank: bank.hold("t1", reason=3), "a reason is a string, not 3"),
        (lambda bank: bank.skills(status="gone"), "'gone' is no status of a skill: active, trial"),
        (lambda bank: bank.insert([], 2**63), "is too large: iterations count rounds"),
        (lambda bank: bank.get("t9"), "no skill 't9'"),
        (lambda bank: bank.record("nowhere/bank.db"), "there is no folder .*nowhere"),
        (lambda bank: SkillBank.open("nowhere.db"), "nowhere.db"),
        (lambda bank: SkillBank.open(3), "a path is a string or a Path, not 3"),
        (lambda bank: SkillBank.open("x.db", create=True, at=3), "a past state of a bank cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(call, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bank = filled()
    before = bank._state.dump()
    with pytest.raises(BankError, match=words) as error:
        call(bank)
    assert "\n" not in str(error.value)
    assert bank._state.dump() == before and bank.iteration == 3 and not os.listdir()


def test_one_or_many_and_strings_for_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SkillBank.open("bank.db", create=True) as bank:
        assert bank.insert(Draft("task", TEXT, "find the key"))[0].reason == "added"
        bank.insert([Draft("step", TEXT, "find the key", "You are in a hall.")], np.int64(4))
        assert bank.iteration == 4
        bank.credit({"t1": np.float32(0.5), "s1": [0.5, -0.25]})
        bank.count_retrievals(["t1", "t1", "s1"])
        bank.hold("s1")
        bank.admit(["s1"], reason="read it")
        assert bank.retrieve_task("find the key") == bank.retrieve_task(["find the key"])[0]
        pair = ("find the key", "You are in a hall.")
        assert bank.retrieve_step(pair) == bank.retrieve_step([pair])[0] != ()
    with SkillBank.open("bank.db", create=True) as again:
        assert again.iteration == 4 and again.skills() == bank.skills()
        assert [again.get(one).retrievals for one in ("t1", "s1")] == [2, 1]


def test_the_same_cell_twice(tmp_path):
    """In a notebook the first bank is still there when the cell runs again."""
    first = SkillBank.open(tmp_path / "bank.db", create=True)
    with pytest.raises(BankError, match=r"this process has .*bank\.db open for writing already: close that bank"):
        SkillBank.open(tmp_path / "bank.db", create=True)
    first.close()
    SkillBank.open(tmp_path / "bank.db", create=True).close()


def test_a_bank_that_could_not_be_made_leaves_no_file(tmp_path, monkeypatch):
    bank = filled()
    monkeypatch.setattr("d2skill.bank.journal.JournalWriter.append", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bank.record(tmp_path / "bank.db")
    monkeypatch.undo()
    bank.record(tmp_path / "bank.db")
    bank.close()
    assert SkillBank.open(tmp_path / "bank.db").skills() == bank.skills()


def test_the_same_text_is_not_shown_twice():
    drafts = [Draft("task", TEXT, "find the key"), Draft("task", TEXT, "find the old key of the shed")]
    other = SkillText("Ask", "Ask the owner where it is.", "a thing is sought")
    drafts.append(Draft("task", other, "find the key now"))
    for distinct, expected in ((True, ["Ask", "Look first"]), (False, ["Ask", "Look first", "Look first"])):
        bank = SkillBank(
            bank=BankConfig(skills="paper"), retrieval=RetrievalConfig(gate=0.1, distinct=distinct, k_task=3)
        )
        bank.insert(drafts)
        assert sorted(one.skill.text.title for one in bank.retrieve_task("find the key")) == expected


def test_a_bank_shows_itself(tmp_path):
    bank = filled()
    bank.insert(Draft("task", SkillText("<b>", "Look first.", "x [red]"), "y"))
    bank.hold("t2", reason="odd")
    assert repr(bank) == "<SkillBank in memory: 1 task, 1 step, 1 held; iteration 3>"
    bank.admit("t2")
    page = bank._repr_html_()
    assert "&lt;b&gt;" in page and "<b>" not in page and "Look first" in page
    with (console := Console(width=100)).capture() as captured:
        console.print(bank)
    assert "Look first" in captured.get() and "<b>" in captured.get()
    bank.record(tmp_path / "bank.db")
    bank.close()
    assert repr(bank).startswith(f"<SkillBank {tmp_path / 'bank.db'}: 2 task")


CHANGES = [
    lambda bank: bank.insert(Draft("task", TEXT, "find the lamp")),
    lambda bank: bank.credit({"t1": 0.5}),
    lambda bank: bank.count_retrievals(["t1"]),
    lambda bank: bank.add_probes({"t1": [(0.5, True)]}),
    lambda bank: bank.learn([]),
    lambda bank: bank.hold("t1"),
    lambda bank: bank.admit("t1"),
    lambda bank: bank.evict(),
    lambda bank: bank.retire(),
    lambda bank: bank.settle(),
    lambda bank: bank.merge(),
    lambda bank: bank.batch().__enter__(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_would_be_lost_is_refused(change, tmp_path):
    path = tmp_path / "bank.db"
    with SkillBank.open(path, create=True) as bank:
        bank.insert(Draft("task", TEXT, "find the key"))
    opened = [SkillBank.open(path, **until) for until in ({}, {"at": 0}, {"event": 1})]
    for lost in (bank, *opened):
        closed = lost is bank
        way_out = "is closed, and a change would be lost: make it before" if closed else "to read, .* create=True"
        before = lost._state.dump()
        with pytest.raises(BankError, match=way_out):
            change(lost)
        assert lost._state.dump() == before and lost.retrieve_task("find the key")
    memory = SkillBank()
    memory.insert(Draft("task", TEXT, "find the key"))
    memory.close()
    change(memory)


def test_a_replica_follows_the_events_of_a_bank(tmp_path):
    with SkillBank.open(tmp_path / "bank.db", create=True) as bank:
        bank.insert(Draft("task", TEXT, "find the key"))
        replica = SkillBank.open(tmp_path / "bank.db")
        bank.subscribe(replica.apply)
        bank.credit({"t1": 0.5})
        assert replica.skills() == bank.skills()


@pytest.mark.parametrize("at", [99, -5])
def test_an_iteration_that_a_bank_has_not_reached_is_told(at, tmp_path):
    with SkillBank.open(tmp_path / "bank.db", create=True) as bank, bank.batch(3):
        bank.insert(Draft("task", TEXT, "find the key"))
    assert len(SkillBank.open(tmp_path / "bank.db", at=3)) == 1
    with pytest.raises(BankError, match=f"has reached iteration 3: there is no iteration {at}"):
        SkillBank.open(tmp_path / "bank.db", at=at)


@pytest.mark.parametrize("create", [True, False])
def test_what_is_no_bank_is_told(create, tmp_path):
    with pytest.raises(BankError, match="is a folder: name the journal of a bank"):
        SkillBank.open(tmp_path, create=create)
    (tmp_path / "notes.txt").write_text("find the key\n" * 20)
    with pytest.raises(BankError, match=r"notes\.txt is no journal of a bank"):
        SkillBank.open(tmp_path / "notes.txt", create=create)
    assert (tmp_path / "notes.txt").read_text() == "find the key\n" * 20


def test_advice_for_one_pair_is_one_and_is_rendered():
    task, start = Task("hall/1", "find the key", "own"), "You are in a hall."
    steps = [(start, "go to drawer 2", ["go to drawer 2"])]
    steps.append(("A key.", "take key from drawer 2", ["take key from drawer 2"]))
    bank = SkillBank()
    bank.learn([Group(task, (Trajectory.of(task, steps, success=True),))])
    procedures, situations = bank.advise((task.text, start))
    assert [(procedures, situations)] == bank.advise([(task.text, start)]) and procedures and situations
    text = render_skills(bank.advise((task.text, start)))
    assert text == render_skills([*procedures, *situations]) == render_skills(bank.advise([(task.text, start)]))
    assert "key: in drawer 2" in text
    assert render_skills(bank.retrieve_task([task.text, task.text])) == render_skills(bank.retrieve_task(task.text))
