"""Credit: from paired groups to signals, utilities, returns, advantages and rows (Eq. 1 to 5 of arXiv 2603.28716).

Pure functions of frozen records. What differs from the released code: the intrinsic reward goes to the skill half
alone and to the trajectory's return, not to one step row; statistics are over trajectories unless asked otherwise;
only skills that stood in a prompt the policy acted on get a signal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from d2skill.errors import BankError
from d2skill.knowledge.procedures import Act, acts_in
from d2skill.types import Group, Retrieved, Row, Skill, Trajectory
from d2skill.utils.arguments import items_of, number_of
from d2skill.utils.finite import require_finite
from d2skill.utils.text import action_words, entities, short

if TYPE_CHECKING:
    from d2skill.config import AdvantageConfig, RewardConfig

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Hindsight:
    """Success rates of the two halves of a group, and the gaps that follow (Eq. 1).

    `baseline` and `skilled` are the mean success of the halves, None for an empty half. A half is empty by the settings
    alone (rollout.with_skills 0 or the whole group): an episode that a fault ended stays in its half, as a failure.

    Without a baseline half there is nothing to compare with, so the signals are the successes themselves, as if the
    baseline had none, and the intrinsic reward is 0.
    """

    baseline: float | None
    skilled: float | None

    @property
    def gap(self) -> float:
        """Δ_g = Ȳ_skill − Ȳ_base; Ȳ_skill without a baseline half, 0 without a skill half."""
        return 0.0 if self.skilled is None else self.skilled - (self.baseline or 0.0)

    def gain(self, trajectory: Trajectory) -> float:
        """c_i = Y_i − Ȳ_base of a skill trajectory (Eq. 2), Y_i without a baseline half; 0 for a baseline one."""
        return float(trajectory.success) - (self.baseline or 0.0) if trajectory.arm == "skills" else 0.0

    def intrinsic(self, trajectory: Trajectory) -> float:
        """Returns the intrinsic reward before λ (Eq. 4): c_i where there is a baseline half, else 0."""
        return 0.0 if self.baseline is None else self.gain(trajectory)


class Signal(NamedTuple):
    """One measurement of a skill, and its source: "task id#index" for a trajectory, "task id#" for a whole group."""

    value: float
    source: str


def hindsight(groups: Sequence[Group]) -> list[Hindsight]:
    """Returns the mean success of both halves of each group (Eq. 1)."""
    return [Hindsight(baseline=_success(g.half("none")), skilled=_success(g.half("skills"))) for g in groups]


def _success(half: Sequence[Trajectory]) -> float | None:
    return float(np.mean([t.success for t in half])) if half else None


def outcome_signals(
    attempts: Iterable[tuple[Iterable[Skill | Retrieved | str], float]], baseline: float | Sequence[float]
) -> dict[str, list[float]]:
    """Returns the signals of skills from the outcomes of an agent of one's own, for `SkillBank.credit`.

    A signal is the outcome of an attempt in which the skill was shown, less the mean outcome without skills. Paired,
    the baseline is of the same task; unpaired, of other tasks like it, which is noisier.

    Args:
        attempts: For each attempt the skills (or their ids) that were shown, and its outcome from 0 to 1.
        baseline: Outcome of an attempt without skills, or of several.

    >>> from d2skill import outcome_signals
    >>> outcome_signals([(["t1", "t2"], 1.0), (["t1"], 0.0)], baseline=[0.0, 1.0])
    {'t1': [0.5, -0.5], 't2': [0.5]}
    """
    several = items_of(baseline, "an outcome", BankError) if isinstance(baseline, Iterable) else [baseline]
    without = [number_of(outcome, "an outcome without skills", error=BankError) for outcome in several]
    if not without:
        raise BankError("signals need a baseline: at least one outcome of an attempt without skills")
    mean = math.fsum(without) / len(without)
    found: dict[str, list[float]] = {}
    wanted = 'a list of attempts, each the skills that it was shown and its outcome, as in [(["t1"], 1.0)]'
    for attempt in items_of(attempts, wanted, BankError):
        if not isinstance(attempt, (tuple, list)) or len(attempt) != 2:
            raise BankError(f"{short(attempt)} is not in {wanted}")
        outcome = number_of(attempt[1], "the outcome of an attempt", error=BankError)
        plain = [one.skill if isinstance(one, Retrieved) else one for one in items_of(attempt[0], wanted, BankError)]
        if strange := [one for one in plain if not isinstance(one, (Skill, str))]:
            raise BankError(f"{short(strange[0])} is no skill and no id of one, in {wanted}")
        for skill_id in dict.fromkeys(one if isinstance(one, str) else one.id for one in plain):
            found.setdefault(skill_id, []).append(outcome - mean)
    return found


def signals(
    groups: Sequence[Group],
    hindsights: Sequence[Hindsight],
    on_trial: Collection[str] = (),
    *,
    by: Literal["success", "act"] = "success",
) -> dict[str, list[Signal]]:
    """Returns the signals of an iteration for each skill id (Eq. 2).

    A task skill gets Δ_g once per group in which it was shown, a step skill gets c_i once per trajectory in which it
    was shown, however often. A task skill that is `on_trial` gets the mean of c_i over the trajectories that it was
    shown in, which are a part of the half only.

    Args:
        groups: The groups of the iteration.
        hindsights: Success rates of their halves, in the same order.
        on_trial: Ids of skills that are on trial.
        by: Measure of a step skill. With "act" it is in place of success that its act became possible while it was
            shown, less the share of the baseline half in which the same act was possible on such a thing anywhere.
    """
    found: dict[str, list[Signal]] = defaultdict(list)
    for group, seen in zip(groups, hindsights, strict=True):
        gains: dict[str, list[float]] = defaultdict(list)
        for trajectory in group.half("skills"):
            for skill_id in {skill.id for turn in trajectory.turns for skill in turn.prompt.task_skills}:
                gains[skill_id].append(seen.gain(trajectory))
        for skill_id in sorted(gains):
            gain = float(np.mean(gains[skill_id])) if skill_id in on_trial else seen.gap
            found[skill_id].append(Signal(gain, f"{group.task.id}#"))
        share_reaching = cache(partial(_share_reaching, group.half("none")))
        for trajectory in group.half("skills"):
            step_ids = {skill.id for turn in trajectory.turns for skill in turn.prompt.step_skills}
            acted = _acts_gained(trajectory, share_reaching) if by == "act" else {}
            for skill_id in sorted(step_ids):
                found[skill_id].append(Signal(acted.get(skill_id, seen.gain(trajectory)), trajectory.name))
    return dict(found)


def _acts_gained(trajectory: Trajectory, share_reaching: Callable[[Act], float]) -> dict[str, float]:
    """Returns by id of a step skill that was shown: 1 if its act became possible then, less the baseline half's share.

    Skills whose text names no act are left out.
    """
    possible: dict[str, tuple[Skill, bool]] = {}
    for turn in trajectory.turns:
        for skill in turn.prompt.step_skills:
            if acts := acts_in(skill.text.principle):
                offered = map(action_words, turn.prompt.actions)
                before = possible.get(skill.id, (skill, False))[1]
                possible[skill.id] = skill, before or any(map(acts[-1].fits, offered))
    return {
        skill_id: float(came) - share_reaching(acts_in(skill.text.principle)[-1])
        for skill_id, (skill, came) in possible.items()
    }


def _share_reaching(half: Sequence[Trajectory], act: Act) -> float:
    """Returns the share of a half in which an act was possible, on a thing of the type anywhere; 0 for no half."""
    anywhere = Act(act.verb, act.kinds - {entities(name)[0].kind for name in act.names})
    reached = [
        any(anywhere.fits(action_words(action)) for turn in t.turns for action in turn.prompt.actions) for t in half
    ]
    return float(np.mean(reached)) if reached else 0.0


def credited_utilities(
    utilities: npt.NDArray[np.float64], signals: Sequence[Sequence[float]], betas: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Returns the utilities [S] after one iteration's signals: (1−β)^m u + (1 − (1−β)^m) · mean(signals).

    All arguments have an entry for each skill: its utility u, its m signals and its rate β. That is Eq. 3,
    u ← (1−β)u + β·signal, for one signal. For m of them it is the mean of Eq. 3 applied m times over all orders of
    the signals: the same to the last bit in any order, so nothing depends on which episode finishes first. No
    signals leave a utility as it is.
    """
    counts = np.array([len(own) for own in signals], dtype=np.int64)
    totals = np.array([math.fsum(own) for own in signals], dtype=np.float64)
    kept = np.array([(1.0 - beta) ** len(own) for beta, own in zip(betas, signals, strict=True)], dtype=np.float64)
    return kept * utilities + (1.0 - kept) * (totals / np.maximum(counts, 1))


def returns(group: Group, seen: Hindsight, reward: RewardConfig) -> npt.NDArray[np.float64]:
    """Returns R̃ of each trajectory, shape [N]: rewards + R_int (Eq. 4).

    Penalties of actions that are not admissible are in it only if they are those of trajectories; see `penalties`.
    """
    penalty = reward.invalid_penalty if reward.penalty == "trajectory" else 0.0
    return np.array(
        [
            reward.success * t.success
            + reward.score * (t.score or 0.0)
            - penalty * t.invalid_actions
            + reward.intrinsic * seen.intrinsic(t)
            for t in group.trajectories
        ]
    )


def penalties(trajectory: Trajectory, reward: RewardConfig) -> npt.NDArray[np.float64]:
    """Returns the penalty of each turn of a trajectory by itself, shape [T]: of those that are not admissible."""
    penalty = reward.invalid_penalty if reward.penalty == "row" else 0.0
    return np.array([0.0 if turn.admissible else penalty for turn in trajectory.turns])


def advantages(
    group: Group,
    shaped: npt.NDArray[np.float64],
    settings: AdvantageConfig,
    taken: Sequence[npt.NDArray[np.float64]] = (),
) -> list[npt.NDArray[np.float64]]:
    """Normalises the returns of a group to an advantage of each turn of each trajectory, N arrays [T] (Eq. 5).

    The score of a turn is the return of its trajectory less its own penalty. Mean and unbiased variance are those of
    scores in which each trajectory weighs the same: the variance of the means of trajectories, and the mean of the
    variances within them. The standard deviation is at least the largest penalty, so that where all returns are alike
    a penalty lowers an advantage by one at most. `group` takes them over all N trajectories, `half` over each half by
    itself; `rows` takes them over turns, so that long trajectories weigh more (the released code).

    Args:
        group: The group.
        shaped: Returns of its trajectories, shape [N].
        settings: The sample that returns are normalised over.
        taken: Penalties of their turns, N arrays [T]; none without them.
    """
    less = taken or [np.zeros(len(t.turns)) for t in group.trajectories]
    scores = [value - own for value, own in zip(shaped, less, strict=True)]
    arms = [t.arm for t in group.trajectories]
    out = scores[:]
    for half in dict.fromkeys(arms) if settings.normalise == "half" else (None,):
        members = [at for at, arm in enumerate(arms) if half in (None, arm)]
        if settings.normalise == "rows":
            sample, within = np.concatenate([scores[at] for at in members]), 0.0
        else:
            sample = np.array([shaped[at] - (less[at].mean() if len(less[at]) else 0.0) for at in members])
            within = float(np.mean([less[at].var() if len(less[at]) else 0.0 for at in members]))
        least = max((float(less[at].max()) for at in members if len(less[at])), default=0.0)
        for at in members:
            out[at] = _standardise(scores[at], sample, within, least)
    return out


def _standardise(
    values: npt.NDArray[np.float64], sample: npt.NDArray[np.float64], within: float, least: float
) -> npt.NDArray[np.float64]:
    if len(sample) < 2:
        return np.zeros_like(values)
    with np.errstate(all="ignore"):
        deviation = max(np.sqrt(sample.var(ddof=1) + within), least)
    require_finite("the standard deviation of returns", float(deviation), "lower the weights in reward")
    return np.asarray((values - sample.mean()) / (deviation + _EPSILON))


def policy_batch(
    groups: Sequence[Group], hindsights: Sequence[Hindsight], reward: RewardConfig, settings: AdvantageConfig
) -> list[Row]:
    """Returns a row per decision of both halves, each with its advantage (Eq. 4-5).

    Args:
        groups: The groups of an iteration.
        hindsights: Success rates of their halves, from `hindsight`, in the same order.
        reward: Weights of success, score, invalid actions and the intrinsic reward.
        settings: The sample that returns are normalised over.
    """
    rows = []
    for group, seen in zip(groups, hindsights, strict=True):
        taken = [penalties(trajectory, reward) for trajectory in group.trajectories]
        values = advantages(group, returns(group, seen, reward), settings, taken)
        for trajectory, own in zip(group.trajectories, values, strict=True):
            pairs = zip(trajectory.turns, own.tolist(), strict=True)
            rows += [Row(turn.prompt, turn.decision, value) for turn, value in pairs]
    return rows
