"""A tiny reflector: it says what a success did that a failure of the same task did not."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from d2skill.types import Edit, Group, Reflection, Skill, SkillText, Trajectory


class TinyReflector:
    """Writes the paper's skills (`reflect`), and consolidated ones (`reflect_groups`), which `bank.skills` chooses."""

    class Settings(BaseModel, extra="forbid"):
        """Settings of the reflector: `--reflect.settings.actions 5`, or [reflect.settings] in TOML."""

        actions: int = Field(3, ge=1)

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or self.Settings()

    def reflect(self, failure: Trajectory, success: Trajectory | None) -> Reflection:
        """Compares a failure with a success of the same group, if there is one; an answer need not have a skill."""
        if success is None or not success.turns:
            return Reflection(failing_step=0)
        actions = [turn.decision.action for turn in success.turns]
        tried = [turn.decision.action for turn in failure.turns]
        step = next((at for at, (a, b) in enumerate(zip(actions, tried, strict=False)) if a != b), 0)
        return Reflection(step, task_skill=self._text(failure.task.text, actions))

    def reflect_groups(self, questions: Sequence[tuple[Group, tuple[Skill, ...]]]) -> list[list[Edit] | None]:
        """Returns edits of the bank for each group and the skills that are about it."""
        return [self._edits(group) for group, _ in questions]

    def _edits(self, group: Group) -> list[Edit]:
        success = next((member for member in group.trajectories if member.success and member.turns), None)
        if success is None:
            return []
        actions = [turn.decision.action for turn in success.turns]
        return [Edit("add", "task", text=self._text(group.task.text, actions))]

    def _text(self, task: str, actions: Sequence[str]) -> SkillText:
        last = ", then ".join(actions[-self.settings.actions :])
        return SkillText("Do what worked", f"This worked: {last}."[:600], f"When the task is like: {task}."[:300])
