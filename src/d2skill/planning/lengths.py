"""Lengths that the work of a run is reckoned from: tokens of a prompt and an answer, steps of an episode."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib.resources import files
from math import hypot

from d2skill.config import Config
from d2skill.config.verl import PROMPT_MARGIN
from d2skill.planning.memory import CHOICE_TOKENS

_FILE = files("d2skill.planning") / "resources" / "typical_lengths.toml"
TYPICAL: dict[str, dict[str, float]] = tomllib.loads(_FILE.read_text("utf-8"))
"""Typical lengths by environment; the file says where each is from."""

_JSON_TOKENS = 8  # around the action that a served model chooses


@dataclass(frozen=True, slots=True)
class Lengths:
    """Means over a run: tokens of a prompt without skills, those that skills add, of an answer; steps of an episode.

    `longest_answer` is the limit of an answer. `deviation` is the standard deviation of a prompt without skills.
    """

    prompt: float
    skills: float
    answer: float
    steps: float
    longest_answer: int
    deviation: float = 0.0
    source: str = "limits of the settings"

    def mixed(self, share: float) -> tuple[float, float]:
        """Returns mean and standard deviation of a prompt if a `share` of the prompts has skills."""
        return self.prompt + share * self.skills, hypot(self.deviation, self.skills * (share - share**2) ** 0.5)


def limit_lengths(config: Config) -> Lengths:
    """Returns the limits of the settings; a scorer has no tokens."""
    kind, lm = config.policy.kind, config.policy.lm
    if kind == "scorer":
        return Lengths(0, 0, 0, config.env.max_steps, 0)
    answer = CHOICE_TOKENS + (_JSON_TOKENS if kind == "served" else 0)
    if (config.policy.served if kind == "served" else lm).answer == "free":
        answer = config.policy.served.answer_tokens if kind == "served" else lm.max_new_tokens
    return Lengths(config.prompt.max_tokens, 0, answer, config.env.max_steps, answer)


def typical_lengths(config: Config) -> Lengths:
    """Returns the typical lengths of the environment, and the limits where none are known or the policy is a scorer."""
    limits, typical = limit_lengths(config), TYPICAL.get(config.env.kind)
    if typical is None or config.policy.kind == "scorer":
        return limits
    steps = typical["ended"] * min(typical["steps"], limits.steps) + (1 - typical["ended"]) * limits.steps
    prompt = typical["prompt"] + typical["turn"] * min(config.prompt.history, steps / 2)
    most = config.retrieval.k_task, config.retrieval.k_step
    # of consolidated skills, a procedure and mostly one place
    shown = sum(most) if config.bank.skills == "paper" else sum(min(1, k) for k in most)
    longest = config.prompt.max_tokens + PROMPT_MARGIN
    return replace(
        limits,
        prompt=min(prompt, longest),
        skills=max(0.0, min(typical["skill"] * shown, longest - prompt)),
        answer=min(typical["answer"], limits.answer),
        steps=steps,
        deviation=typical["deviation"],
        source=f"typical of {config.env.kind}: prompts by Qwen's tokenizer, answers and steps as published",
    )
