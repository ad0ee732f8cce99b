"""A tiny policy: a linear softmax over the actions, whose features are an action beside a word of the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from d2skill.errors import RunError
from d2skill.types import AnswerScore, Decision, Prompt, Row

Floats = npt.NDArray[np.float64]


class TinyPolicy:
    """Chooses among the actions of a prompt, learns by the policy gradient, and imitates by the same step.

    `score_answers` is optional: with it, a run measures how much the policy heeds its skills.
    """

    class Settings(BaseModel, extra="forbid"):
        """Settings of the policy: `--policy.settings.rate 0.2`, or [policy.settings] in TOML."""

        rate: float = Field(0.1, gt=0)
        clip: float = Field(0.2, gt=0)
        buckets: int = Field(4096, ge=16)

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or self.Settings()
        self._weights: Floats = np.zeros(self.settings.buckets)

    def count_tokens(self, text: str) -> int:
        """Returns the number of prompt tokens of a text."""
        return len(text.split())

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        """Samples a decision for each prompt, from the prompt's own seed; temperature 0 is greedy."""
        decisions = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            if not prompt.actions:
                decisions.append(Decision("", "", (), ()))
                continue
            log_probs = self._log_probs(prompt, temperature or 1.0)
            drawn = np.random.default_rng(seed).choice(len(log_probs), p=np.exp(log_probs))
            choice = int(drawn if temperature else log_probs.argmax())
            action = prompt.actions[choice]
            decisions.append(Decision(action, action, (choice,), (float(log_probs[choice]),)))
        return decisions

    def score_answers(self, decided: Sequence[tuple[Prompt, Decision]]) -> list[AnswerScore]:
        """Returns the log-probability of each decision under the prompt beside it, and the greedy action there."""
        scores = []
        for prompt, decision in decided:
            if not decision.tokens:
                scores.append(AnswerScore(0.0, ""))
                continue
            if decision.action not in prompt.actions:
                raise ValueError(f"{decision.action!r} is no action of this prompt")
            log_probs = self._log_probs(prompt)
            chosen = log_probs[prompt.actions.index(decision.action)]
            scores.append(AnswerScore(float(chosen), prompt.actions[int(log_probs.argmax())]))
        return scores

    def update(self, rows: Sequence[Row], seed: int) -> dict[str, float]:
        """Takes one pass of policy-gradient steps over the rows, and returns metrics.

        A row whose decision is much likelier or less likely by now than when it was made, as its advantage asks for,
        is left out (Eq. 6 clips it): without that, many rows of one sign would drive the policy too far.
        """
        gains = []
        for row in rows:
            if row.decision.tokens:
                choice = row.decision.tokens[0]
                moved = float(self._log_probs(row.prompt)[choice]) - row.decision.log_probs[0]
                if moved * np.sign(row.advantage) <= self.settings.clip:
                    gains.append(self._learn(row.prompt, choice, row.advantage))
        return {"policy/loss": -float(np.mean(gains))} if gains else {}

    def imitate(self, demonstrations: Sequence[tuple[Prompt, str]], seed: int) -> dict[str, float]:
        """Learns to answer each prompt with its action, and returns metrics."""
        known = [(prompt, action) for prompt, action in demonstrations if action in prompt.actions]
        gains = [self._learn(prompt, prompt.actions.index(action), 1.0) for prompt, action in known]
        return {"warm_start/loss": -float(np.mean(gains))} if gains else {}

    def freeze_reference(self) -> None:
        """Would make the present weights the reference of a KL term, which this policy does without."""

    def save(self, folder: Path) -> None:
        """Writes all that learning depends on into an existing folder."""
        np.save(folder / "weights.npy", self._weights)

    def load(self, folder: Path) -> None:
        """Restores exactly what `save` wrote."""
        try:
            self._weights = np.load(folder / "weights.npy")
        except (OSError, ValueError) as error:
            raise RunError(f"{folder} has no weights of this policy: {error}") from None

    def _learn(self, prompt: Prompt, choice: int, advantage: float) -> float:
        """Takes a step up the gradient of advantage times log-probability, and returns that product."""
        log_probs = self._log_probs(prompt)
        for action, features in enumerate(self._features(prompt)):
            slope = (action == choice) - np.exp(log_probs[action])
            np.add.at(self._weights, features, self.settings.rate * advantage * slope / len(features))
        return float(advantage * log_probs[choice])

    def _log_probs(self, prompt: Prompt, temperature: float = 1.0) -> Floats:
        scores = np.array([self._weights[features].sum() for features in self._features(prompt)]) / temperature
        scores -= scores.max()
        return np.asarray(scores - np.log(np.exp(scores).sum()))

    def _features(self, prompt: Prompt) -> list[list[int]]:
        """Returns the numbers of the features of each action: it beside each word, and whether the advice names it."""
        advice = " ".join(skill.text.principle for skill in (*prompt.task_skills, *prompt.step_skills)).lower()
        words = dict.fromkeys(["", *f"{prompt.task} {prompt.observation} {advice}".lower().split()])
        pairs = [
            [*(f"{action} | {word}" for word in words), *["advised"] * (action.lower() in advice)]
            for action in prompt.actions
        ]
        return [[crc32(pair.encode("utf-8", "replace")) % len(self._weights) for pair in own] for own in pairs]
