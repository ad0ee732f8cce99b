"""Decoding slots: one KV-cache row per running episode (continuous batching)."""

from __future__ import annotations

from typing import Any

import numpy as np

from d2skill.config import CausalLMConfig
from d2skill.policies.answers import closing_tags, parse_action
from d2skill.policies.causal_lm.chat_template import ChatTokenizer
from d2skill.policies.causal_lm.constrained_decoding import ChoiceDecoding, FreeDecoding
from d2skill.policies.causal_lm.generation import Sampling, make_engine
from d2skill.prompts import free_forms
from d2skill.types import Decision, Prompt


class LanguageModelSlots:
    """Implements `Slots` by the sequences of a generation engine.

    Args:
        model: a causal language model of Transformers.
        chat: tokenizer of prompts and answers.
        settings: number of episodes at a time, length of answers, top-p and top-k.
        temperature: temperature of sampling, 0 for greedy decisions.
    """

    def __init__(self, model: Any, chat: ChatTokenizer, settings: CausalLMConfig, temperature: float) -> None:
        self.capacity, self._max_tokens = settings.slots, settings.max_new_tokens
        self._chat = chat
        sampling = Sampling(temperature, settings.top_p, settings.top_k)
        self._engine = make_engine(model, self.capacity, sampling, settings.pass_tokens)
        self._pending: dict[int, tuple[Prompt, ChoiceDecoding | FreeDecoding]] = {}
        self._forced: list[int] = []

    def submit(self, episode: int, prompt: Prompt, seed: int) -> None:
        """See Slots."""
        chat, rng = self._chat, np.random.default_rng(seed)
        state: ChoiceDecoding | FreeDecoding = FreeDecoding(
            rng, chat, self._max_tokens, closing_tags(free_forms(prompt))
        )
        if chat.is_constrained(prompt):
            state = ChoiceDecoding(rng, chat.trie(prompt.actions))
        self._pending[episode] = prompt, state
        if state.options == ():
            self._forced.append(episode)
        else:
            self._engine.submit(episode, (*chat.prompt_ids(prompt), *state.tokens), state)

    def collect(self) -> list[tuple[int, Decision]]:
        """See Slots. Decisions without a choice come first, since the model is not needed for them."""
        ended, self._forced = self._forced or self._engine.run(), []
        return [(episode, self._decision(*self._pending.pop(episode))) for episode in ended]

    def release(self, episode: int) -> None:
        """See Slots."""
        self._engine.release(episode)

    def close(self) -> None:
        """See Slots. The KV cache goes with the engine."""
        del self._engine

    def _decision(self, prompt: Prompt, state: ChoiceDecoding | FreeDecoding) -> Decision:
        if isinstance(state, ChoiceDecoding):
            # several answers only if their tokens are the same: then each is as likely
            answers = state.trie.answers(state.node)
            text = action = prompt.actions[answers[int(state.rng.integers(len(answers)))]]
        else:
            text = self._chat.decode(state.tokens)
            action = parse_action(text, free_forms(prompt))
        return Decision(text, action, tuple(state.tokens), tuple(state.log_probs))
