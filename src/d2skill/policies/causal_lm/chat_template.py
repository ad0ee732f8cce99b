"""Prompts and answers as tokens: rendered by the chat template of a tokenizer, and decoded again."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from d2skill.config import CausalLMConfig
from d2skill.policies.causal_lm.token_trie import TokenTrie
from d2skill.prompts import AnswerFormat, render
from d2skill.types import Prompt

CLOSING = "</action>"


class ChatTokenizer:
    """Tokenizer of prompts, chats and answers for one model.

    An answer is the tokens of an action (choice) or of any text (free), followed by the end-of-turn token.
    Models that can think are asked not to by their template (`enable_thinking`), if it knows that option.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        settings: `answer` is the format of answers.
        end_tokens: tokens that end a text for this model; the first is the end of turn if the template shows none.
        limit: tokens of a prompt, at most; a longer one loses its beginning.
    """

    def __init__(self, tokenizer: Any, settings: CausalLMConfig, end_tokens: Sequence[int], limit: int) -> None:
        self.tokenizer = tokenizer
        self._answer = settings.answer
        self._limit = limit
        self.end_token = _end_of_turn(tokenizer, end_tokens)
        self.end_tokens = frozenset((self.end_token, *end_tokens))
        self.count_tokens = lru_cache(maxsize=2**15)(self._count_tokens)
        self.action_ids = lru_cache(maxsize=2**15)(self._action_ids)
        self.kept_prompts = lru_cache(maxsize=2**14)(self._packed_prompt)
        self.trie = lru_cache(maxsize=2**12)(self._trie)

    def is_constrained(self, prompt: Prompt) -> bool:
        """Returns True if the answer is constrained to the admissible actions; if none are listed, it is free text."""
        return self._answer == "choice" and bool(prompt.actions)

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """Returns the tokens of a prompt, up to the beginning of the answer; they are kept for the update."""
        return tuple(self.kept_prompts(prompt))

    def chat_ids(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Returns the tokens of a chat, up to the beginning of the answer."""
        return self._encode(_apply_template(self.tokenizer, messages))

    def answer_ids(self, prompt: Prompt, action: str) -> tuple[int, ...]:
        """Returns the tokens of the answer that plays an action, for imitation."""
        return self.action_ids(action if self.is_constrained(prompt) else f"<action>{action}{CLOSING}")

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of a free answer, without the end of turn."""
        return str(self.tokenizer.decode([t for t in tokens if t not in self.end_tokens]))

    def is_complete(self, tokens: Sequence[int]) -> bool:
        """Returns True if a free answer is complete: its turn has ended or its action tag is closed."""
        return tokens[-1] in self.end_tokens or CLOSING in self.decode(tokens[-len(CLOSING) :])

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _count_tokens(self, text: str) -> int:
        return len(self._encode(text))

    def _packed_prompt(self, prompt: Prompt) -> array[int]:
        """Returns the tokens of a prompt in four bytes each, as a tuple takes nine times as much."""
        tokens = self.chat_ids(render(prompt, "choice" if self.is_constrained(prompt) else "free"))
        return array("i", tokens[-self._limit :])

    def _action_ids(self, action: str) -> tuple[int, ...]:
        return (*self._encode(action), self.end_token)

    def _trie(self, actions: tuple[str, ...]) -> TokenTrie:
        return TokenTrie([self.action_ids(action) for action in actions])


def _apply_template(tokenizer: Any, messages: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
    return str(
        tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=False
        )
    )


def count_instruction_tokens(tokenizer: Any, answer: AnswerFormat) -> int:
    """Returns the tokens of a prompt that has nothing but the instructions for a format of answers."""
    text = _apply_template(tokenizer, render(Prompt("", "", ()), answer))
    return len(tokenizer(text, add_special_tokens=False).input_ids)


def _end_of_turn(tokenizer: Any, end_tokens: Sequence[int]) -> int:
    """Returns the token that the template puts after an answer, or the first of `end_tokens` if it puts none."""
    question, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}
    after = _apply_template(tokenizer, [question, answer], add_generation_prompt=False).rpartition("yes")[2]
    following = tokenizer(after.strip(), add_special_tokens=False).input_ids
    shown = [token for token in following[:1] if token in {*end_tokens, *tokenizer.all_special_ids}]
    return int((*shown, *end_tokens)[0])
