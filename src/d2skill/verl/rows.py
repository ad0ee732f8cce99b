"""Rows of verl's transfer queue: an episode becomes a row for each of its steps, and rows become groups again.

A row is one decision. Its key is `{uid}_{session}_{index}`: the prompt of the data file, the episode, the step. The
last row of an episode carries the trajectory. Rows that only fill up a batch have the tag `is_padding`.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from d2skill import credit
from d2skill.config import AdvantageConfig, RewardConfig
from d2skill.credit import Hindsight
from d2skill.rollout import half_of
from d2skill.types import Group, Trajectory

_TRAJECTORY = TypeAdapter(Trajectory)


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """A server's answer to the tokens of one prompt, in how many seconds; `extra` are its extra fields."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    log_probs: Sequence[float] | None = None
    seconds: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step of an episode as verl's AgentLoopOutput holds it. The mask is 1 for tokens that the policy chose."""

    prompt: list[int]
    response: list[int]
    mask: list[int]
    log_probs: list[float] | None
    reward: float
    seconds: float
    extra: dict[str, Any]


def episode_rows(
    trajectory: Trajectory,
    answers: Sequence[ServerAnswer],
    reward: RewardConfig,
    *,
    filler: int,
    log_probs: bool,
    weights: int,
) -> list[StepRow]:
    """Returns the rows of an episode, in the order of its turns.

    verl wants a row of each episode and a token in each row, so an empty answer and an episode without a turn get a
    masked filler. Every row has the episode's plain return and says whether it succeeded; the last row also holds the
    packed trajectory.

    Args:
        trajectory: the finished episode.
        answers: the answers behind its turns.
        reward: the settings of the return.
        filler: the token that fills empty prompts and answers.
        log_probs: whether fillers have a log-probability, as the answers do.
        weights: the version of the weights that verl wants to know of an episode without answers.
    """
    unplayed = ServerAnswer((filler,), (), extra={"min_global_steps": weights, "max_global_steps": weights})
    value = plain_return(trajectory, reward)
    rows = []
    for answer in answers or [unplayed]:
        tokens = list(answer.tokens)
        chosen = None if answer.log_probs is None else list(answer.log_probs)
        rows.append(
            StepRow(
                prompt=list(answer.prompt),
                response=tokens or [filler],
                mask=[1] * len(tokens) or [0],
                log_probs=chosen if tokens else ([0.0] if log_probs else None),
                reward=value,
                seconds=answer.seconds,
                extra={**answer.extra, "reward_extra_info": {"success": float(trajectory.success)}},
            )
        )
    rows[-1].extra["trajectory"] = pack(trajectory)
    return rows


def plain_return(trajectory: Trajectory, reward: RewardConfig) -> float:
    """Returns R̃ of Eq. 4 for a trajectory by itself: without the intrinsic part, which compares halves of a group."""
    return float(credit.returns(Group(trajectory.task, (trajectory,)), Hindsight(None, None), reward)[0])


def pack(trajectory: Trajectory) -> bytes:
    """Returns a trajectory as bytes, without the tokens and log-probabilities of its decisions."""
    turns = [replace(turn, decision=replace(turn.decision, tokens=(), log_probs=())) for turn in trajectory.turns]
    bare = replace(trajectory, turns=tuple(turns))
    return zlib.compress(_TRAJECTORY.dump_json(bare, exclude_defaults=True), level=1)


def unpack(data: bytes) -> Trajectory:
    """Returns the trajectory that was packed."""
    return _TRAJECTORY.validate_json(zlib.decompress(data))


def carried_trajectory(extra: Any) -> Trajectory:
    """Returns the trajectory in the extra fields of an episode's last row; the queue may have wrapped the fields."""
    return unpack(getattr(extra, "data", extra)["trajectory"])


@dataclass(frozen=True, slots=True)
class PlayedGroups:
    """Groups in the order of their tasks' ids and, for each trajectory of each group, the positions of its rows.

    `lost` counts episodes without a row, because the server or a worker failed. Groups without all of their members are
    in `broken` instead: their rows learn from their own returns, the bank learns nothing from them.
    """

    groups: list[Group]
    rows: list[list[list[int]]]
    broken: list[Group]
    lost: int


def read_groups(rows: Sequence[tuple[str, Mapping[str, Any], Any]], tasks: int, group_size: int) -> PlayedGroups:
    """Returns the groups that rows are from, each its key, tag and extra fields; so many tasks were to be played."""
    positions: dict[str, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for position, (key, tag, _) in enumerate(rows):
        if not tag.get("is_padding", False):
            uid, session, index = key.rsplit("_", 2)
            positions[uid][int(session)].append((int(index), position))
    whole: list[tuple[Group, list[list[int]]]] = []
    broken = []
    for sessions in positions.values():
        by_episode = [[position for _, position in sorted(sessions[number])] for number in sorted(sessions)]
        played = [carried_trajectory(rows[places[-1]][2]) for places in by_episode]
        group = Group(next((t.task for t in played if t.turns), played[0].task), tuple(played))
        if len(played) == group_size:
            whole.append((group, by_episode))
        else:
            broken.append(group)
    whole.sort(key=lambda pair: pair[0].task.id)
    lost = tasks * group_size - sum(map(len, positions.values()))
    return PlayedGroups([group for group, _ in whole], [places for _, places in whole], broken, lost)


def shaped_returns(played: PlayedGroups, hindsights: Sequence[Hindsight], reward: RewardConfig) -> dict[int, float]:
    """Returns R̃ of Eq. 4 for each row, by its position: that of its trajectory."""
    returns: dict[int, float] = {}
    for group, rows, hindsight in zip(played.groups, played.rows, hindsights, strict=True):
        for positions, value in zip(rows, credit.returns(group, hindsight, reward).tolist(), strict=True):
            returns |= dict.fromkeys(positions, value)
    return returns


def penalised_advantages(
    played: PlayedGroups, hindsights: Sequence[Hindsight], reward: RewardConfig, settings: AdvantageConfig
) -> dict[int, float]:
    """Returns the advantage of each row, by its position, in groups with penalties of rows; none of other groups.

    verl gives all rows of an episode the advantage of the last one, so it has no place for them.

    Args:
        played: The groups.
        hindsights: Success rates of their halves, in the same order.
        reward: Weights of the returns, and the penalty.
        settings: The sample that returns are normalised over.
    """
    found: dict[int, float] = {}
    for group, rows, hindsight in zip(played.groups, played.rows, hindsights, strict=True):
        taken = [credit.penalties(trajectory, reward) for trajectory in group.trajectories]
        if any(own.any() for own in taken):
            values = credit.advantages(group, credit.returns(group, hindsight, reward), settings, taken)
            for positions, own in zip(rows, values, strict=True):
                found |= dict(zip(positions, own.tolist(), strict=False))  # an episode without a turn has a filler
    return found


def half_uids(keys: Sequence[str], with_skills: int) -> tuple[list[str], list[int]]:
    """Returns for rows, given by key, the uids by which verl normalises each half of a group by itself.

    The positions of rows whose half has no other session come as well: verl would take the return of one for its
    advantage, where there is nothing to compare.
    """
    sessions: dict[str, set[str]] = defaultdict(set)
    uids = []
    for key in keys:
        uid, session, _ = key.rsplit("_", 2)
        uids.append(f"{uid}-{half_of(int(session), with_skills, 0)[0]}")
        sessions[uids[-1]].add(session)
    return uids, [position for position, uid in enumerate(uids) if len(sessions[uid]) == 1]
