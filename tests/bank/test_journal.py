import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2skill.bank.journal import (
    BankState,
    Change,
    Credit,
    Insert,
    Journal,
    JournalWriter,
    Mark,
    Note,
    Refute,
    Retrieve,
    Revise,
    Rewind,
    Salvaged,
    Support,
    Tally,
    from_records,
    salvage,
    sqlite_file,
)
from d2skill.credit import credited_utilities
from d2skill.errors import BankError
from d2skill.types import Skill, SkillText

BETA = {"task": 0.1, "step": 0.2}
ORIGIN = {"trajectories": "look/3#0 look/3#1", "reflector": "contrast", "prompt": "9f2c", "policy": "120"}
FORK = multiprocessing.get_context("fork")


def skill(name, **values):
    return Skill(
        name, "task" if name[0] == "t" else "step", SkillText(name, "é\u2028 \ud800", "Now"), "g", "o", **values
    )


def insert(*names, iteration=0):
    return Insert(tuple(map(skill, names)), iteration)


def eq3(utility, signals, beta):
    return credited_utilities(np.array([utility]), [signals], [beta]).item()


def replayed(journal, **until):
    return journal.replay(**until).dump()


def ids(journal, **until):
    return [s.id for s in journal.replay(**until).skills()]


HISTORY = [
    Insert((skill("t1"), skill("s1", utility=0.5, created=0)), 0, ORIGIN),
    Retrieve({"t1": 3, "s1": 1}, 1),
    Credit({"t1": [0.1, 0.7], "s1": [-0.3]}, BETA, 1, ORIGIN),
    Change("held", ("s1",), 2, "shows the answer"),
    Note("t1", "seen in drawers only", 2),
    insert("t2", "t3", iteration=3),
    Change("merged", ("t2",), 3, "says the same", into="t1"),
    Change("active", ("s1",), 4, "was right after all"),
    Change("evicted", ("t3",), 5),
]


@pytest.fixture
def path(tmp_path):
    """A journal with a history, closed."""
    with JournalWriter.create(tmp_path / "bank.journal", "hashed-v2/512") as journal:
        for event in HISTORY:
            journal.append(event)
    return tmp_path / "bank.journal"


def test_events_come_back_as_they_went_in(path):
    journal = Journal(path)
    assert list(journal.events()) == list(enumerate(HISTORY, start=1))
    assert list(journal.events(since=7)) == [(8, HISTORY[7]), (9, HISTORY[8])]
    assert journal.embedder == "hashed-v2/512"
    assert journal.head()[:2] == (9, 5)
    journal.verify()


def test_the_state_is_what_the_events_add_up_to(path):
    state = Journal(path).replay()
    assert state.skills() == [
        skill("t1", utility=eq3(0.0, [0.1, 0.7], 0.1), retrievals=3, credits=2),
        skill("s1", utility=eq3(0.5, [-0.3], 0.2), retrievals=1, credits=1),
        skill("t2", evicted=3),
        skill("t3", evicted=5),
    ]
    assert state.marks == {"t2": Mark("merged", 3, "says the same", "t1"), "t3": Mark("evicted", 5)}
    assert state.notes == {"t1": ["seen in drawers only"]}


def test_any_past_state_can_be_seen(path):
    journal = Journal(path)
    assert ids(journal, at=0) == ["t1", "s1"]
    assert journal.replay(at=2).marks == {"s1": Mark("held", 2, "shows the answer")}
    assert ids(journal, at=2) == ids(journal, seq=5) == ["t1", "s1"]
    assert journal.replay(seq=6).skills()[-1] == skill("t3")
    assert replayed(journal, at=99) == replayed(journal) == replayed(journal, seq=9)
    assert ids(journal, seq=0) == ids(journal, at=-1) == []
    with pytest.raises(BankError, match="events 1 to 9: there is no event 10"):
        journal.replay(seq=10)


def test_several_events_in_one_go(path):
    with JournalWriter(path) as journal:
        assert journal.append(insert("t4", iteration=6), Note("t4", "new", 6)) == 11
        assert journal.append() == 11


def test_a_rewind_undoes_and_can_be_undone(path):
    with JournalWriter(path) as journal:
        before = replayed(journal)
        assert journal.append(Rewind(5, 5)) == 10
        assert ids(journal) == ["t1", "s1"]
        assert journal.append(insert("t9", iteration=2)) == 11
        assert ids(journal) == ["t1", "s1", "t9"]
        assert ids(journal, seq=9) == ["t1", "s1", "t2", "t3"]
        assert [seq for seq, _ in journal.events()] == [1, 2, 3, 4, 5, 11]
        assert [seq for seq, _ in journal.events(rewound=True)] == list(range(1, 12))
        assert ids(journal, at=3) == ["t1", "s1", "t9"]
        journal.append(Rewind(9, 5))
        assert replayed(journal) == before
        journal.append(Rewind(10, 5))
        assert ids(journal) == ["t1", "s1"]


def test_evidence_and_revisions_are_undone_and_snapshots_have_them(path):
    text = SkillText("New", "Do\nthis", "Then")
    with JournalWriter(path) as journal:
        before = replayed(journal)
        journal.append(Support({"t1": ["a", "b"], "s1": ["a"]}, 6), Refute({"t1": ["c"]}, 6), Revise({"t1": text}, 6))
        journal.append(Support({"t1": ["a"]}, 7))
        after = replayed(journal)
        assert journal.snapshot(every=1)
        state = journal.replay()
        assert state.tallies == {"t1": Tally({"a": 2, "b": 1}, {"c": 1}), "s1": Tally({"a": 1})}
        one = state.skill(0)
        assert (one.text, one.supports, one.refutes, one.id, one.task_text) == (text, 2, 1, "t1", "g")
        assert (journal.replay(at=6).tallies["t1"], journal.replay(seq=10).skill(0).text.title) == (
            Tally({"a": 1, "b": 1}, {"c": 1}),
            "t1",
        )
        journal.append(Rewind(9, 5))
        assert replayed(journal) == before
        journal.append(Rewind(13, 7))
        assert replayed(journal) == after


def test_snapshots_of_an_earlier_kind_of_state_are_passed_over(path, monkeypatch):
    with JournalWriter(path) as journal, monkeypatch.context() as earlier:
        expected = replayed(journal)
        earlier.setattr(BankState, "name", "bank/3")
        earlier.setattr(BankState, "dump", lambda state: {"texts": "of other columns"})
        assert journal.snapshot(every=1)
    with JournalWriter(path) as journal:
        assert replayed(journal) == expected
        assert journal.snapshot(every=1), "one of its own is made"
        assert replayed(journal) == expected
        journal.verify()


def test_iterations_do_not_go_back(path):
    with JournalWriter(path) as journal:
        with pytest.raises(ValueError, match="iteration 4 comes before 5: rewind first"):
            journal.append(Note("t1", "late", 4))
        with pytest.raises(ValueError, match="no event 10"):
            journal.append(Rewind(10, 5))
        journal.append(Rewind(5, 5), Note("t1", "now", 2))
        assert journal.head()[:2] == (11, 2)


def test_an_append_that_fails_leaves_nothing(path):
    with JournalWriter(path) as journal:
        before = journal.head()
        with pytest.raises(ValueError, match="JSON compliant"):
            journal.append(Note("t1", "a", 6), Credit({"t1": [float("nan")]}, BETA, 6))
        with pytest.raises(ValueError, match="comes before"):
            journal.append(Note("t1", "a", 7), Note("t1", "b", 6))
        assert journal.head() == before
        assert journal.append(Note("t1", "a", 6)) == 10
        journal.verify()


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (insert("t1", iteration=5), "'t1' is inserted twice"),
        (Credit({"t7": [0.1]}, BETA, 5), "no skill 't7' among the 4"),
        (Note("t7", "who?", 5), "no skill 't7'"),
    ],
)
def test_events_that_do_not_fit_are_named(path, event, message):
    with JournalWriter(path) as journal:
        journal.append(event)
    with pytest.raises(BankError, match=message):
        Journal(path).replay()


actions = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(1, 3)),
        st.tuples(st.just("credit"), st.floats(-1, 1)),
        st.tuples(st.just("note"), st.text(max_size=5)),
        st.tuples(st.just("evict"), st.none()),
        st.tuples(st.just("rewind"), st.floats(0, 1)),
        st.tuples(st.just("snapshot"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(actions)
def test_every_past_state_replays_the_same_from_any_snapshot(tmp_path_factory, steps):
    """Against a model that keeps a copy of the state after each event."""
    path = tmp_path_factory.mktemp("journal") / "bank.journal"
    past = [([], 0)]  # after each event: the events that count, and the iteration
    with JournalWriter.create(path, "any") as journal:
        for action, value in steps:
            counted, iteration = past[-1]
            present = [s.id for event in counted if isinstance(event, Insert) for s in event.skills]
            iteration += action == "insert"
            if action == "snapshot":
                journal.snapshot(every=0)
                continue
            if action == "rewind":
                to = int(value * (len(past) - 1))
                event, after = Rewind(to, iteration), past[to]
            else:
                if action == "insert":
                    new = range(len(present), len(present) + value)
                    event = insert(*(f"{'ts'[i % 2]}{i}" for i in new), iteration=iteration)
                elif action == "credit":
                    event = Credit({skill_id: [value, 0.1] for skill_id in present}, BETA, iteration)
                elif action == "evict":
                    event = Change("evicted", tuple(present[-1:]), iteration)
                elif not present:
                    continue
                else:
                    event = Note(present[0], value, iteration)
                after = ([*counted, event], iteration)
            assert journal.append(event) == len(past)
            past.append(after)

        def folded(events):
            state = BankState()
            for event in events:
                state.apply(event)
            return state.skills(), state.marks, state.notes

        def seen(**until):
            state = journal.replay(**until)
            return state.skills(), state.marks, state.notes

        for seq, (counted, _) in enumerate(past):
            assert seen(seq=seq) == folded(counted)
            assert [event for _, event in journal.events(seq=seq)] == counted
        latest, last = past[-1]
        for at in range(last + 1):
            assert seen(at=at) == folded(event for event in latest if event.iteration <= at)
        journal.verify()


def test_snapshots_are_written_when_there_is_much_to_replay(path):
    with JournalWriter(path) as journal:
        assert not journal.snapshot()
        assert journal.snapshot(every=1)
        assert not journal.snapshot(every=1)
        for name in range(100, 200):
            journal.append(insert(f"t{name}", iteration=6))
        assert journal.snapshot(every=1000)
    changed = change(path, "UPDATE events SET body = x'00' WHERE seq BETWEEN 1 AND 99")
    with pytest.raises(BankError, match="event 1 does not match"):
        Journal(changed).verify()
    assert len(ids(Journal(changed))) == 104, "from the snapshot"
    with pytest.raises(BankError, match="event 10 does not match"):
        ids(Journal(changed), at=5)


def test_a_snapshot_of_another_kind_or_a_damaged_one_is_passed_over(path, monkeypatch):
    with JournalWriter(path) as journal:
        expected = replayed(journal)
        with monkeypatch.context() as another_version:
            another_version.setattr(BankState, "name", "another kind")
            another_version.setattr(BankState, "dump", lambda self: "in another format")
            assert journal.snapshot(every=0)
        assert replayed(journal) == expected
        assert journal.snapshot(every=0)
    for what in ("body = x'00'", "seq = 5", "iteration = 2", "event = x'00'", "digest = NULL", "name = 'x'"):
        changed = Journal(change(path, f"UPDATE snapshots SET {what}"))
        assert replayed(changed) == expected
        with pytest.raises(BankError, match=r"snapshot at event \d is changed"):
            changed.verify()


def change(path, *statements):
    """A copy of a journal with something done to it behind its back."""
    copy = path.with_name("changed.journal")
    for suffix in ("", "-wal", "-lock"):
        sqlite_file.beside(copy, suffix).unlink(missing_ok=True)
    shutil.copy(path, copy)
    connection = sqlite3.connect(copy, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return copy


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE events SET body = x'7b7d' WHERE seq = 3", "event 3 does not match its checksum"),
        ("UPDATE events SET iteration = 0 WHERE seq = 4", "event 4 does not match"),
        ("UPDATE events SET back_to = 2 WHERE seq = 5", "event 5 does not match"),
        ("UPDATE events SET back_to = 'x' WHERE seq = 5", "event 5 goes back to 'x'"),
        ("UPDATE events SET body = 7 WHERE seq = 5", "event 5 does not match"),
        ("DELETE FROM events WHERE seq = 6", "event 6 is missing"),
        ("DELETE FROM events WHERE seq = 9", "it ends with event 8, but should end with event 9"),
        ("DELETE FROM events WHERE seq = 0", "event 0, which names the embedder, is missing"),
        ("UPDATE events SET body = x'7b7d' WHERE seq = 0", "event 0, which names the embedder, is missing or changed"),
        ("UPDATE events SET seq = 19 - seq WHERE seq >= 9", "it should end"),
        ("UPDATE head SET seq = 8", "the row that tells where it ends"),
        ("DELETE FROM head", "the row that tells where it ends"),
        ("DROP TABLE events", "no such table: events"),
        ("PRAGMA application_id = 1", "not marked as a journal"),
        ("PRAGMA user_version = 7", "schema version 7, this d2skill reads up to 3: use a newer d2skill"),
    ],
)
def test_damage_is_named(path, statement, message):
    changed = change(path, statement)
    with pytest.raises(
        BankError, match=message.split(" should")[0] if "19 -" not in statement else "event 9"
    ) as caught:
        replayed(Journal(changed))
    assert "changed.journal" in str(caught.value)
    with pytest.raises(BankError), JournalWriter(changed) as journal:
        replayed(journal)


def test_exchanged_rows_are_noticed(path):
    swap = ("UPDATE events SET seq = 99 WHERE seq = 2", "UPDATE events SET seq = 2 WHERE seq = 3")
    changed = change(path, *swap, "UPDATE events SET seq = 3 WHERE seq = 99")
    with pytest.raises(BankError, match="event 2 does not match"):
        replayed(Journal(changed))


def test_what_is_no_journal_is_refused(tmp_path):
    with pytest.raises(BankError, match=r"nowhere is missing"):
        Journal(tmp_path / "nowhere")
    with pytest.raises(BankError, match=r"nowhere is missing"):
        JournalWriter(tmp_path / "nowhere")
    for content in (b"", b"{}\n" * 3000):
        (tmp_path / "other").write_bytes(content)
        for kind in (Journal, JournalWriter):
            with pytest.raises(BankError, match=r"other(: it is not marked| is no journal of a bank)"):
                kind(tmp_path / "other")
        assert (tmp_path / "other").read_bytes() == content


def test_a_journal_is_not_made_over_another(path):
    with pytest.raises(BankError, match="exists already"):
        JournalWriter.create(path, "any")
    assert len(ids(Journal(path))) == 4


def test_a_deleted_journal_leaves_nothing_that_harms_a_new_one(path):
    crash(path)
    path.unlink()
    with JournalWriter.create(path, "other") as journal:
        assert ids(journal) == []
        assert journal.append(insert("t1")) == 1


def crash(path):
    """Leaves a write-ahead log behind, as a killed writer does."""
    code = (
        "import os, sys; from pathlib import Path; from d2skill.bank.journal import JournalWriter, Note\n"
        "JournalWriter(Path(sys.argv[1])).append(Note('t1', 'last words', 5)); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, path], check=False)
    assert sqlite_file.beside(path, "-wal").stat().st_size > 0


def test_a_dead_writer_is_not_in_the_way(path):
    crash(path)
    assert Journal(path).head().seq == 10
    with JournalWriter(path) as journal:
        assert journal.append(Note("t1", "go on", 5)) == 11
    Journal(path).verify()


def test_a_lost_or_damaged_log_is_noticed(path):
    crash(path)
    log = sqlite_file.beside(path, "-wal")
    data = log.read_bytes()
    for damaged in (b"", data[: len(data) // 2], bytes([data[0] ^ 1]) + data[1:], data[:-9] + b"x" + data[-8:]):
        log.write_bytes(damaged)
        sqlite_file.beside(path, "-shm").unlink(missing_ok=True)
        with pytest.raises(BankError, match=r"event 10 was recorded, but is not there.*delete bank\.journal-lock"):
            Journal(path)
    assert salvage(path, path.with_name("saved")) == Salvaged(9, 1)


def test_records_become_a_journal(tmp_path):
    skills = [skill("t1", utility=0.25, retrievals=4, created=3), skill("s1", evicted=7, credits=2)]
    from_records(tmp_path / "bank.journal", "hashed-v2/512", skills)
    journal = Journal(tmp_path / "bank.journal")
    state = journal.replay()
    assert state.skills() == skills
    assert state.marks == {"s1": Mark("evicted", 7)}
    assert journal.head().iteration == 7
    assert journal.embedder == "hashed-v2/512"


def test_an_older_schema_is_migrated_when_it_is_written(path, monkeypatch):
    def add_a_table(connection):
        connection.execute("CREATE TABLE more (a)")

    monkeypatch.setattr(sqlite_file, "_MIGRATIONS", [*sqlite_file._MIGRATIONS, add_a_table])
    monkeypatch.setattr(sqlite_file, "_TABLES", (*sqlite_file._TABLES, "CREATE TABLE more (a)"))
    monkeypatch.setattr(sqlite_file, "OLDEST_READABLE", 4)
    expected = list(enumerate(HISTORY, start=1))
    with pytest.raises(BankError, match="schema version 3, this d2skill reads 4: open it once with JournalWriter"):
        Journal(path)
    JournalWriter(path).close()
    assert list(Journal(path).events()) == expected
    assert sqlite3.connect(path).execute("SELECT count(*) FROM more").fetchone() == (0,)


@pytest.mark.parametrize("older", [1, 2])
def test_a_journal_of_an_older_schema_is_read_as_it_is_and_marked_when_it_is_written(path, older):
    def version():
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("PRAGMA user_version").fetchone()[0]

    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {older}")
    assert list(Journal(path).events()) == list(enumerate(HISTORY, start=1))
    assert version() == older
    JournalWriter(path).close()
    assert version() == 3
    assert list(Journal(path).events()) == list(enumerate(HISTORY, start=1))


def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    def fail(connection):
        connection.execute("CREATE TABLE more (a)")
        raise RuntimeError("stopped")

    with monkeypatch.context() as context, pytest.raises(RuntimeError):
        context.setattr(sqlite_file, "_MIGRATIONS", [*sqlite_file._MIGRATIONS, fail])
        JournalWriter(path)
    assert len(ids(Journal(path))) == 4


def test_a_full_disk_loses_nothing_that_was_acknowledged(path):
    with JournalWriter(path) as journal:
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(BankError, match="the disk is full"):
            for _ in range(99):
                journal.append(Note("t1", "x" * 900, 5))
        kept = journal.head().seq
        assert kept > len(HISTORY)
        journal.verify()
        journal._connection.execute("PRAGMA max_page_count = 100000")
        assert journal.append(Note("t1", "x" * 900, 5)) == kept + 1


def test_a_failing_disk_is_a_bank_error(path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(BankError, match=r"bank\.journal cannot be written.*Permission denied"):
        JournalWriter(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_read_only_folder_can_be_read(path):
    everyone = path.parent / "everyone"
    everyone.mkdir(mode=0o555)
    shutil.copy(path, everyone / "bank.journal")
    for folder in (everyone, *everyone.parents):
        folder.chmod(folder.stat().st_mode | 0o555)
    child = FORK.Process(target=read_as_nobody, args=(everyone / "bank.journal",))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert [p.name for p in everyone.iterdir()] == ["bank.journal"]


def read_as_nobody(path):
    os.setuid(65534)
    assert len(ids(Journal(path))) == 4
    with pytest.raises(BankError, match="cannot be written"):
        JournalWriter(path)


def test_a_second_writer_waits_or_is_told_who_writes(path):
    with JournalWriter(path), pytest.raises(BankError, match=r"this process has .* open for writing already"):
        JournalWriter(path)
    holder = FORK.Process(target=hold, args=(path, 0.3))
    holder.start()
    until(lambda: locked(path))
    with pytest.raises(BankError, match=f"pid {holder.pid}"):
        JournalWriter(path, wait=0.05)
    assert len(ids(Journal(path))) == 4, "readers need not wait"
    JournalWriter(path, wait=30).close()
    holder.join()


def hold(path, seconds):
    with JournalWriter(path, wait=30):
        time.sleep(seconds)


def locked(path):
    try:
        JournalWriter(path).close()
    except BankError:
        return True
    return False


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_forked_process_does_not_keep_the_lock(path):
    journal = JournalWriter(path)
    worker = FORK.Process(target=time.sleep, args=(60,))
    worker.start()
    time.sleep(0.1)
    journal.close()
    JournalWriter(path, wait=5).close()
    worker.kill()
    worker.join()


WITHOUT_FCNTL = """
import os, sys
from pathlib import Path

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from d2skill.bank import Draft, SkillBank
from d2skill.errors import BankError
from d2skill.types import SkillText

task, path = sys.argv[1], Path(sys.argv[2])
bank = SkillBank.open(path) if path.exists() else SkillBank()
try:
    bank.record(path, wait=0.1)
except BankError as error:
    sys.exit(str(error))
bank.insert([Draft("task", SkillText("Look", f"Open it {task}.", "always"), task)], 0)
if "hold" in sys.argv:
    print("held", flush=True)
    sys.stdin.read()
bank.close()
print(*(skill.task_text for skill in SkillBank.open(path).skills()), sep=", ")
assert not {"fcntl", "resource"} & {*sys.modules}
"""


def without_fcntl(*args):
    """Starts a process that writes a bank where there is no `fcntl`, as on Windows."""
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_FCNTL, *map(str, args)]
    return subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_bank_is_written_read_and_locked_without_fcntl(tmp_path):
    path = tmp_path / "bank.db"
    assert without_fcntl("put a mug", path).communicate()[0] == "put a mug\n"
    holder = without_fcntl("heat an egg", path, "hold")
    assert holder.stdout.readline() == "held\n"
    second = without_fcntl("cool an apple", path)
    assert f"is being written by another process (pid {holder.pid})" in second.communicate()[1]
    assert second.returncode == 1
    holder.kill()
    holder.communicate()
    found, _ = without_fcntl("clean a pan", path).communicate()
    assert found == "put a mug, heat an egg, clean a pan\n", "a dead writer is not in the way, and lost nothing"
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["bank.db", "bank.db-lock"]
    Journal(path).verify()


def test_eight_processes_that_write_in_turn_lose_nothing(path):
    writers = [FORK.Process(target=write_some, args=(path, name, 6)) for name in range(8)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * 8
    journal = Journal(path)
    texts = [event.text for _, event in journal.events(since=len(HISTORY))]
    assert sorted(texts) == sorted(f"{name} {i}" for name in range(8) for i in range(6))
    journal.verify()


def write_some(path, name, count):
    for i in range(count):
        with JournalWriter(path, wait=60) as journal:
            journal.append(Note("t1", f"{name} {i}", 5))


def test_readers_see_whole_transactions_while_one_writes(path):
    stop = FORK.Event()
    readers = [FORK.Process(target=read_along, args=(path, stop)) for _ in range(3)]
    for reader in readers:
        reader.start()
    with JournalWriter(path) as journal:
        for i in range(150):
            journal.append(insert(f"t{2 * i + 10}", iteration=6), insert(f"t{2 * i + 11}", iteration=6))
            if i % 40 == 0:
                journal.snapshot(every=0)
    stop.set()
    for reader in readers:
        reader.join()
    assert [reader.exitcode for reader in readers] == [0] * 3


def read_along(path, stop):
    journal, last = Journal(path), 0
    while not stop.is_set():
        count = len(ids(journal))
        assert count >= last and count % 2 == 0
        last = count


def batch(number):
    """What the killed writer writes: two events in one transaction that belong together."""
    skills = tuple(skill(f"t{number * 20 + i}", created=number) for i in range(20))
    return Insert(skills, number), Credit({s.id: [number / 7] for s in skills}, BETA, number)


def write_until_killed(path, pipe):
    with JournalWriter(path) as journal:
        number = len(list(journal.events())) // 2
        while True:
            pipe.send(journal.append(*batch(number)))
            number += 1
            if number % 10 == 0:
                journal.snapshot(every=0)


def kill_writers(path, times, seed):
    """Kills one writer after another at random moments; returns events that were acknowledged and are not there."""
    rng = random.Random(seed)
    JournalWriter.create(path, "any").close()
    lost = acknowledged = 0
    for _ in range(times):
        mine, theirs = FORK.Pipe(duplex=False)
        writer = FORK.Process(target=write_until_killed, args=(path, theirs))
        writer.start()
        theirs.close()
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        try:
            while True:
                acknowledged = mine.recv()
        except EOFError:
            mine.close()
        journal = Journal(path)
        found = [event for _, event in journal.events()]
        lost += max(0, acknowledged - len(found))
        assert len(found) % 2 == 0, "half a transaction"
        assert found[-2:] == list(batch(len(found) // 2 - 1)) if found else not acknowledged
        journal.verify()
        assert len(ids(journal)) == 10 * len(found)
    assert acknowledged > times // 4, "the machine is too busy: next to nothing was written before the kills"
    return lost


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path):
    assert kill_writers(tmp_path / "bank.journal", 12, seed=0) == 0


@pytest.mark.slow
def test_two_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path):
    assert kill_writers(tmp_path / "bank.journal", 200, seed=1) == 0


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """The bytes of a journal of some pages, with rewinds and snapshots."""
    path = tmp_path_factory.mktemp("long") / "bank.journal"
    with JournalWriter.create(path, "any") as journal:
        for number in range(24):
            journal.append(*batch(number))
            if number in (8, 16):
                journal.append(Rewind(journal.head().seq - 4, number))
                journal.snapshot(every=0)
    return path.read_bytes()


def read(path):
    journal = Journal(path)
    return [replayed(journal), *(replayed(journal, at=at) for at in (3, 15, 20))]


def write(path):
    with JournalWriter(path) as journal:
        journal.append(*batch(24))
        journal.append(Rewind(30, 24), *batch(25))
        journal.snapshot(every=0)
    return read(path)


def put(path, files):
    """Puts the files of a journal in place of those that are there."""
    for suffix in ("", "-wal", "-shm", "-lock"):
        sqlite_file.beside(path, suffix).unlink(missing_ok=True)
        if suffix in files:
            sqlite_file.beside(path, suffix).write_bytes(files[suffix])


def flip(files, name, path, use, times, seed):
    """Changes one bit of a file, many times; returns how often `use` noticed. It must not go on with a wrong state."""
    put(path, files)
    expected = use(path)
    rng, noticed, size = random.Random(seed), 0, len(files[name])
    for _ in range(times):
        page = rng.choice((0, rng.randrange(size // 4096)))  # the first page, and headers of pages, are small
        place = page * 4096 + rng.choice((rng.randrange(4096), rng.randrange(110)))
        changed = bytearray(files[name])
        changed[place] ^= 1 << rng.randrange(8)
        put(path, files | {name: changed})
        try:
            assert use(path) == expected, f"byte {place} changed to {changed[place]}"
        except BankError as error:
            assert path.name in str(error)
            noticed += 1
    return noticed


@pytest.mark.parametrize("use", [read, write])
def test_a_changed_byte_is_noticed_or_harmless(long, tmp_path, use):
    assert flip({"": long}, "", tmp_path / "bank.journal", use, times=80, seed=2) > 10


@pytest.mark.slow
@pytest.mark.parametrize("use", [read, write])
def test_thousands_of_changed_bytes_are_noticed_or_harmless(long, tmp_path, use):
    assert flip({"": long}, "", tmp_path / "bank.journal", use, times=3000, seed=3) > 500


def test_a_changed_byte_of_the_log_or_the_lock_is_noticed_or_harmless(path):
    crash(path)
    files = {suffix: sqlite_file.beside(path, suffix).read_bytes() for suffix in ("", "-wal", "-lock")}
    copy = path.with_name("copy")
    files["-lock"] = files["-lock"].ljust(4096)
    assert flip(files, "-wal", copy, replayed_from, times=60, seed=4) > 50
    assert flip(files, "-lock", copy, replayed_from, times=60, seed=5) == 0


def replayed_from(path):
    return replayed(Journal(path))


def test_a_file_that_was_cut_short_is_noticed_and_salvaged(long, tmp_path):
    path, kept = tmp_path / "bank.journal", []
    for size in range(len(long) - 4096, len(long) // 3, -4 * 4096 - 77):
        path.write_bytes(long[:size])
        with pytest.raises(BankError):
            read(path)
        out = tmp_path / f"saved-{size}"
        kept.append(salvage(path, out).kept)
        assert_first_events(out, kept[-1])
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > 40


def assert_first_events(path, count):
    journal = Journal(path)
    journal.verify()
    assert journal.head().seq == count
    events = [event for _, event in journal.events(rewound=True)]
    assert events[:10] == [event for number in range(5) for event in batch(number)][:count]


def test_salvage_reaches_what_precedes_the_damage(long, tmp_path):
    data, path, full = long, tmp_path / "bank.journal", 50
    path.write_bytes(data)
    assert salvage(path, tmp_path / "whole") == Salvaged(full, 0)
    for start in (0, 100, 2000):  # of the first page
        path.write_bytes(data[:start] + bytes(90) + data[start + 90 :])
        assert salvage(path, tmp_path / f"first-{start}") == Salvaged(full, 0)
    middle = data.index(batch(12)[0].skills[0].id.encode()) + 500
    path.write_bytes(data[:middle] + b"#" + data[middle + 1 :])
    assert 20 <= salvage(path, tmp_path / "middle").kept < full
    assert_first_events(tmp_path / "middle", salvage(path, tmp_path / "again").kept)
    path.write_bytes(b"nothing" * 1000)
    with pytest.raises(BankError, match="nothing in it can be read"):
        salvage(path, tmp_path / "none")


def test_a_salvaged_journal_goes_on(path):
    changed = change(path, "UPDATE events SET body = x'00' WHERE seq = 8")
    out = path.with_name("saved")
    assert salvage(changed, out).kept == 7
    with JournalWriter(out) as journal:
        assert journal.append(replace(HISTORY[7])) == 8
        assert journal.embedder == "hashed-v2/512"


def test_the_file_is_for_people_too(path):
    connection = sqlite3.connect(path)
    (body,) = connection.execute("SELECT body FROM events WHERE seq = 4").fetchone()
    assert json.loads(body)["reason"] == "shows the answer"
