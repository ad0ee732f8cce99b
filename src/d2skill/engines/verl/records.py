"""Trajectories on their way from the loop workers to the trainer, as bytes.

Most of an episode is said again and again: each prompt holds the history of those before it. Pickle writes what is
shared once and keeps it shared, which the parts as text (see d2skill.trajectories) would not. That is safe here,
since the bytes only travel between processes of one run, and are never kept, or taken from anywhere else.
"""

from __future__ import annotations

import pickle
import zlib
from dataclasses import replace

from d2skill.types import Trajectory, Turn


def pack(trajectory: Trajectory) -> bytes:
    """Returns a trajectory as bytes, without the tokens and log-probabilities of its decisions."""
    bare = replace(trajectory, turns=tuple(_without_tokens(turn) for turn in trajectory.turns))
    return zlib.compress(pickle.dumps(bare, pickle.HIGHEST_PROTOCOL), level=1)


def unpack(data: bytes) -> Trajectory:
    """Returns the trajectory that was packed."""
    trajectory: Trajectory = pickle.loads(zlib.decompress(data))
    return trajectory


def _without_tokens(turn: Turn) -> Turn:
    return replace(turn, decision=replace(turn.decision, tokens=(), log_probs=()))
