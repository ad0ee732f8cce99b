"""A bank cannot be lost: whatever raises, at any line, memory and journal stay the same, and the bank opens."""

import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import d2skill.bank
from d2skill import BankError, Draft, SkillBank, SkillText
from d2skill.bank.journal import BankState, Credit, Insert, Journal, JournalWriter, salvage
from d2skill.config import BankConfig
from d2skill.types import Skill

SOURCES = str(Path(d2skill.bank.__file__).parent)
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord")


class Boom(BaseException):
    """Stands for an interrupt, a full disk, a fault of the library: anything."""


def draft(word, granularity="task", number=0):
    text = SkillText(f"about {word} {number}", f"Look for {word} {number}.", f"{word} is near")
    return Draft(granularity, text, f"find the {word} {number}", f"a room with {word}" if granularity == "step" else "")


@contextmanager
def boom_at(line):
    """Raises at the n-th line that code of the bank executes; yields a list that then is not empty."""
    left, raised = [line], []

    def trace(frame, event, _):
        if not frame.f_code.co_filename.startswith(SOURCES):
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                raised.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
                raise Boom(raised[0])
        return trace

    sys.settrace(trace)
    try:
        yield raised
    except Boom:
        pass
    finally:
        sys.settrace(None)


class Mirror:
    """The journal's own state, replayed event by event as a reader would."""

    def __init__(self, path):
        self.journal, self.state, self.seq = Journal(path), BankState(), 0

    def read(self):
        """Applies the events that came since the last time; returns their number."""
        before = self.seq
        for seq, event in self.journal.events(self.seq):
            self.state.apply(event)
            self.seq = seq
        return self.seq - before


def same(one, two):
    """Two states are equal in all their values."""
    names = ("tallies", "marks", "notes", "repeats", "influence", "vouched", "credited_tasks", "_last_number")
    return (
        all(getattr(one, name) == getattr(two, name) for name in names)
        and {id: into for id, into in one.merged.items() if into} == {i: m for i, m in two.merged.items() if m}
        and all(list(one._texts[name]) == list(two._texts[name]) for name in one._texts)
        and all(np.array_equal(one._numbers[name], two._numbers[name]) for name in one._numbers._arrays)
    )


def random_call(bank, rng):
    """A call of a bank by somebody who does not look: some of them are refused."""
    known = [skill.id for skill in bank.skills(status=None)] or ["t1"]
    some = [known[int(n)] for n in rng.integers(len(known), size=2)]
    kind, word, number = rng.integers(11), WORDS[int(rng.integers(len(WORDS)))], int(rng.integers(12))
    drafts = [draft(word, ("task", "step")[int(n)], number) for n in rng.integers(2, size=2)]
    calls = [
        lambda: bank.insert(drafts),
        lambda: bank.insert(drafts, bank.iteration + int(rng.integers(-1, 2))),
        lambda: bank.credit({one: [float(rng.uniform(-1.1, 1.1))] for one in some}),
        lambda: bank.count_retrievals(some),
        lambda: bank.evict(bank.iteration + 1),
        lambda: bank.hold(some, reason="odd"),
        lambda: bank.admit(some),
        lambda: bank.merge(granularity="task"),
        lambda: bank.settle(),
        lambda: bank.knowledge.revise({some[0]: draft(word, "task", number).text}, bank.iteration),
    ]
    if kind < len(calls):
        return calls[int(kind)]

    def batch():
        with bank.batch(bank.iteration + int(rng.integers(-1, 2))):
            for call in (calls[0], calls[2], calls[3]):
                call()

    return batch


def opened(path):
    return SkillBank.open(path, bank=BankConfig(task_capacity=20, step_capacity=20, protect=0), create=True)


def life(path, steps, seed):
    """Random calls with an exception at a random line of half of them."""
    rng, told = np.random.default_rng(seed), []
    bank = opened(path)
    bank.subscribe(told.append)
    mirror, counts = Mirror(path), {"raised": 0, "refused": 0, "unsure": 0}
    for step in range(steps):
        call = random_call(bank, rng)
        try:
            with boom_at(int(2 ** rng.uniform(0, 11)) if rng.random() < 0.5 else math.inf) as raised:
                call()
        except BankError:
            counts["refused"] += 1
            assert mirror.read() == 0, "a call that is refused changes nothing"
        counts["raised"] += bool(raised)
        if raised and not bank._ledger._unsure:
            with bank.batch():
                pass  # an interrupt while a change was taken back leaves the rest to the next change
        mirror.read()
        if bank._ledger._unsure:
            counts["unsure"] += 1
            with pytest.raises(BankError, match="open"):
                bank.hold("t1")
        else:
            assert same(bank._state, mirror.state), raised
            assert len(told) == mirror.seq or raised, "an interrupt may lose what was to be told"
            told[:] = [None] * mirror.seq
        if bank._ledger._unsure or step % 250 == 0:
            bank.close()
            bank = opened(path)
            bank.subscribe(told.append)
            assert same(bank._state, mirror.state)
        if step % 100 == 0:
            queries = [f"find the {word} 3" for word in WORDS]
            assert bank.retrieve_task(queries) == SkillBank.open(path, bank=bank._bank).retrieve_task(queries)
    bank.close()
    Journal(path).verify()
    return counts


def test_any_exception_at_any_line_leaves_a_whole_bank(tmp_path):
    counts = life(tmp_path / "bank.db", 400, 0)
    assert counts["raised"] > 100 and counts["refused"] > 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_calls_with_exceptions_leave_a_whole_bank(tmp_path):
    raised = [life(tmp_path / f"{seed}.db", 500, seed)["raised"] for seed in range(1, 21)]
    assert sum(raised) > 2_000


@pytest.mark.parametrize("what", ["append", "apply", "update", "subscriber", "note", "commit"])
def test_an_exception_at_each_part_of_a_change(tmp_path, monkeypatch, what):
    path = tmp_path / "bank.db"
    with opened(path) as bank:
        bank.insert(draft("amber"))
        before = bank._state.dump()

        def boom(*_args, **_more):
            raise Boom

        if what == "subscriber":
            bank.subscribe(boom)
        elif what == "commit":
            monkeypatch.setattr("d2skill.bank.journal.sqlite_file.append", boom)
        else:
            owner = {
                "append": bank._ledger.writer,
                "apply": BankState,
                "update": bank._index,
                "note": bank._ledger.writer._lock,
            }[what]
            monkeypatch.setattr(owner, what, boom)
        with pytest.raises(Boom), bank.batch():
            bank.insert(draft("birch"))
            bank.credit({"t2": 0.5})
        monkeypatch.undo()
        bank._ledger.subscribers.clear()
        recorded = what in ("subscriber", "note")  # what comes after the event is on disk does not take it back
        assert (bank._state.dump() == before) == (not recorded)
        assert Journal(path).replay().dump() == bank._state.dump()
        bank.credit({"t1": 0.5})
    assert SkillBank.open(path).get("t1").credits == 1


def test_a_block_that_raises_takes_back_its_own_part_alone(tmp_path):
    with opened(tmp_path / "bank.db") as bank, bank.batch(3):
        bank.insert(draft("amber"))
        with pytest.raises(ZeroDivisionError), bank.batch():
            bank.insert(draft("birch"))
            bank.hold("t1")
            raise ZeroDivisionError
        bank.insert(draft("cedar"))
        assert [skill.text.title for skill in bank.skills()] == ["about amber 0", "about cedar 0"]
    assert SkillBank.open(tmp_path / "bank.db").skills() == bank.skills()
    assert bank.skills()[1].id == "t2", "the number of what was taken back is given anew"


def test_a_bank_in_memory_is_taken_back_as_well():
    bank = SkillBank()
    bank.insert([draft("amber"), draft("birch", "step")])
    before, found = bank._state.dump(), bank.retrieve_task("find the amber 0")
    with pytest.raises(BankError), bank.batch():
        bank.merge(similarity=0.1)
        bank.admit("s1", reason="again")
        bank.insert(draft("cedar"))
        bank.credit({"t9": 0.5})
    assert bank._state.dump() == before and bank.retrieve_task("find the amber 0") == found


def broken(path):
    """A journal as an earlier version could leave it: the credit of a skill that it does not have."""
    with JournalWriter.create(path, "hashed-v2/512") as writer:
        skill = Skill("t1", "task", SkillText("Look", "Open it.", "always"), "find it")
        writer.append(Insert((skill,), 0))
        writer.append(Credit({"t7": [0.5]}, {"task": 0.1, "step": 0.1}, 1))
        writer.append(Credit({"t1": [0.5]}, {"task": 0.1, "step": 0.1}, 2))


def test_verify_finds_what_cannot_be_replayed_and_salvage_keeps_the_rest(tmp_path):
    path, out = tmp_path / "bank.db", tmp_path / "saved.db"
    broken(path)
    for read in (lambda: Journal(path).verify(), lambda: SkillBank.open(path)):
        with pytest.raises(BankError, match=r"event 2 cannot be replayed: there is no skill 't7' .*bank salvage"):
            read()
    assert salvage(path, out).kept == 1
    Journal(out).verify()
    assert [skill.id for skill in SkillBank.open(out).skills()] == ["t1"]


def test_verify_and_salvage_follow_rewinds(tmp_path):
    path, out = tmp_path / "bank.db", tmp_path / "saved.db"
    with opened(path) as bank:
        for word in WORDS[:3]:
            bank.insert(draft(word))
    for event, word in ((1, "delta"), (3, "ember"), (1, "fjord")):
        bank = SkillBank.open(path, event=event)
        bank.record(path, back_to=event)
        bank.insert(draft(word))
        bank.close()
    Journal(path).verify()
    assert salvage(path, out) == (9, 0)
    assert SkillBank.open(out).skills() == bank.skills()


def test_what_cannot_be_done_inside_a_batch_is_refused(tmp_path):
    bank = SkillBank()
    with bank.batch():
        bank.insert(draft("amber"))
        with pytest.raises(BankError, match="a batch has not ended, and the bank cannot be tied to a journal before"):
            bank.record(tmp_path / "bank.db")
    bank.record(tmp_path / "bank.db")
    with bank.batch():
        bank.insert(draft("birch"))
        with pytest.raises(BankError, match="a batch has not ended, and the bank cannot be closed before"):
            bank.close()
    bank.close()
    assert SkillBank.open(tmp_path / "bank.db").skills() == bank.skills()


def test_a_subscriber_may_change_the_bank(tmp_path):
    with opened(tmp_path / "bank.db") as bank:
        bank.insert(draft("amber"))
        bank.subscribe(lambda event: bank.hold("t1", reason="bad") if isinstance(event, Credit) else None)
        with bank.batch():
            bank.credit({"t1": -0.5})
        bank.insert(draft("birch"))
        assert bank.status("t1") == "held"
    assert SkillBank.open(tmp_path / "bank.db").status("t1") == "held"


def test_one_file_has_one_writer_whatever_its_name(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "bank.db")
    with opened(tmp_path / "bank.db") as bank:
        with pytest.raises(BankError, match="open for writing already"):
            opened(tmp_path / "link.db")
        bank.insert(draft("amber"))


def test_another_process_or_thread_cannot_write(tmp_path):
    with opened(tmp_path / "bank.db") as bank:
        bank.insert(draft("amber"))
        if (child := os.fork()) == 0:
            try:
                bank.insert(draft("birch"))
            except BankError as error:
                os._exit(0 if "was opened in another process" in str(error) else 2)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        with ThreadPoolExecutor(1) as pool, pytest.raises(BankError, match="was opened in another thread"):
            pool.submit(bank.insert, draft("birch")).result()
        bank.insert(draft("cedar"))
    Journal(tmp_path / "bank.db").verify()
    assert len(SkillBank.open(tmp_path / "bank.db")) == 2


def test_a_bank_that_was_changed_before_it_is_recorded_is_refused(tmp_path):
    with opened(tmp_path / "bank.db") as bank:
        bank.insert(draft("amber"))
    bank = SkillBank.open(tmp_path / "bank.db")
    bank._ledger.refusal = ""
    bank.hold("t1")
    with pytest.raises(BankError, match="holds other skills than this bank"):
        bank.record(tmp_path / "bank.db")
