"""Answers that are being written, token by token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from d2skill.policies.causal_lm.chat_template import Chat
from d2skill.policies.causal_lm.token_trie import TokenTrie


class Walker(Protocol):
    """The state of one answer that is being written."""

    tokens: list[int]
    log_probs: list[float]

    @property
    def options(self) -> tuple[int, ...] | None:
        """The tokens to choose among, at least two; None for all of the vocabulary."""

    def take(self, token: int, log_prob: float) -> tuple[int, ...]:
        """Takes the token chosen; returns what to read before the next choice, () at the end."""


@dataclass
class ChoiceWalker:
    """An answer held to a trie. Tokens that the trie leaves no choice about are written without the model."""

    trie: TokenTrie
    node: int = 0
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    def lead(self) -> tuple[int, ...]:
        """Writes and returns what follows without a choice."""
        forced, self.node = self.trie.forced(self.node)
        self.tokens.extend(forced)
        self.log_probs.extend([0.0] * len(forced))
        return forced

    @property
    def options(self) -> tuple[int, ...] | None:
        """See Walker; at the end of an answer, no options."""
        return self.trie.options(self.node)

    def take(self, token: int, log_prob: float) -> tuple[int, ...]:
        """See Walker."""
        self.tokens.append(token)
        self.log_probs.append(log_prob)
        self.node = self.trie.child(self.node, token)
        chunk = (token, *self.lead())
        return chunk if self.options else ()


@dataclass
class FreeWalker:
    """Any text, up to the end of the turn, a closed action or a number of tokens."""

    chat: Chat
    limit: int
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    @property
    def options(self) -> tuple[int, ...] | None:
        """See Walker."""
        return None

    def take(self, token: int, log_prob: float) -> tuple[int, ...]:
        """See Walker."""
        self.tokens.append(token)
        self.log_probs.append(log_prob)
        return () if len(self.tokens) == self.limit or self._ends() else (token,)

    def _ends(self) -> bool:
        return self.chat.closes(self.tokens)


@dataclass
class TextWalker(FreeWalker):
    """Any text, up to the end of the turn or a number of tokens."""

    def _ends(self) -> bool:
        return self.tokens[-1] in self.chat.ends
