"""What a step of verl played: rows of its transfer queue as groups of trajectories, and their shaped returns.

A row is one decision. Its key is `{uid}_{session}_{index}`: the prompt of the data file, the episode, the step; the
last row of an episode carries the trajectory. Rows that only fill up a batch have the tag `is_padding`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2skill import credit
from d2skill.config import RewardConfig
from d2skill.credit import Hindsight
from d2skill.types import Group, Trajectory
from d2skill.verl.rows import unpack


@dataclass(frozen=True, slots=True)
class Batch:
    """Groups in the order of their tasks' ids, and for each trajectory of each group the places of its rows.

    `lost` are sessions that left no row, because the server or a worker failed; groups without all of their N members
    are in `broken` instead. Their rows learn by their own returns, the bank learns nothing from them.
    """

    groups: list[Group]
    rows: list[list[list[int]]]
    broken: list[Group]
    lost: int


def read_batch(
    keys: Sequence[str], tags: Sequence[Mapping[str, Any]], extra: Sequence[Any], *, tasks: int, group_size: int
) -> Batch:
    """Returns what was played of B tasks, N times each, from the keys, the tags and the extra fields of the rows."""
    places: dict[str, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for place, (key, tag) in enumerate(zip(keys, tags, strict=True)):
        if not tag.get("is_padding", False):
            uid, session, index = key.rsplit("_", 2)
            places[uid][int(session)].append((int(index), place))
    groups, rows, broken = [], [], []
    for sessions in places.values():
        own = [[place for _, place in sorted(sessions[number])] for number in sorted(sessions)]
        played = [trajectory_of(extra[one[-1]]) for one in own]
        group = Group(next((t.task for t in played if t.turns), played[0].task), tuple(played))
        if len(played) == group_size:
            groups.append(group)
            rows.append(own)
        else:
            broken.append(group)
    order = sorted(range(len(groups)), key=lambda i: groups[i].task.id)
    lost = tasks * group_size - sum(map(len, places.values()))
    return Batch([groups[i] for i in order], [rows[i] for i in order], broken, lost)


def trajectory_of(extra: Any) -> Trajectory:
    """Returns the trajectory that the last row of an episode carries; the queue may have wrapped its fields."""
    return unpack(getattr(extra, "data", extra)["trajectory"])


def shaped(batch: Batch, hindsights: Sequence[Hindsight], reward: RewardConfig) -> dict[int, float]:
    """Returns R̃ of Eq. 4 for each row, by its place: that of its trajectory."""
    found: dict[int, float] = {}
    for group, own, seen in zip(batch.groups, batch.rows, hindsights, strict=True):
        for places, value in zip(own, credit.returns(group, seen, reward).tolist(), strict=True):
            found |= dict.fromkeys(places, value)
    return found
