"""Adapter for text environments with Gymnasium's interface. Gymnasium itself is not needed.

An environment has `reset(seed=, options=) -> (observation, info)` and `step(action) -> (observation, reward,
terminated, truncated, info)`. The rest is convention, the one that wrappers of TextWorld and ALFWorld follow:

- Observations are text (`str`).
- Admissible actions are `info["admissible_commands"]`, or `info["actions"]`; without either any text is admissible.
  Where they are listed, an action that is not among them is answered here and never reaches the environment, since
  it must change nothing but the text.
- The task is `info["task"]` of the reset, else the first line of the first observation.
- Success is `info["won"]`, or `info["success"]`; without either, an episode that terminated with a reward above 0. An
  episode that is won is over, whether or not the environment would go on.
- Tasks are start states. If the environment has a method `task_ids(split)`, returning strings, task "split/ID" is
  reset with `options={"task_id": ID}`. Otherwise tasks are "split/0000", "split/0001" and so on, and differ in the
  seed of the reset alone, which `derive(split, number)` gives: splits do not overlap.

Each session has an environment of its own, closed when the episode is over or the session is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any
from weakref import finalize

from d2skill.errors import ConfigError, D2SkillError, EnvironmentFault
from d2skill.types import Observation, Task
from d2skill.utils.rng import derive

TASKS_PER_SPLIT: Mapping[str, int] = MappingProxyType({"train": 200, "valid_seen": 100, "valid_unseen": 100})
"""Splits of an environment that names no tasks, and the number of seeds in each."""

_SEEDS = 2**31
_REFUSED = "Nothing happens."


class GymnasiumEnvironment:
    """An `Environment` over a constructor of Gymnasium-style environments."""

    def __init__(self, make: Callable[[], Any], tasks_per_split: Mapping[str, int] = TASKS_PER_SPLIT) -> None:
        """Makes one environment to inspect. Raises `ConfigError` if it has no `reset` or no `step`."""
        self._make = make
        self._tasks_per_split = dict(tasks_per_split)
        sample = make()
        missing = [name for name in ("reset", "step") if not callable(getattr(sample, name, None))]
        if missing:
            raise ConfigError(
                f"{type(sample).__name__} has no {' and no '.join(missing)}, so it is no Gymnasium environment: an "
                "environment with task_ids and start is named without gymnasium: in front"
            )
        # Gymnasium's wrappers hide the methods of the environment that they wrap, but show it as `unwrapped`.
        inner = sample if hasattr(sample, "task_ids") else getattr(sample, "unwrapped", sample)
        self._own_ids: Callable[[str], Sequence[str]] | None = getattr(inner, "task_ids", None)
        if self._own_ids is None and hasattr(sample, "close"):
            sample.close()

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns "split/ID" for the environment's own ids, else "split/0000" and so on."""
        if self._own_ids is not None:
            return [f"{split}/{own_id}" for own_id in self._ask_ids(split)]
        if split not in self._tasks_per_split:
            known = ", ".join(self._tasks_per_split)
            raise ConfigError(f'there is no split "{split}" in a Gymnasium environment: it has {known}')
        return [f"{split}/{number:04d}" for number in range(self._tasks_per_split[split])]

    def start(self, task_id: str) -> GymnasiumSession:
        """Makes an environment and resets it. Raises `EnvironmentFault` if that fails or shows no text."""
        split, _, rest = task_id.partition("/")
        if self._own_ids is not None and rest:
            reset: dict[str, Any] = {"seed": derive(task_id) % _SEEDS, "options": {"task_id": rest}}
        elif rest.isdecimal() and int(rest) < self._tasks_per_split.get(split, 0):
            reset = {"seed": derive(split, int(rest)) % _SEEDS, "options": None}
        else:
            raise ConfigError(f'there is no task "{task_id}": take one that task_ids of a split returns')
        with _faults_in("making one"):
            environment = self._make()
        return GymnasiumSession(environment, task_id, reset)

    def _ask_ids(self, split: str) -> list[str]:
        assert self._own_ids is not None
        try:
            ids = list(self._own_ids(split))
        except D2SkillError:
            raise
        except Exception as error:
            raise ConfigError(
                f'task_ids("{split}") of the Gymnasium environment raised {type(error).__name__}: {error}; set '
                "env.train_split and env.validation_split to splits that it has"
            ) from error
        if not ids:
            raise ConfigError(f'the Gymnasium environment has no tasks in split "{split}": name another split')
        return ids


class GymnasiumSession:
    """One episode in an environment of its own."""

    def __init__(self, environment: Any, task_id: str, reset: Mapping[str, Any]) -> None:
        """Starts the episode of a task, whose id is "split/ID", by a reset with these arguments."""
        self._environment = environment
        self._close = finalize(self, getattr(environment, "close", lambda: None))
        with _faults_in("reset"):
            result = environment.reset(**reset)
            observation, info = _unpack(result, 2, "reset", "(observation, info)")
            text = _text(observation, "reset")
            self.task = Task(task_id, _task_text(text, info), task_id.partition("/")[0])
            self.observation = Observation(text, _actions(info))

    def step(self, action: str) -> Observation:
        """Plays an action that is admissible; raises `EnvironmentFault` for whatever the environment raises."""
        listed = self.observation.actions
        if listed and action not in listed:
            self.observation = Observation(_REFUSED, listed)
            return self.observation
        with _faults_in("step"):
            result = self._environment.step(action)
            names = "(observation, reward, terminated, truncated, info)"
            observation, reward, terminated, truncated, info = _unpack(result, 5, "step", names)
            verdict = next((info[key] for key in ("won", "success") if key in info), None)
            success = bool(terminated and reward > 0) if verdict is None else bool(verdict)
            done = bool(terminated or truncated) or success
            self.observation = Observation(_text(observation, "step"), _actions(info), done, success)
            if done:
                self._close()
        return self.observation


@contextmanager
def _faults_in(call: str) -> Iterator[None]:
    """Turns exceptions of code that is not ours into an `EnvironmentFault` that names the call."""
    try:
        yield
    except D2SkillError:
        raise
    except Exception as error:
        raise EnvironmentFault(
            f"the Gymnasium environment failed in {call}: {type(error).__name__}: {error}"
        ) from error


def _unpack(result: Any, count: int, call: str, names: str) -> tuple[Any, ...]:
    """Returns the values of a result. Environments for the old gym return one value less."""
    if not isinstance(result, tuple) or len(result) != count or not isinstance(result[-1], Mapping):
        shape = f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__name__}"
        raise EnvironmentFault(f"{call} returned {shape}, not {names}, as Gymnasium has it since 0.26")
    return result


def _text(observation: Any, call: str) -> str:
    if not isinstance(observation, str):
        raise EnvironmentFault(
            f"the observation of {call} is a {type(observation).__name__}, not text: wrap the environment so that "
            "observations are str"
        )
    return observation


def _actions(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the listed actions without repeats, none if they are not listed."""
    key = "admissible_commands" if "admissible_commands" in info else "actions"
    listed = info.get(key) or ()
    if isinstance(listed, str) or not all(isinstance(action, str) and action for action in listed):
        raise EnvironmentFault(f'info["{key}"] is {listed!r}, not a list of actions: each is a text, not empty')
    return tuple(dict.fromkeys(listed))


def _task_text(first: str, info: Mapping[str, Any]) -> str:
    """Returns the text of the task, from the info of the reset or the first line of the first observation."""
    text = info.get("task") or next((line for line in first.splitlines() if line.strip()), "")
    if not isinstance(text, str) or not text.strip():
        raise EnvironmentFault('nothing says what the task is: put it into info["task"] of the reset, as text')
    return text.strip()
