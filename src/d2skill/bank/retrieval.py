"""Retrieval of a bank: candidates by similarity, ranked by value (Eq. 8), and the check of texts that are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from d2skill.bank import ranking
from d2skill.bank.index import KeyIndex, SearchSet
from d2skill.bank.journal import BankState
from d2skill.bank.safety import objection
from d2skill.config import BankConfig, RetrievalConfig
from d2skill.errors import BankError
from d2skill.protocols import Embedder
from d2skill.types import Granularity, Retrieved, Skill, SkillText


class RankedRetrieval:
    """Retrieval from one state of a bank; it changes nothing.

    Args:
        state: State of the bank.
        index: Keys of its skills.
        embedder: Embedder with the gates that count where retrieval.gate is not set.
        bank: Settings of the bank.
        retrieval: Settings of Eq. 8.
        path: Journal that the state was read from. A text that no bank would have taken is found when it would be shown
            first. None for a bank that began empty.
    """

    def __init__(
        self,
        state: BankState,
        index: KeyIndex,
        embedder: Embedder,
        bank: BankConfig,
        retrieval: RetrievalConfig,
        path: Path | None = None,
    ) -> None:
        self.index = index
        gates = (embedder.task_gate, embedder.step_gate) if retrieval.gate is None else (retrieval.gate,) * 2
        self.gate: dict[Granularity, float] = {"task": gates[0], "step": gates[1]}
        self._k: dict[Granularity, int] = {"task": retrieval.k_task, "step": retrieval.k_step}
        self._state = state
        self._worth = bank.worth
        self._retrieval = retrieval
        self._path = path
        self._unchecked = len(state) if path else 0
        self._checked: set[int] = set()

    def forget_checks(self) -> None:
        """Forgets which texts were checked, after some have changed."""
        self._checked.clear()

    def retrieve(
        self, granularity: Granularity, pairs: Sequence[tuple[str, str]], trial: bool
    ) -> list[tuple[Retrieved, ...]]:
        """Returns the skills for each pair of task and observation, best first, with `trial` those on trial too."""
        if not pairs:
            return []
        unique = list(dict.fromkeys(pairs))
        queries = np.stack(self.index.keys(granularity, unique))
        candidates = self.index.search_set(granularity, trial)
        if not len(candidates.rows):
            return [() for _ in pairs]
        gate, count = self.gate[granularity], self._retrieval.candidates
        ranked = ranking.rank(
            queries,
            candidates.keys if candidates.exact is None else candidates.exact,
            self._values(candidates),
            gate=gate,
            candidates=count,
            k=max(count, self._k[granularity]) if self._retrieval.distinct else self._k[granularity],
            alpha=self._retrieval.alpha,
            shown=candidates.shown,
            near=self.index.near(granularity, candidates, queries, count, gate),
        )
        retrieved = {
            pair: self._first(candidates, zip(*slots, strict=True), self._k[granularity])
            for pair, *slots in zip(unique, *(part.tolist() for part in ranked), strict=True)
        }
        return [retrieved[pair] for pair in pairs]

    def _first(
        self, candidates: SearchSet, ranked: Iterable[tuple[int, float, float]], k: int
    ) -> tuple[Retrieved, ...]:
        """Returns the first k of ranked places, similarities and scores; with retrieval.distinct no text twice."""
        found: dict[SkillText | int, Retrieved] = {}
        for place, similarity, score in ranked:
            if place < 0 or len(found) == k:
                break
            skill = self.checked(int(candidates.rows[place]))
            key = skill.text if self._retrieval.distinct else place
            found.setdefault(key, Retrieved(skill, similarity, score))
        return tuple(found.values())

    def checked(self, row: int) -> Skill:
        """Returns a skill that is about to be shown; raises `BankError` if no bank would have taken its text."""
        skill = self._state.skill(row)
        if row < self._unchecked and row not in self._checked:
            if why := objection(skill.text):
                raise objected(self._path, skill, why)
            self._checked.add(row)
        return skill

    def _values(self, candidates: SearchSet) -> ranking.Floats:
        """Returns the values of candidates by Eq. 8 [S], 0 for those that do not count."""
        if candidates.values is None:
            shown = slice(None) if candidates.shown is None else candidates.shown
            candidates.values = np.zeros(len(candidates.rows))
            candidates.values[shown] = self.values_of(candidates.rows[shown])
        return candidates.values

    def values_of(self, rows: ranking.Integers) -> ranking.Floats:
        """Returns the values of some rows, all that are chosen from, by Eq. 8 and 9."""
        return ranking.utility_bonus(self._worths(rows), self._state.retrievals(rows), self._retrieval.eta)

    def _worths(self, rows: ranking.Integers) -> ranking.Floats:
        """Returns the values of some rows without the bonus, as bank.worth sets: 0, utility or posterior mean."""
        if self._worth == "none":
            return np.zeros(len(rows))
        if self._worth == "utility":
            return self._state.utility(rows)
        worths = [self._state.worth(self._state.skill(row).id) for row in rows.tolist()]
        signals = sum(worth.signals for worth in worths)
        prior = math.fsum(worth.total for worth in worths) / signals if signals else 0.0
        return np.array([worth.posterior(prior).mean for worth in worths], dtype=np.float64)


def objected(path: Path | None, skill: Skill, why: str) -> BankError:
    """Returns the error for a journal with a text that no bank takes."""
    return BankError(
        f"{path}: the text of skill {skill.id} is not one that a bank takes ({why}): the journal was made by another "
        "program or version; `d2skill bank import` takes over what can be taken"
    )
