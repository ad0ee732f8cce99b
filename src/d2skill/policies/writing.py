"""What a language model writes beside its decisions: the answer to any chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from d2skill.policies.chat import Chat
from d2skill.policies.generation import FreeWalker, generate


@dataclass
class TextWalker(FreeWalker):
    """Any text, up to the end of the turn or a number of tokens."""

    def take(self, token: int, log_prob: float) -> tuple[int, ...]:
        """See Walker."""
        self.tokens.append(token)
        return () if len(self.tokens) == self.limit or token in self.chat.ends else (token,)


def write(
    model: Any, chat: Chat, chats: Sequence[Sequence[dict[str, str]]], *, tokens: int, context: int, batch: int
) -> list[str]:
    """Returns the likeliest answer to each chat; of a chat that leaves no room for it, the beginning is not read."""
    tokens = min(tokens, context // 2)
    prompts = [chat.chat_ids(messages)[-(context - tokens) :] for messages in chats]
    walkers = [TextWalker(chat, tokens) for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: prompts[i])
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        rngs = [np.random.default_rng(0) for _ in part]  # nothing is drawn
        with torch.no_grad():
            generate(model, [prompts[i] for i in part], [walkers[i] for i in part], rngs, 0.0)
    return [chat.text(walker.tokens) for walker in walkers]
