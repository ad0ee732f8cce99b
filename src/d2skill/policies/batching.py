"""Batched decisions: runs many prompts through a policy's slots."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from d2skill.protocols import Slots
from d2skill.types import Decision, Prompt


def decide_all(slots: Slots, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Decision]:
    """Returns a decision for each prompt, each as an episode of its own."""
    waiting, decisions, running = deque(range(len(prompts))), dict[int, Decision](), 0
    while len(decisions) < len(prompts):
        while waiting and running < slots.capacity:
            i = waiting.popleft()
            slots.submit(i, prompts[i], seeds[i])
            running += 1
        for i, decision in slots.collect():
            slots.release(i)
            decisions[i] = decision
            running -= 1
    return [decisions[i] for i in range(len(prompts))]
