"""Scripted shopper: searches with the instruction, looks at results within the price, chooses options and buys."""

from __future__ import annotations

from collections.abc import Sequence

from d2skill.envs.webshop.instruction import parse_instruction
from d2skill.types import Observation
from d2skill.utils import rng
from d2skill.utils.text import tokens

_SHORTEST_HINT = 4  # letters of a name that a hint can mean
_MAX_LOOKS = 4  # products that are looked at before one is bought in any case


class ScriptedShopper:
    """Plays one episode, by the text of the task and the listed actions with their labels.

    It searches with all options that the task names, looks at the results in their order, leaves what costs too much
    or lacks the options, and buys the fourth at the latest. Hints are texts that may name queries or products; what
    they name comes first. Seeds differ in the search.
    """

    def __init__(self, instruction: str, hints: Sequence[str] = (), seed: int = 0) -> None:
        self._wanted = parse_instruction(instruction)
        self._hints = " ".join(hints).lower()
        self._random = rng.generator(seed, "shopper")
        self._searched: set[str] = set()
        self._visited: set[str] = set()
        self._chosen: set[str] = set()

    def act(self, observation: Observation) -> str:
        """Returns the admissible action to play next. Raises `ValueError` if none is listed with its label."""
        if not observation.actions or len(observation.labels) != len(observation.actions):
            raise ValueError("the shopper needs observations that list actions with labels")
        kinds: dict[str, list[tuple[str, str]]] = {}
        for action, label in zip(observation.actions, observation.labels, strict=True):
            kind, _, words = label.partition(" ")
            kinds.setdefault(kind, []).append((action, words))
        if "query" in kinds:
            return self._search([action for action, _ in kinds["query"]])
        if "buy-product" in kinds or "buy-costly" in kinds:
            return self._at_product(kinds)
        return self._among_results(kinds)

    def _search(self, queries: Sequence[str]) -> str:
        fresh = [action for action in queries if action not in self._searched] or queries
        preferred = [action for action in fresh if self._is_hinted(action)] or fresh
        counts = [sum(option in action for option in self._wanted.options) for action in preferred]
        best = [action for action, count in zip(preferred, counts, strict=True) if count == max(counts)]
        action = str(self._random.choice(best))
        self._searched.add(action)
        return action

    def _among_results(self, kinds: dict[str, list[tuple[str, str]]]) -> str:
        fresh = [action for action, _ in kinds.get("product", ()) if action not in self._visited]
        if not fresh:
            return next(kinds[kind][0][0] for kind in ("back", "next", "previous") if kind in kinds)
        action = next(filter(self._is_hinted, fresh), fresh[0])
        self._visited.add(action)
        self._chosen.clear()
        return action

    def _at_product(self, kinds: dict[str, list[tuple[str, str]]]) -> str:
        options = self._wanted.options
        listed = kinds.get("option", [])
        for action, words in listed:
            if action not in self._chosen and (words in options if options else self._names_all(words)):
                self._chosen.add(action)
                return action
        missing = set(options) - {words for _, words in (*kinds.get("chosen", ()), *listed)}
        back = kinds.get("previous") or kinds.get("back")
        if back and ("buy-costly" in kinds or missing) and len(self._visited) < _MAX_LOOKS:
            return back[0][0]
        return (kinds.get("buy-product") or kinds["buy-costly"])[0][0]

    def _names_all(self, words: str) -> bool:
        """Returns True if the instruction has all words of an option."""
        wanted = tokens(words)
        return bool(wanted) and self._wanted.words.issuperset(wanted)

    def _is_hinted(self, action: str) -> bool:
        name = action.partition("[")[2][:-1]
        return len(name) >= _SHORTEST_HINT and name in self._hints
