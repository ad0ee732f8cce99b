"""How much of what a bank could say it says, as it grows; prints one JSON object. For runs in houses or ALFWorld.

The final policy plays the panel of its validation without skills, with the bank as it was after some iterations, and
with a complete one: what contrast writes of every game that was trained on, beside a success of the environment's
expert, with no limit to its size. A task is `told` of if a skill that was shown in it says where a thing of the task is
to be taken: the words of a `take` of the shortest plan, as contrast puts them. It is `known` if the bank has such a
skill from a game with the same furniture, shown or not: `known - told` is what retrieval misses, the rest is what
nobody wrote down. `gain` is success over that without
skills, `longer` the steps over those without, for all and for games that are told of. `reached` is the share of the
complete bank's gain that the run's own bank gives at the end.

`before` is the same for the policy as it was before training, after imitation: with the bank of the end, and with the
complete one. What it can do with a skill it has not unlearned yet.

    python benchmarks/coverage.py RUN ...
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from d2skill.bank import SkillBank
from d2skill.components import Components, restore
from d2skill.config import Config
from d2skill.embedders import make_embedder
from d2skill.evaluation import EpisodeBatch, EpisodePlayer, PlayedBatch
from d2skill.reflectors import ContrastReflector
from d2skill.reflectors.contrast import generalized
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks
from d2skill.utils.statistics import mean_over_seeds
from d2skill.warm_start import advice, warm_start

NAME = re.compile(r"[a-z]+ \d+")
UNLIMITED = 10**6
ITERATIONS = (5, 10, 20, 40, 80, 120)


def play(parts: Components, config: Config, bank: SkillBank, arm: str, panel: tuple[str, ...]) -> PlayedBatch:
    """Plays the panel in an arm, as `d2skill evaluate` does."""
    heat = config.validation.temperature
    player = EpisodePlayer(parts.environment, parts.policy, bank, config, temperature=heat, keep=True)
    return player.play(EpisodeBatch(arm, 0, 0, panel))


def takes(environment, task_id: str) -> list[str]:
    """Returns where the things of a task are to be taken, as contrast says it."""
    session = environment.start(task_id)
    plan = session.shortest_plan() or ()
    return [generalized(action, session.task.text).lower() for action in plan if action.startswith("take ")]


@dataclass(frozen=True)
class Slots:
    """Where things are: what tells of each task of the panel, and the furniture of it and of the training tasks."""

    wanted: dict[str, list[str]]
    furniture: dict[str, frozenset[str]]

    @classmethod
    def of(cls, environment, tasks: RunTasks) -> Slots:
        panel, training = tasks.validation.task_ids, tasks.training.task_ids
        furniture = {one: frozenset(NAME.findall(environment.start(one).observation.text)) for one in panel + training}
        return cls({one: takes(environment, one) for one in panel}, furniture)

    def tells(self, text: str, task: str) -> bool:
        return any(place in text for place in self.wanted[task])

    def known(self, bank: SkillBank, said: dict[str, str], task: str) -> bool:
        """Tells whether a skill from a game with the same furniture says it."""
        return any(
            self.furniture.get(skill.source_task) == self.furniture[task] and self.tells(said[skill.id], task)
            for skill in bank.skills()
        )


def measured(played: PlayedBatch, base: PlayedBatch, bank: SkillBank, places: Slots) -> dict[str, float]:
    """Returns what a bank gives: success, the share of tasks that it tells of, and the gain in those and in others."""
    said = {skill.id: f"{skill.text.title} {skill.text.principle}".lower() for skill in bank.skills()}
    gaps: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for one, other in zip(played.saved, base.saved, strict=True):
        shown = {name for turn in one.turns for name in turn.skills}
        told = any(places.tells(said[name], one.task.id) for name in shown)
        gaps[told].append((one.success - other.success, len(one.turns) - len(other.turns)))
    count = len(played.saved)

    def mean(episodes: list[tuple[int, int]], which: int) -> float:
        return sum(gap[which] for gap in episodes) / max(1, len(episodes))

    return {
        "skills": len(bank),
        "success": sum(one.success for one in played.saved) / count,
        "steps": sum(len(one.turns) for one in played.saved) / count,
        "known": sum(places.known(bank, said, one.task.id) for one in played.saved) / count,
        "told": len(gaps[True]) / count,
        "gain": mean(gaps[True] + gaps[False], 0),
        "gain_where_told": mean(gaps[True], 0),
        "gain_elsewhere": mean(gaps[False], 0),
        "longer": mean(gaps[True] + gaps[False], 1),
        "longer_where_told": mean(gaps[True], 1),
    }


def without(played: PlayedBatch) -> dict[str, float]:
    """Returns success and steps of episodes without skills."""
    count = len(played.saved)
    return {
        "success": sum(one.success for one in played.saved) / count,
        "steps": sum(len(one.turns) for one in played.saved) / count,
    }


def complete_bank(parts: Components, config: Config, tasks: tuple[str, ...]) -> SkillBank:
    """Returns a bank of what contrast says of all training tasks."""
    unlimited = config.bank.model_copy(update={"task_capacity": UNLIMITED, "step_capacity": UNLIMITED})
    bank = SkillBank(make_embedder(config.embedder), unlimited, config.retrieval, config.credit)
    for drafts in advice(config, parts.environment, ContrastReflector(), parts.policy, tasks):
        bank.insert(drafts, 0)
    return bank


def before_training(
    config: Config, tasks: RunTasks, banks: dict[str, SkillBank], places: Slots
) -> dict[str, dict[str, float]]:
    """Returns what banks give to the policy that imitation makes, which training began with."""
    parts, panel = Components.make(config), tasks.validation.task_ids
    warm_start(config, parts.environment, parts.policy, ContrastReflector(), tasks.training.task_ids)
    base = play(parts, config, parts.bank, "none", panel)
    found = {
        name: measured(play(parts, config, bank, "bank", panel), base, bank, places) for name, bank in banks.items()
    }
    return {"without": without(base)} | found


def coverage(run: Path) -> dict:
    """Returns the figures of a run."""
    config = RunFolder.open(run).config()
    parts, progress = restore(config, checkpoint.latest(run))
    tasks = RunTasks.read(run / "tasks.json")
    panel = tasks.validation.task_ids
    places = Slots.of(parts.environment, tasks)
    base = play(parts, config, parts.bank, "none", panel)
    curve = []
    for iteration in (*(early for early in ITERATIONS if early < progress.iteration), progress.iteration):
        settings = config.bank, config.retrieval, config.credit
        bank = SkillBank.open(run / "bank.db", make_embedder(config.embedder), *settings, at=iteration)
        played = play(parts, config, bank, "bank", panel)
        curve.append({"iteration": iteration} | measured(played, base, bank, places))
    everything = complete_bank(parts, config, tasks.training.task_ids)
    complete = measured(play(parts, config, everything, "bank", panel), base, everything, places)
    return {
        "run": run.name,
        "without": without(base),
        "curve": curve,
        "complete": complete,
        "reached": curve[-1]["gain"] / complete["gain"] if complete["gain"] > 0 else None,
        "before": before_training(config, tasks, {"bank": bank, "complete": everything}, places),
    }


def over_seeds(figures: list[dict[str, float]]) -> dict:
    """Returns the mean of each figure over runs, with its interval."""
    return {name: mean_over_seeds([own[name] for own in figures]).record() for name in figures[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    runs = [coverage(run) for run in given.runs]
    report = {
        "version": version("d2skill"),
        "without": over_seeds([run["without"] for run in runs]),
        "curve": [over_seeds([run["curve"][at] for run in runs]) for at in range(len(runs[0]["curve"]))],
        "complete": over_seeds([run["complete"] for run in runs]),
        "before": {name: over_seeds([run["before"][name] for run in runs]) for name in runs[0]["before"]},
        "runs": runs,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
