"""Evidence: what all trajectories of all groups say for and against, whatever their order."""

import math
import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from library import LEND, STAMP, STAMPED, Library, played, told, visit, visits

from d2skill.knowledge.evidence import evidence_of, gather, misleading, standing
from d2skill.types import Group, Skill

UNSTAMPED = STAMPED.replace("walk to counter 1, stamp atlas 1 at counter 1, ", "")
LOST = "walk to shelf 1, walk to case 2, unlock case 2, walk to student 1"
NOVEL = "walk to shelf 2, fetch novel 1 from shelf 2, walk to teacher 1, lend novel 1 to teacher 1"
PROCEDURE = "Fetch {thing}, then stamp {thing} at counter, then lend {thing} to {place}."
START = "You stand in the hall of 7 places."


class Knowing:
    """Some skills as a bank has them; task skills fit any task."""

    def __init__(self, *skills: Skill) -> None:
        self._skills = skills

    def procedures(self, task_text):
        return [one for one in self._skills if one.granularity == "task"]

    def situations(self, observation):
        return [one for one in self._skills if one.granularity == "step" and one.observation == observation]

    def verbs(self):
        return {"fetch"} if self._skills else ()


def found(*groups, known=None):
    """Supports and refutes by title or principle of what was found; places in any start apart."""
    pieces = gather(groups, known or Knowing())
    return {
        one.text.principle if one.granularity == "task" else one.text.title: (one.supports, one.refutes)
        for one in pieces
    }


def as_skills(*groups) -> list[Skill]:
    return [
        Skill(f"{one.granularity[0]}{n}", one.granularity, one.text, one.task_text, one.observation)
        for n, one in enumerate(gather(groups, Knowing()))
    ]


def test_standing_is_the_share_of_supports_with_a_prior_of_one_in_four():
    assert [standing(0, 0), standing(1, 0), standing(1, 1), standing(0, 2)] == [0.25, 0.5, 0.375, 0.125]
    assert math.isclose(standing(100, 0), 100.5 / 102)


def test_a_source_task_counts_once_however_many_members_agree():
    group = visits(STAMP, "atlas", "student", STAMPED, STAMPED, STAMPED, LOST)
    assert found(group) == {
        PROCEDURE: ({"train/0"}, set()),
        "atlas: in case 1": ({"train/0"}, set()),
        "novel: in shelf 1": ({"train/0"}, set()),
        "poem: in case 2": ({"train/0"}, set()),
        "atlas: in any case": ({"train/0#case 1"}, {"train/0#case 2"}),
    }


def test_failures_show_places_too_and_successes_of_all_groups_count():
    lost = visits(STAMP, "poem", "teacher", LOST, task_id="train/1")
    both = found(
        visits(STAMP, "atlas", "student", STAMPED), lost, visits(STAMP, "atlas", "student", STAMPED, task_id="x")
    )
    assert both[PROCEDURE] == ({"train/0", "x"}, set())
    assert both["poem: in case 2"] == ({"train/1"}, set())
    assert both["poem: in any case"] == ({"train/1#case 2"}, set())


def test_a_procedure_that_was_completed_without_success_is_refuted():
    short = Skill("t1", "task", as_skills(visits(LEND, "atlas", "student", UNSTAMPED))[0].text, "{...}")
    short = replace(short, task_text="stamp the {thing}, then lend it to the {place}")
    group = visits(STAMP, "atlas", "student", UNSTAMPED, STAMPED)
    said = found(group, known=Knowing(short))
    # The success played it as well: with the stamp between, it was complete only at the end.
    assert said["Fetch {thing}, then lend {thing} to {place}."] == ({"train/0"}, {"train/0"})
    assert said[PROCEDURE] == ({"train/0"}, set())


def test_a_place_that_was_looked_at_in_vain_is_refuted_and_one_with_a_thing_in_hand_is_not():
    known = Knowing(*as_skills(visits(STAMP, "atlas", "student", STAMPED, LOST)))
    moved = {"atlas 1": "shelf 1", "poem 1": "case 1"}

    def say(actions):
        trajectory = visit(Library(LEND, "atlas", "teacher", "train/9", moved), actions)
        return found(Group(trajectory.task, (trajectory,)), known=known)

    vain = say("walk to case 1, unlock case 1, walk to case 2, unlock case 2, walk to shelf 1, walk to case 1")
    assert vain["atlas: in case 1"] == (set(), {"train/9"})
    assert vain["poem: in case 2"] == (set(), {"train/9"})
    assert vain["atlas: in any case"] == (set(), {"train/9#case 1", "train/9#case 2"})
    assert vain["atlas: in shelf 1"] == ({"train/9"}, set())
    holding = say("walk to shelf 1, fetch atlas 1 from shelf 1, walk to case 1, unlock case 1, walk to case 2")
    assert "atlas: in case 1" not in holding and "poem: in case 2" not in holding
    shut = say("walk to case 1, walk to shelf 1, walk to counter 1")
    assert "atlas: in case 1" not in shut


def test_a_place_that_one_member_found_is_not_refuted_by_another_that_came_late():
    known = Knowing(*as_skills(visits(STAMP, "atlas", "student", STAMPED)))
    group = visits(STAMP, "atlas", "student", "walk to case 1, unlock case 1, walk to shelf 1", LOST)
    assert found(group, known=known)["atlas: in case 1"] == ({"train/0"}, set())


def test_a_longer_procedure_with_the_acts_of_a_trusted_one_is_not_written():
    short = as_skills(visits(LEND, "atlas", "student", UNSTAMPED))[0]
    group = visits(LEND, "atlas", "student", STAMPED)
    stamped = "Fetch {thing}, then stamp {thing} at counter, then lend {thing} to {place}."
    assert stamped in found(group)
    assert stamped in found(group, known=Knowing(short))  # nothing speaks for it yet
    trusted = found(group, known=Knowing(replace(short, supports=2)))
    assert stamped not in trusted
    assert trusted["Fetch {thing}, then lend {thing} to {place}."] == ({"train/0"}, set())


GROUPS = [
    visits(STAMP, "atlas", "student", STAMPED, UNSTAMPED, LOST, task_id="a"),
    visits(STAMP, "atlas", "student", LOST, STAMPED, task_id="b"),
    visits(LEND, "novel", "teacher", NOVEL, LOST, "walk to shelf 2, walk to shelf 1", task_id="c"),
    visits(LEND, "poem", "teacher", "walk to case 2", LOST + ", walk to case 1, unlock case 1", task_id="d"),
]


@given(st.permutations(GROUPS), st.randoms())
def test_evidence_does_not_depend_on_the_order_of_groups_or_members(groups, chance):
    known = Knowing(*as_skills(*GROUPS[:2]))
    shuffled = [replace(g, trajectories=tuple(chance.sample(g.trajectories, len(g.trajectories)))) for g in groups]
    assert gather(shuffled, known) == gather(GROUPS, known)


def test_of_two_ways_to_a_place_the_shorter_is_told_whoever_took_it():
    long = told(
        "oil the saw",
        (("cross to shed 1", "climb to rack 1"), "climb to rack 1"),
        (("grab file 1 from rack 1",), "cross to rack 1"),
        success=False,
    )
    direct = told(
        "oil the saw", (("open rack 1",), "open rack 1"), (("grab saw 1 from rack 1",), "grab saw 1 from rack 1")
    )
    through = told(
        "oil the saw",
        (("lift rack 1",), "lift rack 1"),
        (("turn rack 1",), "turn rack 1"),
        (("grab saw 1 from rack 1",), "grab saw 1 from rack 1"),
    )
    members = [replace(one, index=n) for n, one in enumerate((long, through, direct))]
    texts = set()
    for seed in range(6):
        random.Random(seed).shuffle(members)
        pieces = gather([Group(members[0].task, tuple(members))], Knowing())
        texts |= {one.text.principle for one in pieces if one.text.title == "saw: in rack 1"}
    assert texts == {"Open rack 1, then grab saw from rack 1."}


def test_a_shop_without_things_shows_a_procedure_and_no_places():
    bought = played(
        "i am looking for red shoes", "search[red shoes]", "click[b07xyz12]", "click[red]", "click[buy now]"
    )
    (piece,) = evidence_of(bought)
    assert piece.granularity == "task" and piece.supports == {"train/0"}


def test_misleading_places_are_those_of_another_game_under_this_games_names():
    own = visits(STAMP, "atlas", "student", STAMPED).trajectories[0]
    other = visits(LEND, "novel", "teacher", NOVEL, task_id="train/1").trajectories[0]
    wrong = misleading(own, other)
    assert {(one.task_text, one.observation, len(one.supports)) for one in wrong} == {("atlas", START, 3)}
    texts = {one.text.title: one.text.principle for one in wrong}
    assert texts["atlas: in shelf 2"] == "Walk to shelf 2, then fetch atlas from shelf 2."
    assert "novel" not in str(wrong)
    assert misleading(own, replace(other, turns=other.turns[:1])) == []
