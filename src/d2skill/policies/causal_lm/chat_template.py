"""Prompts and answers as tokens: rendered by the chat template of a tokenizer, and decoded again."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from d2skill.config import CausalLMConfig
from d2skill.policies.answers import closing_tags
from d2skill.policies.causal_lm.template_probe import ChatTemplate
from d2skill.policies.causal_lm.token_trie import TokenTrie
from d2skill.prompts import AnswerFormat, free_forms, in_tags, render
from d2skill.types import Prompt

CLOSINGS = closing_tags(())


class ChatTokenizer:
    """Tokenizer of prompts, chats and answers for one model.

    An answer is the tokens of an action (choice) or of any text (free), followed by the ending of a turn, which is one
    token for most templates. Models that can think are asked not to by their template (`enable_thinking`), if it knows
    that option; a thought that it opens nevertheless is closed (see template_probe).

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        settings: `answer` is the format of answers, `list_actions` False for prompts of choices without their list.
        end_tokens: tokens that end a text for this model; the first is the end of turn if the template shows none.
        limit: tokens of a prompt, at most; a longer one loses its beginning.
    """

    def __init__(self, tokenizer: Any, settings: CausalLMConfig, end_tokens: Sequence[int], limit: int) -> None:
        self.tokenizer = tokenizer
        self._answer = settings.answer
        self._lists_actions = settings.list_actions
        self._limit = limit
        self._added = added_tokens(tokenizer)
        self.template = ChatTemplate(tokenizer, settings.model)
        self.ending = _ending_tokens(tokenizer, self.template.ending, end_tokens)
        self.end_token = self.ending[-1]
        self.end_tokens = frozenset((*self.ending, *end_tokens) if len(self.ending) == 1 else end_tokens)
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
        return self._encode(self.template.render(messages))

    def answer_ids(self, prompt: Prompt, action: str) -> tuple[int, ...]:
        """Returns the tokens of the answer that plays an action, or of a whole answer with its tags, for imitation."""
        forms = free_forms(prompt)
        plain = self.is_constrained(prompt) or any(tag in action for tag in closing_tags(forms))
        return self.action_ids(action if plain else in_tags(action, forms))

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of a free answer, without the end of turn."""
        if self._ends(tokens):
            tokens = tokens[: -len(self.ending)]
        return str(self.tokenizer.decode([t for t in tokens if t not in self.end_tokens]))

    def is_complete(self, tokens: Sequence[int], closings: Sequence[str] = CLOSINGS) -> bool:
        """Returns True if a free answer is complete: its turn has ended or one of the tags that end it is closed."""
        if self.has_ended(tokens):
            return True
        end = self.decode(tokens[-max(map(len, closings)) :])
        return any(tag in end for tag in closings)

    def has_ended(self, tokens: Sequence[int]) -> bool:
        """Returns True if the turn of an answer has ended."""
        return tokens[-1] in self.end_tokens or self._ends(tokens)

    def _ends(self, tokens: Sequence[int]) -> bool:
        return tuple(tokens[-len(self.ending) :]) == self.ending

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _count_tokens(self, text: str) -> int:
        return len(self._encode(text))

    def _packed_prompt(self, prompt: Prompt) -> array[int]:
        """Returns the tokens of a prompt in four bytes each, as a tuple takes nine times as much."""
        prompt, constrained = self._without_tokens(prompt), self.is_constrained(prompt)
        if constrained and not self._lists_actions:
            prompt = replace(prompt, actions=())
        tokens = self.chat_ids(render(prompt, "choice" if constrained else "free"))
        return array("i", tokens[-self._limit :])

    def _without_tokens(self, prompt: Prompt) -> Prompt:
        """Returns a prompt whose skills, which others may have written, hold no token of the tokenizer's own list."""
        if self._added is None or not (prompt.task_skills or prompt.step_skills):
            return prompt
        plain = partial(self._added.sub, " ")
        task, step = (
            tuple(replace(skill, text=skill.text.changed(plain)) for skill in skills)
            for skills in (prompt.task_skills, prompt.step_skills)
        )
        return replace(prompt, task_skills=task, step_skills=step)

    def _action_ids(self, action: str) -> tuple[int, ...]:
        return (*self._encode(action), *self.ending)

    def _trie(self, actions: tuple[str, ...]) -> TokenTrie:
        return TokenTrie([self.action_ids(action) for action in actions])


def added_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """Returns the pattern of the texts that a tokenizer makes one token by a list, such as markers; None for none.

    Those of letters, digits and spaces alone are words, and no markers.
    """
    texts = {*tokenizer.all_special_tokens, *getattr(tokenizer, "get_added_vocab", dict)()}
    marks = [text for text in texts if not text.replace(" ", "").isalnum() and text.strip()]
    longest = sorted(map(str.strip, marks), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest))) if longest else None


def count_instruction_tokens(tokenizer: Any, answer: AnswerFormat, name: str = "policy.lm.model") -> int:
    """Returns the tokens of a prompt that has nothing but the instructions for a format of answers."""
    text = ChatTemplate(tokenizer, name).render(render(Prompt("", "", ()), answer))
    return len(tokenizer(text, add_special_tokens=False).input_ids)


def _ending_tokens(tokenizer: Any, text: str, end_tokens: Sequence[int]) -> tuple[int, ...]:
    """Returns the tokens that end an answer: those of the template's ending, or the first of `end_tokens`.

    Of an ending that begins with a special token, or with another token that was added whole, only that one counts.
    """
    first: list[int] = tokenizer(text.strip(), add_special_tokens=False).input_ids[:1]
    if not first:
        return (int(end_tokens[0]),)
    if first[0] in {*end_tokens, *tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", ())}:
        return (int(first[0]),)
    return tuple(int(token) for token in tokenizer(text.rstrip(), add_special_tokens=False).input_ids)
