"""A task played by a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from d2skill.episode import describe_fault
from d2skill.play.hints import Adviser
from d2skill.play.menu import blocks, meanings, name, print_menu
from d2skill.play.replay import steps
from d2skill.play.terminal import ReadLine, in_lines, say
from d2skill.protocols import Expert, HumanReadable, Session
from d2skill.runs.trajectories import Saved, SavedTurn, outcome

COMMANDS = {
    "?": "this help",
    "list": "the task, what is seen and the actions again",
    "hint": "what the environment's expert would do next, after playing ahead",
    "undo": "take the last step back",
    "quit": "leave and keep what was played; Ctrl-D does the same",
}
"""What a player can type besides actions. An action of the same name comes first."""

_SAME = {"help": "?", "q": "quit", "exit": "quit"}
_SOME = 5


def play(
    start: Callable[[], Session],
    console: Console,
    read_line: ReadLine,
    *,
    max_steps: int | None = None,
    expert: Callable[[], Expert] | None = None,
    best: int | None = None,
) -> Saved:
    """Lets a person play a task to its end or until they leave, and returns what they played.

    `start` starts the task, always from the same state; `expert` makes the player that `hint` asks. `best` is the
    number of steps of the shortest plan, told at the end.
    """
    game = _Game(start, max_steps)
    table = _Player(game, console, expert)
    say(console, f"Task: {game.session.task.text}", style="bold")
    say(console, game.session.task.id, style="dim")
    say(console, "Type an action or its number; ? lists what else there is.", style="dim")
    table.show(actions=True)
    left = False
    try:
        while not game.done and not left:
            limit = f"/{max_steps}" if max_steps else ""
            known = dict.fromkeys([*game.actions, *map(name, game.actions), *COMMANDS])
            line = read_line(f"{len(game.turns)}{limit} > ", list(known))
            left = not table.take(" ".join(line.split()))
    except (EOFError, KeyboardInterrupt):
        console.print()
        left = True
    saved = game.saved()
    say(console, f"After {steps(len(saved.turns))}: {'left' if left else outcome(saved)}.", style="bold")
    if best is not None:
        say(console, f"The shortest plan takes {steps(best)}.")
    return saved


class _Game:
    """An episode that can go back: its session, and the turns so far."""

    def __init__(self, start: Callable[[], Session], max_steps: int | None) -> None:
        self.start = start
        self._max_steps = max_steps
        self._begin()

    def _begin(self) -> None:
        self.session = self.start()
        self.turns: list[SavedTurn] = []
        self.fault = ""

    @property
    def actions(self) -> tuple[str, ...]:
        """The admissible actions in the order of the menu: numbers count along it."""
        return tuple(action for block in blocks(self.session.observation.actions) for action in block)

    @property
    def played(self) -> tuple[str, ...]:
        """The actions so far."""
        return tuple(turn.action for turn in self.turns)

    @property
    def done(self) -> bool:
        """Whether nothing more can be played."""
        used_up = self._max_steps is not None and len(self.turns) >= self._max_steps
        return bool(self.fault) or self.session.observation.done or used_up

    def act(self, action: str) -> None:
        """Plays an action; a failing environment ends the game."""
        seen = self.session.observation
        turn = SavedTurn(seen.text, action, admissible=seen.admits(action))
        try:
            self.session.step(action)
        except Exception as error:  # whatever an environment raises is a fact about this episode
            self.fault = describe_fault(error)
        self.turns.append(turn)

    def undo(self) -> None:
        """Goes one step back: plays all but the last action in a fresh session."""
        played = self.played
        self._begin()
        for action in played[:-1]:
            self.act(action)

    def saved(self) -> Saved:
        """Returns the record of what was played."""
        seen = self.session.observation
        success, score = seen.success and not self.fault, None if self.fault else seen.score
        return Saved(self.session.task, "person", 0, success, tuple(self.turns), seen.text, self.fault, score)


class _Player:
    """The player's side of the table: understands what is typed and shows what comes of it."""

    def __init__(self, game: _Game, console: Console, expert: Callable[[], Expert] | None) -> None:
        self._game = game
        self._console = console
        self._adviser = Adviser(game.start, expert) if expert is not None else None

    def show(self, actions: bool) -> None:
        """Shows what is seen, and the actions if they are wanted or what is said of them is a part of what is seen."""
        session = self._game.session
        seen = session.observation
        text, told = (
            (session.display_text, session.action_notes) if isinstance(session, HumanReadable) else (seen.text, {})
        )
        self._console.print()
        say(self._console, in_lines(text))
        if (actions or told) and not self._game.done:
            print_menu(self._console, seen.actions, told)
            if seen.forms:
                say(self._console, f"Also, in words of your own: {', '.join(seen.forms)}", style="dim")

    def take(self, line: str) -> bool:
        """Does what a line says; returns False if it says to leave."""
        command, seen = _SAME.get(line, line), self._game.session.observation
        found = meanings(line, self._game.actions, seen.forms)
        if command in COMMANDS and line not in self._game.actions:
            return self._obey(command)
        if len(found) == 1:
            self._play(found[0], shorthand=found[0] != line)
        elif found:
            some = ", ".join(found[:_SOME]) + (", ..." if len(found) > _SOME else "")
            say(self._console, f"That could be {some}: say more.", style="dim")
        elif line.isdecimal() and self._game.actions:
            say(self._console, f"The actions have the numbers 1 to {len(self._game.actions)}.", style="dim")
        elif seen.admits(line):
            self._play(line)
        elif unfilled := [form for form in seen.forms if line and form.startswith(f"{line}[")]:
            say(self._console, f"That could be {unfilled[0]}: say more.", style="dim")
        elif line:
            self._play_unlisted(line)
        return True

    def _obey(self, command: str) -> bool:
        if command == "?":
            _print_help(self._console, self._game.session.observation.forms)
        elif command == "list":
            say(self._console, f"Task: {self._game.session.task.text}", style="bold")
            self.show(actions=True)
        elif command == "hint":
            hint = self._adviser.hint(self._game.played) if self._adviser else "This environment has no expert to ask."
            say(self._console, hint, style="green")
        elif command == "undo" and self._game.turns:
            say(self._console, f"(took back: {self._game.played[-1]})", style="dim")
            self._game.undo()
            self.show(actions=self._console.is_terminal)
        elif command == "undo":
            say(self._console, "There is nothing to take back.", style="dim")
        return command != "quit"

    def _play(self, action: str, shorthand: bool = False) -> None:
        if shorthand:
            say(self._console, f"({action})", style="dim")
        self._game.act(action)
        if not self._game.fault:
            # In the transcript of a piped game the lists of every step would drown the game.
            self.show(actions=self._console.is_terminal)

    def _play_unlisted(self, action: str) -> None:
        """Plays what is typed as it is: the environment's answer is part of the game."""
        if self._game.actions or self._game.session.observation.forms:
            known = {text: listed for listed in self._game.actions for text in (name(listed), listed)}
            near = get_close_matches(action, known, n=1)
            meant = f': did you mean "{known[near[0]]}"?' if near else "."
            say(self._console, f"That is none of the actions here{meant} (`undo` takes it back.)", style="dim")
        self._play(action)


def _print_help(console: Console, forms: Sequence[str]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("an action", "in full, by its number, or shortened: `g fr`; Tab completes it")
    if forms:
        table.add_row(", ".join(forms), "in words of your own, with or without the brackets")
    for command, effect in COMMANDS.items():
        table.add_row(command, effect)
    console.print(Padding(table, (0, 2)))
