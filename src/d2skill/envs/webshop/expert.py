"""A scripted shopper: searches with the instruction, looks at what is found within the price, chooses options, buys."""

from __future__ import annotations

from collections.abc import Sequence

from d2skill.envs.webshop.instruction import wish_in
from d2skill.types import Observation
from d2skill.utils import rng
from d2skill.utils.text import tokens

_LEAST = 4
"""Letters of a name that a hint can mean, at least"""
_LOOKS = 4


class Shopper:
    """Plays one episode, by the text of the task and what is listed with its labels.

    It searches with all options that the task names, looks at the results in their order, leaves what costs too much
    or has not the options, and buys the fourth at the latest. Hints are texts that may name what to search for or to
    click; what they name comes first. Seeds differ in the search.
    """

    def __init__(self, instruction: str, hints: Sequence[str] = (), seed: int = 0) -> None:
        self._wish = wish_in(instruction)
        self._hints = " ".join(hints).lower()
        self._random = rng.generator(seed, "shopper")
        self._searched: set[str] = set()
        self._looked: set[str] = set()
        self._chosen: set[str] = set()

    def act(self, observation: Observation) -> str:
        """Returns the admissible action to play next. Raises `ValueError` where none is listed with its label."""
        if not observation.actions or len(observation.labels) != len(observation.actions):
            raise ValueError("the shopper needs observations that list actions with labels")
        listed = list(zip(observation.actions, observation.labels, strict=True))
        kinds: dict[str, list[tuple[str, str]]] = {}
        for action, label in listed:
            kind, _, words = label.partition(" ")
            kinds.setdefault(kind, []).append((action, words))
        if "query" in kinds:
            return self._search(kinds["query"])
        if "buy-product" in kinds or "buy-costly" in kinds:
            return self._at_product(kinds)
        return self._among_results(kinds)

    def _search(self, queries: Sequence[tuple[str, str]]) -> str:
        fresh = [action for action, _ in queries if action not in self._searched] or [action for action, _ in queries]
        hinted = [action for action in fresh if self._hinted(action)]
        named = [sum(option in action for option in self._wish.options) for action in hinted or fresh]
        best = [action for action, count in zip(hinted or fresh, named, strict=True) if count == max(named)]
        action = str(self._random.choice(best))
        self._searched.add(action)
        return action

    def _among_results(self, kinds: dict[str, list[tuple[str, str]]]) -> str:
        fresh = [action for action, _ in kinds.get("product", ()) if action not in self._looked]
        if not fresh:
            return next(kinds[kind][0][0] for kind in ("back", "next", "previous") if kind in kinds)
        action = next((action for action in fresh if self._hinted(action)), fresh[0])
        self._looked.add(action)
        self._chosen.clear()
        return action

    def _at_product(self, kinds: dict[str, list[tuple[str, str]]]) -> str:
        wanted = [
            action
            for action, words in kinds.get("option", ())
            if action not in self._chosen
            and (words in self._wish.options or (not self._wish.options and self._all(words)))
        ]
        if wanted:
            self._chosen.add(wanted[0])
            return wanted[0]
        missing = set(self._wish.options) - {words for _, words in (*kinds.get("chosen", ()), *kinds.get("option", ()))}
        back = kinds.get("previous") or kinds.get("back")
        if back and ("buy-costly" in kinds or missing) and len(self._looked) < _LOOKS:
            return back[0][0]
        return (kinds.get("buy-product") or kinds["buy-costly"])[0][0]

    def _named(self, action: str) -> int:
        """Returns how many of the options that the instruction names a search has."""
        return sum(option in action for option in self._wish.options)

    def _all(self, words: str) -> bool:
        """Tells whether the instruction has all words of a name."""
        found = tokens(words)
        return bool(found) and self._wish.words.issuperset(found)

    def _hinted(self, action: str) -> bool:
        name = action.partition("[")[2][:-1]
        return len(name) >= _LEAST and name in self._hints
