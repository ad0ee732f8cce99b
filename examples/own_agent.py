"""An agent of one's own with a bank of skills: run it twice, and the second time it knows where things are.

    python examples/own_agent.py [FILE]

The agent here is a stand-in for a language model: it opens what its advice names, or else guesses.
"""

import random
import sys

from d2skill import SkillBank, Trajectory, outcome_signals, reflect, render_skills

PLACES = {"key": "drawer 3", "map": "shelf 2", "lamp": "chest 1", "rope": "closet 2"}
ACTIONS = [f"open {place} {n}" for place in ("drawer", "shelf", "chest", "closet") for n in (1, 2, 3)]
HALL = "You are in the hall. There are drawers, shelves, chests and closets."


def play(thing: str, prompt: str, arm: str) -> Trajectory:
    """Looks for a thing in at most four places."""
    steps = []
    advised = [action for action in ACTIONS if action in prompt.lower()]
    for action in (advised + random.sample(ACTIONS, 4))[:4]:
        steps.append((HALL, action, ACTIONS))
        if action == f"open {PLACES[thing]}":
            steps.append((f"The {thing} is in it.", f"take {thing}", [*ACTIONS, f"take {thing}"]))
            return Trajectory.of(f"find the {thing}", steps, success=True, arm=arm)
    return Trajectory.of(f"find the {thing}", steps, success=False, arm=arm)


def main(file: str = "skills.db", rounds: int = 10) -> float:
    """Tries every task some times with skills and without; returns the success rate with skills."""
    found = []
    with SkillBank.open(file, create=True) as bank:
        for _ in range(rounds):
            for thing in PLACES:
                task = f"find the {thing}"
                shown = [*bank.retrieve_task(task), *bank.retrieve_step((task, HALL))]
                tries = [play(thing, render_skills(shown), "skills"), play(thing, "", "none")]
                with bank.batch(bank.iteration + 1):  # all of it is in the file after the block, or nothing
                    bank.count_retrievals([one.skill.id for one in shown])
                    bank.credit(outcome_signals([(shown, tries[0].success)], baseline=tries[1].success))
                    failed = [one for one in tries if not one.success]
                    won = [one for one in tries if one.success]
                    if failed and won:
                        bank.insert(reflect(failed[0], won[0]))
                found.append(tries[0].success)
        print(bank)
    return sum(found) / len(found)


if __name__ == "__main__":
    print(f"found with skills: {main(*sys.argv[1:2]):.0%}")
