"""Places in which a language model plays (see protocols.Slots)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from d2skill.policies.causal_lm.chat_template import Chat
from d2skill.policies.causal_lm.constrained_decoding import ChoiceWalker, FreeWalker, Walker
from d2skill.policies.causal_lm.generation import Sampling, Writer
from d2skill.prompts import parse_action
from d2skill.types import Decision, Prompt


@dataclass(frozen=True, slots=True)
class _Question:
    """A prompt before the policy, and the answer on its way."""

    prompt: Prompt
    walker: Walker
    rng: np.random.Generator


class LanguageModelSlots:
    """Implements `Slots` by rows of a `Writer`.

    Args:
        model: a causal language model of Transformers.
        chat: its prompts and answers as tokens.
        sampling: how tokens are drawn.
        size: episodes at a time.
        answer: tokens of an answer, at most.
        budget: tokens that are read in one pass, at most.
    """

    def __init__(self, model: Any, chat: Chat, sampling: Sampling, size: int, *, answer: int, budget: int) -> None:
        self.capacity = size
        self._chat, self._answer = chat, answer
        self._writer = Writer(model, size, sampling, budget)
        self._questions: dict[int, _Question] = {}
        self._forced: list[int] = []

    def submit(self, episode: int, prompt: Prompt, seed: int) -> None:
        """See Slots."""
        tokens, rng, walker = self._chat.prompt_ids(prompt), np.random.default_rng(seed), self._walker(prompt)
        if isinstance(walker, ChoiceWalker):
            tokens += walker.lead()
        self._questions[episode] = _Question(prompt, walker, rng)
        if walker.options == ():
            self._forced.append(episode)
        else:
            self._writer.ask(episode, tokens, walker, rng)

    def collect(self) -> list[tuple[int, Decision]]:
        """See Slots. What leaves no choice is answered first."""
        ended, self._forced = self._forced or self._writer.run(), []
        return [(episode, self._decision(self._questions.pop(episode))) for episode in ended]

    def release(self, episode: int) -> None:
        """See Slots."""
        self._writer.leave(episode)

    def close(self) -> None:
        """See Slots. What was read goes with the places."""
        del self._writer

    def _walker(self, prompt: Prompt) -> Walker:
        if self._chat.chooses(prompt):
            return ChoiceWalker(self._chat.trie(prompt.actions))
        return FreeWalker(self._chat, self._answer)

    def _decision(self, question: _Question) -> Decision:
        walker = question.walker
        if isinstance(walker, ChoiceWalker):
            # several answers only if their tokens are the same: then each is as likely
            answers = walker.trie.answers(walker.node)
            text = action = question.prompt.actions[answers[int(question.rng.integers(len(answers)))]]
        else:
            text = self._chat.text(walker.tokens)
            action = parse_action(text)
        return Decision(text, action, tuple(walker.tokens), tuple(walker.log_probs))
