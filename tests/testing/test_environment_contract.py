"""Each rule of `check_environment` is broken on purpose once, and found by its own words."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from d2skill.errors import ConfigError
from d2skill.testing import check_environment
from d2skill.types import Observation, Task

DOORS = ("open door 1", "open door 2", "open door 3")


class Doors:
    """A sound environment: one of three doors leads out; a wrong one may be tried again."""

    def task_ids(self, split: str) -> Sequence[str]:
        if split != "train":
            raise ConfigError(f"no split {split}: there is train")
        return [f"game {number}" for number in range(9)]

    def start(self, task_id: str) -> Any:
        return Room(task_id)


class Room:
    def __init__(self, task_id: str) -> None:
        self.task = Task(task_id, "Find the way out.", "train")
        self.way_out = random.Random(task_id).choice(DOORS)
        self.observation = Observation("There are three doors.", DOORS)

    def step(self, action: str) -> Any:
        self.observation = self.see(action)
        return self.observation

    def see(self, action: str) -> Any:
        if action not in self.observation.actions:
            return Observation("No.", self.observation.actions)
        if action == self.way_out:
            return Observation("Out.", (), done=True, success=True)
        rest = tuple(door for door in self.observation.actions if door != action)
        return Observation("A wall.", rest)


class Guide:
    """An expert that opens whatever is listed first."""

    def act(self, observation: Observation) -> str:
        return observation.actions[0]


class Taught(Doors):
    def expert(self, task: Task, hints: Sequence[str], seed: int) -> Any:
        return Guide()


class FreeText(Doors):
    """Lists no actions: any text is one, and "help" is what counts."""

    class Hall(Room):
        def __init__(self, task_id: str) -> None:
            super().__init__(task_id)
            self.observation = Observation("It is dark.")

        def see(self, action: str) -> Observation:
            done = action == "help"
            return Observation(f"You say {action!r}.", (), done=done, success=done)

    def start(self, task_id: str) -> Any:
        return self.Hall(task_id)


def rooms(room: type[Room]) -> Doors:
    """Returns `Doors` whose sessions are of another class."""
    environment = Doors()
    environment.start = room  # type: ignore[method-assign]
    return environment


def ids(ids_of: Callable[[], Any]) -> Doors:
    """Returns `Doors` with other ids."""
    return splits(lambda split: ids_of() if split == "train" else Doors().task_ids(split))


def splits(ids_of: Callable[[str], Any]) -> Doors:
    """Returns `Doors` with other ids in any split."""
    environment = Doors()
    environment.task_ids = ids_of  # type: ignore[method-assign]
    return environment


def seeing(change: Callable[[Observation], Any]) -> Doors:
    """Returns `Doors` in which every observation of a step is changed."""

    class Changed(Room):
        def see(self, action: str) -> Any:
            return change(super().see(action))

    return rooms(Changed)


def task(**fields: Any) -> Doors:
    """Returns `Doors` with other fields in their tasks."""

    class Changed(Room):
        def __init__(self, task_id: str) -> None:
            super().__init__(task_id)
            self.task = replace(self.task, **fields)

    return rooms(Changed)


class Finished(Room):
    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.observation = Observation("Out.", done=True)


class Stale(Room):
    def step(self, action: str) -> Any:
        first = self.observation
        seen = super().step(action)
        self.observation = self.observation if seen.done else replace(first, actions=seen.actions)
        return seen


class OneState(Doors):
    """All sessions are the same room, put back at the start."""

    def __init__(self) -> None:
        self.room = Room("game 0")

    def start(self, task_id: str) -> Any:
        self.room.__init__(task_id)  # type: ignore[misc]
        return self.room


class Moody(Doors):
    """Its first words differ from one start to the next."""

    def __init__(self) -> None:
        self.starts = itertools.count()

    def start(self, task_id: str) -> Any:
        room = Room(task_id)
        room.observation = Observation(f"Visitor {next(self.starts)}, choose a door.", DOORS)
        return room


class Restless(Doors):
    """Draws its words from one random generator for all sessions."""

    def __init__(self) -> None:
        self.rng = random.Random(0)

    def start(self, task_id: str) -> Any:
        rng = self.rng

        class Draughty(Room):
            def see(self, action: str) -> Any:
                return replace(super().see(action), text=f"A gust of {rng.random()}.")

        return Draughty(task_id)


class Raises(Room):
    def see(self, action: str) -> Any:
        raise RuntimeError("the ceiling fell")


class Strict(Room):
    def see(self, action: str) -> Any:
        if action not in self.observation.actions:
            raise ValueError(f"what is {action}?")
        return super().see(action)


class Deadly(Room):
    def see(self, action: str) -> Any:
        if action not in self.observation.actions:
            return Observation("A trap.", (), done=True)
        return super().see(action)


class Locking(Room):
    """A refused action takes doors away."""

    def see(self, action: str) -> Any:
        seen = super().see(action)
        return replace(seen, actions=(self.way_out,)) if seen.text == "No." else seen


class Creeping(Room):
    """A refused action changes what will be possible later, not what is possible now."""

    cursed = False

    def see(self, action: str) -> Any:
        self.cursed = self.cursed or action not in self.observation.actions
        seen = super().see(action)
        gone = self.cursed and seen.text == "A wall."
        return replace(seen, actions=(*seen.actions, "weep")) if gone else seen


def taught(answer: Callable[[Sequence[str], Observation], str]) -> Taught:
    """Returns `Taught` with an expert that answers so to hints and an observation."""

    class Other(Taught):
        def expert(self, task: Task, hints: Sequence[str], seed: int) -> Any:
            guide = Guide()
            guide.act = lambda observation: answer(hints, observation)  # type: ignore[method-assign]
            return guide

    return Other()


NUMBERS = itertools.count()
IDS, SAME_IDS, SPLIT = "returns ids", "same ids", "unknown split"
START, PLAY, FORM, LISTED = "start(id) returns", "can be played", "has a text", "where actions are listed"
SUCCESS, CURRENT, SAME_START, REPEATS = "success is", "session.observation", "starts the same", "same actions"
REFUSED, OPEN, EXPERT = "not admissible", "open at once", "the expert"

BROKEN: list[tuple[str, Any, str, str]] = [
    ("ids None", ids(lambda: None), IDS, "NoneType"),
    ("ids text", ids(lambda: "game 0"), IDS, "return a list"),
    ("no ids", ids(list), IDS, "no tasks"),
    ("ids numbers", ids(lambda: [1, 2]), IDS, "1 is among the ids"),
    ("ids empty", ids(lambda: ["", "a"]), IDS, "'' is among the ids"),
    ("ids twice", ids(lambda: ["a", "b", "a"]), IDS, "'a' is there more than once"),
    ("ids new", ids(lambda: [f"game {next(NUMBERS)}" for _ in range(9)]), SAME_IDS, "fixed order"),
    ("no methods", object(), IDS, "AttributeError"),
    ("any split", splits(lambda split: ["game 0"]), SPLIT, "returned ['game 0']"),
    ("KeyError", splits(lambda split: {"train": ["game 0"]}[split]), SPLIT, "KeyError"),
    ("start raises", rooms(lambda task_id: 1 / 0), START, "ZeroDivisionError"),  # type: ignore[arg-type]
    ("task id", task(id="game 99"), START, "'game 99'"),
    ("task split", task(split="test"), START, "'test'"),
    ("task text", task(text=" "), START, "say what is to be done"),
    ("done", rooms(Finished), START, "before the first action"),
    ("step raises", rooms(Raises), PLAY, "RuntimeError: the ceiling fell (test_environment_contract.py:"),
    ("step None", seeing(lambda seen: None), PLAY, "NoneType"),
    ("step tuple", seeing(lambda seen: (seen.text, seen.done)), PLAY, "tuple"),
    ("text bytes", seeing(lambda seen: replace(seen, text=b"")), FORM, "text is a bytes"),
    ("actions list", seeing(lambda seen: replace(seen, actions=[*DOORS])), FORM, "actions is a list"),
    ("actions number", seeing(lambda seen: replace(seen, actions=(1,))), FORM, "1 is among the actions"),
    ("actions empty", seeing(lambda seen: replace(seen, actions=("",))), FORM, "'' is among"),
    ("actions twice", seeing(lambda seen: replace(seen, actions=DOORS[:1] * 2)), FORM, "more than once"),
    ("done number", seeing(lambda seen: replace(seen, done=1)), FORM, "make them bool"),
    ("dead end", seeing(lambda seen: replace(seen, actions=(), done=False, success=False)), LISTED, "set done"),
    ("success", seeing(lambda seen: replace(seen, done=False, actions=DOORS)), SUCCESS, "success without done"),
    ("stale", rooms(Stale), CURRENT, "keep in session.observation"),
    ("moody", Moody(), SAME_START, "Visitor"),
    ("restless", Restless(), REPEATS, "A gust"),
    ("strict", rooms(Strict), REFUSED, "ValueError: what is xyzzy 42?"),
    ("deadly", rooms(Deadly), REFUSED, "ended the episode"),
    ("locking", rooms(Locking), REFUSED, "changed the actions"),
    ("creeping", rooms(Creeping), REFUSED, "must not change the state"),
    ("one state", OneState(), OPEN, "no shared state"),
    ("expert", taught(lambda hints, seen: "open door 7"), EXPERT, "'open door 7'"),
    ("gullible", taught(lambda hints, seen: [*hints, *seen.actions][0]), EXPERT, "xyzzy"),
]


@pytest.mark.parametrize("sound", [Doors(), Taught(), FreeText()], ids=["doors", "taught", "free text"])
def test_sound_environment_passes(sound: Any) -> None:
    findings = check_environment(sound)
    assert [finding for finding in findings if not finding.ok] == []
    assert all(finding.detail for finding in findings)
    assert any(finding.rule.startswith("the expert") for finding in findings) == isinstance(sound, Taught)


@pytest.mark.parametrize(("broken", "rule", "detail"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_environment_is_found_by_its_rule(broken: Any, rule: str, detail: str) -> None:
    found = [finding for finding in check_environment(broken) if not finding.ok]
    assert any(rule in finding.rule and detail in finding.detail for finding in found), found


def test_every_rule_is_broken_by_some_environment() -> None:
    rules = {finding.rule for finding in check_environment(Taught()) if not finding.hint}
    names = {name for _, _, name, _ in BROKEN}
    assert len(rules) == len(names)
    assert all(sum(name in rule for rule in rules) == 1 for name in names)


def test_later_stages_are_left_out_after_a_broken_rule() -> None:
    whats = [finding.rule for finding in check_environment(rooms(Raises))]
    assert "can be played" in whats[-1]


def test_other_splits_and_few_tasks() -> None:
    first = check_environment(Doors(), split="valid_seen")[0]
    assert not first.ok
    assert first.detail.startswith("ConfigError: no split valid_seen")
    assert all(finding.ok for finding in check_environment(ids(lambda: ["only"]), episodes=5))


class Counter(Room):
    """A shop without a list: any text may be searched for, and then one of two results be taken."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.observation = Observation("A shop.", forms=("search[...]",))

    def see(self, action: str) -> Observation:
        if not self.observation.admits(action):
            return replace(self.observation, text="No.")
        if action.startswith("search"):
            return Observation(f"Results for {action}.", ("take 1", "take 2"), forms=("search[...]",))
        return Observation("Bought.", done=True, success=action == "take 1", score=0.5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({}, ""), ({"forms": ("search",)}, "one blank each"), ({"forms": []}, "one blank"), ({"score": 1.5}, "is 1.5")],
)
def test_forms_and_scores_are_checked(wrong, said):
    class Changed(Counter):
        def see(self, action: str) -> Observation:
            seen = super().see(action)
            return replace(seen, **wrong) if seen.actions else seen

    found = [finding for finding in check_environment(rooms(Changed)) if not finding.ok]
    assert not found if not said else any(said in finding.detail for finding in found)


class Errand(Room):
    def __init__(self, task_id: str, actions: tuple[str, ...]) -> None:
        self.task = Task(task_id, "bring the mug to the boss", "train")
        self.way_out = actions[-1]
        self.observation = Observation("You are in the office.", actions)


@pytest.mark.parametrize(
    ("actions", "hint"),
    [
        (("take mug", "give it to the boss"), True),
        (("take mug from kitchen", "give mug to boss"), False),
        (("click[mug]", "click[boss]"), False),
    ],
)
def test_actions_that_cannot_be_counted_are_hinted_at(actions: tuple[str, ...], hint: bool) -> None:
    environment = Doors()
    environment.start = lambda task_id: Errand(task_id, actions)  # type: ignore[method-assign]
    findings = check_environment(environment)
    assert all(finding.ok for finding in findings)
    hints = [str(finding) for finding in findings if finding.hint]
    assert [one.startswith("hint  actions are worded") and repr(min(actions)) in one for one in hints] == [True] * hint
