"""Derived randomness: a seed for each purpose, computed from the seed of the run; no global generator."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(*parts: int | str) -> int:
    """Returns a 63-bit seed from a path such as (seed, "rollout", iteration, task id, member, step)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """Returns a NumPy generator seeded by `derive`."""
    return np.random.default_rng(derive(*parts))
