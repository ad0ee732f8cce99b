"""Trains from Python on an environment of one's own with a reflector of one's own, and looks at the result.

python examples/train_in_python.py
"""

from custom_env import TreasureHunt

import d2skill
from d2skill import Reflection, SkillText


class Diary:
    """Writes down, for the failure of a task, how another episode of the same task ended that succeeded."""

    def reflect(self, failure, success):
        """Returns a task skill, or none if nothing succeeded."""
        if success is None:
            return Reflection(failing_step=0)
        actions = ", then ".join(turn.decision.action for turn in success.turns[-3:])
        return Reflection(0, task_skill=SkillText("What worked", f"First {actions}.", failure.task.text))


settings = {"env.max_steps": 10, "bank.skills": "paper", "train.iterations": 40, "validation.every": 10}
run = d2skill.train(d2skill.load_config("laptop", **settings), environment=TreasureHunt(), reflector=Diary())
print(run)
for line in run.metrics:
    if "validation/difference" in line:
        print(line["iteration"], line["validation/with_skills"], line["validation/without_skills"])
for skill in sorted(run.bank.skills(), key=lambda skill: -skill.utility)[:3]:
    print(f"{skill.utility:+.2f}", skill.text.when_to_apply, skill.text.principle)
