"""A person at the terminal: scripted, piped, and typing into a real pseudo-terminal."""

import io
import os
import select
import subprocess
import sys
import time
from functools import partial

import pytest
from rich.console import Console
from toys import FaultyEnvironment, TreasureEnvironment, task

from d2skill.config import HousesConfig
from d2skill.envs.alfworld.houses import generate
from d2skill.envs.alfworld.houses.environment import HousesEnvironment
from d2skill.play import line_reader, overview, play, replay
from d2skill.play.game import COMMANDS
from d2skill.play.menu import blocks, meanings
from d2skill.trajectories import Saved, SavedTurn
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
    saved = play(lambda: environment.start(of), console, script(*lines), **options)
    return saved, console.file.getvalue()


def actions(saved):
    return tuple(turn.action for turn in saved.turns)


@pytest.mark.parametrize("number", range(3))
def test_a_house_is_won_by_its_walkthrough(number):
    houses = HousesEnvironment(HousesConfig())
    way = generate(HousesConfig(), "train", number)["walkthrough"]
    saved, shown = played(*way, environment=houses, of=f"train/{number:04d}", max_steps=50, best=len(way))
    assert saved.success and saved.arm == "person" and saved.task.id == f"train/{number:04d}"
    assert actions(saved) == tuple(way) and all(turn.admissible for turn in saved.turns)
    assert saved.turns[0].observation.startswith("You are in the middle of a room")
    assert f"Task: {saved.task.text}\n" in shown and saved.final in shown
    assert f"After {len(way)} steps: won." in shown and f"The shortest plan takes {len(way)} steps." in shown


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
    saved, shown = played("open chest 1", way_out, "open chest 2", best=2)
    assert actions(saved) == ("open chest 1",) and not saved.success and not saved.fault
    assert saved.final == "You open the chest 1. It is empty."
    assert "After 1 step: left.\n" in shown and "The shortest plan takes 2 steps." in shown


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


def test_hints_lead_to_the_end():
    houses = HousesEnvironment(HousesConfig())
    start = partial(houses.start, "train/0001")
    expert = partial(houses.expert, start().task, (), 0)
    shown = screen()
    typed, hints = ["go to drawer 1", "undo", "go to drawer 2"], 0

    def follow(prompt, completions):
        nonlocal hints
        if typed:
            return typed.pop(0)
        hints += 1
        if hints % 2:
            return "hint"
        return shown.file.getvalue().rsplit("The expert would: ", 1)[1].splitlines()[0]

    saved = play(start, shown, follow, max_steps=50, expert=expert)
    assert saved.success and saved.turns[0].action == "go to drawer 2"


def test_a_hint_needs_an_expert_that_knows_a_way():
    class Lost:
        def act(self, observation):
            raise LookupError("which way?")

    assert "has no expert" in played("hint")[1]
    saved, shown = played("hint", expert=Lost)
    assert "knows no way" in shown and not saved.turns


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
    saved = play(Parrot, console, script("7", "well met", "bye"), expert=None)
    assert actions(saved) == ("7", "well met", "bye") and all(turn.admissible for turn in saved.turns)
    assert saved.success and "none of the actions" not in console.file.getvalue()


def test_what_a_terminal_would_act_on_is_shown_harmless():
    console = screen()
    saved = play(Parrot, console, script())
    replay(saved, console)
    assert console.file.getvalue().count("\ufffd[2JHello [bold]you[/bold].") == 2
    assert saved.final == "\x1b[2JHello [bold]you[/bold]."


def test_an_action_comes_before_a_command_of_its_name():
    saved = play(lambda: Parrot(("list", "help", "2", "bye")), screen(), script("list", "help", "2", "4"))
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
    assert meanings(typed, MENU) == meant


def test_many_actions_of_a_verb_make_a_block_and_fit_on_a_screen():
    listed = (*(f"go to place {n}" for n in range(34)), "look", *(f"take cup {n}" for n in range(4)), "wait")
    assert blocks(listed) == [("look", *(f"take cup {n}" for n in range(4)), "wait"), listed[:34]]
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    play(lambda: Parrot(listed), console, script("7"))
    menu = console.file.getvalue().partition("look")[2].partition("You said")[0]
    assert menu.count("\n") < 20 and menu.count("go to") == 2  # the heading, and the action
    assert blocks(()) == []


def test_piped_lines_are_echoed(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"open chest 1\n{WAY[0]}\n\xff\n".encode("latin-1"))))
    console = screen()
    saved = play(lambda: TREASURE.start("train/000"), console, line_reader(console), max_steps=9)
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


@pytest.mark.parametrize(("typed", "turns"), [(("", ""), 3), (("", "q"), 2), (("q",), 1), ((), 1)])
def test_a_replay_can_wait_and_be_stopped(typed, turns):
    console = screen()
    replay(SKILLED, console, read_line=script(*typed))
    shown = console.file.getvalue()
    assert [text in shown for text in ("A chest.", "Empty.", "Nothing happens.")] == [n < turns for n in range(3)]


def test_an_overview_has_a_line_for_each():
    console = screen()
    overview([SKILLED, Saved(task("[b]x[/b]"), "person", 0, True, (), "")], console)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 4
    assert [cell.strip() for cell in lines[2].split("│")] == ["1", "train/000", "skills", "2", "2", "not won"]
    assert [cell.strip() for cell in lines[3].split("│")] == ["2", "[b]x[/b]", "person", "0", "0", "won"]


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
