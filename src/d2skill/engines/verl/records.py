"""Trajectories on their way from the loop workers to the trainer, as compressed JSON.

They are whole but for tokens and what an environment's own class of task holds beside the fields of `Task`.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

from pydantic import TypeAdapter

from d2skill.types import Trajectory, Turn

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
