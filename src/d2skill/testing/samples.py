"""Prompts, trajectories and groups of the tiny environment, on which the contracts of other parts are tried."""

from __future__ import annotations

from d2skill.testing.tiny_environment import TinyEnvironment
from d2skill.types import Arm, Decision, Group, Prompt, Skill, SkillText, Trajectory, Turn

_SKILL = Skill("t1", "task", SkillText("Open box 2 first", "Open box 2.", "always"), "get the ruby", utility=0.3)


def sample_prompts() -> list[Prompt]:
    """Returns prompts of several tasks: first ones and later ones, with skills and without."""
    prompts = []
    for member in (episode(number, wins, with_skill=wins) for number in range(2) for wins in (False, True)):
        prompts += [turn.prompt for turn in member.turns[:3]]
    return list(dict.fromkeys(prompts))


def sample_groups() -> list[Group]:
    """Returns groups in which the skill half failed: with a success and without, one of a fault alone, one empty."""
    groups = [
        Group(failure.task, (failure, episode(number, True, index=2, arm="none")))
        for number in range(2)
        for failure in [episode(number, False, with_skill=True)]
    ]
    lost = episode(2, False)
    groups.append(Group(lost.task, (lost, episode(2, False, index=2, arm="none"))))
    broken = Trajectory(lost.task, "skills", 0, (), "", success=False, fault="the box is stuck")
    return [*groups, Group(lost.task, (broken,)), Group(lost.task, ())]


def sample_skills() -> tuple[Skill, ...]:
    """Returns the skills that the samples show."""
    return (_SKILL,)


def episode(number: int, wins: bool, *, with_skill: bool = False, index: int = 0, arm: Arm = "skills") -> Trajectory:
    """Returns an episode of the tiny environment.

    Args:
        number: Number of the task in the split train.
        wins: Whether the treasure is found.
        with_skill: Whether the prompts show a skill.
        index: Index in the group.
        arm: Half of the group.
    """
    environment = TinyEnvironment()
    session = environment.start(environment.task_ids("train")[number])
    turns: list[Turn] = []
    history: tuple[tuple[str, str], ...] = ()
    while not session.observation.done and len(turns) < 6:
        seen, shown = session.observation, sample_skills() if with_skill else ()
        prompt = Prompt(session.task.text, seen.text, seen.actions, history, task_skills=shown)
        takes = [action for action in seen.actions if action.startswith("take")]
        action = takes[0] if takes and wins else seen.actions[len(turns) % 4]
        turns.append(Turn(prompt, Decision(action, action, (seen.actions.index(action),), (-1.0,)), True))
        history = (*history, (seen.text, action))
        session.step(action)
    final = session.observation
    return Trajectory(session.task, arm, index, tuple(turns), final.text, success=final.success)
