"""Procedures: the acts of a success in general words, whatever its environment calls them."""

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from library import LEND, STAMP, STAMPED, Library, played, told, visit

from d2skill.config import HousesConfig
from d2skill.envs.alfworld import AlfworldEnvironment
from d2skill.envs.alfworld.expert import parse_task
from d2skill.envs.houses.environment import HousesEnvironment
from d2skill.knowledge.patterns import bindings, filled
from d2skill.knowledge.procedures import ActProgress, act_of, acts_in, completed_at, is_part, procedure_of, sentence
from d2skill.types import Decision, Prompt, Trajectory, Turn
from d2skill.utils.text import action_words

TOOLS = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}


def test_the_acts_of_a_library_are_found_without_knowing_its_words():
    found = procedure_of(visit(Library(STAMP, "atlas", "student"), STAMPED))
    assert found == (
        "stamp the {thing}, then lend it to the {place}",
        ("fetch {thing}", "stamp {thing} at counter", "lend {thing} to {place}"),
    )
    words = bindings(found.pattern, "stamp the poem, then lend it to the teacher")
    assert filled(sentence(found.steps), words) == (
        "Fetch poem, then stamp poem at counter, then lend poem to teacher."
    )


def test_detours_searching_and_other_things_leave_no_trace():
    plain = procedure_of(
        visit(
            Library(LEND, "poem", "teacher"),
            "walk to case 2, unlock case 2, fetch poem 1 from case 2, walk to teacher 1, lend poem 1 to teacher 1",
        )
    )
    wandering = procedure_of(
        visit(
            Library(LEND, "poem", "teacher"),
            "lend poem 1 to teacher 1, walk to shelf 1, fetch novel 2 from shelf 1, walk to counter 1, "  # not possible
            "stamp novel 2 at counter 1, walk to shelf 2, shelve novel 2 on shelf 2, walk to case 2, unlock case 2, "
            "fetch poem 1 from case 2, walk to shelf 1, shelve poem 1 on shelf 1, fetch poem 1 from shelf 1, "
            "walk to teacher 1, lend poem 1 to teacher 1",
        )
    )
    assert wandering == plain == ("lend the {thing} to the {place}", ("fetch {thing}", "lend {thing} to {place}"))


@pytest.mark.parametrize("name", ["wrench 12", "wrench12", "wrench_12", "wrench #12", "WRENCH 12"])
@pytest.mark.parametrize("mark", [" ", "", "_", " #"])
def test_no_number_is_left_however_names_are_written(name, mark):
    found = procedure_of(
        played(
            "hang the wrench on the hook",
            f"grab {name} from box{mark}1",
            f"grease {name} from pot{mark}1 with pot{mark}12",
            f"hang {name} on hook{mark}3",
        )
    )
    assert found == (
        "hang the {thing} on the {place}",
        ("grab {thing}", "grease {thing} from pot with pot", "hang {thing} on {place}"),
    )


def test_two_things_of_a_task_are_told_apart():
    found = procedure_of(
        played("tie the ribbon to the kite", "get ribbon 1 from bin 2", "get kite 4 from hook 1", "tie ribbon to kite")
    )
    assert found.pattern == "tie the {thing} to the {thing 2}"
    assert found.steps == ("get {thing}", "get {thing 2}", "tie {thing} to {thing 2}")


def test_without_an_act_on_the_task_there_is_no_procedure():
    assert procedure_of(played("rest", "walk to bed 1", "lie on bed 1")) is None
    assert procedure_of(told("lend the atlas", (("wait",), "lend atlas 1 to student 1"))) is None


def test_progress_goes_in_order_and_back():
    progress = ActProgress(acts_in("Fetch atlas, then stamp atlas at counter, then shelve atlas on shelf 2."))
    states = []
    for action in (
        "stamp atlas 1 at counter 1",  # not yet
        "fetch atlas 1 from case 1",
        "fetch novel 1 from case 1",
        "stamp atlas 1 at counter 1",
        "shelve atlas 1 on shelf 1",  # another shelf
        "shelve atlas 1 on shelf 2",
        "fetch atlas 1 from shelf 2",  # undone
        "shelve atlas 1 on shelf 2",
    ):
        progress.update(action_words(action))
        states.append(progress.done)
    assert states == [0, 1, 1, 2, 2, 3, 2, 3]
    assert progress.next is None


@given(st.lists(st.sampled_from("fetch stamp shelve".split()).map("{} atlas".format), min_size=1, max_size=5))
def test_a_procedure_is_completed_by_its_own_acts_and_is_part_of_more(steps):
    steps = [step for step, _ in itertools.groupby(steps)]
    acts = acts_in(sentence(steps))
    assert [act.verb for act in acts] == [step.split()[0] for step in steps]
    assert is_part(acts, acts) and is_part(acts[1:], acts)
    assert is_part(acts, (act_of("walk to atlas"), *acts, act_of("bow")))
    assert not is_part((*acts, act_of("bow")), acts)


def test_it_is_complete_with_the_last_act_and_not_before():
    acts = acts_in("Fetch atlas, then stamp atlas at counter, then lend atlas to student.")
    assert completed_at(acts, visit(Library(STAMP, "atlas", "student"), STAMPED)) == 6
    assert completed_at(acts, visit(Library(STAMP, "atlas", "student"), STAMPED.rpartition(", ")[0])) is None
    unstamped = STAMPED.replace("stamp atlas 1 at counter 1, ", "")
    assert completed_at(acts, visit(Library(STAMP, "atlas", "student"), unstamped)) is None


VERBS = st.sampled_from(["fetch {} 1 from shelf 2", "shelve {} 1 on shelf 2", "lend {} 1 to student 1", "walk to {} 1"])


@given(st.lists(st.tuples(VERBS, st.sampled_from(["atlas", "novel", "student", "shelf"])), max_size=14))
def test_of_any_trajectory_a_procedure_has_the_tasks_words_and_no_numbers(moves):
    task = "lend the atlas to the student"
    found = procedure_of(played(task, *(form.format(thing) for form, thing in moves)))
    if found is None:
        return
    assert not re.search(r"\d", re.sub(r"\{[^}]*\}", "", " ".join(found.steps)))
    words = bindings(found.pattern, task)
    assert words is not None and set(words.values()) <= {"atlas", "student"}
    assert "{" not in filled(sentence(found.steps), words)
    assert all(one != other for one, other in itertools.pairwise(found.steps))


def play_expert(environment, task_id: str) -> Trajectory:
    session = environment.start(task_id)
    expert, turns = environment.expert(session.task, (), 0), []
    while not session.observation.done and len(turns) < 50:
        seen = session.observation
        action = expert.act(seen)
        turns.append(Turn(Prompt(session.task.text, seen.text, seen.actions), Decision(action, action, (), ()), True))
        session.step(action)
    return Trajectory(session.task, "skills", 0, tuple(turns), "", session.observation.success)


def require_sensible(environment, task_ids) -> None:
    found = []
    for task_id in task_ids:
        trajectory = play_expert(environment, task_id)
        if not trajectory.success:
            continue
        procedure, parsed = procedure_of(trajectory), parse_task(trajectory.task.text)
        assert procedure and parsed
        verbs = [step.split()[0] for step in procedure.steps]
        put = verbs[-1]
        usual = {
            "place": ["take", put],
            "two": ["take", put, "take", put],
            "look": ["take", "use"],
            **{kind: ["take", kind, put] for kind in TOOLS},
        }
        found.append(verbs == usual[parsed.kind])
        words = bindings(procedure.pattern, trajectory.task.text)
        assert words and words["thing"] == parsed.target
        assert not any(character.isdigit() for step in procedure.steps for character in step.replace("{thing 2}", ""))
        if parsed.kind in TOOLS and found[-1]:
            assert procedure.steps[1] == f"{parsed.kind} {{thing}} with {TOOLS[parsed.kind]}"
    assert len(found) > 10
    assert sum(found) >= 0.9 * len(found)  # some games are won at once where the thing belongs


def test_procedures_of_generated_houses():
    environment = HousesEnvironment(HousesConfig())
    require_sensible(environment, environment.task_ids("train")[:40])


def test_procedures_of_real_games(real_games: Path):
    environment = AlfworldEnvironment(real_games)
    require_sensible(environment, environment.task_ids("valid_seen")[:60])
