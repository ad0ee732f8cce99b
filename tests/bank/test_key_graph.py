"""The approximate index, with the real library: what it finds is ranked as in the exact answer."""

import builtins
from collections import Counter

import numpy as np
import pytest

from d2skill.bank import Draft, SkillBank, kept_keys, key_graph, ranking
from d2skill.bank.key_graph import DigestOrder, KeyGraph
from d2skill.config import BankConfig, RetrievalConfig
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.errors import ConfigError
from d2skill.types import SkillText

pytest.importorskip("usearch")
EMBEDDER = HashedEmbedder(64, 0.1, 0.1)
COLOURS, THINGS = "red blue green white black pink".split(), "mug egg pan lamp fork plate bowl apple".split()
GOALS = [f"put {a} {one} beside {b} {two}" for a in COLOURS for one in THINGS for b in COLOURS for two in THINGS[:3]]
QUERIES = [f"take {a} {one} and {b} lamp" for a in COLOURS[:4] for one in THINGS for b in COLOURS[2:]]


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch):
    monkeypatch.setattr(key_graph, "GRAPH_FROM", 10)
    monkeypatch.setattr(ranking, "LARGE", 10)
    monkeypatch.setattr(kept_keys, "are_many", lambda new, all_keys: new > 0)


def draft(number, goal):
    return Draft("task", SkillText(f"Title {number}", f"Principle {number} of its own", "always"), goal)


def make(index="ann", path=None, **settings):
    bank = BankConfig(skills="paper", task_capacity=9999, protect=0, duplicate=1)
    config = bank, RetrievalConfig(index=index, **settings)
    made = SkillBank.open(path, EMBEDDER, *config) if path else SkillBank(EMBEDDER, *config)
    made._ledger.refusal = ""  # changed in memory, to see what it does
    return made


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A bank of 864 task skills; three keys are shared by 30 more each."""
    made = make("exact")
    path = tmp_path_factory.mktemp("bank") / "bank.db"
    made.record(path)
    made.insert([draft(number, goal) for number, goal in enumerate(GOALS)], 0)
    made.insert([draft(1000 + number, GOALS[number % 3]) for number in range(90)], 0)
    made.credit({skill.id: [(number % 7) / 7] for number, skill in enumerate(made.skills())})
    made.close()
    return path


def agreement(one, two, queries=QUERIES):
    """The share of the answers of the second that the first has too; skills as similar to a query are as good."""
    pairs = list(zip(one.retrieve_task(queries), two.retrieve_task(queries), strict=True))
    hits = sum((Counter(x.similarity for x in a) & Counter(x.similarity for x in b)).total() for a, b in pairs)
    return hits / sum(len(b) for _, b in pairs)


def test_nearly_all_is_found_and_scored_to_the_bit(path):
    exact, ann = make("exact", path, alpha=1.0), make("ann", path, alpha=1.0)
    assert agreement(ann, exact) > 0.99
    assert ann.recall() == {"task": pytest.approx(1, abs=0.03)}, "no graph for the step skills, of which there are none"
    assert exact.recall() == {}


def test_equal_keys_come_with_the_lowest_rows_and_utilities_rank_them(path):
    exact, ann = make("exact", path), make("ann", path)
    assert ann.retrieve_task(GOALS[:3]) == exact.retrieve_task(GOALS[:3])
    assert {one.skill.task_text for found in ann.retrieve_task(GOALS[:3]) for one in found} == {*GOALS[:3]}


def test_insertions_evictions_and_admissions_in_training(path, tmp_path):
    exact, ann = make("exact", alpha=1.0), make("ann", alpha=1.0)
    for bank in (exact, ann):
        bank.copy_from(path)
        bank.record(tmp_path / f"{bank._retrieval.index}.db")
    rng = np.random.default_rng(0)
    for iteration in range(1, 6):
        ids = [skill.id for skill in exact.skills()]
        gone = rng.choice(ids, 150, replace=False).tolist()
        for bank in (exact, ann):
            with bank.batch(iteration):
                if iteration == 4:
                    bank.admit(["t1", "t2"], iteration)
                bank.hold(gone[:20] if iteration != 4 else gone[:2], iteration, "strange")
                bank._capacity["task"] = len(bank) - 130
                bank.evict(iteration)
                bank.insert(
                    [draft(f"{iteration}-{n}", f"clean {QUERIES[n]} {iteration}") for n in range(40)], iteration
                )
                bank.credit({skill.id: [0.5] for skill in bank.skills()[-9:]})
        assert [skill.id for skill in exact.skills()] == [skill.id for skill in ann.skills()]
        assert agreement(ann, exact) > 0.99
        found = ann.retrieve_task([f"clean {QUERIES[7]} {iteration}"])[0]
        assert found[0].similarity > 0.99 and {ann.status(one.skill.id) for one in found} == {"active"}
    ann.close()
    assert agreement(make("ann", tmp_path / "ann.db", alpha=1.0), exact) > 0.99, "as another process reads it"
    assert (tmp_path / "ann.db-task-graph").exists() and not (tmp_path / "exact.db-task-graph").exists()


def test_where_most_neighbours_are_held_the_exact_answer_comes(path):
    exact, ann = make("exact", path), make("ann", path)
    ann.retrieve_task(QUERIES)
    near = [one.id for one in exact.skills() if "red mug" in one.task_text]
    assert len(near) > 50
    for bank in (exact, ann):
        bank.hold(near, 1, "strange")
    ann._index._graphs["task"].update = lambda *_: None  # their nodes stay in the graph
    query = ["put red mug beside red mug"]
    assert ann.retrieve_task(query) == exact.retrieve_task(query) != [()]


def test_the_graph_is_kept_and_grows(path, monkeypatch):
    first = make("ann", path, alpha=1.0)
    answer = first.retrieve_task(QUERIES)
    file = path.with_name("bank.db-task-graph")
    assert file.exists()
    added = []
    index_class = key_graph.import_usearch().index.Index
    original = index_class.add

    def add(self, keys, vectors, **rest):
        added.extend(keys.tolist())
        return original(self, keys, vectors, **rest)

    monkeypatch.setattr(index_class, "add", add)
    again = make("ann", path, alpha=1.0)
    assert again.retrieve_task(QUERIES) == answer and added == []
    again.insert([draft(5000, "a new goal with a lamp"), draft(5001, GOALS[5])], 1)
    assert again.retrieve_task(["a new goal with a lamp"])[0][0].similarity == 1.0
    assert len(added) == 1, "the other key was there already"
    file.write_bytes(file.read_bytes()[:-100])
    make("ann", path).retrieve_task(QUERIES)
    assert len(added) == 1 + len({*GOALS}), "a damaged file is made again"


def test_nodes_of_skills_that_left_are_removed_once_they_are_many():
    rng = np.random.default_rng(1)
    keys = rng.standard_normal((300, 32)).astype(np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    digests = np.arange(1, 301).astype(np.uint64)
    graph = KeyGraph(None, "any", 32)
    graph.update(digests, keys)
    graph.update(digests[:250], keys[:250])
    assert len(graph._index) == 300
    graph.update(digests[200:], keys[200:])
    assert len(graph._index) == 100
    near = graph.near(keys[200:], DigestOrder.of(digests[200:], np.arange(100)), 3)
    assert (near[:, 0] == np.arange(100)).mean() > 0.99


def test_small_pools_are_compared_exactly_and_need_no_graph(path, monkeypatch):
    monkeypatch.setattr(key_graph, "GRAPH_FROM", 100_000)
    monkeypatch.setattr(key_graph.KeyGraph, "near", None)
    assert make("ann", path).retrieve_task(QUERIES) == make("exact", path).retrieve_task(QUERIES)


def test_a_missing_package_is_one_sentence(monkeypatch):
    original = builtins.__import__

    def without(name, *rest):
        if name.startswith("usearch"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ConfigError, match=r'needs the package usearch: pip install "d2skill\[ann\]", or set it to "exact"'
    ):
        make("ann")
    make("exact")
