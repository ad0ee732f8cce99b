"""Decoding state of one answer: constrained to a token trie, or free text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from d2skill.policies.causal_lm.chat_template import CLOSINGS, ChatTokenizer
from d2skill.policies.causal_lm.token_trie import TokenTrie


@dataclass
class DecodingState:
    """Answer that is being generated: its random numbers, its tokens so far and their log-probabilities."""

    rng: np.random.Generator
    tokens: list[int] = field(default_factory=list, init=False)
    log_probs: list[float] = field(default_factory=list, init=False)

    @property
    def options(self) -> tuple[int, ...] | None:
        """Tokens to choose among: at least two, or none at the end of the answer; None for the whole vocabulary."""
        return None

    def append(self, token: int, log_prob: float) -> tuple[int, ...]:
        """Appends a sampled token; returns the tokens to feed to the model next, () at the end of the answer."""
        self.tokens.append(token)
        self.log_probs.append(log_prob)
        return (token,)


@dataclass
class ChoiceDecoding(DecodingState):
    """Answer constrained to a trie. Tokens without a choice are appended at once, those at the beginning too."""

    trie: TokenTrie
    node: int = 0

    def __post_init__(self) -> None:
        self._append_forced()

    def _append_forced(self) -> tuple[int, ...]:
        forced, self.node = self.trie.forced(self.node)
        self.tokens.extend(forced)
        self.log_probs.extend([0.0] * len(forced))
        return forced

    @property
    def options(self) -> tuple[int, ...] | None:
        """Tokens that the trie admits next; none at the end of the answer."""
        return self.trie.options(self.node)

    def append(self, token: int, log_prob: float) -> tuple[int, ...]:
        """Appends a sampled token and those that it forces; see DecodingState."""
        super().append(token, log_prob)
        self.node = self.trie.child(self.node, token)
        fed = (token, *self._append_forced())
        return fed if self.options else ()


@dataclass
class FreeDecoding(DecodingState):
    """Free text that ends with its turn, after `limit` tokens, or where one of the tags `closings` is closed."""

    chat: ChatTokenizer
    limit: int
    closings: Sequence[str] = CLOSINGS

    def append(self, token: int, log_prob: float) -> tuple[int, ...]:
        """Appends a sampled token; see DecodingState."""
        fed = super().append(token, log_prob)
        if len(self.tokens) == self.limit or self.chat.has_ended(self.tokens):
            return ()
        return () if self.closings and self.chat.is_complete(self.tokens, self.closings) else fed
