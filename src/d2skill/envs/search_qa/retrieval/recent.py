"""Results of recent searches, which an agent asks for again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from d2skill.envs.search_qa.passage import Passage, PassageSearch

_PASSAGES = 1 << 15  # that are kept, at most; about 30 MB
_LONGEST = 1000  # characters of a query whose results are kept


class RecentSearches:
    """A search that remembers the results of recent queries of another one. Threads can share it."""

    def __init__(self, search: PassageSearch, passages: int = _PASSAGES) -> None:
        """Wraps a search; so many passages are kept, at most."""
        self._search = search
        self._room = passages
        self._kept: OrderedDict[tuple[str, int], tuple[Passage, ...]] = OrderedDict()
        self._lock = Lock()

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See PassageSearch. The queries that are new go to the other search together, each once."""
        with self._lock:
            found = {query: kept for query in queries if (kept := self._kept.get((query, k))) is not None}
            for query in found:
                self._kept.move_to_end((query, k))
        if new := [query for query in dict.fromkeys(queries) if query not in found]:
            made = dict(zip(new, map(tuple, self._search.search(new, k)), strict=True))
            found |= made
            self._keep({(query, k): passages for query, passages in made.items() if len(query) <= _LONGEST})
        return [list(found[query]) for query in queries]

    def _keep(self, made: dict[tuple[str, int], tuple[Passage, ...]]) -> None:
        """Adds results; the least recently used ones make room, each as much as one passage if it has none."""
        with self._lock:
            for key, passages in made.items():
                if key not in self._kept:
                    self._kept[key] = passages
                    self._room -= max(1, len(passages))
            while self._room < 0:
                self._room += max(1, len(self._kept.popitem(last=False)[1]))
