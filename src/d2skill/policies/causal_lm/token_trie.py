"""Prefix tree (trie) of the admissible answers of a prompt, for constrained decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class TokenTrie:
    """Prefix tree of answers, each a token sequence that ends with the end-of-turn token.

    Nodes are numbered, the root is 0. Two answers can have the same tokens (a small vocabulary maps unknown
    words to one token); they then share a leaf.
    """

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        self._children: list[dict[int, int]] = [{}]
        self._answers: list[list[int]] = [[]]
        for index, tokens in enumerate(answers):
            node = 0
            for token in tokens:
                if token not in self._children[node]:
                    self._children[node][token] = len(self._children)
                    self._children.append({})
                    self._answers.append([])
                node = self._children[node][token]
            self._answers[node].append(index)
        self._options = [tuple(sorted(children)) for children in self._children]
        if not answers or any(a and c for a, c in zip(self._answers, self._children, strict=True)):
            raise ValueError("a trie needs at least one answer, and no answer may be the beginning of another")

    def options(self, node: int) -> tuple[int, ...]:
        """Returns the tokens that may follow a node, in ascending order; none at a leaf."""
        return self._options[node]

    def child(self, node: int, token: int) -> int:
        """Returns the node that a token leads to. Raises ValueError for a token that may not follow."""
        try:
            return self._children[node][token]
        except KeyError:
            raise ValueError(f"token {token} begins no answer of this prompt here") from None

    def forced(self, node: int) -> tuple[tuple[int, ...], int]:
        """Returns the tokens that follow without a choice, and the node they lead to: a leaf or a fork."""
        tokens: list[int] = []
        while len(self._options[node]) == 1:
            tokens.append(self._options[node][0])
            node = self._children[node][tokens[-1]]
        return tuple(tokens), node

    def answers(self, node: int) -> tuple[int, ...]:
        """Returns the indices of the answers that end in a node."""
        return tuple(self._answers[node])

    def forks(self, tokens: Sequence[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yields (position, options) for each token of an answer that was chosen among several.

        Raises ValueError if `tokens` is no answer.
        """
        node = 0
        for position, token in enumerate(tokens):
            options, node = self._options[node], self.child(node, token)
            if len(options) > 1:
                yield position, options
        if not self._answers[node]:
            raise ValueError("these tokens end before an answer of this prompt does")
