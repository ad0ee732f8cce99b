"""Prompts and answers as tokens of one tokenizer: rendered by its chat template, and read back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from d2skill.config import CausalLMConfig
from d2skill.policies.causal_lm.token_trie import TokenTrie
from d2skill.prompts import Answer, render
from d2skill.types import Prompt

CLOSING = "</action>"


class Chat:
    """What a causal language model reads and writes.

    An answer is the tokens of an action (choice) or of any text (free), and then the token that ends a turn.
    Models that can think are asked not to by their template (`enable_thinking`), where it knows that.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        settings: `answer` says how to answer.
        ends: tokens that end a text for this model; the first is used where the template does not show one.
        limit: tokens a prompt may have; a longer one loses its beginning.
    """

    def __init__(self, tokenizer: Any, settings: CausalLMConfig, ends: Sequence[int], limit: int) -> None:
        self.tokenizer = tokenizer
        self._answer = settings.answer
        self._limit = limit
        self.end = _end_of_turn(tokenizer, ends)
        self.ends = frozenset((self.end, *ends))
        self.action_ids = lru_cache(maxsize=2**15)(self._action_ids)
        self.trie = lru_cache(maxsize=2**12)(self._trie)

    def chooses(self, prompt: Prompt) -> bool:
        """Tells whether the answer is held to the admissible actions; with none listed, any text is one."""
        return self._answer == "choice" and bool(prompt.actions)

    def count(self, text: str) -> int:
        """Returns the number of tokens of a text."""
        return len(self._encode(text))

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """Returns the tokens of a prompt up to where the answer begins."""
        messages = render(prompt, "choice" if self.chooses(prompt) else "free")
        return self._encode(_apply(self.tokenizer, messages))[-self._limit :]

    def chat_ids(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Returns the tokens of any chat up to where the answer begins."""
        return self._encode(_apply(self.tokenizer, list(messages)))

    def answer_ids(self, prompt: Prompt, action: str) -> tuple[int, ...]:
        """Returns the answer that plays an action, as it is demonstrated."""
        return self.action_ids(action if self.chooses(prompt) else f"<action>{action}{CLOSING}")

    def text(self, tokens: Sequence[int]) -> str:
        """Returns what free tokens say, without the end of turn."""
        return str(self.tokenizer.decode([t for t in tokens if t not in self.ends]))

    def closes(self, tokens: Sequence[int]) -> bool:
        """Tells whether free tokens are a whole answer: a turn that ended or an action that was closed."""
        return tokens[-1] in self.ends or CLOSING in self.text(tokens[-len(CLOSING) :])

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _action_ids(self, action: str) -> tuple[int, ...]:
        return (*self._encode(action), self.end)

    def _trie(self, actions: tuple[str, ...]) -> TokenTrie:
        return TokenTrie([self.action_ids(action) for action in actions])


def _apply(tokenizer: Any, messages: list[dict[str, str]], prompt: bool = True) -> str:
    return str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt, enable_thinking=False)
    )


def bare_tokens(tokenizer: Any, answer: Answer) -> int:
    """Returns the tokens of a prompt that has nothing but the instructions of a kind of answer."""
    return len(tokenizer(_apply(tokenizer, render(Prompt("", "", ()), answer)), add_special_tokens=False).input_ids)


def _end_of_turn(tokenizer: Any, ends: Sequence[int]) -> int:
    """Returns the token that the template puts after an answer, or the first of `ends` if none is seen."""
    question, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}
    after = _apply(tokenizer, [question, answer], prompt=False).rpartition("yes")[2]
    following = tokenizer(after.strip(), add_special_tokens=False).input_ids
    special = set(tokenizer.all_special_ids)
    shown = [token for token in following[:1] if token in ends or token in special]
    return int((*shown, *ends)[0])
