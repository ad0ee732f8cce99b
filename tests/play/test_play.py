"""A person at the terminal: scripted, piped, and typing into a real pseudo-terminal."""

import io
import os
import re
import select
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest
from rich.console import Console
from toys import FaultyEnvironment, TreasureEnvironment, task, tiny_config
from webshop_products import options, raw, write_set

from d2skill.config import EnvConfig, HousesConfig, WebshopConfig
from d2skill.envs import make_environment
from d2skill.envs.houses import generate
from d2skill.envs.houses.environment import HousesEnvironment
from d2skill.errors import ConfigError, RunError
from d2skill.play import line_reader, load_trajectories, play, print_overview, replay
from d2skill.play.game import COMMANDS
from d2skill.play.menu import group_actions, matching_actions, print_menu
from d2skill.protocols import HumanReadable
from d2skill.runs import trajectories
from d2skill.runs.folder import RunFolder
from d2skill.runs.trajectories import Saved, SavedTurn
from d2skill.types import Observation

TREASURE = TreasureEnvironment()
CHEST = TREASURE.chest_of("ruby")
WAY = (f"open chest {CHEST}", f"take ruby 1 from chest {CHEST}")


def screen(terminal=False):
    return Console(file=io.StringIO(), width=200, force_terminal=terminal, color_system=None)


def script(*lines):
    """Types lines, then Ctrl-D; an exception among them is raised in its turn."""
    left = iter(lines)

    def read_line(prompt, completions):
        line = next(left, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    return read_line


def played(*lines, environment=TREASURE, of="train/000", terminal=False, **options):
    """Plays what is typed; returns the record and all that was shown."""
    console = screen(terminal)
    saved = play(environment, of, console, script(*lines), **options)
    return saved, console.file.getvalue()


class Only:
    """An environment of one task, whose sessions and, if it has one, experts are made by calls."""

    def __init__(self, make, make_expert=None):
        self.make = make
        if make_expert:
            self.expert = lambda task, hints, seed: make_expert()

    def task_ids(self, split):
        return ("train/000",)

    def start(self, task_id):
        return self.make()


class Planned(TreasureEnvironment):
    """Chests whose sessions know a plan."""

    def __init__(self, plan):
        super().__init__()
        self.plan = plan

    def start(self, task_id):
        session = super().start(task_id)
        session.shortest_plan = lambda: self.plan
        return session


def actions(saved):
    return tuple(turn.action for turn in saved.turns)


@pytest.mark.parametrize("number", range(3))
def test_a_house_is_won_by_its_walkthrough(number):
    houses = HousesEnvironment(HousesConfig())
    way = generate(HousesConfig(), "train", number)["walkthrough"]
    saved, shown = played(*way, environment=houses, of=f"train/{number:04d}", max_steps=50)
    best = len(houses.start(f"train/{number:04d}").shortest_plan())
    assert saved.success and saved.arm == "person" and saved.task.id == f"train/{number:04d}"
    assert actions(saved) == tuple(way) and all(turn.admissible for turn in saved.turns)
    assert saved.turns[0].observation.startswith("You are in the middle of a room")
    assert f"Task: {saved.task.text}\n" in shown and saved.final in shown
    assert (
        f"After {len(way)} steps: won." in shown
        and f"The shortest plan takes {best} steps." in shown
        and best <= len(way)
    )


def test_actions_are_taken_by_number_and_shortened():
    saved, shown = played(str(CHEST), "ta ruby")
    assert saved.success and actions(saved) == WAY
    assert f"({WAY[0]})" in shown and f"({WAY[1]})" in shown


def test_what_could_be_several_actions_costs_no_step():
    saved, shown = played("open")
    assert not saved.turns
    assert "could be open chest 1, open chest 2, open chest 3, open chest 4, open chest 5, ...: say more" in shown
    saved, shown = played("77", "0")
    assert not saved.turns and shown.count("the numbers 1 to 6") == 2


def test_an_action_that_is_not_there_is_played_and_the_nearest_named():
    saved, shown = played("opne chest 2", "xyzzy", "")
    assert actions(saved) == ("opne chest 2", "xyzzy") and not any(turn.admissible for turn in saved.turns)
    assert 'did you mean "open chest 2"?' in shown
    assert shown.count("That is none of the actions here") == shown.count("Nothing happens.") == 2


@pytest.mark.parametrize("way_out", ["quit", "q", "exit", EOFError(), KeyboardInterrupt()])
def test_leaving_keeps_what_was_played(way_out):
    assert actions(played(way_out)[0]) == ()
    saved, shown = played("open chest 1", way_out, "open chest 2", environment=Planned(WAY))
    assert actions(saved) == ("open chest 1",) and not saved.success and not saved.fault
    assert saved.final == "You open the chest 1. It is empty."
    assert "After 1 step: left.\n" in shown and "The shortest plan takes 2 steps." in shown
    assert "shortest plan" not in played(way_out, environment=Planned(None))[1]


def test_undo_takes_back_one_step():
    saved, shown = played("undo", "open chest 1", WAY[0], "nonsense", "undo", "undo", "list", *WAY)
    assert saved.success and actions(saved) == ("open chest 1", *WAY)
    assert "nothing to take back" in shown and "(took back: nonsense)" in shown
    assert "Nothing happens." not in [turn.observation for turn in saved.turns]


def test_steps_run_out():
    saved, shown = played("open chest 1", "open chest 2", "open chest 5", max_steps=2)
    assert actions(saved) == ("open chest 1", "open chest 2") and "After 2 steps: not won." in shown


def test_a_failing_environment_ends_the_game_and_is_kept():
    faulty = FaultyEnvironment(TREASURE, lambda task, action: action == "open chest 2")
    saved, shown = played("open chest 1", "open chest 2", "open chest 1", environment=faulty)
    assert saved.fault == "EnvironmentFault: the lid fell" and not saved.success and len(saved.turns) == 2
    assert "After 2 steps: broken off (EnvironmentFault: the lid fell)." in shown
    assert shown.count("It is empty.") == 1


def obeying(console, *lines):
    """Types lines, then asks for hints and does what they say."""
    left, hints = list(lines), 0

    def read_line(prompt, completions):
        nonlocal hints
        if left:
            return left.pop(0)
        hints += 1
        if hints % 2:
            return "hint"
        return console.file.getvalue().rsplit("The expert would: ", 1)[1].splitlines()[0]

    return read_line


def test_hints_lead_to_the_end():
    houses = HousesEnvironment(HousesConfig())
    shown = screen()
    follow = obeying(shown, "go to drawer 1", "undo", "go to drawer 2")
    saved = play(houses, "train/0001", shown, follow, max_steps=50)
    assert saved.success and saved.turns[0].action == "go to drawer 2"


def test_a_hint_needs_an_expert_that_knows_a_way():
    class Lost:
        def act(self, observation):
            raise LookupError("which way?")

    def start():
        return TREASURE.start("train/000")

    assert "has no expert" in played("hint", environment=Only(start))[1]
    saved, shown = played("hint", environment=Only(start, Lost))
    assert "knows no way" in shown and not saved.turns


class Scored:
    """A ladder that ends with "stop" at a score of its height, won from the fourth rung; "kick" ends at the bottom."""

    def __init__(self):
        self.task = task(text="climb")
        self.height = 0
        self.observation = Observation("Go.", ("climb", "stop", "kick"))

    def step(self, action):
        self.height = 0 if action == "kick" else self.height + (action == "climb")
        done = action != "climb"
        score, listed = (self.height / 4 if done else None), self.observation.actions
        self.observation = Observation(f"At {self.height}.", () if done else listed, done, self.height == 4, score)
        return self.observation


class Climber:
    """Climbs to a height that it counts from where it begins, and stops there."""

    def __init__(self, rungs):
        self.left = rungs

    def act(self, observation):
        self.left -= 1
        return "climb" if self.left >= 0 else "stop"


@pytest.mark.parametrize(
    ("rungs", "before", "hint"),
    [
        (4, (), "The expert would: climb\n"),
        (2, (), "The expert would: climb (it gets 0.50 of 1 that way)\n"),
        (2, ("climb",), "The expert would: climb (it gets 0.75 of 1 that way)\n"),  # beginning here, it climbs higher
        (0, ("climb",), "The expert would: stop (it gets 0.25 of 1 that way)\n"),
        (2, ("climb", "climb"), "The expert would: climb\n"),
        (0, (), "The expert knows no way from here.\n"),
    ],
)
def test_where_no_way_wins_a_hint_leads_to_the_highest_score(rungs, before, hint):
    console = screen()
    play(Only(Scored, partial(Climber, rungs)), "", console, script(*before, "hint"))
    assert hint in console.file.getvalue()


def test_a_way_is_followed_while_it_is_obeyed_and_the_score_told_at_the_end():
    console = screen()
    lines = script("hint", "climb", "hint", "climb", "hint", "stop")
    saved = play(Only(Scored, partial(Climber, 2)), "", console, lines)
    hints = re.findall(r"The expert would: (.*)\n", console.file.getvalue())
    gets = " (it gets 0.50 of 1 that way)"
    assert hints == [f"climb{gets}", f"climb{gets}", f"stop{gets}"]
    assert saved.score == 0.5 and "After 3 steps: not won, score 0.50." in console.file.getvalue()


def test_help_names_every_command():
    for asked in ("?", "help"):
        saved, shown = played(asked)
        assert not saved.turns and all(command in shown and COMMANDS[command] in shown for command in COMMANDS)


def test_a_terminal_shows_the_actions_at_every_turn_and_a_pipe_when_asked():
    for terminal, times in ((True, 3), (False, 2)):
        _, shown = played("open chest 1", "list", terminal=terminal)
        assert shown.count("6 chest 6") == times


class Parrot:
    """A session that takes any text, repeats it, and ends at "bye"."""

    def __init__(self, listed=()):
        self.task = task(text="talk")
        self.listed = listed
        self.observation = Observation("\x1b[2JHello [bold]you[/bold].", listed)

    def step(self, action):
        self.observation = Observation(f"You said {action}.", self.listed, done=action == "bye", success=True)
        return self.observation


def test_any_text_is_an_action_where_none_are_listed():
    console = screen()
    saved = play(Only(Parrot), "", console, script("7", "well met", "bye"))
    assert actions(saved) == ("7", "well met", "bye") and all(turn.admissible for turn in saved.turns)
    assert saved.success and "none of the actions" not in console.file.getvalue()


def test_what_a_terminal_would_act_on_is_shown_harmless():
    console = screen()
    saved = play(Only(Parrot), "", console, script())
    replay(saved, console)
    assert console.file.getvalue().count("\\u001b[2JHello [bold]you[/bold].") == 2
    assert saved.final == "\x1b[2JHello [bold]you[/bold]."


def test_an_action_comes_before_a_command_of_its_name():
    environment = Only(lambda: Parrot(("list", "help", "2", "bye")))
    saved = play(environment, "", screen(), script("list", "help", "2", "4"))
    assert actions(saved) == ("list", "help", "2", "bye")


MENU = ("look", "look at mug 1", "go to cabinet 1", "go to cabinet 10", "go to fridge 1", "Open Safe")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("look", ["look"]),
        ("LOOK", ["look"]),
        ("2", ["look at mug 1"]),
        ("lo mug", ["look at mug 1"]),
        ("g cab 1", ["go to cabinet 1"]),
        ("g cab", ["go to cabinet 1", "go to cabinet 10"]),
        ("go fr", ["go to fridge 1"]),
        ("open safe", ["Open Safe"]),
        ("fridge", []),
        ("go fr 1 1", []),
        ("9" * 5000, []),
        ("", []),
    ],
)
def test_what_typed_text_can_mean(typed, meant):
    assert matching_actions(typed, MENU) == meant


PAGE = (
    "click[back to search]",
    "click[< prev]",
    "click[next >]",
    "click[b09qpx97vw]",
    "click[b09qgk5xhz]",
    "click[buy now]",
    "click[red]",
    "click[red wine]",
    "click[3]",
    "click[80]",
)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("next", ["click[next >]"]),
        ("click next", ["click[next >]"]),
        ("c ne", ["click[next >]"]),
        ("click[nex", ["click[next >]"]),
        ("next >", ["click[next >]"]),
        ("CLICK[NEXT >]", ["click[next >]"]),
        ("prev", ["click[< prev]"]),
        ("B09QPX97VW", ["click[b09qpx97vw]"]),
        ("b09", ["click[b09qpx97vw]", "click[b09qgk5xhz]"]),
        ("buy", ["click[buy now]"]),
        ("red", ["click[red]"]),
        ("click red", ["click[red]"]),
        ("red w", ["click[red wine]"]),
        ("6", ["click[buy now]"]),
        ("3", ["click[next >]", "click[3]"]),  # its number, and what it is called
        ("click 3", ["click[3]"]),
        ("80", ["click[80]"]),
        ("8", ["click[red wine]"]),
        ("77", []),
        (">", []),
        ("search", []),
        ("search red shoes", ["search[red shoes]"]),
        ("Search [Red shoes]", ["search[Red shoes]"]),
        ("search[red shoes", ["search[red shoes]"]),
        ("search[red]", ["search[red]"]),
        ("search []", []),
        ("searching", []),
    ],
)
def test_what_typed_text_can_mean_among_names_in_brackets(typed, meant):
    assert matching_actions(typed, PAGE, ("search[...]",)) == meant


def test_a_form_that_is_typed_out_comes_before_what_it_would_abbreviate():
    menu, forms = ("search[red canvas shoes]",), ("search[...]", "say ...")
    assert matching_actions("search red shoes", menu) == list(menu)
    assert matching_actions("search red shoes", menu, forms) == ["search[red shoes]"]
    assert matching_actions("red shoes", menu, forms) == matching_actions("sea red", menu, forms) == list(menu)


def menu_of(*listed, width=60, notes=None):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_menu(console, listed, notes)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_names_in_brackets_stand_below_what_they_are_names_for():
    assert menu_of("click[red]", "click[dark red]") == ["click[...]", "  1 red    2 dark red"]
    assert menu_of("click[red]") == ["  1 click[red]"]
    assert menu_of("click[red]", "look") == ["  1 click[red]    2 look"]
    many = [f"click[{n} oz]" for n in range(5)]
    assert group_actions(["search[a b]", *many, "search[a c]"]) == [("search[a b]", "search[a c]"), tuple(many)]


def test_long_actions_have_lines_of_their_own_and_go_on_below_themselves():
    start = "machine wash shirts with long sleeve and more than fits on"
    assert menu_of(f"search[{start} a line]", f"search[{start} lines]") == [
        *("search[...]", f"  1 {start.removesuffix(' fits on')}", "    fits on a line"),
        *(f"  2 {start.removesuffix(' fits on')}", "    fits on lines"),
    ]
    assert menu_of(*(f"take the very long pencil number {n}" for n in (1, 2))) == [
        *("take the very long pencil", "  1 number 1    2 number 2"),
    ]


def test_what_is_to_be_said_of_actions_stands_beside_them():
    notes = {"click[b2]": "$2  A lamp [bold]\x1b[2J with a name that does not fit on a line"}
    assert menu_of("click[back to search]", "click[b2]", notes=notes) == [
        *("click[...]", "  1 back to search", "  2 b2             $2  A lamp [bold]\\u001b[2J with a name"),
        "                   that does not fit on a line",
    ]


class Shown(Parrot):
    """A parrot that has a display for people, and something to say of one action as long as nothing was said."""

    def __init__(self):
        super().__init__(("click[hello]", "click[bye]"))

    @property
    def display_text(self):
        return "A parrot."

    @property
    def action_notes(self):
        return {} if self.observation.text.startswith("You said") else {"click[bye]": "leaves"}


def test_a_session_may_show_itself_to_people_and_the_record_keeps_what_agents_see():
    console = screen()
    saved = play(Only(Shown), "", console, script("hello"))
    shown = console.file.getvalue()
    assert isinstance(Shown(), HumanReadable) and not isinstance(Parrot(), HumanReadable)
    assert shown.count("A parrot.") == 2 and "You said" not in shown and "2 bye   leaves" in shown
    assert saved.turns[0] == SavedTurn("\x1b[2JHello [bold]you[/bold].", "click[hello]")
    assert saved.final == "You said click[hello]."


def test_a_pipe_sees_the_actions_of_which_something_is_said():
    class Told(Shown):
        @property
        def action_notes(self):
            return {"click[bye]": "leaves"}

    for kind, times in ((Shown, 1), (Told, 2)):
        console = screen()
        play(Only(kind), "", console, script("hello"))
        assert console.file.getvalue().count("2 bye") == times


def test_a_form_costs_no_step_until_it_is_filled_in():
    class Searching(Parrot):
        def __init__(self):
            super().__init__()
            self.observation = Observation("Well?", ("click[next >]",), forms=("search[...]",))

    console = screen()
    saved = play(Only(Searching), "", console, script("?", "search", "nexd >"))
    shown = console.file.getvalue()
    assert actions(saved) == ("nexd >",) and "That could be search[...]: say more." in shown
    assert 'did you mean "click[next >]"?' in shown
    assert shown.count("search[...]") == 3  # below the menu, in the help, and when asked for more


def test_many_actions_of_a_verb_make_a_block_and_fit_on_a_screen():
    listed = (*(f"go to place {n}" for n in range(34)), "look", *(f"take cup {n}" for n in range(4)), "wait")
    assert group_actions(listed) == [("look", *(f"take cup {n}" for n in range(4)), "wait"), listed[:34]]
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    play(Only(lambda: Parrot(listed)), "", console, script("7"))
    menu = console.file.getvalue().partition("look")[2].partition("You said")[0]
    assert menu.count("\n") < 20 and menu.count("go to") == 2  # the heading, and the action
    assert group_actions(()) == []


def test_piped_lines_are_echoed(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"open chest 1\n{WAY[0]}\n\xff\n".encode("latin-1"))))
    console = screen()
    saved = play(TREASURE, "train/000", console, line_reader(console), max_steps=9)
    assert actions(saved) == ("open chest 1", WAY[0], "\ufffd")
    shown = console.file.getvalue()
    assert "0/9 > open chest 1\n\nYou open the chest 1. It is empty.\n" in shown
    assert f"1/9 > {WAY[0]}\n" in shown and shown.rstrip().endswith("After 3 steps: left.")


def test_lines_are_read_without_readline_too(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setitem(sys.modules, "readline", None)
    monkeypatch.setattr(sys, "stdin", Terminal("open chest 1\n"))
    assert line_reader(screen())("> ", ["open chest 1"]) == "open chest 1"


SKILLED = Saved(
    task(),
    "skills",
    2,
    False,
    (
        SavedTurn("A chest.", "open chest 1", skills=("t1", "s4")),
        SavedTurn("Empty.", "dance", answer="I dance. <action>dance</action>", admissible=False, skills=("t1",)),
    ),
    "Nothing happens.",
)


def test_a_replay_shows_each_turn():
    console = screen()
    replay(SKILLED, console, titles={"t1": "Look twice"})
    assert console.file.getvalue() == (
        "Task: take the ruby\n"
        "train/000, with skills\n"
        "\nA chest.\nskills: t1 (Look twice), s4\n1 > open chest 1\n"
        "\nEmpty.\nskills: t1\nI dance. <action>dance</action>\n2 > dance   (not admissible)\n"
        "\nNothing happens.\nAfter 2 steps: not won.\n"
    )


def test_the_parts_of_a_text_are_shown_a_line_each():
    console = screen()
    page = "Back [SEP] Page 1 [SEP] $2.0"
    replay(Saved(task(), "person", 0, False, (SavedTurn(page, "wait"),), page), console)
    assert console.file.getvalue().count("\nBack\nPage 1\n$2.0\n") == 2


@pytest.mark.parametrize(("typed", "turns"), [(("", ""), 3), (("", "q"), 2), (("q",), 1), ((), 1)])
def test_a_replay_can_wait_and_be_stopped(typed, turns):
    console = screen()
    replay(SKILLED, console, read_line=script(*typed))
    shown = console.file.getvalue()
    assert [text in shown for text in ("A chest.", "Empty.", "Nothing happens.")] == [n < turns for n in range(3)]


def test_an_overview_has_a_line_for_each():
    console = screen()
    print_overview([SKILLED, Saved(task("[b]x[/b]"), "person", 0, True, (), "")], console)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 4
    assert [cell.strip() for cell in lines[2].split("│")] == ["1", "train/000", "skills", "2", "2", "not won"]
    assert [cell.strip() for cell in lines[3].split("│")] == ["2", "[b]x[/b]", "person", "0", "0", "won"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop of twelve lamps, the first in colours and sizes; all but it cost too much for the goals about it."""
    lamps = [raw(f"B{number:09d}", pricing=f"${number * 100}.50") for number in range(2, 13)]
    choices = options(color=["red", "dark red"], size=["3", "large"])
    first = raw("B000000001", name="Red lamp", pricing="$5 - $7", customization_options=choices)
    told = {"attributes": ["bright"], "instruction": "Find me bright lamps", "instruction_attributes": ["bright"]}
    folder = write_set(tmp_path_factory.mktemp("shop"), [first, *lamps], {"B000000001": told}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2SKILL_CACHE", str(tmp_path_factory.mktemp("caches")))
        yield lambda **settings: make_environment(
            EnvConfig(kind="webshop", data=folder, webshop=WebshopConfig(**settings))
        )


def shopped(shop, *lines, **settings):
    environment = shop(**settings)
    goal = next(
        one
        for one in environment.task_ids("published-test")
        if "color: red, and size: large" in environment.start(one).task.text
    )
    saved, shown = played(*lines, environment=environment, of=goal)
    return saved, "\n".join(line.rstrip() for line in shown.splitlines())


def test_a_person_shops_by_short_names_and_the_record_keeps_the_pages(shop):
    saved, shown = shopped(shop, "search Red Lamp", "next", "prev", "b000000001", "red", "large", "feat", "prev", "buy")
    assert actions(saved) == (
        *("search[Red Lamp]", "click[next >]", "click[< prev]", "click[b000000001]", "click[red]", "click[large]"),
        *("click[features]", "click[< prev]", "click[buy now]"),
    )
    assert all(turn.admissible for turn in saved.turns) and saved.success and saved.score == 1
    assert "\nclick[...]\n  1 back to search\n  2 next >\n  3 b000000001     $5.0 to $7.0  Red lamp\n" in shown
    assert "\nPage 2 (Total results: 12)\n" in shown and "[SEP]" not in shown and "Instruction:" not in shown
    assert "\nRed lamp\nPrice: $5.0 to $7.0\nRating: N.A.\ncolor: red; dark red\nsize: 3; large\n" in shown
    assert "\nYou have chosen color red; size large.\n" in shown and "\nBright\nWarm\n" in shown
    assert "\nYou have bought Red lamp (color red; size large).\n" in shown
    assert "After 9 steps: won, score 1.00." in shown
    assert saved.turns[1].observation.startswith("Back to Search [SEP] Page 1 (Total results: 12) [SEP] Next > [SEP] B")
    assert saved.final.startswith("Thank you for shopping with us! [SEP] Your code:")


def test_the_score_of_a_purchase_is_shown_as_the_sum_that_it_is(shop):
    saved, shown = shopped(shop, "search red lamp", "b000000001", "large", "buy now")
    said = re.search(
        r"Your score \(min 0.0, max 1.0\): (.*) = (.*) kind of product x "
        r"\((.*) attributes x (.*) \+ (.*) options x (.*) \+ (.*) price x (.*)\)\n",
        shown,
    )
    score, kind, *terms = map(float, said.groups())
    assert 0 < score < 1 and score == pytest.approx(saved.score, abs=0.006)
    assert score == pytest.approx(kind * sum(terms[n] * terms[n + 1] for n in (0, 2, 4)), abs=0.02)
    assert f"After 4 steps: not won, score {score:.2f}." in shown


def test_pages_with_nothing_on_them_and_both_forms_of_pages_are_shown(shop):
    assert "\nThere is nothing on this page.\n" in shopped(shop, "search red lamp", "b000000001", "reviews")[1]
    assert "\nPage 3 (Total results: 12)\n\nAfter 3 steps" in shopped(shop, "search lamp", "next", "next")[1]
    plain, rich = (shopped(shop, "search red lamp", "b000000001", rich=rich) for rich in (False, True))
    assert plain[1] == rich[1] and "[button]" in rich[0].final and "[SEP]" in plain[0].final


def test_a_number_that_is_also_a_name_costs_no_step(shop):
    saved, shown = shopped(shop, "search red lamp", "b000000001", "3", "click 3")
    assert actions(saved)[2:] == ("click[3]",)
    assert "That could be click[description], click[3]: say more." in shown


def test_hints_lead_through_the_shop(shop):
    console = screen()
    saved = play(shop(), "synthetic/00000", console, obeying(console, "search lamp", "next"))
    assert saved.success and actions(saved)[:2] == ("search[lamp]", "click[next >]")


TYPIST = """
from rich.console import Console
from d2skill.play import line_reader
read = line_reader(Console())
for completions in (["go to cabinet 1", "go to fridge 1", "look"], ["wait"]):
    print("GOT", repr(read("ready > ", completions)), flush=True)
"""


def converse(code, *typed):
    """Types into a program on a pseudo-terminal, a text each time it is ready; returns all that was on the screen."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    pytest.importorskip("readline", reason="this Python has no readline")
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "INPUTRC": os.devnull}
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    )
    os.close(theirs)
    seen, asked, ends = b"", 0, time.monotonic() + 60
    try:
        while time.monotonic() < ends:
            if asked < len(typed) and seen.count(b"ready > ") > asked:
                os.write(ours, typed[asked].encode())
                asked += 1
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    data = os.read(ours, 4096)
                except OSError:  # Linux's way to say that the other end was closed
                    break
                if not data:
                    break
                seen += data
    finally:
        program.kill()
        program.wait()
        os.close(ours)
    return seen.decode(errors="replace")


def test_tab_completes_whole_actions_in_a_terminal():
    shown = converse(TYPIST, "go to fri\t\n", "w\t\x15q\n")
    assert "GOT 'go to fridge 1'" in shown and "GOT 'q'" in shown


def test_tab_completes_the_words_that_candidates_share():
    shown = converse(TYPIST, "g\tc\t\n", "\x04")
    assert "GOT 'go to cabinet 1'" in shown and "EOFError" in shown


def test_trajectories_are_loaded_from_a_file_a_run_and_an_iteration_of_it(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.begin(tiny_config(), {})
    file, other = tmp_path / "some.jsonl", replace(SKILLED, index=5)
    for path, saved in ((file, [SKILLED, other]), (run.trajectories, [SKILLED]), (run.rollout(3), [other])):
        path.parent.mkdir(exist_ok=True)
        trajectories.write(path, saved)
    assert load_trajectories(file) == [SKILLED, other]
    assert load_trajectories(run.path) == [SKILLED] and load_trajectories(run.path, 3) == [other]
    with pytest.raises(RunError, match="iterations 3: there are none of 2"):
        load_trajectories(run.path, 2)
    with pytest.raises(ConfigError, match="is a file"):
        load_trajectories(file, 3)
