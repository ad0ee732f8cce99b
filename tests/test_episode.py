import pytest
from toys import FaultyEnvironment, TreasureEnvironment, decision, skill

from d2skill.config import PromptConfig
from d2skill.episode import Episode
from d2skill.protocols import Environment, SupportsExpert
from d2skill.types import Decision, Observation, Retrieved, Task

CHEST = 3  # of the ruby, with six chests
RUBY = "take ruby 1 from chest 3"


def episode(session=None, *, max_steps: int = 9, arm="skills", **settings) -> Episode:
    return Episode(
        session or TreasureEnvironment().start("train/000"),
        arm=arm,
        index=1,
        max_steps=max_steps,
        settings=PromptConfig(**settings),
        count_tokens=lambda text: len(text.split()),
    )


def play(one: Episode, *actions: str) -> Episode:
    for action in actions:
        prompt = one.prompt()
        one.act(prompt, decision(action, prompt.actions))
    return one


class FreeText:
    """A session in which any text is an action, or that is over before it begins."""

    def __init__(self, done: bool = False) -> None:
        self.task = Task("free/1", "say hello", "train")
        self.observation = Observation("Who is there?", (), done=done, success=done)

    def step(self, action: str) -> Observation:
        self.observation = Observation(f"You said {action!r}.", (), done=action == "hello", success=action == "hello")
        return self.observation


def test_a_success_is_recorded_whole():
    one = play(episode(), "open chest 1", f"open chest {CHEST}", RUBY)
    assert one.done
    found = one.trajectory()
    assert (found.success, found.fault, found.invalid_actions) == (True, "", 0)
    assert (found.arm, found.index, found.task.id, found.final) == ("skills", 1, "train/000", "You have the ruby 1.")
    assert [t.decision.action for t in found.turns] == ["open chest 1", f"open chest {CHEST}", RUBY]
    assert [t.prompt.observation for t in found.turns][1] == "You open the chest 1. It is empty."


def test_it_ends_after_max_steps_without_success():
    one = play(episode(max_steps=2), "open chest 1", "open chest 2")
    assert one.done
    assert one.step == 2
    assert not one.trajectory().success


def test_success_on_the_last_step_counts():
    assert play(episode(max_steps=2), f"open chest {CHEST}", RUBY).trajectory().success


@pytest.mark.parametrize("action", ["sing", "", "open chest 99", "OPEN CHEST", "open  chest1"])
def test_an_action_that_is_not_admissible_is_noticed(action):
    one = play(episode(), action, "open chest 1")
    found = one.trajectory()
    assert [t.admissible for t in found.turns] == [False, True]
    assert found.invalid_actions == 1
    assert found.turns[1].prompt.observation == "Nothing happens."


@pytest.mark.parametrize("written", ["OPEN CHEST 1", " open  chest\n1 ", "Open Chest 1"])
def test_case_and_white_space_do_not_matter(written):
    one = play(episode(), written)
    (turn,) = one.trajectory().turns
    assert turn.admissible and turn.decision.action == "open chest 1"
    assert one.prompt().history[0][1] == "open chest 1"


def test_where_two_actions_differ_by_case_alone_only_the_exact_one_is_meant():
    seen = Observation("A slide.", ("Press A", "press a"))
    assert seen.admissible("press a") == "press a" and not seen.admits("PRESS A")


def test_where_any_text_is_an_action_only_silence_is_inadmissible():
    found = play(episode(FreeText()), "good morning", "", "hello").trajectory()
    assert [t.admissible for t in found.turns] == [True, False, True]
    assert found.success


class Shopping:
    """A session with a form beside its actions, which ends with a part of the task done."""

    def __init__(self) -> None:
        self.task = Task("shop/1", "buy a mug", "train")
        self.observation = Observation("A shop.", ("click[buy now]",), forms=("search[...]",))

    def step(self, action: str) -> Observation:
        if action == "click[buy now]":
            self.observation = Observation("Bought.", (), done=True, score=0.25)
        return self.observation


@pytest.mark.parametrize(
    ("action", "admissible"),
    [
        ("search[a red mug]", True),
        ("Search[A red mug]", True),
        (" SEARCH[mug] ", True),
        ("Click[Buy  Now]", True),
        ("search[]]", True),
        ("search[]", False),
        ("search[ ]", False),
        ("search[", False),
        ("search", False),
        ("click[a red mug]", False),
        ("click[buy now]", True),
    ],
)
def test_a_form_admits_any_text_in_its_blank_and_no_other(action, admissible):
    one = play(episode(Shopping()), action)
    assert one.trajectory().turns[0].admissible == admissible
    assert Observation("", forms=("ask ... now",)).admits("ask me now")
    assert not Observation("", forms=("ask ... now",)).admits("ask now")
    assert Observation("", forms=("ask ... now",)).admissible("Ask  Me NOW") == "ask  Me now"


def test_forms_are_in_the_prompt_and_a_score_in_the_trajectory():
    one = episode(Shopping())
    assert one.prompt().forms == ("search[...]",)
    assert one.trajectory().score is None
    ended = play(one, "click[buy now]").trajectory()
    assert (ended.success, ended.score) == (False, 0.25)


def test_an_answer_without_an_action_stands_in_the_history_as_it_was():
    one = episode()
    one.act(one.prompt(), Decision("er, well", "", (), ()))
    assert one.prompt().history == ((one.trajectory().turns[0].prompt.observation, "er, well"),)


@pytest.mark.parametrize(("length", "expected"), [(0, []), (2, ["open chest 2", "open chest 4"]), (9, None)])
def test_the_prompt_holds_the_last_l_pairs_oldest_first(length, expected):
    actions = ["open chest 1", "open chest 2", "open chest 4"]
    one = play(episode(history=length), *actions)
    assert [action for _, action in one.prompt().history] == (actions if expected is None else expected)
    if length:
        assert one.prompt().history[-1][0] == "You open the chest 2. It is empty."


def test_the_prompt_shows_skills_in_rank_order():
    one = episode()
    one.task_skills = (Retrieved(skill("t2"), 0.9, 0.1), Retrieved(skill("t1"), 0.8, 0.05))
    shown = one.prompt([Retrieved(skill("s5"), 0.9, 0.2)])
    assert [s.id for s in shown.task_skills] == ["t2", "t1"]
    assert [s.id for s in shown.step_skills] == ["s5"]
    assert play(one, "open chest 1").trajectory().turns[0].skill_ids == ("t2", "t1")


def test_the_prompt_keeps_the_budget():
    one = episode(max_tokens=64)
    one.task_skills = tuple(Retrieved(skill(f"t{i}", principle="word " * 20), 0.9, 0.1) for i in (1, 2, 3))
    assert [s.id for s in one.prompt().task_skills] == ["t1"]


def test_the_query_is_task_and_current_observation():
    one = play(episode(), "open chest 1")
    assert one.query == ("take the ruby", "You open the chest 1. It is empty.")


def test_a_fault_ends_the_episode_without_success():
    broken = FaultyEnvironment(TreasureEnvironment(), lambda task, action: action == RUBY)
    one = play(episode(broken.start("train/000")), f"open chest {CHEST}", RUBY)
    assert one.done
    found = one.trajectory()
    assert not found.success
    assert found.fault == "EnvironmentFault: the lid fell"
    assert len(found.turns) == 2
    assert found.final.startswith("You open the chest 3.")


def test_any_exception_of_an_environment_is_a_fault_of_its_episode():
    def breaks(task, action):
        raise KeyError("lid")

    one = play(episode(FaultyEnvironment(TreasureEnvironment(), breaks).start("train/000")), "open chest 1")
    assert one.trajectory().fault == "KeyError: 'lid'"


def test_what_is_over_before_it_begins_needs_no_decision():
    one = episode(FreeText(done=True))
    assert one.done
    assert (one.trajectory().turns, one.trajectory().success) == ((), True)


def test_the_toy_keeps_the_protocols():
    assert isinstance(TreasureEnvironment(), Environment)
    assert isinstance(TreasureEnvironment(), SupportsExpert)
