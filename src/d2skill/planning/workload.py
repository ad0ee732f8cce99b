"""Work of a run: episodes, decisions, tokens, reflection calls and embedded texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import Any

from d2skill.config import Config
from d2skill.errors import RunError
from d2skill.planning.lengths import Lengths
from d2skill.runs.folder import RunFolder

HOUR = 3600.0
"""Seconds of an hour."""


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """Means over the iterations of a finished run; None where it measured nothing of the kind.

    `steps` are per episode, `validation_steps` per episode of the panel; calls and tokens are the reflector's per
    iteration; seconds are of an iteration without its validation, and of a validation; `demonstrations` are rows.
    """

    source: str
    steps: float | None = None
    validation_steps: float | None = None
    calls: float | None = None
    call_tokens: float | None = None
    demonstrations: float | None = None
    iteration_seconds: float | None = None
    validation_seconds: float | None = None
    warm_start_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Work of each iteration (`episodes` to `texts`) and of the whole run (the rest).

    `prompt_tokens` and `answer_tokens` are the means of a decision, `spread` the standard deviation of both together
    over their mean. `demonstrated` are tokens of the warm start, over all its epochs.
    """

    prompt_tokens: float
    answer_tokens: float
    spread: float
    episodes: int
    decisions: float
    learnt: float
    calls: float
    call_in: float
    call_out: float
    texts: float
    iterations: int
    validations: int
    validation_decisions: float
    demonstrated: float

    @property
    def read(self) -> float:
        """Tokens of prompts in an iteration."""
        return self.decisions * self.prompt_tokens

    @property
    def written(self) -> float:
        """Tokens of answers in an iteration."""
        return self.decisions * self.answer_tokens

    @property
    def policy_tokens(self) -> tuple[float, float]:
        """Tokens that the policy reads and writes in the run, validations included."""
        validated = self.validations * self.validation_decisions
        return (
            self.iterations * self.read + validated * self.prompt_tokens,
            self.iterations * self.written + validated * self.answer_tokens,
        )


def run_statistics(folder: RunFolder) -> RunStatistics:
    """Returns the means of a run's metrics. Raises `RunError` for a run without a finished iteration."""
    everything = folder.read_metrics()
    lines = [line for line in everything if line.get("iteration")]
    if not lines:
        raise RunError(f"{folder.path} has no finished iteration to go by: name another run with --like")
    rollout = folder.config().rollout
    skilled, members = rollout.with_skills, rollout.group_size
    halves = ((skilled, "rollout/skill_half_steps"), (members - skilled, "rollout/baseline_half_steps"))
    times = ("time/rollout", "time/probe", "time/update", "time/learn")
    first = everything[0]
    return RunStatistics(
        str(folder.path),
        fmean(sum(n * line.get(name, 0.0) for n, name in halves) / members for line in lines),
        _mean(everything, "validation/steps_with_skills", "validation/steps_without_skills"),
        _mean(lines, "reflect/calls"),
        _mean(lines, "reflect/tokens"),
        first.get("warm_start/demonstrations"),
        fmean(sum(line.get(name, 0.0) for name in times) for line in lines),
        _mean(everything, "time/validate"),
        float(first.get("time/warm_start", 0.0)),
    )


def _mean(lines: Iterable[Mapping[str, Any]], *names: str) -> float | None:
    values = [line[name] for line in lines for name in names if name in line]
    return fmean(values) if values else None


def estimate_workload(config: Config, lengths: Lengths, like: RunStatistics | None = None) -> Workload:
    """Returns the work of a run with such lengths, or with the steps and calls that a run like it measured."""
    like = like or RunStatistics("")
    rollout, answer, limit = config.rollout, lengths.answer, config.env.max_steps
    prompt, deviation = lengths.mixed(rollout.with_skills / rollout.group_size)
    episodes = rollout.tasks * rollout.group_size
    decisions = episodes * (like.steps or lengths.steps)
    iterations = config.train.iterations
    if config.train.max_env_steps:
        iterations = min(iterations, ceil(config.train.max_env_steps / decisions))
    demonstrations = float(like.demonstrations or config.warm_start.tasks * limit)
    calls, call_in, call_out = _reflection(config, like, iterations)
    arms = 2 if rollout.with_skills else 1
    skilled = decisions * rollout.with_skills / rollout.group_size
    return Workload(
        prompt_tokens=prompt,
        answer_tokens=answer,
        spread=deviation / ((prompt + answer) or 1),
        episodes=episodes,
        decisions=decisions,
        learnt=decisions * (prompt + answer) if config.policy.train else 0.0,
        calls=calls,
        call_in=call_in,
        call_out=call_out,
        texts=skilled + rollout.tasks if rollout.with_skills else 0.0,
        iterations=iterations,
        validations=1 + ceil(iterations / config.validation.every),
        validation_decisions=config.validation.tasks * arms * (like.validation_steps or lengths.steps),
        demonstrated=demonstrations * config.warm_start.epochs * (prompt + answer),
    )


def _reflection(config: Config, like: RunStatistics, iterations: int) -> tuple[float, float, float]:
    """Returns calls, prompt tokens and answer tokens of an iteration, within the budget of the run."""
    settings = config.reflect
    if settings.kind != "llm" or not config.rollout.with_skills:
        return 0.0, 0.0, 0.0
    calls = float(min(settings.max_groups, config.rollout.tasks))
    call_in, call_out = calls * settings.prompt_tokens, calls * settings.answer_tokens
    if like.calls is not None and like.call_tokens is not None:
        answers = settings.answer_tokens / (settings.prompt_tokens + settings.answer_tokens)
        calls, call_in, call_out = like.calls, like.call_tokens * (1 - answers), like.call_tokens * answers
    cost = (call_in * settings.price_in + call_out * settings.price_out) / 1e6
    budgets = ((settings.max_calls, calls), (settings.max_tokens, call_in + call_out), (settings.max_cost, cost))
    part = min([1.0, *(limit / (iterations * used) for limit, used in budgets if limit is not None and used)])
    return calls * part, call_in * part, call_out * part


def learning_operations(config: Config) -> tuple[int, int]:
    """Returns operations per parameter and token of learning: with gradients, and to read the token again.

    Gradients take 6, or 4 where only an adapter has them. The reference reads again (2), so does gradient checkpointing
    (2), and so does verl for the probabilities before an update (2). Acting takes 2.
    """
    again = bool(config.optim.kl) + config.policy.lm.gradient_checkpointing + (config.engine == "verl")
    return 4 if config.policy.lm.lora_rank else 6, 2 * again


def model_hours(config: Config, work: Workload, tokens_per_second: float) -> dict[str, float]:
    """Returns the hours of a run by part, from the speed of acting in tokens read and written per second."""
    gradient, again = learning_operations(config)
    decision = work.prompt_tokens + work.answer_tokens
    return {
        "acting": work.iterations * (work.read + work.written) / tokens_per_second / HOUR,
        "learning": work.iterations * work.learnt * ((gradient + again) / 2) / tokens_per_second / HOUR,
        "validation": work.validations * work.validation_decisions * decision / tokens_per_second / HOUR,
        "warm start": work.demonstrated * (gradient / 2) / tokens_per_second / HOUR,
    }
