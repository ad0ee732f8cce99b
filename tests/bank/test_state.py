"""The state that events add up to: columns that do what the definitions say, to the last bit."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.bank.journal import BankState, Change, Credit, Insert, Mark, Note, Probe, Repeat, Retrieve, Rewind
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
    return Skill(skill_id, kind, SkillText(f"About {skill_id}", "Do it.", "always"), "a task", **fields)


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


LIFE = [
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
    assert dumped(rebuilt) == dumped(made)
    for one in (loaded, rebuilt):
        assert one.merged == made.merged
        assert one.worth("t1") == made.worth("t1")
        assert [one.status(skill_id) for skill_id in IDS] == [made.status(skill_id) for skill_id in IDS]


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
