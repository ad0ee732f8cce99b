"""Re-embedding: a copy of a bank for another embedder, and the change in the neighbourhoods of its skills."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2skill.bank.index import KeyIndex
from d2skill.bank.journal import BankState, Journal
from d2skill.bank.journal.journal import reembed
from d2skill.bank.ranking import Vectors
from d2skill.protocols import Embedder
from d2skill.types import Granularity

_CHUNK = 1024  # skills that are compared with all others at a time
_SAME = 1e-6  # similarities that differ by less are the same


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Nearest neighbours of the active skills of one granularity.

    `similarity` is the mean cosine similarity of a skill to its nearest neighbour. `similarity_before` and `kept`, the
    share of skills that keep their nearest neighbour, compare with the old embedder, and are None without it.
    """

    skills: int
    similarity: float
    similarity_before: float | None = None
    kept: float | None = None


def reembed_bank(
    journal: Journal, out: Path, embedder: Embedder, before: Embedder | None = None
) -> tuple[int, dict[Granularity, Neighbourhood]]:
    """Writes a journal with the same events for another embedder; the old one stays.

    Args:
        journal: Journal of the bank.
        out: File of the new journal.
        embedder: Embedder of the new bank; it embeds the active skills once.
        before: Embedder of the old bank, to compare neighbourhoods with, if it can be had.

    Returns:
        The number of events, and the neighbourhoods of each granularity with two active skills or more.

    Raises:
        BankError: The journal is damaged, or `out` exists.
    """
    state = journal.replay()
    keys, old_keys = _keys(state, embedder), _keys(state, before) if before else {}
    events = reembed(journal.path, out, embedder.fingerprint)
    neighbourhoods: dict[Granularity, Neighbourhood] = {}
    for granularity, new in keys.items():
        if len(new) < 2:
            continue
        neighbour, similarity = _nearest(new)
        before_similarity, kept = None, None
        if old_keys:
            old = old_keys[granularity]
            nearest = _nearest(old)[1]
            still = np.einsum("nd,nd->n", old, old[neighbour], dtype=np.float64) >= nearest - _SAME
            before_similarity, kept = float(nearest.mean()), float(still.mean())
        neighbourhoods[granularity] = Neighbourhood(len(new), float(similarity.mean()), before_similarity, kept)
    return events, neighbourhoods


def _keys(state: BankState, embedder: Embedder) -> dict[Granularity, Vectors]:
    """Returns the keys [n, d] of the active skills of each granularity."""
    index = KeyIndex(state, embedder)
    return {granularity: index.search_set(granularity).keys for granularity in ("task", "step")}


def _nearest(keys: Vectors) -> tuple[npt.NDArray[np.intp], Vectors]:
    """Returns index and similarity [n] of the nearest neighbour of each skill, from keys [n, d]."""
    indices, similarities = [], []
    for start in range(0, len(keys), _CHUNK):
        similarity = keys[start : start + _CHUNK] @ keys.T
        np.fill_diagonal(similarity[:, start:], -2.0)
        indices.append(similarity.argmax(axis=1))
        similarities.append(similarity.max(axis=1))
    return np.concatenate(indices), np.concatenate(similarities)
