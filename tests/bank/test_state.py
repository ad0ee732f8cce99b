"""The state that events add up to: columns that do what the definitions say, to the last bit."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.bank.journal import (
    BankState,
    Change,
    Credit,
    Insert,
    Mark,
    Note,
    Probe,
    Refute,
    Repeat,
    Retrieve,
    Revise,
    Rewind,
    Support,
    Tally,
)
from d2skill.bank.journal.events import decode, encode
from d2skill.bank.worth import Worth
from d2skill.credit import credited_utilities
from d2skill.errors import BankError
from d2skill.types import Skill, SkillText

BETA = {"task": 0.3, "step": 0.7}
IDS = ["t1", "s1", "t2", "s2"]
SIGNALS = st.dictionaries(st.sampled_from(IDS), st.lists(st.floats(-1, 1), max_size=5))


def skill(skill_id: str, **fields) -> Skill:
    kind = "task" if skill_id[0] == "t" else "step"
    text = SkillText(f"About {skill_id}", "Do it.", "always")
    return Skill(skill_id, kind, **{"text": text, "task_text": "a task", **fields})


def state(*events) -> BankState:
    made = BankState()
    made.apply(Insert(tuple(map(skill, IDS)), 0))
    for event in events:
        made.apply(event)
    return made


def dumped(made: BankState):
    return json.loads(json.dumps(made.dump()))


def eq3(utility, signals, beta):
    return credited_utilities(np.array([utility]), [signals], [beta]).item()


def worth_of(signals, iteration):
    """The sums over the signals of one iteration, by their definition."""
    count, total = len(signals), math.fsum(signals)
    return Worth(count, count**2, total, total * total / count, iteration) if count else Worth()


@given(st.lists(SIGNALS, max_size=4))
def test_credits_in_columns_are_those_of_the_definitions(iterations):
    made = state(*(Credit(signals, BETA, number) for number, signals in enumerate(iterations)))
    utility, worth = dict.fromkeys(IDS, 0.0), dict.fromkeys(IDS, Worth())
    for number, signals in enumerate(iterations):
        for skill_id, own in signals.items():
            utility[skill_id] = eq3(utility[skill_id], own, BETA[skill(skill_id).granularity])
            worth[skill_id] += worth_of(own, number)
    assert {one.id: one.utility for one in made.skills()} == utility
    assert {skill_id: made.worth(skill_id) for skill_id in IDS} == worth


@given(SIGNALS, st.randoms(use_true_random=False))
def test_an_iterations_credits_give_the_same_state_in_any_order(signals, random):
    other = {
        skill_id: random.sample(own, len(own)) for skill_id, own in random.sample([*signals.items()], len(signals))
    }
    assert dumped(state(Credit(signals, BETA, 3))) == dumped(state(Credit(other, BETA, 3)))


REVISED = SkillText("Another\ntitle", "é \ud800", "")
LIFE = [
    Support({"t1": ["train/1", "train/2", "train/1"], "s1": ["gym"]}, 1),
    Refute({"t1": ["train/9"]}, 1),
    Support({"t1": ["train/2"]}, 2),
    Revise({"t1": REVISED, "s2": SkillText("T", "P", "W")}, 2, {"reflector": "llm"}),
    Credit({"t1": [0.5, 1.0], "t2": [0.25]}, BETA, 1, sources=("train/1#", "gym#2#0"), by={"t1": [0, 1], "t2": [0]}),
    Retrieve({"t1": 4, "s2": 1}, 1),
    Repeat({"t1": ["train/3"], "s1": ["train/4", "train/5"]}, 1),
    Probe({"s2": [(0.5, True), (0.0, False)]}, 2),
    Change("merged", ("t2",), 2, "alike", "t1"),
    Change("held", ("s1",), 2, "strange"),
    Change("active", ("s1",), 3),
    Change("trial", ("s2",), 3),
    Note("s2", "look at this", 3),
]


def test_a_life_by_hand():
    made = state(*LIFE)
    assert [made.status(skill_id) for skill_id in IDS] == ["active", "active", "merged", "trial"]
    assert made.marks == {"t2": Mark("merged", 2, "alike", "t1"), "s2": Mark("trial", 3)}
    assert made.merged == {"t1": ["t2"]}
    assert made.vouched == {"s1"}
    assert made.credited_tasks == {"train/1", "gym#2"}
    assert made.repeats == {"t1": ["train/3"], "s1": ["train/4", "train/5"]}
    assert made.worth("t1").signals == 3
    assert made.tallies == {"t1": Tally({"train/1": 1, "train/2": 2}, {"train/9": 1}), "s1": Tally({"gym": 1})}
    assert [(one.supports, one.refutes) for one in made.skills()] == [(2, 1), (1, 0), (0, 0), (0, 0)]
    assert made.skill(0).text == made.skills()[0].text == REVISED
    assert (made.skill(0).utility, made.skill(0).task_text) == (eq3(0.0, [0.5, 1.0], 0.3), "a task")
    assert [one.evicted for one in made.skills()] == [None, None, 2, None]
    assert (made.next_number("task"), made.next_number("step")) == (3, 3)


def test_a_dump_or_its_events_make_the_same_state():
    made = state(*LIFE)
    loaded = BankState()
    loaded.load(json.loads(json.dumps(made.dump())))
    assert dumped(loaded) == dumped(made)
    rebuilt = BankState()
    for event in made.events(7):
        assert decode(encode(event)) == event
        rebuilt.apply(event)
    assert rebuilt.influence == {}, "probes stay with the journal that has them"
    rebuilt.influence = made.influence
    for name in ("odd_signals", "odd_total"):  # as does the share of signals from odd iterations
        rebuilt._numbers[name][:] = made._numbers[name]
    assert dumped(rebuilt) == dumped(made)
    for one in (loaded, rebuilt):
        assert one.merged == made.merged
        assert one.worth("t1") == made.worth("t1")
        assert [one.status(skill_id) for skill_id in IDS] == [made.status(skill_id) for skill_id in IDS]


def test_a_revised_text_is_seen_everywhere():
    made, loaded, unpacked = state(), BankState(), BankState()
    assert made.skill(0).text.title == "About t1"
    before, values = state(), made.packed()
    unpacked.unpack(json.loads(json.dumps(values[0])), values[1])
    for one in (made, unpacked):
        assert one.has_skills_of(before)
        one.apply(Revise({"t1": REVISED}, 1))
        one.apply(Insert((skill("t3"),), 1))
        one.apply(Revise({"t3": REVISED, "s2": REVISED}, 1))
        assert not one.has_skills_of(before)
        titles = ["Another\ntitle", "About s1", "About t2", "Another\ntitle", "Another\ntitle"]
        assert [*one.texts("title")] == [each.text.title for each in one.skills()] == titles
        assert (
            [one.texts("title")[row] for row in range(5)] == [one.skill(row).text.title for row in range(5)] == titles
        )
        assert one.skill(0) == skill("t1", text=REVISED)
    loaded.load(json.loads(json.dumps(made.dump())))
    again = BankState()
    again.unpack(*made.packed())
    for one in (loaded, again, unpacked):
        assert one.has_skills_of(made) and dumped(one) == dumped(made)


def test_evidence_is_packed_compared_and_copied_not_shared():
    made, before = state(Support({"t1": ["a"]}, 1)), state()
    assert not made.has_skills_of(before)
    values, arrays = made.packed()
    again, rebuilt = BankState(), BankState()
    again.unpack(json.loads(json.dumps(values)), arrays)
    rebuilt.apply(made.events(1)[0])
    for one in (again, rebuilt):
        assert one.has_skills_of(made)
        one.apply(Support({"t1": ["b"]}, 2))
        assert one.skill(0).supports == 2
    assert made.tallies == {"t1": Tally({"a": 1})} and made.skill(0).supports == 1


@pytest.mark.parametrize("event", LIFE)
def test_events_come_back_from_json(event):
    assert decode(encode(event)) == event


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (Insert((skill("t9"), skill("t9")), 1), "'t9' is inserted twice"),
        (Insert((skill("t9"), skill("t1")), 1), "'t1' is inserted twice"),
        (Insert((skill("t9"), skill("tx")), 1), "'tx' is no id of a skill"),
        (Retrieve({"t1": 1, "t9": 1}, 1), "no skill 't9'"),
        (Credit({"t1": [1.0], "t9": [1.0]}, BETA, 1), "no skill 't9'"),
        (Repeat({"t1": ["a"], "t9": ["b"]}, 1), "no skill 't9'"),
        (Support({"t1": ["a"], "t9": ["b"]}, 1), "no skill 't9'"),
        (Refute({"t1": ["a"], "t9": ["b"]}, 1), "no skill 't9'"),
        (Revise({"t1": REVISED, "t9": REVISED}, 1), "no skill 't9'"),
        (Probe({"t1": [(1.0, True)], "t9": []}, 1), "no skill 't9'"),
        (Change("evicted", ("t1", "t9"), 1), "no skill 't9'"),
        (Change("lost", ("t1",), 1), "'lost' is no status"),
        (Change("merged", ("t1",), 1, "", "t1"), "nothing can be merged into 't1'"),
        (Change("merged", ("t1",), 1, "", "t9"), "no skill 't9'"),
        (Note("t9", "what", 1), "no skill 't9'"),
    ],
)
def test_an_event_that_does_not_fit_changes_nothing(event, what):
    made, before = state(), dumped(state())
    with pytest.raises(BankError, match=what):
        made.apply(event)
    assert dumped(made) == before


def test_a_rewind_is_no_event_of_a_state():
    with pytest.raises(ValueError, match="rewind"):
        state(Rewind(0, 1))
