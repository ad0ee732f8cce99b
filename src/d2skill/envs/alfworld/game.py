"""The engine: plays an ALFWorld game (`game.tw-pddl`) with the texts and commands of the official engine.

The official engine (textworld's PddlEnv) hands the game to a planner in C and derives texts from a logic
grammar; that takes a second for a load and tens of milliseconds for a step. All ALFWorld games share one
small domain, so here its actions are plain code over numbers. Texts, commands and wins are the same, oddities
included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d2skill.envs.alfworld.admissible import Listing, list_moves
from d2skill.envs.alfworld.descriptions import (
    describe_hand,
    describe_object,
    describe_place,
    describe_receptacle,
    report,
)
from d2skill.envs.alfworld.domain import read_domain
from d2skill.envs.alfworld.grammar import read_grammar
from d2skill.envs.alfworld.pddl import Broken, read_problem
from d2skill.envs.alfworld.state import State
from d2skill.envs.alfworld.world import World, build_world
from d2skill.errors import DataError
from d2skill.types import Task

_FOLDER = re.compile(r"([a-z_]+)-.*-(\d+)$")
_LOOKS = frozenset({"look", "inventory", "examineobject", "examinereceptacle", "help"})
_NEVER_WINS = ("openobject", "closeobject")  # no goal asks what is open
_TASK_PREFIX = "Your task is to: "


@dataclass(frozen=True, slots=True)
class Observation:
    """What a game shows: its text, the sorted admissible commands, and whether the goal holds now."""

    text: str
    commands: list[str]
    won: bool


@dataclass(frozen=True, slots=True)
class GameTask(Task):
    """The task of a game: its text is without "Your task is to:", its scene the number of the floor plan if known."""

    scene: int | str = ""


class Game:
    """A game and its present state; `walkthrough` is empty where the file has none."""

    __slots__ = (
        "_listing",
        "_state",
        "_world",
        "first_look",
        "intro",
        "task",
        "walkthrough",
        "won",
    )

    def __init__(self, world: World, task: GameTask, task_line: str, walkthrough: tuple[str, ...]) -> None:
        self._world = world
        self.task = task
        self.walkthrough = walkthrough
        self._restart()
        self.first_look = describe_place(world, self._state, first=True)
        self.intro = world.wording.intro.format(look=self.first_look, task=task_line)

    @classmethod
    def load(cls, source: Path | str | Mapping[str, Any], id: str = "", split: str = "") -> Game:
        """Loads a game from a file or from its parsed JSON.

        From a file, the kind of task, the scene and, if they are not given, id and split come from the folder names of
        the official layout; from a mapping, kind and scene come from its keys "task_type" and "scene". Raises
        `DataError` naming the file and what is wrong with it.
        """
        where = f"game {id}".rstrip() if isinstance(source, Mapping) else f"game file {source}"
        try:
            if isinstance(source, Mapping):
                scene = source.get("scene", "")
                kind = str(source.get("task_type", ""))
                return cls._build(
                    source, GameTask(id, "", split, kind, scene if isinstance(scene, int) else str(scene))
                )
            trial = Path(source).absolute().parent
            task = GameTask(id or f"{trial.parent.name}/{trial.name}", "", split)
            if named := _FOLDER.match(trial.parent.name):
                folder = split or trial.parents[1].name
                task = replace(task, kind=named[1], scene=int(named[2]), split=folder)
            return cls._build(_read_json(Path(source)), task)
        except Broken as error:
            raise DataError(f"{where} {error}") from None
        except RecursionError:
            raise DataError(f"{where} is nested too deeply: is it an ALFWorld game?") from None

    @classmethod
    def _build(cls, data: Mapping[str, Any], task: GameTask) -> Game:
        wording, line = read_grammar(_text(data, "grammar"))
        domain = read_domain(_text(data, "pddl_domain"))
        world = build_world(read_problem(_text(data, "pddl_problem")), wording, domain)
        walkthrough = data.get("walkthrough") or ()
        if not isinstance(walkthrough, list | tuple) or not all(isinstance(c, str) for c in walkthrough):
            raise Broken('has a "walkthrough" that is not a list of commands')
        text = line.strip().removeprefix(_TASK_PREFIX).removesuffix(".").rstrip()
        return cls(world, replace(task, text=text), line, tuple(walkthrough))

    def clone(self) -> Game:
        """Returns a copy that plays on by itself; what never changes is shared, so this is cheap."""
        copy = object.__new__(Game)
        for name in Game.__slots__:
            setattr(copy, name, getattr(self, name))
        copy._state = self._state.copy()
        return copy

    def reset(self) -> Observation:
        """Puts everything back and returns the first observation."""
        self._restart()
        return self._observe(self.intro)

    def step(self, command: str) -> Observation:
        """Plays a command. One that is not admissible changes nothing: "Nothing happens."."""
        return self._observe(self.play(command))

    @property
    def commands(self) -> tuple[str, ...]:
        """The admissible commands, sorted."""
        return self._listing.commands

    @property
    def actions(self) -> tuple[str, ...]:
        """The admissible commands but `help`, which spends a step on what a prompt shows anyway."""
        return self._listing.actions

    def play(self, command: str) -> str:
        """Plays a command like `step`, and returns the text alone."""
        command = command.strip()
        move = self._listing.moves.get(command)
        if move is not None:
            return self._play(*move)
        r = self._world.destinations.get(command, -1)
        if r < 0 or self._world.location_of[r] == self._state.at:
            return "Nothing happens."
        return self._play("gotolocation", r, -1)

    def _restart(self) -> None:
        self._state = State.at_start(self._world)
        self._listing: Listing = list_moves(self._world, self._state)
        self.won = self._state.won(self._world)

    def _observe(self, text: str) -> Observation:
        return Observation(text, list(self._listing.commands), self.won)

    def _play(self, action: str, r: int, o: int) -> str:
        """Carries out an admissible action and returns what the game says to it."""
        world, state = self._world, self._state
        if action in _LOOKS:
            return self._tell(action, r, o)
        tool = state.held
        state.apply(action, r, o, world)
        self._listing = list_moves(world, state)
        if action not in _NEVER_WINS and (action != "gotolocation" or world.place_wins):
            self.won = state.won(world)
        return report(world, state, action, r, o, tool) if o >= 0 else self._recall(action, r)

    def _tell(self, action: str, r: int, o: int) -> str:
        """Returns what an action says that changes nothing."""
        world, state = self._world, self._state
        match action:
            case "look":
                return describe_place(world, state)
            case "inventory":
                return describe_hand(world, state)
            case "examineobject":
                return describe_object(world, state, o)
            case "examinereceptacle":
                return self._recall(action, r)
        return world.wording.sentences["help"][0]

    def _recall(self, action: str, r: int) -> str:
        """Returns what an action about a receptacle says, from the last time if nothing there has changed."""
        texts = self._listing.texts
        if (action, r) not in texts:
            examines = action == "examinereceptacle"
            world, state = self._world, self._state
            texts[action, r] = (
                describe_receptacle(world, state, r) if examines else report(world, state, action, r, -1, -1)
            )
        return texts[action, r]


def _text(data: Mapping[str, Any], key: str) -> str:
    text = data.get(key)
    if not isinstance(text, str):
        raise Broken(f'has no "{key}": is it an ALFWorld game?')
    return text


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise Broken(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Broken(f"is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise Broken("is not a JSON object: is it an ALFWorld game?")
    return data
