"""Skill probe: the change in a policy's answer when one skill is left out of its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from d2skill.protocols import Policy, SupportsScoring
from d2skill.types import Group, Prompt, Turn
from d2skill.utils.rng import generator


class Effect(NamedTuple):
    """Effect of a skill in one prompt, against the same prompt without that skill alone.

    `log_prob` is the log-probability of the chosen answer with the skill minus that without it, in nats at temperature
    1. `changes` is True if the greedy action is another one with the skill.
    """

    log_prob: float
    changes: bool


def probe_skills(policy: Policy, groups: Sequence[Group], *, decisions: int, seed: int) -> dict[str, list[Effect]]:
    """Returns the effects of all skills in some prompts, by skill id, in the order in which the prompts were drawn.

    Args:
        policy: Policy that answers; it is not changed. Without `SupportsScoring` the result is empty.
        groups: Groups whose skill halves are drawn from: turns with a skill and a chosen answer, all equally likely.
            Neither the order of groups nor that of trajectories matters.
        decisions: Number of prompts to draw, at most.
        seed: Seed of the draw.
    """
    if not isinstance(policy, SupportsScoring):
        return {}
    drawn = _draw(groups, decisions, seed)
    if not drawn:
        return {}
    decided = [(prompt, turn.decision) for turn in drawn for prompt in (turn.prompt, *_leave_one_out(turn.prompt))]
    scores = iter(policy.score_answers(decided))
    effects: dict[str, list[Effect]] = {}
    for turn in drawn:
        log_prob, action = next(scores)
        for skill_id in turn.skill_ids:
            log_prob_without, action_without = next(scores)
            effect = Effect(log_prob - log_prob_without, action != action_without)
            effects.setdefault(skill_id, []).append(effect)
    return effects


def _draw(groups: Sequence[Group], decisions: int, seed: int) -> list[Turn]:
    """Draws turns without replacement."""
    ordered = sorted(groups, key=lambda group: group.task.id)
    members = chain.from_iterable(group.half("skills") for group in ordered)
    turns = [turn for member in members for turn in member.turns if turn.skill_ids and turn.decision.tokens]
    picks = generator(seed, "probe").choice(len(turns), min(decisions, len(turns)), replace=False) if turns else ()
    return [turns[i] for i in picks]


def _leave_one_out(prompt: Prompt) -> list[Prompt]:
    """Returns the prompt without its first skill, without its second ..., in the order of `Turn.skill_ids`."""
    task, step = prompt.task_skills, prompt.step_skills
    fewer = [replace(prompt, task_skills=task[:i] + task[i + 1 :], acts_done=-1) for i in range(len(task))]
    return fewer + [replace(prompt, step_skills=step[:i] + step[i + 1 :]) for i in range(len(step))]
