"""A tiny environment: a coin lies in one of some boxes, and in which one depends on its kind."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from d2skill.errors import ConfigError
from d2skill.types import Observation, Task

COINS = ("copper", "silver", "golden", "iron")
SPLITS = {"train": 24, "valid_seen": 8}


class TinyEnvironment:
    """Names the tasks and starts them. Its expert is optional: the warm start imitates it."""

    class Settings(BaseModel, extra="forbid"):
        """Settings of the environment: `--env.args.boxes 5`, or [env.args] in TOML."""

        boxes: int = Field(4, ge=2)

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or self.Settings()

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns the ids of a split's tasks, always in the same order."""
        if split not in SPLITS:
            raise ConfigError(f"there is no split {split}: there are {', '.join(SPLITS)}")
        return [f"{split}/{number:03d}" for number in range(SPLITS[split])]

    def start(self, task_id: str) -> TinySession:
        """Starts a fresh episode of a task, the same for the same id."""
        split, _, number = task_id.partition("/")
        coin = int(number) % len(COINS)
        task = Task(task_id, f"get the {COINS[coin]} coin", split, COINS[coin])
        return TinySession(task, self.settings.boxes, 1 + (3 * coin + 1) % self.settings.boxes)

    def expert(self, task: Task, hints: Sequence[str], seed: int) -> TinyExpert:
        """Returns a scripted player for one episode. It reads the text alone, and tries first what the hints name."""
        return TinyExpert(hints, seed)


class TinySession:
    """One episode: its task, the current observation, and a step."""

    def __init__(self, task: Task, boxes: int, place: int) -> None:
        self.task = task
        self._place = place
        self._opens = tuple(f"open box {number + 1}" for number in range(boxes))
        self.observation = Observation("You see some boxes.", self._opens)

    def step(self, action: str) -> Observation:
        """Plays an action. One that is not admissible changes nothing but the text."""
        seen = self.observation
        if action not in seen.actions:
            self.observation = Observation("That is not possible.", seen.actions)
        elif action.startswith("take"):
            self.observation = Observation("You have it.", done=True, success=True)
        elif action == f"open box {self._place}":
            take = f"take coin 1 from box {self._place}"
            self.observation = Observation(f"You open box {self._place}. In it is a coin 1.", (*self._opens, take))
        else:
            self.observation = Observation(f"You {action}. It is empty.", self._opens)
        return self.observation


class TinyExpert:
    """Takes the coin if it sees it; else it opens the boxes that the hints name, and then the others in turn."""

    def __init__(self, hints: Sequence[str], seed: int) -> None:
        self._hints = " ".join(hints)
        self._turn = seed

    def act(self, observation: Observation) -> str:
        """Returns an admissible action."""
        takes = [action for action in observation.actions if action.startswith("take")]
        hinted = [action for action in observation.actions if action.removeprefix("open ") in self._hints]
        self._hints = ""
        self._turn += 1
        return (takes or hinted or [observation.actions[self._turn % len(observation.actions)]])[0]
