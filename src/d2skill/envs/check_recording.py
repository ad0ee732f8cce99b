"""Recorded episodes, played again and compared: what the rules of `check` are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from d2skill.protocols import Session
from d2skill.types import Observation

STEPS = 50
"""Steps after which an episode is long enough to have been checked."""


class Broken(Exception):
    """A rule does not hold; the message says what was seen and how to mend it."""


@dataclass(frozen=True, slots=True)
class Record:
    """A recorded episode: the observation before each action, and the one after the last."""

    task_id: str
    actions: tuple[str, ...]
    observations: tuple[Observation, ...]

    @property
    def half(self) -> int:
        """Number of actions in the first half."""
        return len(self.actions) // 2

    def replay(self, session: Session, start: int = 0, stop: int | None = None) -> None:
        """Plays recorded actions; raises `Broken` where what is seen differs from the record."""
        for step in range(len(self.actions))[start:stop]:
            self.compare(step + 1, step_of(session, self.actions[step]))

    def compare(self, steps: int, seen: Observation) -> None:
        """Raises `Broken` if an observation differs from the one after so many steps."""
        expected = self.observations[steps]
        for name in ("text", "actions", "done", "success"):
            was, now = getattr(expected, name), getattr(seen, name)
            if was != now:
                raise Broken(
                    f"{self.place(steps)}, {name} was {short(was)} and then {short(now)}: let an episode depend on its "
                    "id and actions alone, with a random generator of its own, seeded from the id, and no shared state"
                )

    def goes_on(self, session: Session, start: int) -> None:
        """Plays the rest after a refused action; raises `Broken` if other actions are admissible than on record.

        Texts may differ, and an episode may end sooner, since an environment may count its steps.
        """
        for step in range(start, len(self.actions)):
            seen = step_of(session, self.actions[step])
            if seen.done:
                return
            if seen.actions != self.observations[step + 1].actions:
                raise Broken(
                    f"{self.place(step + 1)}, other actions are admissible than without the refused action before: "
                    "an action that is refused must not change the state"
                )

    def place(self, steps: int) -> str:
        """Says where in the episode something was seen."""
        return f"task {self.task_id!r}, after {steps} steps"


def record(session: Session, choose: Callable[[Observation], str]) -> Record:
    """Plays an episode up to its end, to the limit, or to an observation that cannot be acted on."""
    seen = [session.observation]
    actions: list[str] = []
    while not (seen[-1].done or len(actions) == STEPS or flaw(seen[-1])):
        if seen[0].actions and not seen[-1].actions:
            break
        actions.append(choose(seen[-1]))
        seen.append(step_of(session, actions[-1]))
    return Record(session.task.id, tuple(actions), tuple(seen))


def step_of(session: Session, action: str) -> Observation:
    """Plays an action; raises `Broken` if what comes back is not an observation."""
    return observed(session.step(action), f"step({action!r})")


def observed(seen: object, source: str) -> Observation:
    """Returns an observation as such; raises `Broken` if it is something else."""
    if not isinstance(seen, Observation):
        raise Broken(f"{source} is a {type(seen).__name__}: make it a d2skill.types.Observation")
    return seen


def flaw(observation: Observation) -> str:
    """Says what is wrong with the form of an observation, nothing if it is right."""
    actions: object = observation.actions
    if not isinstance(observation.text, str):
        return f"text is a {type(observation.text).__name__}: make it a str"
    if not isinstance(actions, tuple):
        return f"actions is a {type(actions).__name__}: make it a tuple"
    bad = next((action for action in actions if not isinstance(action, str) or not action.strip()), None)
    if bad is not None:
        return f"{bad!r} is among the actions: make each a text that is not empty"
    twice = next((action for action in actions if actions.count(action) > 1), None)
    if twice is not None:
        return f"action {twice!r} is listed more than once: list each once"
    forms: object = observation.forms
    if not isinstance(forms, tuple) or not all(isinstance(form, str) and form.count("...") == 1 for form in forms):
        return f'forms is {forms!r}: make it a tuple of texts with one blank each, as in "search[...]"'
    labels: object = observation.labels
    if labels and (not isinstance(labels, tuple) or len(labels) != len(actions)):
        return f"labels are {short(labels)}: make them a tuple with one text for each action, or leave them out"
    if observation.score is not None and not 0 <= observation.score <= 1:
        return f"score is {observation.score}: make it a number from 0 to 1, or None"
    if not isinstance(observation.done, bool) or not isinstance(observation.success, bool):
        return "done or success is neither True nor False: make them bool"
    return ""


def short(value: object) -> str:
    """Returns a value in one line that is not long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
