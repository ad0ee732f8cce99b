"""Recorded episodes of an environment, replayed and compared: the parts that the rules of `environment` are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from d2skill.protocols import Session
from d2skill.testing.rules import RuleViolation, require
from d2skill.types import Observation
from d2skill.utils.text import short

MAX_STEPS = 50
"""Steps after which an episode is long enough to have been checked."""


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """The actions of an episode, with the observation before each and the one after the last."""

    task_id: str
    actions: tuple[str, ...]
    observations: tuple[Observation, ...]

    @classmethod
    def record(cls, session: Session, choose: Callable[[Observation], str]) -> RecordedEpisode:
        """Plays an episode up to its end, to the limit, or to an observation that cannot be acted on."""
        seen = [session.observation]
        actions: list[str] = []
        while not (seen[-1].done or len(actions) == MAX_STEPS or malformation(seen[-1])):
            if seen[0].actions and not seen[-1].actions:
                break
            actions.append(choose(seen[-1]))
            seen.append(checked_step(session, actions[-1]))
        return cls(session.task.id, tuple(actions), tuple(seen))

    def replay(self, session: Session, start: int = 0, stop: int | None = None) -> None:
        """Plays recorded actions; raises `RuleViolation` where an observation differs from the record."""
        for step in range(len(self.actions))[start:stop]:
            self.compare(step + 1, checked_step(session, self.actions[step]))

    def compare(self, steps: int, seen: Observation) -> None:
        """Raises `RuleViolation` if an observation differs from the recorded one after so many steps."""
        expected = self.observations[steps]
        for name in ("text", "actions", "done", "success"):
            was, now = getattr(expected, name), getattr(seen, name)
            if was != now:
                raise RuleViolation(
                    f"{self.at(steps)}, {name} was {short(was)} and then {short(now)}: let an episode depend on its "
                    "id and actions alone, with a random generator of its own, seeded from the id, and no shared state"
                )

    def replay_after_refusal(self, session: Session, start: int) -> None:
        """Plays the rest after a refused action; raises `RuleViolation` if other actions become admissible.

        Texts may differ, and an episode may end sooner, since an environment may count its steps.
        """
        for step in range(start, len(self.actions)):
            seen = checked_step(session, self.actions[step])
            if seen.done:
                return
            require(
                seen.actions == self.observations[step + 1].actions,
                f"{self.at(step + 1)}, other actions are admissible than without the refused action before: "
                "an action that is refused must not change the state",
            )

    def at(self, steps: int) -> str:
        """Returns a place in the episode in words."""
        return f"task {self.task_id!r}, after {steps} steps"


def checked_step(session: Session, action: str) -> Observation:
    """Plays an action; raises `RuleViolation` if it returns no observation."""
    return as_observation(session.step(action), f"step({action!r})")


def as_observation(value: object, source: str) -> Observation:
    """Returns an observation as such; raises `RuleViolation` if it is something else."""
    if not isinstance(value, Observation):
        raise RuleViolation(f"{source} is a {type(value).__name__}: make it a d2skill.types.Observation")
    return value


def malformation(observation: Observation) -> str:
    """Returns what is wrong with the fields of an observation; empty if nothing is."""
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
