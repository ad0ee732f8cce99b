"""Environments with Gymnasium's interface, all conventions, played through the adapter."""

from __future__ import annotations

import gc
import random
from typing import Any

import pytest

from d2skill.envs.gymnasium import GymnasiumEnvironment
from d2skill.errors import ConfigError, EnvironmentFault
from d2skill.testing import check_environment
from d2skill.types import Observation

SWITCHES = ["press switch 1", "press switch 2", "press switch 2", "wait"]


class Lamp:
    """One of two switches lights the lamp. `told` is what its infos hold; `over` changes a step's result."""

    told: tuple[str, ...] = ("admissible_commands", "task", "won")
    closed = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.options = options
        self.right = random.Random(seed).choice(SWITCHES[:2])
        return "It is dark.\nThere are two switches.", self.info(False)

    def step(self, action: str) -> Any:
        lit = action == self.right
        return "Light!" if lit else "Still dark.", float(lit), lit, False, self.info(lit)

    def info(self, lit: bool) -> dict[str, Any]:
        everything = {
            "admissible_commands": [] if lit else SWITCHES,
            "actions": SWITCHES[:3],
            "task": "Light the lamp.",
            "won": lit,
            "success": lit,
        }
        return {key: everything[key] for key in self.told}

    def close(self) -> None:
        type(self).closed += 1


def lamp(**fields: Any) -> type[Lamp]:
    """Returns a class of lamps with other fields or methods, and a count of its own."""
    return type("Lamp", (Lamp,), {"closed": 0, **fields})


def played(made: type[Lamp], *actions: str) -> Observation:
    """Returns what is seen after actions in the first training task."""
    session = GymnasiumEnvironment(made).start("train/0000")
    for action in actions:
        session.step(action)
    return session.observation


def solved(made: type[Lamp]) -> Observation:
    seen = played(made, "press switch 1")
    return seen if seen.text == "Light!" else played(made, "press switch 2")


@pytest.mark.parametrize(
    "told",
    [("admissible_commands", "task", "won"), ("actions", "success"), (), ("actions",), ("task",)],
    ids=lambda told: "+".join(told) or "nothing told",
)
def test_contract_holds(told: tuple[str, ...]) -> None:
    findings = check_environment(GymnasiumEnvironment(lamp(told=told)))
    assert [finding for finding in findings if not finding.ok] == []


def test_seeds_are_tasks_and_splits_differ() -> None:
    environment = GymnasiumEnvironment(Lamp)
    sizes = {split: len(environment.task_ids(split)) for split in ("train", "valid_seen", "valid_unseen")}
    assert sizes == {"train": 200, "valid_seen": 100, "valid_unseen": 100}
    assert environment.task_ids("train")[:2] == ["train/0000", "train/0001"]
    seeds: list[int] = []
    spying = GymnasiumEnvironment(lamp(reset=lambda self, seed, options: (seeds.append(seed), Lamp.reset(self))[1]))
    for split in sizes:
        for task_id in spying.task_ids(split):
            spying.start(task_id)
    assert len(set(seeds)) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_split_sizes_can_be_set() -> None:
    environment = GymnasiumEnvironment(Lamp, {"test": 3})
    assert environment.task_ids("test") == ["test/0000", "test/0001", "test/0002"]
    with pytest.raises(ConfigError, match=r'no split "train" .* it has test'):
        environment.task_ids("train")


@pytest.mark.parametrize("task_id", ["train/0200", "train/x", "train", "test/0000", ""])
def test_unknown_task_is_told(task_id: str) -> None:
    with pytest.raises(ConfigError, match="no task"):
        GymnasiumEnvironment(Lamp).start(task_id)


def test_own_ids_are_passed_as_options() -> None:
    def task_ids(self: Any, split: str) -> list[str]:
        return {"train": ["hall", "cellar"], "empty": []}[split]

    made: list[Any] = []
    own = lamp(task_ids=task_ids)
    environment = GymnasiumEnvironment(lambda: made.append(own()) or made[-1])
    assert environment.task_ids("train") == ["train/hall", "train/cellar"]
    task = environment.start("train/cellar").task
    assert (task.id, task.split, made[-1].options) == ("train/cellar", "train", {"task_id": "cellar"})
    with pytest.raises(ConfigError, match="KeyError"):
        environment.task_ids("valid_seen")
    with pytest.raises(ConfigError, match='no tasks in split "empty"'):
        environment.task_ids("empty")
    assert all(finding.ok for finding in check_environment(environment))


def test_own_ids_are_found_in_a_wrapped_environment() -> None:
    wrapped = lamp(task_ids=lambda self, split: ["hall"])()
    assert GymnasiumEnvironment(lambda: lamp(unwrapped=wrapped)()).task_ids("train") == ["train/hall"]


def test_task_text() -> None:
    assert GymnasiumEnvironment(Lamp).start("train/0000").task.text == "Light the lamp."
    assert GymnasiumEnvironment(lamp(told=())).start("train/0000").task.text == "It is dark."
    with pytest.raises(EnvironmentFault, match=r'info\["task"\]'):
        GymnasiumEnvironment(lamp(reset=lambda self, **_: ("\n", {}))).start("train/0000")


def test_actions_are_listed_once() -> None:
    assert played(Lamp).actions == ("press switch 1", "press switch 2", "wait")
    assert played(lamp(told=("actions",))).actions == ("press switch 1", "press switch 2")
    assert played(lamp(told=())).actions == ()


@pytest.mark.parametrize("listed", ["wait", ["wait", ""], [1]])
def test_malformed_actions_are_told(listed: Any) -> None:
    with pytest.raises(EnvironmentFault, match="not a list of actions"):
        GymnasiumEnvironment(lamp(reset=lambda self, **_: ("Dark.", {"actions": listed}))).start("train/0000")


@pytest.mark.parametrize("told", [("won",), ("success",), ()])
def test_success(told: tuple[str, ...]) -> None:
    assert solved(lamp(told=told)) == Observation("Light!", (), done=True, success=True)


@pytest.mark.parametrize(
    ("reward", "terminated", "truncated", "info", "expected"),
    [
        (1.0, True, False, {}, (True, True)),
        (0.0, True, False, {}, (True, False)),
        (1.0, False, True, {}, (True, False)),
        (1.0, False, False, {}, (False, False)),
        (1.0, True, False, {"won": False, "success": True}, (True, False)),
        (1.0, True, False, {"success": False}, (True, False)),
        (0.0, False, False, {"won": True}, (True, True)),
    ],
)
def test_verdict(reward: float, terminated: bool, truncated: bool, info: dict[str, Any], expected: Any) -> None:
    result = ("Something.", reward, terminated, truncated, info)
    seen = played(lamp(told=(), step=lambda self, action: result), "wait")
    assert (seen.done, seen.success) == expected


def test_refused_action_never_reaches_the_environment() -> None:
    def step(self: Any, action: str) -> Any:
        raise AssertionError(action)

    seen = played(lamp(step=step), "xyzzy 42", "")
    assert seen == Observation("Nothing happens.", ("press switch 1", "press switch 2", "wait"))


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (("Dark.", 0.0, False, {}), "step returned 4 values, not .*since 0.26"),
        (("Dark.", 0.0, False, False, None), "step returned 5 values"),
        ("Dark.", "step returned a str"),
        ((b"Dark.", 0.0, False, False, {}), "is a bytes, not text"),
    ],
)
def test_malformed_step_is_a_fault(result: Any, sentence: str) -> None:
    with pytest.raises(EnvironmentFault, match=sentence):
        played(lamp(step=lambda self, action: result), "wait")


def test_exceptions_are_faults() -> None:
    with pytest.raises(EnvironmentFault, match="failed in step: ZeroDivisionError"):
        played(lamp(step=lambda self, action: 1 / 0), "wait")
    with pytest.raises(EnvironmentFault, match="failed in reset: ZeroDivisionError"):
        played(lamp(reset=lambda self, **_: 1 / 0))
    with pytest.raises(EnvironmentFault, match=r"of reset is a list, not text: wrap"):
        played(lamp(reset=lambda self, **_: ([0.1], {})))
    calls = iter([Lamp])
    environment = GymnasiumEnvironment(lambda: next(calls)())
    with pytest.raises(EnvironmentFault, match="making one: StopIteration"):
        environment.start("train/0000")


def test_environment_without_interface_is_told() -> None:
    with pytest.raises(ConfigError, match="object has no reset and no step"):
        GymnasiumEnvironment(object)


def test_environment_is_closed_when_done_or_dropped() -> None:
    made = lamp()
    environment = GymnasiumEnvironment(made)
    assert made.closed == 1
    for action in ("press switch 1", "press switch 2"):
        session = environment.start("train/0000")
        session.step(action)
    session.step("wait") if not session.observation.done else None
    assert made.closed >= 2
    del session
    gc.collect()
    assert made.closed == 3
