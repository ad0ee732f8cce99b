"""What a played session becomes in verl: one row for each environment step. Plain data in and out, no server needed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from d2skill import credit
from d2skill.config import RewardConfig
from d2skill.credit import Hindsight
from d2skill.types import Group, Trajectory, Turn

_NOTHING_COMPARED = Hindsight(baseline=None, skilled=None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered to the tokens of one prompt, in how many seconds; `extra` are its extra fields."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    log_probs: Sequence[float] | None = None
    seconds: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One row of a session: what verl's AgentLoopOutput holds of it. The mask is 1 for tokens that the policy chose."""

    prompt: list[int]
    response: list[int]
    mask: list[int]
    log_probs: list[float] | None
    reward: float
    seconds: float
    extra: dict[str, Any]


def plain_return(trajectory: Trajectory, reward: RewardConfig) -> float:
    """Returns what a trajectory is worth by itself: R̃ of Eq. 4 without the intrinsic part."""
    return float(credit.returns(Group(trajectory.task, (trajectory,)), _NOTHING_COMPARED, reward)[0])


def session_rows(
    trajectory: Trajectory,
    answers: Sequence[Answer],
    reward: RewardConfig,
    *,
    filler: int,
    log_probs: bool,
    weights: int,
) -> list[SessionRow]:
    """Returns the rows of a session, in the order of its turns; `answers` are those behind the turns.

    verl wants a row of each session and a token in each row, so an empty answer and a session without a turn get the
    token `filler`, masked, with a log-probability if `log_probs` were asked for. It also wants to know the version of
    the `weights` behind each row. Every row has the session's plain return and says whether it succeeded; the last one
    also holds the trajectory, packed.
    """
    unplayed = Answer((filler,), (), extra={"min_global_steps": weights, "max_global_steps": weights})
    value = plain_return(trajectory, reward)
    told = {"success": float(trajectory.success)}
    rows = []
    for answer in answers or [unplayed]:
        tokens = list(answer.tokens)
        own = None if answer.log_probs is None else list(answer.log_probs)
        rows.append(
            SessionRow(
                prompt=list(answer.prompt),
                response=tokens or [filler],
                mask=[1] * len(tokens) or [0],
                log_probs=own if tokens else ([0.0] if log_probs else None),
                reward=value,
                seconds=answer.seconds,
                extra={**answer.extra, "reward_extra_info": told},
            )
        )
    rows[-1].extra["trajectory"] = pack(trajectory)
    return rows


_TRAJECTORY = TypeAdapter(Trajectory)


def pack(trajectory: Trajectory) -> bytes:
    """Returns a trajectory as bytes, without the tokens and log-probabilities of its decisions."""
    bare = replace(trajectory, turns=tuple(_without_tokens(turn) for turn in trajectory.turns))
    return zlib.compress(_TRAJECTORY.dump_json(bare, exclude_defaults=True), level=1)


def unpack(data: bytes) -> Trajectory:
    """Returns the trajectory that was packed."""
    return _TRAJECTORY.validate_json(zlib.decompress(data))


def _without_tokens(turn: Turn) -> Turn:
    return replace(turn, decision=replace(turn.decision, tokens=(), log_probs=()))
