"""What a language model writes beside its decisions: the answer to any chat."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from d2skill.policies.causal_lm.chat_template import Chat
from d2skill.policies.causal_lm.constrained_decoding import TextWalker
from d2skill.policies.causal_lm.generation import Sampling, Writer


def write(
    model: Any,
    chat: Chat,
    chats: Sequence[Sequence[dict[str, str]]],
    *,
    tokens: int,
    context: int,
    batch: int,
    budget: int,
) -> list[str]:
    """Returns the likeliest answer to each chat; of a chat that leaves no room for it, the beginning is not read.

    So many are written at a time, and so many tokens are read in one pass.
    """
    tokens = min(tokens, context // 2)
    prompts = [chat.chat_ids(messages)[-(context - tokens) :] for messages in chats]
    walkers = [TextWalker(chat, tokens) for _ in prompts]
    waiting = deque(sorted(range(len(prompts)), key=lambda i: prompts[i]))
    writer, writing = Writer(model, batch, Sampling(0.0), budget), 0
    while waiting or writing:
        while waiting and writing < batch:
            i = waiting.popleft()
            writer.ask(i, prompts[i], walkers[i], np.random.default_rng(0))  # nothing is drawn
            writing += 1
        for i in writer.run():
            writer.leave(i)
            writing -= 1
    return [chat.text(walker.tokens) for walker in walkers]
