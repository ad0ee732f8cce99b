"""Scripted player of search QA: searches with the question, and gives the answer that is listed first."""

from __future__ import annotations

from collections.abc import Sequence

from d2skill.types import Observation
from d2skill.utils import rng

_SHORTEST_HINT = 4  # letters of a query that a hint can mean


class ScriptedAsker:
    """Plays one episode, by the listed actions with their labels: both queries and answers are listed best first.

    Where a search finds no answer, it searches once more. Hints are texts that may name queries, which come first.
    Seeds differ in the query of a second search.
    """

    def __init__(self, hints: Sequence[str] = (), seed: int = 0) -> None:
        self._hints = " ".join(hints).lower()
        self._random = rng.generator(seed, "asker")
        self._searches = 0

    def act(self, observation: Observation) -> str:
        """Returns the admissible action to play next. Raises `ValueError` if none is listed with its label."""
        if not observation.actions or len(observation.labels) != len(observation.actions):
            raise ValueError("the player needs observations that list actions with labels")
        labelled = list(zip(observation.actions, observation.labels, strict=True))
        queries = [action for action, label in labelled if label.startswith("query ")]
        answers = [action for action, label in labelled if not label.startswith("query ")]
        if queries and not (answers and self._searches):
            return self._search(queries)
        return answers[0]

    def _search(self, queries: Sequence[str]) -> str:
        self._searches += 1
        if hinted := [action for action in queries if self._is_hinted(action)]:
            return hinted[0]
        return queries[0] if self._searches == 1 else str(self._random.choice(queries))

    def _is_hinted(self, action: str) -> bool:
        query = action.partition("[")[2][:-1].lower()
        return len(query) >= _SHORTEST_HINT and query in self._hints
