"""Engine for ALFWorld games (`game.tw-pddl`), with the texts and commands of the official engine.

The official engine (textworld's PddlEnv) hands the game to a planner in C and derives texts from a logic
grammar; that takes a second for a load and tens of milliseconds for a step. All ALFWorld games share one
small domain, so here its actions are plain code over numbers. Texts, commands and wins are the same, oddities
included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d2skill.envs.alfworld.admissible import AdmissibleCommands, list_admissible
from d2skill.envs.alfworld.descriptions import describe_place, describe_result
from d2skill.envs.alfworld.domain import parse_domain
from d2skill.envs.alfworld.grammar import compile_grammar
from d2skill.envs.alfworld.pddl import GameError, parse_problem
from d2skill.envs.alfworld.state import GameState, GroundAction
from d2skill.envs.alfworld.world import World, build_world
from d2skill.errors import DataError
from d2skill.types import Task
from d2skill.utils.foreign_files import read_json

_TASK_FOLDER = re.compile(r"([a-z_]+)-.*-(\d+)$")
_NO_EFFECT = frozenset({"look", "inventory", "examineobject", "examinereceptacle", "help"})
_NEVER_WINS = ("openobject", "closeobject")  # no goal depends on what is open
_TASK_PREFIX = "Your task is to: "


@dataclass(frozen=True, slots=True)
class GameObservation:
    """Observation of a game: its text, the sorted admissible commands, and whether the goal holds now."""

    text: str
    commands: list[str]
    won: bool


@dataclass(frozen=True, slots=True)
class GameTask(Task):
    """Task of a game: its text is without "Your task is to:", its scene the number of the floor plan if known."""

    scene: int | str = ""


class Game:
    """A game and its present state.

    Args:
        world: Immutable part of the game.
        task: Task of the game.
        task_line: Line of the first observation that names the task.
        walkthrough: Commands that win; empty if the file has none.
    """

    __slots__ = ("_admissible", "_state", "_world", "first_look", "intro", "task", "walkthrough", "won")

    def __init__(self, world: World, task: GameTask, task_line: str, walkthrough: tuple[str, ...]) -> None:
        self._world = world
        self.task = task
        self.walkthrough = walkthrough
        self._restart()
        self.first_look = describe_place(world, self._state, first=True)
        self.intro = world.templates.intro.format(look=self.first_look, task=task_line)

    @classmethod
    def load(cls, source: Path | str | Mapping[str, Any], id: str = "", split: str = "") -> Game:
        """Loads a game from a file or from its parsed JSON.

        From a file, the kind of task, the scene and, if they are not given, id and split come from the folder names of
        the official layout; from a mapping, kind and scene come from its keys "task_type" and "scene". Raises
        `DataError` naming the file and the error in it.
        """
        where = f"game {id}".rstrip() if isinstance(source, Mapping) else f"game file {source}"
        try:
            if isinstance(source, Mapping):
                scene = source.get("scene", "")
                kind = str(source.get("task_type", ""))
                task = GameTask(id, "", split, kind, scene if isinstance(scene, int) else str(scene))
                return cls._build(source, task)
            trial = Path(source).absolute().parent
            task = GameTask(id or f"{trial.parent.name}/{trial.name}", "", split)
            if match := _TASK_FOLDER.match(trial.parent.name):
                task = replace(task, kind=match[1], scene=int(match[2]), split=split or trial.parents[1].name)
            return cls._build(_read_json(Path(source)), task)
        except GameError as error:
            raise DataError(f"{where} {error}") from None
        except RecursionError:
            raise DataError(f"{where} is nested too deeply: is it an ALFWorld game?") from None

    @classmethod
    def _build(cls, data: Mapping[str, Any], task: GameTask) -> Game:
        templates, line = compile_grammar(_required_text(data, "grammar"))
        domain = parse_domain(_required_text(data, "pddl_domain"))
        world = build_world(parse_problem(_required_text(data, "pddl_problem")), templates, domain)
        walkthrough = data.get("walkthrough") or ()
        if not isinstance(walkthrough, list | tuple) or not all(isinstance(c, str) for c in walkthrough):
            raise GameError('has a "walkthrough" that is not a list of commands')
        text = line.strip().removeprefix(_TASK_PREFIX).removesuffix(".").rstrip()
        return cls(world, replace(task, text=text), line, tuple(walkthrough))

    def clone(self) -> Game:
        """Returns an independent copy that shares everything immutable, so this is cheap."""
        copy = object.__new__(Game)
        for name in Game.__slots__:
            setattr(copy, name, getattr(self, name))
        copy._state = self._state.copy()
        return copy

    def reset(self) -> GameObservation:
        """Returns to the start state and returns the first observation."""
        self._restart()
        return self._observe(self.intro)

    def step(self, command: str) -> GameObservation:
        """Plays a command. One that is not admissible changes nothing: "Nothing happens."."""
        return self._observe(self.play(command))

    @property
    def commands(self) -> tuple[str, ...]:
        """The admissible commands, sorted."""
        return self._admissible.commands

    @property
    def actions(self) -> tuple[str, ...]:
        """The admissible commands except `help`, which spends a step on text that a prompt shows anyway."""
        return self._admissible.actions

    def play(self, command: str) -> str:
        """Plays a command like `step`, and returns the text alone."""
        command = command.strip()
        action = self._admissible.ground_actions.get(command)
        if action is not None:
            return self._apply(action)
        r = self._world.destinations.get(command, -1)
        if r < 0 or self._world.location_of[r] == self._state.at:
            return "Nothing happens."
        return self._apply(("gotolocation", r, -1))

    def _restart(self) -> None:
        self._state = GameState.initial(self._world)
        self._admissible: AdmissibleCommands = list_admissible(self._world, self._state)
        self.won = self._state.won(self._world)

    def _observe(self, text: str) -> GameObservation:
        return GameObservation(text, list(self._admissible.commands), self.won)

    def _apply(self, action: GroundAction) -> str:
        """Carries out an admissible action and returns its feedback."""
        world, state = self._world, self._state
        name, r, o = action
        if name not in _NO_EFFECT:
            state.apply(action, world)
            self._admissible = list_admissible(world, state)
            if name not in _NEVER_WINS and (name != "gotolocation" or world.goal_has_location):
                self.won = state.won(world)
        if r < 0 or o >= 0:
            return describe_result(world, state, action)
        # The feedback of an action on a receptacle alone is the same until something there changes.
        feedback = self._admissible.feedback
        if action not in feedback:
            feedback[action] = describe_result(world, state, action)
        return feedback[action]


def _required_text(data: Mapping[str, Any], key: str) -> str:
    text = data.get(key)
    if not isinstance(text, str):
        raise GameError(f'has no "{key}": is it an ALFWorld game?')
    return text


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        data = read_json(path)
    except OSError as error:
        raise GameError(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise GameError(f"is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise GameError("is not a JSON object: is it an ALFWorld game?")
    return data
