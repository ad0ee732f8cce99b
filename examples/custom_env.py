"""An environment of one's own: castles in which each treasure mostly lies in the same chest as last time.

It pays to note where a treasure was, for searching takes more steps than there are. Run it from this folder:
    d2skill check-env custom_env:TreasureHunt
    d2skill train --env custom_env:TreasureHunt --env.max-steps 10
"""

import random

from d2skill.errors import ConfigError
from d2skill.types import Observation, Task

CASTLES = "Arundel Bodiam Conwy Dover Elmina Fasil Gruyeres Himeji Inveraray Josselin Kilkenny Leeds".split()
TREASURES = ("ruby", "crown", "sword", "pearl")
GO = tuple(f"go to chest {number}" for number in range(1, 13))
GAMES = {"train": 10, "valid_seen": 3}  # of each treasure in each castle


class TreasureHunt:
    """Names the tasks and starts them; d2skill asks no more of an environment."""

    def task_ids(self, split: str) -> list[str]:
        """Returns the ids of a split."""
        if split not in GAMES:
            raise ConfigError(f"there is no split {split!r}: there are {', '.join(GAMES)}")
        return [f"{split}/{c}/{t}/{n}" for n in range(GAMES[split]) for c in CASTLES for t in TREASURES]

    def start(self, task_id: str) -> "Hunt":
        """Starts a game."""
        return Hunt(task_id)


class Hunt:
    """One game: its task, what is seen now, and a step."""

    def __init__(self, task_id: str) -> None:
        split, castle, self.wanted, _ = task_id.split("/")
        self.task = Task(task_id, f"{castle}: put the {self.wanted} on the altar.", split, self.wanted)
        habit = {treasure: random.Random(castle + treasure) for treasure in TREASURES}
        game, self.held = random.Random(task_id), ""
        self.way_to = {t: (habit[t] if game.random() < 0.8 else game).choice(GO) for t in TREASURES}
        self.observation = Observation(f"You are in {castle}, among chests.", GO)

    def step(self, action: str) -> Observation:
        """Plays an action; one that is not possible changes nothing. The first treasure on the altar decides."""
        verb, *words = action.split() if action in self.observation.actions else ["nothing"]
        text, actions, won = "Nothing happens.", self.observation.actions, False
        if verb == "go":
            here = [t for t, way in self.way_to.items() if way == action and t != self.held]
            text = f"In chest {words[-1]} there is {' and '.join(here) or 'nothing'}."
            put = [f"put {self.held} on altar"] if self.held else []
            actions = (*(f"take {treasure} from chest {words[-1]}" for treasure in here), *put, *GO)
        elif verb == "take":
            self.held = words[0]
            text, actions = f"You hold only the {self.held}.", (f"put {self.held} on altar", *GO)
        elif verb == "put":
            text, won = "The altar shakes.", self.held == self.wanted
        self.observation = Observation(text, actions, done=verb == "put", success=won)
        return self.observation
