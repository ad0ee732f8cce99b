"""One episode as a state machine without I/O of its own: `prompt()` out, `act(decision)` in.

A lock-step loop and an asynchronous server loop can drive the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from d2skill.config import PromptConfig
from d2skill.knowledge.advice import Advice
from d2skill.prompts import fit_to_budget
from d2skill.protocols import Session
from d2skill.types import Arm, Decision, Observation, Prompt, Retrieved, Task, Trajectory, Turn


class Episode:
    """One member of a group while it is played, over a session that was just started.

    An environment that fails ends the episode without success; the fault is kept on the trajectory.
    """

    def __init__(
        self,
        session: Session,
        *,
        arm: Arm,
        index: int,
        max_steps: int,
        settings: PromptConfig,
        count_tokens: Callable[[str], int],
        fault: str = "",
    ) -> None:
        """Begins the episode.

        Args:
            session: The environment's side of it.
            arm: The half of the group that it belongs to.
            index: Its index in the group.
            max_steps: Decisions after which it ends without success.
            settings: Length of the history and token budget of prompts.
            count_tokens: The policy's count of the tokens of a text.
            fault: The error of a session that failed to start.
        """
        self.task: Task = session.task
        self.arm = arm
        self.index = index
        self.task_skills: tuple[Retrieved, ...] = ()
        self._advice: Advice | None = None
        self._session = session
        self._max_steps = max_steps
        self._settings = settings
        self._count = count_tokens
        self._turns: list[Turn] = []
        self._past: list[tuple[str, str]] = []
        self._fault = fault
        self._observation = Observation("", done=True)
        self._see(lambda: session.observation)

    @property
    def step(self) -> int:
        """Number of decisions made so far."""
        return len(self._turns)

    @property
    def done(self) -> bool:
        """True once no further decision is wanted."""
        return bool(self._fault) or self._observation.done or self.step >= self._max_steps

    @property
    def query(self) -> tuple[str, str]:
        """Query for step skills: task text and current observation."""
        return self.task.text, self._observation.text

    @property
    def start(self) -> tuple[str, str]:
        """Query for advice: task text and first observation."""
        return self.task.text, self._past[0][0] if self._past else self._observation.text

    def advise(self, task_skills: Sequence[Retrieved], situations: Sequence[Retrieved]) -> None:
        """Takes the advice of the episode, which is shown until it is done or refuted."""
        self.task_skills = tuple(task_skills)
        procedure = task_skills[0].skill if task_skills else None
        seen = self._observation
        self._advice = Advice(
            procedure, [one.skill for one in situations], seen.actions, self.task.text, forms=seen.forms
        )

    def prompt(self, step_skills: Sequence[Retrieved] = ()) -> Prompt:
        """Returns the prompt of the next decision, within the token budget; advice shows its own step skills."""
        keep = self._settings.history
        shown = tuple(one.skill for one in step_skills)
        if self._advice:
            shown = self._advice.shown() if self._settings.until_done or not self._turns else ()
        full = Prompt(
            task=self.task.text,
            observation=self._observation.text,
            actions=self._observation.actions,
            forms=self._observation.forms,
            labels=self._observation.labels,
            history=tuple(self._past[-keep:]) if keep else (),
            task_skills=tuple(r.skill for r in self.task_skills),
            step_skills=shown,
            acts_done=self._advice.acts_done if self._advice else -1,
            got=self._advice.got if self._advice else (),
        )
        return fit_to_budget(full, self._count, self._settings.max_tokens)

    def act(self, prompt: Prompt, decision: Decision) -> None:
        """Plays a decision that was made on `prompt`: the admissible action that it means, or else its own text."""
        admissible = self._observation.admissible(decision.action)
        if admissible and admissible != decision.action:
            decision = replace(decision, action=admissible)
        action = decision.action
        self._turns.append(Turn(prompt, decision, bool(admissible)))
        self._past.append((self._observation.text, action or decision.text))
        self._see(lambda: self._session.step(action))
        if self._advice and self._turns[-1].admissible and not self._fault:
            self._advice.update(action, self._observation.actions)

    def trajectory(self) -> Trajectory:
        """Returns the record of the episode so far."""
        seen, turns = self._observation, tuple(self._turns)
        success, score = seen.success and not self._fault, None if self._fault else seen.score
        return Trajectory(self.task, self.arm, self.index, turns, seen.text, success, self._fault, score)

    def _see(self, look: Callable[[], Observation]) -> None:
        """Takes the next observation."""
        try:
            self._observation = _plain(look())
        except Exception as error:
            # The boundary to code that is not ours: whatever an environment raises is a fact about this episode.
            # `rollout.collect` stops the run when nothing but faults come back.
            self._fault = describe_fault(error)


def _plain(seen: Observation) -> Observation:
    """Returns an observation of Python's own types, such as a score that was NumPy's; raises for what is none."""
    if not isinstance(seen, Observation):
        raise TypeError(f"it returned a {type(seen).__name__}, not an Observation")
    if not isinstance(seen.actions, tuple | list):
        raise TypeError(f"actions is a {type(seen.actions).__name__}, not a tuple")
    texts = "".join((seen.text, *seen.actions, *seen.forms, *seen.labels))
    if not texts.isascii():
        texts.encode()  # lone surrogates can be stored nowhere
    score = seen.score
    if score is not None and not math.isfinite(score := float(score)):
        raise ValueError(f"the score is {score}, which is not finite")
    if type(seen.actions) is tuple and type(seen.done) is type(seen.success) is bool and score is seen.score:
        return seen
    return replace(seen, actions=tuple(seen.actions), done=bool(seen.done), success=bool(seen.success), score=score)


def describe_fault(error: Exception) -> str:
    """Returns the record of an environment's exception."""
    return f"{type(error).__name__}: {error}"
