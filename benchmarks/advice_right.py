"""Correlation of what a run says a step skill is worth with whether its advice is right; prints one JSON object.

A step skill says where a thing is. Its advice is right in a task if, played from the start, the actions that it names
are possible, and then the act that it names. It is tried in tasks that the run did not train on, of the floor plans
that training knows, in which retrieval may choose it; a skill about any place of a type counts as the mean over these
places. `right` is the mean over skills with at least --tasks such tasks and --credits credits, the correlations are
over those skills: with the utility, and with the standing that supports and refutes give it.

    python benchmarks/advice_right.py RUN ...
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from compact_json import compact

from d2skill.components import restore_bank
from d2skill.envs import make_environment
from d2skill.knowledge.evidence import standing_of
from d2skill.knowledge.situations import Way, at_place
from d2skill.protocols import Environment
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.types import Skill
from d2skill.utils.rng import derive
from d2skill.utils.statistics import mean_over_seeds
from d2skill.utils.text import action_words


def is_right(environment: Environment, task: str, skill: Skill) -> float | None:
    """Returns the share of the places of a skill at which its act is possible; None if there is no such place."""
    way = Way.of(skill)
    if way is None:
        return None
    if way.place:
        return float(leads_to_act(environment, task, way))
    start = environment.start(task).observation.actions
    first = action_words(way.actions[0]).entities[0].kind if way.actions else ""
    places = {e.name for action in start for e in action_words(action).entities if e.kind == first and e.name != first}
    ways = [Way.of(at_place(skill, place)) for place in sorted(places)]
    return fmean(leads_to_act(environment, task, one) for one in ways if one) if ways else None


def leads_to_act(environment: Environment, task: str, way: Way) -> bool:
    """Returns True if the actions of a way are possible in a task, and then its act."""
    session = environment.start(task)
    for action in way.actions:
        played = next((one for one in session.observation.actions if one.lower() == action), None)
        if played is None:
            return False
        session.step(played)
    return any(way.act.fits(action_words(action)) for action in session.observation.actions)


def measured(folder: Path, least_tasks: int, least_credits: int, most: int) -> dict[str, Any]:
    """Returns the correlations of a run."""
    config = RunFolder(folder).config()
    environment, bank = make_environment(config.env), restore_bank(config, checkpoint.latest(folder))
    tasks = list(environment.task_ids(config.env.train_split))
    untried = sorted(set(tasks) - bank.seen_tasks(tasks), key=lambda task: derive("tried", task))
    right: dict[str, list[float]] = defaultdict(list)
    for task in untried[:most]:
        session = environment.start(task)
        for skills in bank.knowledge.known.sought(session.task.text, session.observation.text):
            for skill in skills:
                share = is_right(environment, task, skill)
                if share is not None:
                    right[skill.id].append(share)
    skills = [skill for skill in bank.skills("step") if len(right[skill.id]) >= least_tasks]
    credited = [skill for skill in skills if skill.credits >= least_credits]
    shares = [fmean(right[skill.id]) for skill in credited]
    return {
        "run": folder.name,
        "skills": len(credited),
        "right": fmean(shares) if shares else None,
        "credits": median(skill.credits for skill in credited) if credited else None,
        "utility": correlation([skill.utility for skill in credited], shares),
        "standing": correlation([standing_of(skill) for skill in credited], shares),
        "standing_of_all": correlation(list(map(standing_of, skills)), [fmean(right[skill.id]) for skill in skills]),
    }


def correlation(values: list[float], others: list[float]) -> float | None:
    """Returns Pearson's correlation, None where one side does not vary."""
    if len(values) < 3 or not np.ptp(values) or not np.ptp(others):
        return None
    return float(np.corrcoef(values, others)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--tasks", type=int, default=3, help="tasks in which a skill was tried, at least")
    parser.add_argument("--credits", type=int, default=5, help="signals that a utility is made of, at least")
    parser.add_argument("--most", type=int, default=2000, help="tasks that are looked at, at most")
    given = parser.parse_args()
    runs = [measured(folder, given.tasks, given.credits, given.most) for folder in given.runs]
    means = {}
    for name in ("right", "utility", "standing", "standing_of_all"):
        values = [run[name] for run in runs if run[name] is not None]
        means[name] = mean_over_seeds(values).record() if len(values) > 1 else None
    print(compact({"version": version("d2skill"), "mean": means, "runs": runs}))


if __name__ == "__main__":
    main()
