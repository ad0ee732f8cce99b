"""A library whose verbs and things no code knows: books in shelves and locked cases, stamped and lent to people."""

from __future__ import annotations

from collections.abc import Sequence

from d2skill.types import Arm, Decision, Group, Observation, Prompt, Task, Trajectory, Turn

PLACES = ("shelf 1", "shelf 2", "case 1", "case 2", "counter 1", "student 1", "teacher 1")
HOMES = {"atlas 1": "case 1", "novel 1": "shelf 2", "poem 1": "case 2", "novel 2": "shelf 1"}
LEND, STAMP = "lend the {} to the {}", "stamp the {}, then lend it to the {}"


class Library:
    """One visit: `task` is of a form LEND or STAMP; a book is had by its name, and lending ends the visit."""

    def __init__(self, form: str, book: str, reader: str, task_id: str = "train/0", homes: dict[str, str] = HOMES):
        self.task = Task(task_id, form.format(book, reader), "train")
        self._wanted, self._reader, self._stamp = book, reader, form == STAMP
        self._books, self._at, self._held = dict(homes), "", ""
        self._open, self._stamped = set[str](), set[str]()
        self.observation = Observation(f"You stand in the hall of {len(PLACES)} places.", self._actions())

    def step(self, action: str) -> Observation:
        verb, *_ = action.split()
        if action not in self.observation.actions:
            self.observation = Observation("No.", self.observation.actions)
            return self.observation
        done = success = False
        if verb == "walk":
            self._at = action.removeprefix("walk to ")
        elif verb == "unlock":
            self._open.add(self._at)
        elif verb == "fetch":
            self._held = action.split(" from ")[0].removeprefix("fetch ")
            del self._books[self._held]
        elif verb == "stamp":
            self._stamped.add(self._held)
        elif verb == "shelve":
            self._books[self._held], self._held = self._at, ""
        else:
            right = self._held.startswith(f"{self._wanted} ") and self._at.startswith(f"{self._reader} ")
            done, success = True, right and (self._held in self._stamped or not self._stamp)
        here = [book for book, place in self._books.items() if place == self._at and not self._shut()]
        text = f"At the {self._at} there is {' and '.join(here) or 'nothing'}."
        if here and self._at.startswith("case"):
            text = f"In the {self._at} there is {' and '.join(here)}."
        self.observation = Observation(text, () if done else self._actions(), done, success)
        return self.observation

    def _shut(self) -> bool:
        return self._at.startswith("case") and self._at not in self._open

    def _actions(self) -> tuple[str, ...]:
        found = [f"walk to {place}" for place in PLACES if place != self._at]
        if self._shut():
            return (*found, f"unlock {self._at}")
        if self._held and self._at == "counter 1":
            found.append(f"stamp {self._held} at counter 1")
        elif self._held and self._at in ("student 1", "teacher 1"):
            found.append(f"lend {self._held} to {self._at}")
        elif self._held and self._at:
            found.append(f"shelve {self._held} on {self._at}")
        elif not self._held:
            found += [f"fetch {book} from {place}" for book, place in self._books.items() if place == self._at]
        return tuple(found)


def visit(library: Library, actions: str, index: int = 0, arm: Arm = "skills") -> Trajectory:
    """Plays actions, given with commas between them."""
    turns = []
    for action in actions.split(", "):
        seen = library.observation
        turns.append(
            Turn(
                Prompt(library.task.text, seen.text, seen.actions),
                Decision(action, action, (), ()),
                action in seen.actions,
            )
        )
        library.step(action)
    return Trajectory(library.task, arm, index, tuple(turns), library.observation.text, library.observation.success)


def visits(form: str, book: str, reader: str, *played: str, task_id: str = "train/0") -> Group:
    """A group of visits."""
    members = [visit(Library(form, book, reader, task_id), actions, at) for at, actions in enumerate(played)]
    return Group(members[0].task, tuple(members))


def told(task: str, *turns: tuple[Sequence[str], str], success: bool = True, first: str = "Here.") -> Trajectory:
    """A trajectory of turns that are given as the actions that are possible, and the one that is played."""
    made = [
        Turn(Prompt(task, first if at == 0 else f"Step {at}.", tuple(actions)), Decision(a, a, (), ()), a in actions)
        for at, (actions, a) in enumerate(turns)
    ]
    return Trajectory(Task("train/0", task, "train"), "skills", 0, tuple(made), "The end.", success)


def played(task: str, *actions: str, success: bool = True) -> Trajectory:
    """A trajectory in which each action was the only one possible."""
    return told(task, *(((action,), action) for action in actions), success=success)


STAMPED = (
    "walk to case 1, unlock case 1, fetch atlas 1 from case 1, walk to counter 1, stamp atlas 1 at counter 1, "
    "walk to student 1, lend atlas 1 to student 1"
)
