"""Contract of an environment as rules that run on any.

Training compares the members of a group with each other and repeats runs by seed. That is sound only if an episode
depends on its task id and its actions alone, and most of the rules are about that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from d2skill.config.parts import described
from d2skill.errors import ConfigError
from d2skill.protocols import Environment, SupportsExpert
from d2skill.testing.recording import MAX_STEPS, RecordedEpisode, as_observation, checked_step, malformation
from d2skill.testing.rules import Finding, Hint, RuleViolation, findings_of, require, rule
from d2skill.types import Observation, Task
from d2skill.utils.rng import derive, generator
from d2skill.utils.text import action_words, argument, content, short

_NONSENSE = "xyzzy 42"
_FREE_TEXT = ("look", "inventory", "help", "wait")
_NO_SPLIT = "no-such-split"


def check_environment(
    environment: Environment, split: str = "train", episodes: int = 5, seed: int = 0
) -> list[Finding]:
    """Checks the contract of `Environment`, and of `SupportsExpert` if it has an expert.

    Args:
        environment: The environment to check; sound if all findings are ok.
        split: The split whose tasks are played.
        episodes: The number of tasks.
        seed: Seed of the tasks and of the random actions.

    Returns:
        The findings of the rules, up to the first stage in which one is broken.
    """
    checks = _Checks(environment, split, episodes, seed)
    stages: list[list[Callable[[], Finding]]] = [
        [checks.ids, checks.ids_repeat, checks.unknown_split],
        [checks.starts],
        [checks.plays, checks.expert] if isinstance(environment, SupportsExpert) else [checks.plays],
        [checks.form, checks.listed, checks.success, checks.current, checks.same_start],
        [checks.repeats],
        [checks.inadmissible, checks.independent, checks.countable],
    ]
    return findings_of(stages)


class _Checks:
    """The rules, and the episodes that they look at."""

    def __init__(self, environment: Environment, split: str, episodes: int, seed: int) -> None:
        self._environment = environment
        self._split = split
        self._episodes = max(1, episodes)
        self._seed = seed
        self._chosen: list[str] = []
        self._texts: dict[str, str] = {}  # of tasks, by id
        self._records: list[RecordedEpisode] = []

    @rule("task_ids(split) returns ids, each a text of its own")
    def ids(self) -> str:
        ids = self._environment.task_ids(self._split)
        is_list = isinstance(ids, Sequence) and not isinstance(ids, str)
        require(is_list, f"it returned a {type(ids).__name__}: return a list of ids")
        require(len(ids) > 0, f'there are no tasks in split "{self._split}": return some, or check another split')
        for task_id in ids:
            is_text = isinstance(task_id, str) and task_id
            require(is_text, f"{task_id!r} is among the ids: make each a text that is not empty")
        twice = next((task_id for task_id, count in Counter(ids).items() if count > 1), None)
        require(twice is None, f"{twice!r} is there more than once: an id stands for one start state")
        order = generator(self._seed, "check").permutation(len(ids))
        self._chosen = [ids[i] for i in order[: self._episodes]]
        return f"{len(ids)} tasks in {self._split}"

    @rule("task_ids(split) returns the same ids each time")
    def ids_repeat(self) -> str:
        first, second = (list(self._environment.task_ids(self._split)) for _ in range(2))
        require(first == second, "two calls differ: return the ids in a fixed order, for example sorted")
        return "two calls agree"

    @rule("an unknown split raises ConfigError")
    def unknown_split(self) -> str:
        way_out = "raise d2skill.errors.ConfigError with the names of the splits that there are"
        try:
            returned = self._environment.task_ids(_NO_SPLIT)
        except ConfigError as error:
            return short(str(error))
        except Exception as error:
            raise RuleViolation(f'task_ids("{_NO_SPLIT}") raised {described(error)}: {way_out}') from error
        raise RuleViolation(f'task_ids("{_NO_SPLIT}") returned {short(returned)}: {way_out}')

    @rule("start(id) returns a session whose task has that id, that split and a text")
    def starts(self) -> str:
        for task_id in self._chosen:
            session = self._environment.start(task_id)
            task = session.task
            require(isinstance(task, Task), f"session.task is a {type(task).__name__}: make it a d2skill.types.Task")
            wrong_id = f"asked for {task_id!r}, session.task.id is {task.id!r}: return the id asked for"
            require(task.id == task_id, wrong_id)
            require(task.split == self._split, f"{task_id!r} is in {self._split!r}, its task.split is {task.split!r}")
            has_text = isinstance(task.text, str) and task.text.strip()
            require(has_text, f"session.task.text of {task_id!r} is {task.text!r}: say what is to be done")
            self._texts[task_id] = task.text
            done = as_observation(session.observation, "session.observation").done
            require(not done, f"{task_id!r} is done before the first action: start where something is to be done")
        return f"{len(self._chosen)} sessions started"

    @rule(f"an episode can be played until it ends, or for {MAX_STEPS} steps")
    def plays(self) -> str:
        for task_id in self._chosen:
            rng = generator(self._seed, "check", task_id)
            self._records.append(RecordedEpisode.record(self._environment.start(task_id), partial(_any_action, rng)))
        ended = sum(episode.observations[-1].done for episode in self._records)
        return f"{ended} of {len(self._records)} random episodes ended within {MAX_STEPS} steps"

    @rule("the expert always answers with an admissible action")
    def expert(self) -> str:
        environment = self._environment
        assert isinstance(environment, SupportsExpert)
        played = []
        for number, task_id in enumerate(self._chosen):
            session = environment.start(task_id)
            hints = [f"Look in {_NONSENSE} first."] if number % 2 else []  # an expert goes on after wrong advice
            expert = environment.expert(session.task, hints, derive(self._seed, "expert", task_id))
            played.append(RecordedEpisode.record(session, partial(_expert_action, expert.act)))
        self._records += played
        solved = sum(episode.observations[-1].success for episode in played)
        return f"the expert solved {solved} of {len(played)} tasks within {MAX_STEPS} steps"

    @rule("an observation has a text, and lists its actions as texts, none of them empty or repeated")
    def form(self) -> str:
        for episode in self._records:
            for steps, observation in enumerate(episode.observations):
                malformed = malformation(observation)
                require(not malformed, f"{episode.at(steps)}: {malformed}")
        listed = sum(_lists(episode.observations[0]) for episode in self._records)
        return f"actions are listed in {listed} of {len(self._records)} episodes, else any text is one"

    @rule("where actions are listed, they are until the episode ends")
    def listed(self) -> str:
        meaning = "no action is listed, which means that any text is one: list what is possible, or set done"
        for episode in self._records:
            for steps, observation in enumerate(episode.observations):
                listed = _lists(observation) or not _lists(episode.observations[0])
                require(listed or observation.done, f"{episode.at(steps)}: {meaning}")
        return "no observation goes without"

    @rule("session.observation is what the last step returned")
    def current(self) -> str:
        episode = self._records[0]
        session = self._environment.start(episode.task_id)
        for steps, action in enumerate(episode.actions, 1):
            same = session.step(action) == session.observation
            require(same, f"{episode.at(steps)}: it is another; keep in session.observation what step returns")
        return f"true after each of {len(episode.actions)} steps"

    @rule("success is only true when done is")
    def success(self) -> str:
        for episode in self._records:
            for steps, seen in enumerate(episode.observations):
                over = seen.done or not seen.success
                require(over, f"{episode.at(steps)}: success without done; a task that is solved is over")
        solved = sum(episode.observations[-1].success for episode in self._records)
        return f"{solved} of {len(self._records)} episodes ended with success"

    @rule("the same id starts the same, each time")
    def same_start(self) -> str:
        for episode in self._records:
            sessions = [self._environment.start(episode.task_id) for _ in range(2)]
            for session in sessions:
                episode.compare(0, session.observation)
            first, second = (session.task for session in sessions)
            require(first == second, f"task {episode.task_id!r} was {short(first)} and then {short(second)}")
        return f"{len(self._chosen)} tasks started again"

    @rule("the same actions give the same observations")
    def repeats(self) -> str:
        for episode in self._records:
            episode.replay(self._environment.start(episode.task_id))
        return f"{len(self._records)} episodes played again, with the same outcome"

    @rule("an action that is not admissible, or empty, changes nothing but the text")
    def inadmissible(self) -> str:
        for episode in self._records:
            middle = len(episode.actions) // 2
            session, before = self._environment.start(episode.task_id), episode.observations[middle]
            episode.replay(session, stop=middle)
            for action in (_NONSENSE, "") if _lists(before) else ("",):
                after = checked_step(session, action)
                refused = not after.done and (after.actions, after.forms) == (before.actions, before.forms)
                changed = "ended the episode" if after.done else "changed the actions"
                place = f"{episode.at(middle)}, step({action!r})"
                require(refused or not _lists(before), f"{place} {changed}: let only the text say no")
            if _lists(before):
                episode.replay_after_refusal(session, middle)
        return f"{_NONSENSE!r} and the empty action were played in {len(self._records)} episodes"

    @rule("sessions that are open at once do not disturb each other")
    def independent(self) -> str:
        first = self._records[0]
        pairs = [(first, first), *zip(self._records, self._records[1:], strict=False)]
        for episode, other in pairs:
            session, middle = self._environment.start(episode.task_id), len(episode.actions) // 2
            episode.replay(session, stop=middle)
            other.replay(self._environment.start(other.task_id))
            episode.replay(session, start=middle)
        return f"{len(pairs)} pairs of episodes played side by side"

    @rule("actions are worded so that skills can be counted")
    def countable(self) -> str:
        worded, seen = 0, ""
        for episode in self._records:
            actions = {action for observation in episode.observations for action in observation.actions}
            wanted = content(self._texts[episode.task_id])
            worded += any(_is_on_two(action, wanted) for action in actions)
            seen = seen or next((action for action in sorted(actions) if argument(action) is None), "")
        if seen and not worded:
            raise Hint(
                f"no action that was offered, such as {seen!r}, names a thing of its task and then another one, so "
                'consolidated skills have little to count: write "take mug 1 from shelf 2", with words of the task '
                "(docs/environments.md)"
            )
        return f"in {worded} of {len(self._records)} episodes an action names a thing of the task beside another one"


def _is_on_two(action: str, wanted: frozenset[str]) -> bool:
    """Returns True if an action is on a thing of a task, whose words are `wanted`, and on another, as an act has to."""
    named = action_words(action).entities
    return len(named) > 1 and named[0].kind in wanted


def _any_action(rng: np.random.Generator, observation: Observation) -> str:
    filled = (form.replace("...", _FREE_TEXT[0]) for form in observation.forms)
    actions = (*observation.actions, *filled) or _FREE_TEXT
    return actions[int(rng.integers(len(actions)))]


def _expert_action(act: Callable[[Observation], str], observation: Observation) -> str:
    """Returns the answer of an expert. Where any text is an action, only an empty one is not."""
    action = act(observation)
    answer = f"it answered {action!r} to {short(observation.text)}"
    require(action and observation.admits(action), f"{answer}: answer with one of observation.actions")
    return action


def _lists(observation: Observation) -> bool:
    """Returns True if an observation says which actions there are."""
    return bool(observation.actions or observation.forms)
