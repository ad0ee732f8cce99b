"""Advice: shown until it is done or refuted, then the next; it never hangs, whatever is played."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from library import PLACES, STAMP, STAMPED, Library

from d2skill.knowledge.advice import Advice
from d2skill.types import Skill, SkillText

PROCEDURE = Skill(
    "t1",
    "task",
    SkillText("stamp", "Fetch atlas, then stamp atlas at counter, then lend atlas to student.", "always"),
    "stamp the atlas, then lend it to the student",
)


def place(name: str, skill_id: str = "s1", thing: str = "atlas") -> Skill:
    opened = f"unlock {name}, then " if name.startswith("case") or name == "any case" else ""
    steps = f"{opened}fetch {thing} from {name}".replace("any ", "")
    text = SkillText(f"{thing}: in {name}", f"Walk to {name.removeprefix('any ')}, then {steps}.", "always")
    return Skill(skill_id, "step", text, thing)


SHELF, CASE, ANY = place("shelf 1"), place("case 1", "s2"), place("any case", "s3")


def follow(skills, actions, procedure=PROCEDURE, library=None):
    """Titles that are shown before each of some actions, and after the last, and the numbers of acts done."""
    library = library or Library(STAMP, "atlas", "student")
    advice = Advice(procedure, skills, library.observation.actions, STAMP)
    titles, done = [[one.text.title for one in advice.shown()]], [advice.acts_done]
    for action in actions.split(", "):
        advice.update(action, library.step(action).actions)
        titles.append([one.text.title for one in advice.shown()])
        done.append(advice.acts_done)
    return titles, done


def test_a_place_is_shown_until_its_act_is_done():
    titles, done = follow([CASE, SHELF], STAMPED)
    assert titles == [["atlas: in case 1"]] * 3 + [[]] * 5
    assert done == [0, 0, 0, 1, 1, 2, 2, 3]


def test_the_next_place_comes_once_one_is_refuted_and_not_before():
    titles, _ = follow(
        [SHELF, CASE], "walk to case 2, walk to shelf 1, walk to counter 1, walk to case 1, unlock case 1"
    )
    assert titles == [["atlas: in shelf 1"]] * 2 + [["atlas: in case 1"]] * 4


def test_a_place_that_was_refuted_while_another_was_shown_does_not_come():
    titles, _ = follow([SHELF, place("case 2", "s2"), CASE], "walk to case 2, unlock case 2, walk to shelf 1")
    assert titles == [["atlas: in shelf 1"]] * 3 + [["atlas: in case 1"]]


def test_all_places_refuted_leave_nothing():
    titles, _ = follow([SHELF, place("shelf 2", "s2")], "walk to shelf 1, walk to shelf 2, walk to shelf 1")
    assert titles == [["atlas: in shelf 1"], ["atlas: in shelf 2"], [], []]


def test_a_type_of_place_is_shown_one_place_at_a_time():
    titles, _ = follow([ANY], "walk to case 1, walk to case 2, unlock case 2, walk to shelf 1, walk to case 1")
    assert titles == [["atlas: in case 1"]] * 6
    absent = Library(STAMP, "atlas", "student", homes={"atlas 1": "case 2"})
    titles, _ = follow([ANY], "walk to case 1, unlock case 1, walk to case 2, unlock case 2", library=absent)
    assert titles == [["atlas: in case 1"]] * 2 + [["atlas: in case 2"]] * 3
    nowhere = Library(STAMP, "atlas", "student", homes={})
    played = "walk to case 1, unlock case 1, walk to case 2, unlock case 2, walk to case 1"
    assert follow([ANY], played, library=nowhere)[0][-2:] == [[], []]


def test_a_place_that_was_refuted_is_left_out_of_its_type():
    nowhere = Library(STAMP, "atlas", "student", homes={})
    titles, _ = follow([CASE, ANY], "walk to case 1, unlock case 1", library=nowhere)
    assert titles[-1] == ["atlas: in case 2"]


def test_what_is_undone_is_no_longer_done():
    _, done = follow(
        [CASE],
        "walk to case 1, unlock case 1, fetch atlas 1 from case 1, walk to counter 1, stamp atlas 1 at counter 1, "
        "walk to shelf 1, shelve atlas 1 on shelf 1, fetch atlas 1 from shelf 1",
    )
    assert done == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    shelving = replace(PROCEDURE, text=replace(PROCEDURE.text, principle="Fetch atlas, then shelve atlas on shelf."))
    _, done = follow(
        [CASE],
        "walk to case 1, unlock case 1, fetch atlas 1 from case 1, walk to shelf 1, shelve atlas 1 on shelf 1, "
        "fetch atlas 1 from shelf 1, walk to shelf 2, shelve atlas 1 on shelf 2",
        shelving,
    )
    assert done == [0, 0, 0, 1, 1, 2, 1, 1, 2]


def test_only_things_of_the_next_act_are_shown():
    other = place("shelf 2", "s4", "novel")
    assert follow([other, CASE], "walk to case 1")[0] == [["atlas: in case 1"]] * 2
    assert follow([other, CASE], "walk to case 1", procedure=None)[0] == [["novel: in shelf 2", "atlas: in case 1"]] * 2


def test_without_a_procedure_a_thing_is_sought_until_it_is_had():
    titles, done = follow([CASE], STAMPED, procedure=None)
    assert titles == [["atlas: in case 1"]] * 3 + [[]] * 5
    assert set(done) == {-1}


def test_names_in_capitals_and_places_without_numbers():
    attic = Skill(
        "s1", "step", SkillText("saw: in Attic", "Climb to Attic, then grab saw from Attic.", "always"), "saw"
    )
    shed = replace(
        attic, id="s2", text=SkillText("saw: in Shed", "Cross to Shed, then unbar Shed, then grab saw.", "x")
    )
    advice = Advice(None, [attic, shed], ("Climb to Attic", "Cross to Shed"), "")
    assert [one.id for one in advice.shown()] == ["s1"]
    advice.update("Climb to Attic", ("Cross to Shed",))
    assert [one.id for one in advice.shown()] == ["s2"]
    numbered = replace(
        attic, text=SkillText("saw: in Box 1", "Go to Box 1, then Open Box 1, then grab saw from Box 1.", "")
    )
    advice = Advice(None, [numbered], ("Go to Box 1",), "")
    advice.update("Go to Box 1", ("Open Box 1",))
    assert advice.shown() == (numbered,)
    advice.update("Open Box 1", ("Go to Box 2",))
    assert advice.shown() == ()


def test_where_no_actions_are_listed_nothing_is_refuted():
    advice = Advice(None, [SHELF], (), "")
    advice.update("walk to shelf 1", ())
    assert advice.shown() == (SHELF,)


ACTION = st.sampled_from(
    [
        *(f"walk to {name}" for name in PLACES),
        *(f"fetch {book} 1 from {name}" for book in ("atlas", "novel") for name in PLACES[:3]),
        *("unlock case 1", "stamp atlas 1 at counter 1", "lend atlas 1 to student 1", "shelve atlas 1 on shelf 1"),
        *("", "look", "Walk to Case 2", "walk", "123", "atlas", "{thing}"),
    ]
)
STEP = st.one_of(ACTION, st.text(max_size=12), st.sampled_from(["walk to case", "fetch atlas from case", "", "look"]))
PRINCIPLE = st.one_of(st.lists(STEP, max_size=4).map(", then ".join), st.text(max_size=30))
SKILL = st.builds(
    lambda title, principle, thing: Skill("s1", "step", SkillText(title, principle, "x"), thing),
    st.sampled_from(["atlas: in any case", "atlas: in case 1", "novel", "", "a: b"]),
    PRINCIPLE,
    st.sampled_from(["atlas", "novel", "", "lend the atlas"]),
)
TURN = st.tuples(ACTION, st.lists(ACTION, max_size=6))


@settings(max_examples=300)
@given(st.one_of(st.none(), PRINCIPLE), st.lists(SKILL, max_size=5), st.lists(TURN, max_size=15))
def test_whatever_is_said_and_played_it_goes_on_and_shows_one_place_of_each_thing(principle, skills, turns):
    procedure = None if principle is None else replace(PROCEDURE, text=SkillText("x", principle, "x"))
    advice = Advice(procedure, skills, turns[0][1] if turns else (), STAMP)
    before = advice.acts_done
    for action, actions in turns:
        advice.update(action, actions)
        shown = advice.shown()
        assert len({one.task_text for one in shown}) == len(shown)
        assert advice.acts_done - before in (-1, 0, 1) and advice.acts_done >= min(before, 0)
        before = advice.acts_done


def test_advice_of_choices_follows_what_was_chosen():
    text = SkillText("find", "Search what the task names, then click one that fits the task, then click pay.", "always")
    procedure = Skill("t1", "task", text, "find {...}")
    advice = Advice(procedure, [], ("search[socks]",), "find socks")
    assert (advice.acts_done, advice.got, advice.shown()) == (0, (), ())
    advice.update("search[socks]", ("click[b01]", "click[back]"))
    advice.update("click[b01]", ("click[back]", "click[pay]"))
    assert (advice.acts_done, advice.got) == (2, ("search[socks]", "click[b01]"))
