"""The contract of an environment as rules that run on any: what is wrong, and how to mend it, in words.

Training compares the members of a group with each other and repeats runs by seed. That is sound only if an episode
depends on its task id and its actions alone, and most of the rules are about that. No rule throws: an exception in the
environment is a finding, with its place. Rules come in stages; after a stage with a broken rule the later ones are
left out, since they would say the same again.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from d2skill.envs.check_recording import STEPS, Broken, Record, flaw, observed, record, short, step_of
from d2skill.errors import ConfigError
from d2skill.protocols import Environment, SupportsExpert
from d2skill.types import Observation, Task
from d2skill.utils.rng import derive, generator

_NONSENSE = "xyzzy 42"
_FREE_TEXT = ("look", "inventory", "help", "wait")
_NO_SPLIT = "no-such-split"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found: `what` is the rule, `detail` what was seen and, if the rule is broken, the way out."""

    ok: bool
    what: str
    detail: str


def check_environment(
    environment: Environment, split: str = "train", episodes: int = 5, seed: int = 0
) -> list[Finding]:
    """Checks the contract of `Environment` on episodes of a split, and of `SupportsExpert` if it has an expert.

    Actions are drawn at random from `seed`. The environment is sound if all findings are ok.
    """
    checks = _Checks(environment, split, episodes, seed)
    stages: list[list[Callable[[], Finding]]] = [
        [checks.ids, checks.ids_repeat, checks.unknown_split],
        [checks.starts],
        [checks.plays, checks.expert] if isinstance(environment, SupportsExpert) else [checks.plays],
        [checks.form, checks.listed, checks.success, checks.current, checks.same_start],
        [checks.repeats],
        [checks.inadmissible, checks.independent],
    ]
    findings: list[Finding] = []
    for stage in stages:
        findings += [rule() for rule in stage]
        if not all(finding.ok for finding in findings):
            break
    return findings


def _rule(what: str) -> Callable[[Callable[[_Checks], str]], Callable[[_Checks], Finding]]:
    """Makes a finding of a method that returns what it saw or raises what is wrong."""

    def decorate(check: Callable[[_Checks], str]) -> Callable[[_Checks], Finding]:
        def run(checks: _Checks) -> Finding:
            try:
                return Finding(True, what, check(checks))
            except Broken as broken:
                return Finding(False, what, str(broken))
            except Exception as error:  # code that is not ours; a finding, whatever it is
                return Finding(False, what, _told(error))

        return run

    return decorate


class _Checks:
    """The rules, and the episodes that they look at."""

    def __init__(self, environment: Environment, split: str, episodes: int, seed: int) -> None:
        self._environment = environment
        self._split = split
        self._episodes = max(1, episodes)
        self._seed = seed
        self._chosen: list[str] = []
        self._records: list[Record] = []

    @_rule("task_ids(split) returns ids, each a text of its own")
    def ids(self) -> str:
        ids = self._environment.task_ids(self._split)
        if isinstance(ids, str) or not isinstance(ids, Sequence):
            raise Broken(f"it returned a {type(ids).__name__}: return a list of ids")
        if not ids:
            raise Broken(f'there are no tasks in split "{self._split}": return some, or check another split')
        for task_id in ids:
            if not isinstance(task_id, str) or not task_id:
                raise Broken(f"{task_id!r} is among the ids: make each a text that is not empty")
        if len(set(ids)) < len(ids):
            twice = next(task_id for task_id in ids if list(ids).count(task_id) > 1)
            raise Broken(f"{twice!r} is there more than once: an id stands for one start state")
        order = generator(self._seed, "check").permutation(len(ids))
        self._chosen = [ids[i] for i in order[: self._episodes]]
        return f"{len(ids)} tasks in {self._split}"

    @_rule("task_ids(split) returns the same ids each time")
    def ids_repeat(self) -> str:
        first, second = (list(self._environment.task_ids(self._split)) for _ in range(2))
        if first != second:
            raise Broken("two calls differ: return the ids in a fixed order, for example sorted")
        return "two calls agree"

    @_rule("an unknown split raises ConfigError")
    def unknown_split(self) -> str:
        way_out = "raise d2skill.errors.ConfigError with the names of the splits that there are"
        try:
            found = self._environment.task_ids(_NO_SPLIT)
        except ConfigError as error:
            return short(str(error))
        except Exception as error:
            raise Broken(f'task_ids("{_NO_SPLIT}") raised {_told(error)}: {way_out}') from error
        raise Broken(f'task_ids("{_NO_SPLIT}") returned {short(found)}: {way_out}')

    @_rule("start(id) returns a session whose task has that id, that split and a text")
    def starts(self) -> str:
        for task_id in self._chosen:
            session = self._environment.start(task_id)
            task: object = session.task
            if not isinstance(task, Task):
                raise Broken(f"session.task is a {type(task).__name__}: make it a d2skill.types.Task")
            if task.id != task_id:
                raise Broken(f"asked for {task_id!r}, session.task.id is {task.id!r}: return the id asked for")
            if task.split != self._split:
                raise Broken(f"{task_id!r} is in {self._split!r}, session.task.split is {task.split!r}")
            if not isinstance(task.text, str) or not task.text.strip():
                raise Broken(f"session.task.text of {task_id!r} is {task.text!r}: say what is to be done")
            first = observed(session.observation, "session.observation")
            if first.done:
                raise Broken(f"{task_id!r} is done before the first action: start where there is something to do")
        return f"{len(self._chosen)} sessions started"

    @_rule(f"an episode can be played until it ends, or for {STEPS} steps")
    def plays(self) -> str:
        for task_id in self._chosen:
            rng = generator(self._seed, "check", task_id)
            self._records.append(record(self._environment.start(task_id), partial(_any_action, rng)))
        ended = sum(play.observations[-1].done for play in self._records)
        return f"{ended} of {len(self._records)} random episodes ended within {STEPS} steps"

    @_rule("the expert always answers with an admissible action")
    def expert(self) -> str:
        environment = self._environment
        assert isinstance(environment, SupportsExpert)
        played = []
        for number, task_id in enumerate(self._chosen):
            session = environment.start(task_id)
            hints = [f"Look in {_NONSENSE} first."] if number % 2 else []  # play goes on after advice that is wrong
            expert = environment.expert(session.task, hints, derive(self._seed, "expert", task_id))
            played.append(record(session, partial(_admissible, expert.act)))
        self._records += played
        solved = sum(play.observations[-1].success for play in played)
        return f"the expert solved {solved} of {len(played)} tasks within {STEPS} steps"

    @_rule("an observation has a text, and lists its actions as texts, none of them empty or repeated")
    def form(self) -> str:
        for play in self._records:
            for number, observation in enumerate(play.observations):
                if wrong := flaw(observation):
                    raise Broken(f"{play.place(number)}: {wrong}")
        listed = sum(_lists(play.observations[0]) for play in self._records)
        return f"actions are listed in {listed} of {len(self._records)} episodes, else any text is one"

    @_rule("where actions are listed, they are until the episode ends")
    def listed(self) -> str:
        for play in self._records:
            for number, observation in enumerate(play.observations):
                if _lists(play.observations[0]) and not _lists(observation) and not observation.done:
                    raise Broken(
                        f"{play.place(number)}: no action is listed, which means that any text is one: list what is "
                        "possible, or set done"
                    )
        return "no observation goes without"

    @_rule("session.observation is what the last step returned")
    def current(self) -> str:
        play = self._records[0]
        session = self._environment.start(play.task_id)
        for number, action in enumerate(play.actions, 1):
            returned = session.step(action)
            if session.observation != returned:
                raise Broken(f"{play.place(number)}: it is another; keep in session.observation what step returns")
        return f"true after each of {len(play.actions)} steps"

    @_rule("success is only true when done is")
    def success(self) -> str:
        for play in self._records:
            for number, observation in enumerate(play.observations):
                if observation.success and not observation.done:
                    raise Broken(f"{play.place(number)}: success without done; a task that is solved is over")
        solved = sum(play.observations[-1].success for play in self._records)
        return f"{solved} of {len(self._records)} episodes ended with success"

    @_rule("the same id starts the same, each time")
    def same_start(self) -> str:
        for play in self._records:
            session, again = self._environment.start(play.task_id), self._environment.start(play.task_id)
            play.compare(0, session.observation)
            play.compare(0, again.observation)
            if session.task != again.task:
                raise Broken(f"task {play.task_id!r} was {short(session.task)} and then {short(again.task)}")
        return f"{len(self._chosen)} tasks started again"

    @_rule("the same actions give the same observations")
    def repeats(self) -> str:
        for play in self._records:
            play.replay(self._environment.start(play.task_id))
        return f"{len(self._records)} episodes played again, with the same outcome"

    @_rule("an action that is not admissible, or empty, changes nothing but the text")
    def inadmissible(self) -> str:
        for play in self._records:
            session, before = self._environment.start(play.task_id), play.observations[play.half]
            play.replay(session, stop=play.half)
            for action in (_NONSENSE, "") if _lists(before) else ("",):
                after = step_of(session, action)
                if _lists(before) and (after.done or (after.actions, after.forms) != (before.actions, before.forms)):
                    changed = "ended the episode" if after.done else "changed the actions"
                    raise Broken(f"{play.place(play.half)}, step({action!r}) {changed}: let only the text say no")
            if _lists(before):
                play.goes_on(session, play.half)
        return f"{_NONSENSE!r} and the empty action were played in {len(self._records)} episodes"

    @_rule("sessions that are open at once do not disturb each other")
    def independent(self) -> str:
        first = self._records[0]
        pairs = [(first, first), *zip(self._records, self._records[1:], strict=False)]
        for play, other in pairs:
            session = self._environment.start(play.task_id)
            play.replay(session, stop=play.half)
            other.replay(self._environment.start(other.task_id))
            play.replay(session, start=play.half)
        return f"{len(pairs)} pairs of episodes played side by side"


def _any_action(rng: np.random.Generator, observation: Observation) -> str:
    filled = (form.replace("...", _FREE_TEXT[0]) for form in observation.forms)
    actions = (*observation.actions, *filled) or _FREE_TEXT
    return actions[int(rng.integers(len(actions)))]


def _admissible(act: Callable[[Observation], str], observation: Observation) -> str:
    """Returns the answer of an expert. Where any text is an action, only an empty one is none."""
    action = act(observation)
    if not action or not observation.admits(action):
        raise Broken(f"it answered {action!r} to {short(observation.text)}: answer with one of observation.actions")
    return action


def _lists(observation: Observation) -> bool:
    """Tells whether an observation says which actions there are."""
    return bool(observation.actions or observation.forms)


def _told(error: Exception) -> str:
    """Returns what was raised and where: the innermost line, which is the one to look at."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno}, in {frame.name})"
