"""Splits of sets of questions: sizes, order, and nothing that leaks from one into another."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from d2skill.envs.search_qa.questions import QAQuestion, read_folder
from d2skill.envs.search_qa.scoring import normalise
from d2skill.envs.search_qa.splits import PARTS, Leaks, split_sets


def made(name, count, text="question {} of {}"):
    return [QAQuestion(f"test_{n}", text.format(n, name), (f"answer {n}",), name) for n in range(count)]


def sizes(parts, name):
    return [len(parts[part][name]) for part in ("train", "validation", "test")]


def test_a_thousand_questions_are_cut_700_100_200():
    sets = {"nq": made("nq", 1000), "popqa": made("popqa", 1000)}
    parts = split_sets(sets, (), 0)
    assert sizes(parts, "nq") == sizes(parts, "popqa") == [700, 100, 200]
    assert {one.id for one in parts["test"]["nq"]} != {one.id for one in parts["test"]["popqa"]}
    assert split_sets(sets, (), 1)["test"] != parts["test"]


@given(
    texts=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    panel=st.sets(st.integers(0, 40), max_size=4),
    seed=st.integers(),
    order=st.randoms(use_true_random=False),
)
def test_no_question_is_in_two_parts_and_the_order_of_files_does_not_matter(texts, panel, seed, order):
    forms = ("who is number {}", "Who is the number {}?")
    questions = [
        QAQuestion(f"q{place}", forms[place % 2].format(text), ("x",), ("nq", "popqa")[place % 3 == 0])
        for place, text in enumerate(texts)
    ]
    panels = [QAQuestion("p", f"who is number {text}", ("x",), "bamboogle") for text in panel]
    sets = {name: [one for one in questions if one.set == name] for name in ("nq", "popqa")}
    parts = split_sets(sets, panels, seed)
    asked = {part: {normalise(one.text) for one in chain(*parts[part].values())} for part in PARTS}
    assert sum(map(len, asked.values())) == len(set().union(*asked.values()))
    assert sorted(one.id for sets in parts.values() for one in chain(*sets.values())) == sorted(
        one.id for one in questions
    )
    assert not (asked["train"] | asked["validation"]) & {normalise(one.text) for one in panels}
    shuffled = {name: order.sample(members, len(members)) for name, members in reversed(sets.items())}
    again = split_sets(shuffled, panels, seed)
    assert all(again[part][name] == parts[part][name] for part in PARTS for name in sets)


def test_leaks_are_counted():
    train = [QAQuestion("1", "who wrote Emma?", ("Jane Austen", "Austen"), "nq")]
    test = [
        QAQuestion("2", "Who wrote the Emma", ("nobody",), "nq"),
        QAQuestion("3", "who wrote Persuasion", ("the Austen",), "nq"),
        QAQuestion("4", "who wrote Ulysses", ("James Joyce",), "nq"),
    ]
    assert Leaks.between(test, train) == Leaks(questions=1, answers=1, count=3)


def test_the_real_sets_share_no_question_and_as_many_answers_as_docs_say(real_folder, docs):
    sets = read_folder(real_folder, real_folder / "corpus.jsonl")
    parts = split_sets({name: sets[name] for name in ("nq", "triviaqa", "popqa")}, (), 0)
    assert {name: sizes(parts, name) for name in sets} == {
        "nq": [700, 100, 200],
        "triviaqa": [700, 100, 200],
        "popqa": [700, 100, 200],
    }
    train = list(chain(*parts["train"].values()))
    found = {name: Leaks.between(parts["test"][name], train) for name in parts["test"]}
    assert [leaks.questions for leaks in found.values()] == [0, 0, 0]
    text = (docs / "environments.md").read_text()
    for name, leaks in found.items():
        assert f"| {name} | 0 | {leaks.answers} of {leaks.count} |" in text
