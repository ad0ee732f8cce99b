"""A tiny environment: treasures lie in boxes, each always in the same one, and a task asks for one of them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from d2skill.errors import ConfigError
from d2skill.types import Observation, Task

TREASURES = ("ruby", "pearl", "crown", "ring")
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
        wanted = TREASURES[int(number) % len(TREASURES)]
        return TinySession(Task(task_id, f"get the {wanted}", split, wanted), self.settings.boxes)

    def expert(self, task: Task, hints: Sequence[str], seed: int) -> TinyExpert:
        """Returns a scripted player for one episode. It reads the text alone, and tries first what the hints name."""
        return TinyExpert(task, hints, seed)


class TinySession:
    """One episode: its task, the current observation, and a step."""

    def __init__(self, task: Task, boxes: int) -> None:
        self.task = task
        self._opens = tuple(f"open box {number + 1}" for number in range(boxes))
        self.observation = Observation("You see some boxes.", self._opens)

    def step(self, action: str) -> Observation:
        """Plays an action. One that is not admissible changes nothing but the text."""
        verb, *words = action.split() if action in self.observation.actions else ["nothing"]
        if verb == "take":
            self.observation = Observation("You have it.", done=True, success=words[0] == self.task.kind)
        elif verb == "open":
            inside = [one for at, one in enumerate(TREASURES) if f"open box {1 + 3 * at % len(self._opens)}" == action]
            takes = [f"take {one} from box {words[1]}" for one in inside]  # the thing and the place: it can be counted
            text = f"You {action}. In it: {', '.join(inside) or 'nothing'}."
            self.observation = Observation(text, (*self._opens, *takes))
        else:
            self.observation = Observation("That is not possible.", self.observation.actions)
        return self.observation


class TinyExpert:
    """Takes the treasure if it sees it; else it opens the boxes that the hints name, and then the others in turn."""

    def __init__(self, task: Task, hints: Sequence[str], seed: int) -> None:
        self._wanted = task.text.split()[-1]
        self._hints = " ".join(hints)
        self._turn = seed

    def act(self, observation: Observation) -> str:
        """Returns an admissible action."""
        opens = [action for action in observation.actions if action.startswith("open")]
        takes = [action for action in observation.actions if action.startswith(f"take {self._wanted} ")]
        hinted = [action for action in opens if action.removeprefix("open ") in self._hints]
        self._hints = ""
        self._turn += 1
        return (takes or hinted or [opens[self._turn % len(opens)]])[0]
