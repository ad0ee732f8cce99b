"""Decisions all at once, by a policy that makes them one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from d2skill.protocols import Slots
from d2skill.types import Decision, Prompt


def decide(slots: Slots, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Decision]:
    """Returns a decision for each prompt, all of them in episodes of their own."""
    waiting, found, held = deque(range(len(prompts))), dict[int, Decision](), 0
    while len(found) < len(prompts):
        while waiting and held < slots.capacity:
            i = waiting.popleft()
            slots.submit(i, prompts[i], seeds[i])
            held += 1
        for i, decision in slots.collect():
            slots.release(i)
            found[i] = decision
            held -= 1
    return [found[i] for i in range(len(prompts))]
