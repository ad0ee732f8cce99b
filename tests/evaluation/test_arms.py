from collections import Counter

import pytest
from toys import START, TreasureEnvironment, make_bank, step_draft, task_draft

from d2skill.bank import Draft
from d2skill.config import RetrievalConfig
from d2skill.errors import ConfigError
from d2skill.evaluation.arms import ARMS, arm_view, half_of_arm, require_arms
from d2skill.types import SkillText

TASKS = ["take the ruby", "take the opal"]
PAIRS = [(task, START) for task in TASKS]


def bank_of(tasks=TASKS, **retrieval):
    drafts = [task_draft(f"Task {t}", f"Know {t}.", t) for t in tasks]
    drafts += [step_draft(f"Step {t}", f"Do {t}.", t) for t in tasks]
    return make_bank(*drafts, retrieval={"gate": 0.0} | retrieval)


def shown(arm, bank, seed=0, **retrieval):
    view = arm_view(arm, bank, RetrievalConfig(**retrieval), seed)
    return view.retrieve_task(TASKS), view.retrieve_step(PAIRS)


def ids(found):
    return [[one.skill.id for one in slots] for slots in found]


def test_the_names_of_arms():
    assert require_arms(["none", "bank", "top", "bank"]) == ("none", "bank", "top")
    assert require_arms(ARMS) == ARMS
    with pytest.raises(ConfigError, match=r'no arm "random": --arms takes some of none,bank,shuffled,task,step,top'):
        require_arms(["bank", "random"])
    with pytest.raises(ConfigError, match="names no arm"):
        require_arms([])
    assert [half_of_arm(arm) for arm in ARMS] == ["none"] + ["skills"] * 5


def test_the_bank_as_it_is_and_one_granularity_of_it():
    bank = bank_of()
    tasks, steps = bank.retrieve_task(TASKS), bank.retrieve_step(PAIRS)
    assert all(tasks) and all(steps)
    assert shown("bank", bank) == (tasks, steps)
    assert shown("task", bank) == (tasks, [(), ()])
    assert shown("step", bank) == ([(), ()], steps)


def test_a_placebo_stands_where_a_skill_would_and_is_another_one():
    texts = [f"take the {gem}" for gem in ("ruby", "opal", "pearl", "topaz", "garnet", "jade")]
    bank = bank_of(texts)
    for seed in range(5):
        for real, placebo in zip(
            (bank.retrieve_task(TASKS), bank.retrieve_step(PAIRS)), shown("shuffled", bank, seed), strict=True
        ):
            for slots, others in zip(real, placebo, strict=True):
                assert [(one.similarity, one.score) for one in slots] == [(one.similarity, one.score) for one in others]
                for one, other in zip(slots, others, strict=True):
                    assert other.skill == bank.get(other.skill.id), "the id is the text's own"
                    assert other.skill.text != one.skill.text
                    assert other.skill.granularity == one.skill.granularity
    assert shown("shuffled", bank, 1) == shown("shuffled", bank, 1)
    assert len({str(ids(shown("shuffled", bank, seed)[0])) for seed in range(9)}) > 2


def test_a_placebo_exchanges_every_skill_for_one_of_its_own():
    texts = [f"take the {gem}" for gem in ("ruby", "opal", "pearl", "topaz", "garnet", "jade")]
    bank = bank_of(texts, k_task=6, k_step=6)
    for granularity in range(2):
        (first, second) = shown("shuffled", bank, 3)[granularity]
        assert len({one.skill.id for one in first}) == 6 and {one.skill for one in first} == {x.skill for x in second}


def test_a_placebo_says_something_else_even_where_skills_of_several_keys_say_the_same():
    same, other = SkillText("Look", "Look there.", "always"), SkillText("Go", "Go there.", "always")
    keys = ["take the ruby", "clean a mug", "heat some bread", "examine the lamp"]
    bank = make_bank(
        *(Draft("task", text, key) for text, key in zip([same, same, other, other], keys, strict=True)),
        retrieval={"gate": -1.0, "k_task": 4, "distinct": False},
    )
    for seed in range(5):
        (slots,) = arm_view("shuffled", bank, RetrievalConfig(), seed).retrieve_task(["take the ruby"])
        (real,) = bank.retrieve_task(["take the ruby"])
        assert [one.skill.text == same for one in slots] == [one.skill.text == other for one in real]
        assert Counter(one.skill.text for one in slots) == {same: 2, other: 2}


def test_without_another_skill_nothing_stands_in_its_place():
    assert shown("shuffled", bank_of(TASKS[:1])) == ([(), ()], [(), ()])
    assert shown("shuffled", make_bank()) == ([(), ()], [(), ()])


def test_the_best_skills_are_shown_everywhere():
    bank = bank_of([TreasureEnvironment().start(f"train/{n:03d}").task.text for n in range(4)], k_task=1, k_step=2)
    bank.credit({"t3": [0.4], "t2": [0.8], "s1": [-0.4], "s4": [0.6]})
    tasks, steps = shown("top", bank, k_task=1, k_step=2)
    assert ids(tasks) == [["t2"], ["t2"]]
    assert ids(steps) == [["s4", "s2"], ["s4", "s2"]], "the older of equals"
    bank.hold(["t2"], 1)
    assert ids(shown("top", bank, k_task=1, k_step=0)[0]) == [["t3"], ["t3"]]
    assert shown("top", bank, k_task=1, k_step=0)[1] == [(), ()]
