"""Keys and states beside the journal: with them all is as it would be without, but nothing is embedded twice."""

import multiprocessing
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from d2skill.bank import Draft, SkillBank, kept_keys, ranking
from d2skill.bank.index import KeyIndex
from d2skill.bank.journal import Change, Journal, kept_state
from d2skill.bank.kept_keys import KeptKeys
from d2skill.config import BankConfig, RetrievalConfig
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.types import SkillText

FORK = multiprocessing.get_context("fork")
GOALS = ["put some mug in shelf", "heat some egg and put it in fridge", "cool some mug and put it in shelf", "the ..."]
ROOMS = ["You see a drawer 4. It is closed.", "You are in a room:\na bed 1, a desk 2.", "the ..."]
WORDS = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove"]


class Counting(HashedEmbedder):
    """Counts how often each text was embedded."""

    def __init__(self, dimension=64):
        super().__init__(dimension, 0.0, 0.0)
        self.texts = Counter()

    def embed(self, texts):
        self.texts.update(texts)
        return super().embed(texts)


PAPER = BankConfig(skills="paper")


def text(word):
    return SkillText(f"Title {word}", f"Principle about {word} and {word}ish things", "When needed")


def task(word, goal=GOALS[0]):
    return Draft("task", text(word), goal, source_task="game-1")


def step(word, goal=GOALS[0], room=ROOMS[0]):
    return Draft("step", text(word), goal, room)


def opened(path, embedder=None, **until):
    capacity = BankConfig(skills="paper", task_capacity=6, step_capacity=6, protect=1)
    return SkillBank.open(path, embedder or Counting(), capacity, RetrievalConfig(), **until)


def answers(bank):
    steps = [(goal, room) for goal in GOALS for room in ROOMS]
    return [
        (bank.retrieve_task(GOALS, trial=trial), bank.retrieve_step(steps, trial=trial), bank.retrieve_task(GOALS[1:2]))
        for trial in (False, True)
    ]


def kept_files(path):
    return sorted(file for file in path.parent.iterdir() if file.name.endswith(("-keys", "-state")))


def filled(path, count=200):
    """A journal of so many skills of each granularity, all with keys of their own."""
    bank = SkillBank(Counting(), BankConfig(skills="paper", task_capacity=count, step_capacity=count))
    bank.record(path)
    drafts = [make("amber", f"amber {n}") for make in (step, task) for n in range(count)]
    bank.insert(drafts, 0)
    bank.close()
    for file in kept_files(path):
        file.unlink()
    return path


@pytest.fixture
def path(tmp_path):
    return filled(tmp_path / "bank.db")


class LifeWithFiles(RuleBasedStateMachine):
    """Any life of a bank with files beside it: whatever happens to them, it answers as one without."""

    folder = None

    def __init__(self):
        super().__init__()
        self.path = Path(tempfile.mkdtemp(dir=self.folder)) / "bank.db"
        bank = SkillBank(Counting(), PAPER)
        bank.record(self.path)
        bank.close()
        self.bank = opened(self.path)
        self.bank.record(self.path)
        self.now, self.copies = 0, []

    def teardown(self):
        self.bank.close()

    def reopen(self, **until):
        self.bank = opened(self.path, **until)
        self.bank.record(self.path, back_to=until.get("event"))

    def without_files(self):
        """A copy of the journal alone."""
        bare = Path(tempfile.mkdtemp(dir=self.folder)) / "bank.db"
        for file in self.path.parent.glob("bank.db*"):
            if file not in kept_files(self.path) and not file.name.endswith(("-shm", "-lock")):
                shutil.copy(file, bare.with_name(file.name))
        return bare

    def insert_as_without(self, drafts):
        bare = opened(self.without_files())
        bare.record(bare.path)
        expected = bare.insert(drafts, self.now)
        bare.close()
        with self.bank.batch(self.now):
            assert self.bank.insert(drafts, self.now) == expected

    @rule(words=st.lists(st.sampled_from(WORDS), max_size=5), goal=st.sampled_from(GOALS), room=st.sampled_from(ROOMS))
    def insert(self, words, goal, room):
        self.insert_as_without([task(word, goal) for word in words] + [step(word, goal, room) for word in words])

    @precondition(lambda self: len(self.bank))
    @rule(data=st.data(), again=st.booleans())
    def retire(self, data, again):
        skill = data.draw(st.sampled_from(self.bank.skills()))
        self.bank.apply(Change("retired", (skill.id,), self.now))
        if again:
            self.insert_as_without([Draft(skill.granularity, skill.text, skill.task_text, skill.observation)])

    @precondition(lambda self: len(self.bank))
    @rule(data=st.data(), signal=st.sampled_from([-1.0, 0.5, 1.0]))
    def credit(self, data, signal):
        skill = data.draw(st.sampled_from(self.bank.skills()))
        self.bank.credit({skill.id: [signal]})
        self.bank.count_retrievals({skill.id: 2})

    @rule()
    def evict(self):
        self.now += 1
        self.bank.evict(self.now)

    @precondition(lambda self: self.bank.skills(status=None))
    @rule(data=st.data())
    def hold_or_admit(self, data):
        skill = data.draw(st.sampled_from(self.bank.skills(status=None)))
        (self.bank.hold if self.bank.status(skill.id) == "active" else self.bank.admit)([skill.id], self.now)

    @rule()
    def fail_in_the_middle(self):
        with pytest.raises(KeyboardInterrupt), self.bank.batch(self.now):
            self.bank.insert([task("lost", "not in the journal")], self.now)
            answers(self.bank)
            raise KeyboardInterrupt
        self.bank.insert([task("delta", "after what is not in the journal")], self.now)
        answers(self.bank)
        self.bank.close()
        self.reopen()

    @rule(data=st.data())
    def go_back(self, data):
        event = data.draw(st.integers(0, self.bank.last_event))
        self.bank.close()
        self.reopen(event=event)
        self.now = Journal(self.path).head().iteration

    @rule()
    def copy_everything(self):
        """The writer may die at any time, so each file may be of any time."""
        self.bank.close()
        copy = Path(tempfile.mkdtemp(dir=self.folder))
        for file in (self.path, *kept_files(self.path)):
            shutil.copy(file, copy)
        self.copies.append((copy, self.now))
        self.reopen()

    @precondition(lambda self: self.copies)
    @rule(data=st.data(), journal_too=st.booleans())
    def find_older_files(self, data, journal_too):
        copy, now = data.draw(st.sampled_from(self.copies))
        self.bank.close()
        for file in copy.iterdir():
            if journal_too or file.name != self.path.name:
                shutil.copy(file, self.path.parent)
        if journal_too:
            self.path.with_name("bank.db-lock").unlink()
            self.now = now
        self.reopen()

    @precondition(lambda self: kept_files(self.path))
    @rule(data=st.data(), cut=st.booleans())
    def damage(self, data, cut):
        self.bank.close()
        file = data.draw(st.sampled_from(kept_files(self.path)))
        content = bytearray(file.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(content[:at] if cut else content)
        self.reopen()

    @rule()
    def exchange_the_files_of_both_pools(self):
        self.bank.close()
        files = kept_files(self.path)
        for file, other in zip(files, [other.read_bytes() for other in reversed(files)], strict=True):
            file.write_bytes(other)
        self.reopen()

    @invariant()
    def all_answer_as_one_without_files(self):
        bare = self.without_files()
        for at in {None, 0, min(self.now - 1, opened(bare).iteration)} - {-1}:
            plain, own = opened(bare, at=at), opened(self.path, at=at)
            assert own.skills(status=None) == plain.skills(status=None)
            assert answers(own) == answers(plain)
            for granularity in ("task", "step"):
                rows = own._state.rows(granularity, "active")
                found = own._index.search_set(granularity)
                assert found.rows[slice(None) if found.shown is None else found.shown].tolist() == rows.tolist()
            for file in kept_files(bare):
                file.unlink()
        assert answers(self.bank) == answers(opened(bare))
        shutil.rmtree(bare.parent)


@pytest.mark.parametrize("large", [ranking.LARGE, 2])
def test_any_life_of_a_bank_with_files(tmp_path, monkeypatch, large):
    monkeypatch.setattr(kept_keys, "are_many", lambda new, all_keys: new > 0)
    monkeypatch.setattr(kept_state, "KEPT_FROM", 1)
    monkeypatch.setattr(ranking, "LARGE", large)
    LifeWithFiles.folder = tmp_path
    run_state_machine_as_test(LifeWithFiles, settings=settings(max_examples=15, stateful_step_count=12, deadline=None))


def test_the_first_reader_keeps_the_keys_and_later_ones_embed_queries_only(path):
    embedder = Counting()
    first = answers(opened(path, embedder))
    assert max(embedder.texts.values()) == 1 and len(embedder.texts) > 200
    assert [file.name for file in kept_files(path)] == ["bank.db-step-keys", "bank.db-task-keys"]
    embedder = Counting()
    assert answers(opened(path, embedder)) == first
    assert embedder.texts.keys() <= {*GOALS, *ROOMS}
    for file in kept_files(path):
        file.unlink()
    assert answers(opened(path)) == first, "to delete them loses nothing"


def test_few_new_keys_are_embedded_again_and_many_are_kept(path):
    answers(opened(path))
    written = {file: file.stat().st_mtime_ns for file in kept_files(path)}

    def add(count, start):
        bank = opened(path)
        bank.record(path)
        bank.insert([task("birch", f"birch {n}") for n in range(start, start + count)], 1)
        bank.close()
        return {file.name[8:] for file in kept_files(path) if file.stat().st_mtime_ns != written[file]}

    assert add(5, 0) == set()
    embedder = Counting()
    answers(opened(path, embedder))
    assert {one for one in embedder.texts if one not in (*GOALS, *ROOMS)} == {f"birch {n}" for n in range(5)}
    assert add(80, 5) == {"task-keys"}
    embedder = Counting()
    answers(opened(path, embedder))
    assert embedder.texts.keys() <= {*GOALS, *ROOMS}


@pytest.mark.parametrize("large", [ranking.LARGE, 2])
def test_skills_that_left_leave_the_others_with_their_keys(path, monkeypatch, large):
    monkeypatch.setattr(ranking, "LARGE", large)
    answers(opened(path))
    bank = opened(path)
    bank.record(path)
    gone = ["t1", "t7", "s3", "s200"]
    bank.apply(Change("retired", tuple(gone), 1))
    texts = [bank.get(skill_id) for skill_id in gone]
    assert bank.retrieve_task([texts[0].task_text])[0][0].skill.id != "t1"
    said_again = [Draft(s.granularity, s.text, s.task_text, s.observation) for s in texts]
    assert [one.reason for one in bank.insert(said_again + said_again[:1], 1)] == ["added"] * 4 + ["duplicate of t201"]
    bank.close()
    for one in (bank, opened(path)):
        for kind in ("task", "step"):
            found, plain = one._index.search_set(kind), KeyIndex(one._state, Counting()).search_set(kind)
            shown = slice(None) if found.shown is None else found.shown
            assert np.array_equal(found.rows[shown], plain.rows) and np.array_equal(found.keys[shown], plain.keys)


def test_a_row_that_became_a_skill_of_the_other_kind_is_not_taken_for_what_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(ranking, "LARGE", 2)
    monkeypatch.setattr(kept_keys, "are_many", lambda new, all_keys: new > 0)
    goals = [f"amber {n}" for n in range(9)]
    bank = SkillBank(Counting(), PAPER)
    bank.record(path := tmp_path / "bank.db")
    bank.insert([task("amber", goal) for goal in goals], 0)
    bank.close()
    file = path.with_name("bank.db-task-keys")
    earlier = file.read_bytes()
    bank = opened(path, event=0)
    bank.record(path, back_to=0)
    bank.insert([step("amber", goal, "") if goal == "amber 4" else task("amber", goal) for goal in goals], 0)
    bank.close()
    file.write_bytes(earlier)
    found = opened(path)
    assert [one.skill.granularity for one in found.retrieve_task(["amber 4"])[0]] == ["task"]
    assert found._index.search_set("task").rows.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


def test_keys_of_another_embedder_do_not_count(path, tmp_path):
    answers(opened(path))
    other = Counting(32)
    made = SkillBank(other, PAPER)
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    made.record(elsewhere / "bank.db")
    made.insert([task("amber", f"amber {n}") for n in range(100)], 0)
    made.close()
    for file in kept_files(path):
        shutil.copy(file, elsewhere)
    found = opened(elsewhere / "bank.db", other).retrieve_task(["amber 7"])
    assert found == made.retrieve_task(["amber 7"]) and found[0][0].similarity == 1.0


def test_a_bank_in_memory_writes_no_keys_of_what_its_journal_lacks(path):
    bank = opened(path)
    bank._ledger.refusal = ""
    bank.insert([task("birch", f"birch {n}") for n in range(300)], 1)
    assert bank.retrieve_task(["birch 1"])[0]
    answers(bank)
    kept = KeptKeys.replay(Journal(path))[2]
    assert len(kept.read("task", Journal(path).replay())[0]) == 200


def test_a_bank_that_is_closed_writes_no_keys(path):
    closed = opened(path)
    closed.record(path)
    closed.close()
    other = opened(path, event=0)
    other.record(path, back_to=0)
    other.insert([task("birch", f"birch {n}") for n in range(200)], 1)
    other.close()
    for file in kept_files(path):
        file.unlink()
    answers(closed)
    assert kept_files(path) == [] and opened(path).retrieve_task(["birch 7"])[0][0].similarity == 1.0


def test_two_readers_at_once(path):
    def read(number):
        Path(f"{path}.{number}").write_text(repr(answers(opened(path))))

    readers = [FORK.Process(target=read, args=(number,)) for number in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    one, two = (Path(f"{path}.{number}").read_text() for number in range(2))
    assert one == two == repr(answers(opened(path)))
    assert not list(path.parent.glob("*.part"))


def test_a_reader_does_not_disturb_the_writer(path):
    writer = opened(path)
    writer.record(path)
    with writer.batch(1):
        writer.insert([task("birch", "birch 1")], 1)
        reader = opened(path)
        assert "birch 1" not in {skill.task_text for skill in reader.skills()}
        answers(reader)
        writer.insert([task("cedar", "cedar 1")], 1)
    assert {"birch 1", "cedar 1"} <= {skill.task_text for skill in opened(path).skills()}
    assert answers(writer) == answers(opened(path))
    writer.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_folder_that_cannot_be_written(path, monkeypatch):
    monkeypatch.setattr(kept_state, "KEPT_FROM", 1)
    expected = answers(opened(path))
    for file in (*kept_files(path), path.with_name("bank.db-lock")):
        file.unlink()
    for folder in (path.parent, *path.parent.parents):
        folder.chmod((folder.stat().st_mode | 0o555) & 0o7755)

    def read():
        os.setuid(65534)
        assert answers(opened(path)) == expected

    reader = FORK.Process(target=read)
    reader.start()
    reader.join()
    assert reader.exitcode == 0 and [file.name for file in path.parent.iterdir()] == ["bank.db"]


def test_a_bank_that_starts_from_another_takes_its_keys(path, tmp_path):
    answers(opened(path))
    for name in ("a.db", "b.db"):
        embedder = Counting()
        new = SkillBank(embedder, PAPER)
        new.copy_from(path if name == "a.db" else tmp_path / "a.db")
        new.record(tmp_path / name)
        assert answers(new) == answers(opened(path)) and embedder.texts.keys() <= {*GOALS, *ROOMS}
        new.close()
    held = opened(path)
    held.record(path)
    held.hold(["t3", "s5"], 1)
    held.close()
    new = SkillBank(Counting(), PAPER)
    new.copy_from(path)
    assert answers(new) == answers(opened(path))
    assert len(new.skills()) == len(held.skills()) == 398


def test_the_state_of_a_large_bank_is_kept_and_earlier_snapshots_are_read(path, monkeypatch):
    expected = Journal(path).replay().dump()
    monkeypatch.setattr(kept_state, "KEPT_FROM", 1)
    assert Journal(path).replay().dump() == expected
    (file,) = kept_files(path)
    applied = []
    monkeypatch.setattr("d2skill.bank.journal.journal.decode", lambda body: applied.append(body))
    assert Journal(path).replay().dump() == expected and applied == [], "no event is read again"
    monkeypatch.undo()
    file.unlink()
    bank = opened(path)
    bank.record(path)
    bank._ledger.writer.snapshot(every=0)
    bank.close()
    assert kept_files(path) == [] and Journal(path).replay().dump() == expected
    Journal(path).verify()


def test_a_past_state_is_not_kept(path, monkeypatch):
    monkeypatch.setattr(kept_state, "KEPT_FROM", 1)
    monkeypatch.setattr(kept_keys, "are_many", lambda new, all_keys: new > 0)
    writer = opened(path)
    writer.record(path)
    writer.insert([task("birch", "birch 1")], 1)
    writer.close()
    for file in kept_files(path):
        file.unlink()
    answers(opened(path, at=0))
    answers(opened(path, event=1))
    assert kept_files(path) == []


def test_an_index_without_a_journal_keeps_nothing(path):
    KeyIndex(Journal(path).replay(), Counting()).search_set("task")
    assert kept_files(path) == []


def test_all_keys_are_the_same_to_the_bit(path):
    made = {kind: opened(path)._index.search_set(kind).keys.copy() for kind in ("task", "step")}
    for kind, keys in made.items():
        assert np.array_equal(opened(path)._index.search_set(kind).keys, keys)
