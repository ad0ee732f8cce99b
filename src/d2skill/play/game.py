"""Task played by a person, with hints from the environment's expert."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from d2skill.episode import describe_fault
from d2skill.errors import D2SkillError, EnvironmentFault
from d2skill.play.menu import group_actions, label_of, matching_actions, print_menu
from d2skill.play.replay import count_steps
from d2skill.play.terminal import ReadLine, print_text, split_lines
from d2skill.protocols import Environment, Expert, HumanReadable, Session, SupportsExpert, SupportsShortestPlan
from d2skill.runs.trajectories import Saved, SavedTurn, outcome
from d2skill.utils.foreign_text import shown

COMMANDS = {
    "?": "this help",
    "list": "the task, what is seen and the actions again",
    "hint": "what the environment's expert would do next, after playing ahead",
    "undo": "take the last step back",
    "quit": "leave and keep what was played; Ctrl-D does the same",
}
"""Commands beside the actions. An action of the same name comes first."""

_ALIASES = {"help": "?", "q": "quit", "exit": "quit"}
_LISTED = 5
_LOOKAHEAD = 100


def play(
    environment: Environment,
    task_id: str,
    console: Console,
    read_line: ReadLine,
    *,
    max_steps: int | None = None,
) -> Saved:
    """Lets a person play a task to its end or until they leave, and returns the trajectory.

    Args:
        environment: Environment of the task. Its expert gives hints, and its shortest plan is named at the end.
        task_id: Id of the task.
        console: Terminal to print to.
        read_line: Reader of lines, such as `line_reader(console)`.
        max_steps: Steps after which the game ends, None for no limit.

    Raises `EnvironmentFault` for a task that does not start.
    """
    start = partial(environment.start, task_id)
    try:
        game = _TerminalGame(start, console, max_steps)
    except D2SkillError:
        raise
    except Exception as error:  # an environment of one's own may fail in any way
        raise EnvironmentFault(f"{task_id} does not start ({describe_fault(error)}): check-env tells more") from error
    session = game.session
    if isinstance(environment, SupportsExpert):
        game.hints = _HintFinder(start, partial(environment.expert, session.task, (), 0))
    shortest_plan = session.shortest_plan() if isinstance(session, SupportsShortestPlan) else None
    print_text(console, f"Task: {session.task.text}", style="bold")
    print_text(console, session.task.id, style="dim")
    print_text(console, "Type an action or its number; ? lists what else there is.", style="dim")
    game.show(actions=True)
    left = False
    try:
        while not game.done and not left:
            limit = f"/{max_steps}" if max_steps else ""
            completions = dict.fromkeys([*game.actions, *map(label_of, game.actions), *COMMANDS])
            line = read_line(f"{len(game.turns)}{limit} > ", list(completions))
            left = not game.obey(" ".join(line.split()))
    except (EOFError, KeyboardInterrupt):
        console.print()
        left = True
    saved = game.saved()
    print_text(console, f"After {count_steps(len(saved.turns))}: {'left' if left else outcome(saved)}.", style="bold")
    if shortest_plan is not None:
        print_text(console, f"The shortest plan takes {count_steps(len(shortest_plan))}.")
    return saved


class _TerminalGame:
    """Game at the terminal: an episode with undo, and the interpreter of the lines that a person types."""

    def __init__(self, start: Callable[[], Session], console: Console, max_steps: int | None) -> None:
        self.hints: _HintFinder | None = None
        self._start = start
        self._console = console
        self._max_steps = max_steps
        self._note = partial(print_text, console, style="dim")
        self._restart()

    def _restart(self) -> None:
        self.session = self._start()
        self.turns: list[SavedTurn] = []
        self._fault = ""

    @property
    def actions(self) -> tuple[str, ...]:
        """The admissible actions in the order of the menu's numbers."""
        return tuple(action for group in group_actions(self.session.observation.actions) for action in group)

    @property
    def done(self) -> bool:
        """True if nothing more can be played."""
        used_up = self._max_steps is not None and len(self.turns) >= self._max_steps
        return bool(self._fault) or self.session.observation.done or used_up

    def saved(self) -> Saved:
        """Returns the trajectory so far."""
        last, fault = self.session.observation, self._fault
        success, score = last.success and not fault, None if fault else last.score
        return Saved(self.session.task, "person", 0, success, tuple(self.turns), last.text, fault, score)

    def show(self, actions: bool) -> None:
        """Prints the observation, and the menu if `actions` is true or the session has notes on actions."""
        observation = self.session.observation
        text = observation.text
        notes: Mapping[str, str] = {}
        if isinstance(self.session, HumanReadable):
            text, notes = self.session.display_text, self.session.action_notes
        self._console.print()
        print_text(self._console, split_lines(text))
        if (actions or notes) and not self.done:
            print_menu(self._console, observation.actions, notes)
            if observation.forms:
                self._note(f"Also, in words of your own: {', '.join(observation.forms)}")

    def obey(self, line: str) -> bool:
        """Carries out a line; returns False if the person leaves."""
        observation, actions = self.session.observation, self.actions
        command = _ALIASES.get(line, line)
        if command in COMMANDS and line not in actions:
            return self._run_command(command)
        matches = matching_actions(line, actions, observation.forms)
        if len(matches) == 1:
            if matches[0] != line:
                self._note(f"({matches[0]})")
            self._play(matches[0])
        elif matches:
            some = ", ".join(matches[:_LISTED]) + (", ..." if len(matches) > _LISTED else "")
            self._note(f"That could be {some}: say more.")
        elif line.isdecimal() and actions:
            self._note(f"The actions have the numbers 1 to {len(actions)}.")
        elif observation.admits(line):
            self._play(line)
        elif unfilled := [form for form in observation.forms if line and form.startswith(f"{line}[")]:
            self._note(f"That could be {unfilled[0]}: say more.")
        elif line:
            # The environment's answer to an action that is not admissible is part of the game.
            if actions or observation.forms:
                action_of = {text: action for action in actions for text in (label_of(action), action)}
                near = get_close_matches(line, action_of, n=1)
                meant = f': did you mean "{action_of[near[0]]}"?' if near else "."
                self._note(f"That is none of the actions here{meant} (`undo` takes it back.)")
            self._play(line)
        return True

    def _run_command(self, command: str) -> bool:
        played = tuple(turn.action for turn in self.turns)
        if command == "?":
            _print_help(self._console, self.session.observation.forms)
        elif command == "list":
            print_text(self._console, f"Task: {self.session.task.text}", style="bold")
            self.show(actions=True)
        elif command == "hint":
            hint = self.hints.find(played) if self.hints else "This environment has no expert to ask."
            print_text(self._console, hint, style="green")
        elif command == "undo" and played:
            self._note(f"(took back: {played[-1]})")
            self._restart()
            for action in played[:-1]:
                self._step(action)
            self.show(actions=self._console.is_terminal)
        elif command == "undo":
            self._note("There is nothing to take back.")
        return command != "quit"

    def _play(self, action: str) -> None:
        self._step(action)
        if not self._fault:
            # A piped game prints no menus, which would take up most of its transcript.
            self.show(actions=self._console.is_terminal)

    def _step(self, action: str) -> None:
        """Plays an action; a failing environment ends the game."""
        observation = self.session.observation
        turn = SavedTurn(observation.text, action, admissible=observation.admits(action))
        try:
            self.session.step(action)
        except Exception as error:  # any exception of an environment is recorded as the fault of this episode
            self._fault = describe_fault(error)
        self.turns.append(turn)


def _print_help(console: Console, forms: Sequence[str]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("an action", "in full, by its number, or shortened: `g fr`; Tab completes it")
    if forms:
        table.add_row(shown(", ".join(forms)), "in words of your own, with or without the brackets")
    for command, effect in COMMANDS.items():
        table.add_row(command, effect)
    console.print(Padding(table, (0, 2)))


@dataclass(frozen=True, slots=True)
class _Continuation:
    """Actions of a game that an expert took over, from the start of the game, and their result."""

    actions: tuple[str, ...]
    won: bool
    score: float

    @property
    def rank(self) -> tuple[bool, float, int]:
        """Sort key: a win, then the score, then fewer actions."""
        return self.won, self.score, -len(self.actions)


class _HintFinder:
    """Finder of hints: it plays ahead with the environment's expert, in sessions of its own."""

    def __init__(self, start: Callable[[], Session], make_expert: Callable[[], Expert]) -> None:
        self._start, self._make_expert = start, make_expert
        self._best: _Continuation | None = None

    def find(self, played: tuple[str, ...]) -> str:
        """Returns the next action of the best continuation that the expert finds, with its score if it does not win.

        An expert that was not obeyed loses track of its search, and one that has not watched does not know what the
        player holds. So two are asked: one that has watched the whole game and one that begins here.
        """
        best, count = self._best, len(played)
        if best is None or len(best.actions) <= count or best.actions[:count] != played:
            continuations = [self._continue(played, since) for since in (0, count)]
            self._best = best = max(filter(None, continuations), key=lambda one: one.rank, default=None)
        if best is None:
            return "The expert knows no way from here."
        score = "" if best.won else f" (it gets {best.score:.2f} of 1 that way)"
        return f"The expert would: {best.actions[count]}{score}"

    def _continue(self, played: tuple[str, ...], since: int) -> _Continuation | None:
        """Returns the game as an expert continues it that has watched from turn `since` on.

        None if the expert neither wins nor raises the score.
        """
        try:
            session, expert = self._start(), self._make_expert()
            for number, action in enumerate(played):
                if number >= since:
                    expert.act(session.observation)
                session.step(action)
            actions, before = list(played), session.observation.score or 0.0
            while not session.observation.done and len(actions) < len(played) + _LOOKAHEAD:
                actions.append(expert.act(session.observation))
                session.step(actions[-1])
        except Exception:  # an expert may fail in any way; it has no hint then
            return None
        last = session.observation
        score = last.score or 0.0
        return _Continuation(tuple(actions), last.success, score) if last.success or score > before else None
