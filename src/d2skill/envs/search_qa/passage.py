"""Passages of a corpus, and the protocol of what finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Passage(NamedTuple):
    """One passage as it was found: its id, its contents, `"Title"` and text in lines, and the score of the search."""

    id: str
    contents: str
    score: float = 0.0

    @property
    def title(self) -> str:
        """The first line, without the quotation marks around it."""
        first = self.contents.partition("\n")[0].strip()
        return first[1:-1] if len(first) > 1 and first[0] == first[-1] == '"' else first

    @property
    def text(self) -> str:
        """All lines but the first."""
        return self.contents.partition("\n")[2]


class PassageSearch(Protocol):
    """A search over the passages of a corpus."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Returns the best passages for each query, at most `k`, best first; no passages where none fits.

        Raises `EnvironmentFault` when a server fails: the episode is a fault then.
        """
