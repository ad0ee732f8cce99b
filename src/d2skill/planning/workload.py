"""How much a run has to do: episodes, decisions, tokens, calls and texts, and the hours and money of that.

Without a run to go by, everything is at its limit: each episode takes all its steps, each prompt and each answer all
its tokens. What really happens is less.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from statistics import fmean

from d2skill.config import Config
from d2skill.errors import RunError
from d2skill.planning.memory import CHOICE_TOKENS
from d2skill.planning.model_shapes import Shape
from d2skill.runs.folder import RunFolder

SCORER_RATE = 5000.0
"""Decisions a second of a laptop run with the scorer on one core, everything included, as in the README."""
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run measured, a mean over its iterations; None where it had nothing of the kind.

    `steps` are decisions an episode, `validation_steps` those on the panel; calls and tokens are the reflector's in an
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
class Work:
    """What there is to do, in an iteration (the first fields) and in the whole run.

    Tokens are `prompt`s that are read and answers that are `written`; a `validation` is one look at the panel.
    """

    episodes: int
    decisions: float
    prompt: float
    written: float
    learnt: float
    calls: float
    call_in: float
    call_out: float
    texts: float
    iterations: int
    validations: int
    validation_decisions: float
    demonstrated: float
    tokens_a_decision: tuple[int, int]

    @property
    def asked(self) -> tuple[float, float]:
        """Tokens read and tokens written by the policy in the run, validations included."""
        looked = self.validations * self.validation_decisions
        prompt, answer = self.tokens_a_decision
        return self.iterations * self.prompt + looked * prompt, self.iterations * self.written + looked * answer

    @property
    def generated(self) -> float:
        """Tokens read and written by the policy in the run, validations included."""
        return sum(self.asked)


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second that acting gets through, and how many times as dear a token of learning is."""

    tokens: float
    learning: float
    imitating: float
    source: str


def measured(folder: RunFolder) -> Measured:
    """Returns what a run measured. Raises `RunError` for one without a finished iteration."""
    lines = [line for line in folder.read_metrics() if line.get("iteration")]
    if not lines:
        raise RunError(f"{folder.path} has no finished iteration to go by: name another run with --like")
    config = folder.config()
    skilled, members = config.rollout.with_skills, config.rollout.group_size
    halves = ((skilled, "rollout/skill_half_steps"), (members - skilled, "rollout/baseline_half_steps"))
    steps = [sum(n * line.get(name, 0.0) for n, name in halves) / members for line in lines]
    everything = folder.read_metrics()
    panel = [
        line[name]
        for line in everything
        for name in ("validation/steps_with_skills", "validation/steps_without_skills")
        if name in line
    ]
    parts = ("time/rollout", "time/probe", "time/update", "time/learn")
    looks = [line["time/validate"] for line in everything if "time/validate" in line]
    first = everything[0]
    return Measured(
        str(folder.path),
        fmean(steps),
        fmean(panel) if panel else None,
        _mean(lines, "reflect/calls"),
        _mean(lines, "reflect/tokens"),
        first.get("warm_start/demonstrations"),
        fmean(sum(line.get(part, 0.0) for part in parts) for line in lines),
        fmean(looks) if looks else None,
        float(first.get("time/warm_start", 0.0)),
    )


def _mean(lines: list[dict[str, float]], name: str) -> float | None:
    values = [line[name] for line in lines if name in line]
    return fmean(values) if values else None


def work(config: Config, like: Measured | None = None) -> Work:
    """Returns what a run has to do: at its limits, or by what a run like it measured."""
    like = like or Measured("")
    lm, rollout = config.policy.lm, config.rollout
    lines = config.prompt.max_tokens
    answer = {"served": config.policy.served.answer_tokens, "scorer": 0}.get(
        config.policy.kind, lm.max_new_tokens if lm.answer == "free" else CHOICE_TOKENS
    )
    lines = 0 if config.policy.kind == "scorer" else lines
    episodes = rollout.tasks * rollout.group_size
    decisions = episodes * (like.steps or config.env.max_steps)
    skilled = decisions * rollout.with_skills / rollout.group_size
    arms = 2 if rollout.with_skills else 1
    iterations = config.train.iterations
    if config.train.max_env_steps:
        iterations = min(iterations, ceil(config.train.max_env_steps / decisions))
    demonstrated = float(like.demonstrations or config.warm_start.tasks * config.env.max_steps)
    calls, call_in, call_out = _reflection(config, like, iterations)
    return Work(
        episodes=episodes,
        decisions=decisions,
        prompt=decisions * lines,
        written=decisions * answer,
        learnt=decisions * (lines + answer) if config.policy.train else 0.0,
        calls=calls,
        call_in=call_in,
        call_out=call_out,
        texts=skilled + rollout.tasks if rollout.with_skills else 0.0,
        iterations=iterations,
        validations=1 + ceil(iterations / config.validation.every),
        validation_decisions=config.validation.tasks * arms * (like.validation_steps or config.env.max_steps),
        demonstrated=demonstrated * config.warm_start.epochs * (lines + answer),
        tokens_a_decision=(lines, answer),
    )


def _reflection(config: Config, like: Measured, iterations: int) -> tuple[float, float, float]:
    """Returns calls, tokens of questions and tokens of answers in an iteration, within the budget of the run."""
    settings = config.reflect
    if settings.kind != "llm" or not config.rollout.with_skills:
        return 0.0, 0.0, 0.0
    calls = float(min(settings.max_groups, config.rollout.tasks))
    call_in, call_out = calls * settings.prompt_tokens, calls * settings.answer_tokens
    if like.calls is not None and like.call_tokens is not None:
        share = settings.answer_tokens / (settings.prompt_tokens + settings.answer_tokens)
        calls, call_in, call_out = like.calls, like.call_tokens * (1 - share), like.call_tokens * share
    cost = (call_in * settings.price_in + call_out * settings.price_out) / 1e6
    pairs = (
        (settings.max_calls, calls),
        (settings.max_tokens, call_in + call_out),
        (settings.max_cost, cost),
    )
    share = min([1.0, *(limit / (iterations * one) for limit, one in pairs if limit is not None and one)])
    return calls * share, call_in * share, call_out * share


def reflection_cost(config: Config, todo: Work) -> float:
    """Returns what the reflector costs in a run, in the currency of the prices."""
    settings = config.reflect
    return todo.iterations * (todo.call_in * settings.price_in + todo.call_out * settings.price_out) / 1e6


def acting_cost(config: Config, todo: Work) -> float:
    """Returns what a served policy costs in a run, validations included, in the currency of the prices."""
    served, (read, written) = config.policy.served, todo.asked
    return (read * served.price_in + written * served.price_out) / 1e6


def speed(
    config: Config, shape: Shape, *, tokens_per_second: float | None, peak: float | None, devices: int, utilised: float
) -> Speed | None:
    """Returns how fast a model goes, None where there is nothing to reckon it from.

    2N operations a token of acting, 6N of learning (4N where only an adapter has gradients) and 2N more to read it with
    the reference, 2N more in verl, which reads answers once again for their probabilities before it learns; N leaves
    embeddings that are only looked up out.
    """
    gradient = 4 if config.policy.lm.lora_rank else 6
    again = 2 * bool(config.optim.kl) + 2 * config.policy.lm.gradient_checkpointing + 2 * (config.engine == "verl")
    learning = (gradient + again) / 2
    if tokens_per_second is not None:
        return Speed(tokens_per_second, learning, gradient / 2, f"--tokens-per-second {tokens_per_second:g}")
    if peak is None:
        return None
    tokens = peak * devices * utilised / (2 * matrices(shape))
    named = f"{devices} x {peak / 1e12:.3g} TFLOP/s at {utilised:.0%}, 2N a token read or written, {gradient}N learnt"
    named += f" and {again}N to read it again" if config.engine == "verl" else ""
    return Speed(tokens, learning, gradient / 2, named)


def matrices(shape: Shape) -> int:
    """Returns the parameters that a token is multiplied with."""
    return shape.parameters - (0 if shape.tied else shape.vocabulary * shape.hidden)


def hours(todo: Work, pace: Speed) -> dict[str, float]:
    """Returns hours of the whole run by part: acting, learning, validation, imitation."""
    one = sum(todo.tokens_a_decision)
    return {
        "acting": todo.iterations * (todo.prompt + todo.written) / pace.tokens / _HOUR,
        "learning": todo.iterations * todo.learnt * pace.learning / pace.tokens / _HOUR,
        "validation": todo.validations * todo.validation_decisions * one / pace.tokens / _HOUR,
        "warm start": todo.demonstrated * pace.imitating / pace.tokens / _HOUR,
    }


def least(config: Config, todo: Work, weights: float, bandwidth: float) -> dict[str, float]:
    """Returns hours of acting and validation that more devices do not shorten.

    An episode is a sequence: for each token of each answer the weights are read once (bytes, on each device).
    """
    episode = config.env.max_steps * todo.tokens_a_decision[1] * weights / bandwidth / _HOUR
    return {"acting": todo.iterations * episode, "validation": todo.validations * episode}


def hours_like(todo: Work, like: Measured) -> dict[str, float]:
    """Returns hours by part at the pace that a run with the same settings measured; empty if it kept no times."""
    if not like.iteration_seconds:
        return {}
    looks = todo.validations * (like.validation_seconds or 0.0)
    return {
        "iterations": todo.iterations * like.iteration_seconds / _HOUR,
        "validation": looks / _HOUR,
        "warm start": like.warm_start_seconds / _HOUR,
    }


def hours_of_scorer(todo: Work, rate: float = SCORER_RATE) -> dict[str, float]:
    """Returns hours of a run with the scorer at so many decisions a second."""
    return {
        "iterations": todo.iterations * todo.decisions / rate / _HOUR,
        "validation": todo.validations * todo.validation_decisions / rate / _HOUR,
    }
