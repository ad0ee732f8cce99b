"""A probe for use: whether the skills in a prompt make a difference to what the policy answers there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from d2skill.protocols import Policy, SupportsScoring
from d2skill.types import Group, Prompt, Turn
from d2skill.utils.rng import generator


class Effect(NamedTuple):
    """What a skill did in one prompt that showed it, against the same prompt without that skill alone.

    `log_prob` is the change of the log-probability of the answer that was chosen, with the skill minus without, in nats
    at temperature 1; `changes` tells whether the greedy action is another one with the skill.
    """

    log_prob: float
    changes: bool


def probe(policy: Policy, groups: Sequence[Group], *, decisions: int, seed: int) -> dict[str, list[Effect]]:
    """Returns the effects of all skills in at most `decisions` prompts, by skill id, in the order they were drawn.

    They are drawn from the turns of the skill halves that show a skill and have a chosen answer, all alike likely, by
    the seed alone: neither the order of groups nor that of trajectories matters. Nothing about the policy changes.
    Empty where it does not keep `SupportsScoring`.
    """
    if not isinstance(policy, SupportsScoring):
        return {}
    drawn = _draw(groups, decisions, seed)
    if not drawn:
        return {}
    decided = [(prompt, turn.decision) for turn in drawn for prompt in (turn.prompt, *_each_left_out(turn.prompt))]
    found = iter(policy.score_answers(decided))
    effects: dict[str, list[Effect]] = {}
    for turn in drawn:
        log_prob, action = next(found)
        for skill_id in turn.skill_ids:
            without, other = next(found)
            effects.setdefault(skill_id, []).append(Effect(log_prob - without, action != other))
    return effects


def _draw(groups: Sequence[Group], decisions: int, seed: int) -> list[Turn]:
    """Draws turns without replacement."""
    ordered = sorted(groups, key=lambda group: group.task.id)
    members = chain.from_iterable(group.half("skills") for group in ordered)
    turns = [turn for member in members for turn in member.turns if turn.skill_ids and turn.decision.tokens]
    picks = generator(seed, "probe").choice(len(turns), min(decisions, len(turns)), replace=False) if turns else ()
    return [turns[i] for i in picks]


def _each_left_out(prompt: Prompt) -> list[Prompt]:
    """Returns the prompt without its first skill, without its second ..., in the order of `Turn.skill_ids`."""
    task, step = prompt.task_skills, prompt.step_skills
    fewer = [replace(prompt, task_skills=task[:i] + task[i + 1 :]) for i in range(len(task))]
    return fewer + [replace(prompt, step_skills=step[:i] + step[i + 1 :]) for i in range(len(step))]
