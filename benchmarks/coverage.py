"""How much of what a bank could say it says, as it grows; prints one JSON object. For runs in houses or ALFWorld.

The final policy plays the panel of its validation without skills, with the bank as it was after some iterations, and
with a complete one: what contrast writes of every game that was trained on, beside a success of the environment's
expert, with no limit to its size. A task is `told` of if a skill that was shown in it says where a thing of the task is
to be taken: the words of a `take` of the shortest plan, as contrast puts them. `reached` is the share of the complete
bank's gain over no skills that the run's own bank gives at the end.

    python benchmarks/coverage.py RUN ...
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path

from d2skill import checkpoint
from d2skill.bank import SkillBank
from d2skill.config import Config
from d2skill.embedders import make_embedder
from d2skill.evaluation import Played, Player, Unit
from d2skill.evaluation.seeds import mean_over_seeds
from d2skill.parts import Parts, restore
from d2skill.reflectors import ContrastReflector
from d2skill.reflectors.contrast import general
from d2skill.runfolder import RunFolder
from d2skill.tasks import RunTasks
from d2skill.warmstart import _Demonstrator, _reflect_on

UNLIMITED = 10**6
ITERATIONS = (5, 10, 20, 40, 80, 120, 160)


def play(parts: Parts, config: Config, bank: SkillBank, arm: str, panel: tuple[str, ...]) -> Played:
    """Plays the panel in an arm, as `d2skill evaluate` does."""
    heat = config.validation.temperature
    player = Player(parts.environment, parts.policy, bank, config, temperature=heat, keep=True)
    return player.play(Unit(arm, 0, 0, panel))


def takes(environment, task_id: str) -> list[str]:
    """Returns where the things of a task are to be taken, as contrast says it."""
    session = environment.start(task_id)
    plan = session.shortest_plan() or ()
    return [general(action, session.task.text).lower() for action in plan if action.startswith("take ")]


def measured(played: Played, base: Played, bank: SkillBank, wanted: dict[str, list[str]]) -> dict[str, float]:
    """Returns what a bank gives: success, the share of tasks that it tells of, and the gain in those and in others."""
    said = {skill.id: f"{skill.text.title} {skill.text.principle}".lower() for skill in bank.skills()}
    gains: dict[bool, list[int]] = {True: [], False: []}
    for one, other in zip(played.saved, base.saved, strict=True):
        shown = {name for turn in one.turns for name in turn.skills}
        told = any(place in said[name] for name in shown for place in wanted[one.task.id])
        gains[told].append(one.success - other.success)
    count = len(played.saved)
    return {
        "skills": len(bank),
        "success": sum(one.success for one in played.saved) / count,
        "told": len(gains[True]) / count,
        "gain": sum(map(sum, gains.values())) / count,
        "gain_where_told": sum(gains[True]) / max(1, len(gains[True])),
        "gain_elsewhere": sum(gains[False]) / max(1, len(gains[False])),
    }


def complete_bank(parts: Parts, config: Config, tasks: tuple[str, ...]) -> SkillBank:
    """Returns a bank of what contrast says of all training tasks."""
    unlimited = config.bank.model_copy(update={"task_capacity": UNLIMITED, "step_capacity": UNLIMITED})
    player = _Demonstrator(config, parts.environment, parts.policy)
    bank = SkillBank(player.embedder, unlimited, config.retrieval, config.credit)
    for task_id in tasks:
        bank.insert(_reflect_on(player, ContrastReflector(), task_id), 0)
    return bank


def coverage(run: Path) -> dict:
    """Returns the figures of a run."""
    config = RunFolder.open(run).config()
    parts, _ = restore(config, checkpoint.latest(run))
    tasks = RunTasks.read(run / "tasks.json")
    panel = tasks.validation.task_ids
    wanted = {task_id: takes(parts.environment, task_id) for task_id in panel}
    base = play(parts, config, parts.bank, "none", panel)
    curve = []
    for iteration in ITERATIONS:
        if iteration <= config.train.iterations:
            settings = config.bank, config.retrieval, config.credit
            bank = SkillBank.open(run / "bank.db", make_embedder(config.embedder), *settings, at=iteration)
            played = play(parts, config, bank, "bank", panel)
            curve.append({"iteration": iteration} | measured(played, base, bank, wanted))
    bank = complete_bank(parts, config, tasks.training.task_ids)
    complete = measured(play(parts, config, bank, "bank", panel), base, bank, wanted)
    reached = curve[-1]["gain"] / complete["gain"] if complete["gain"] > 0 else None
    return {"run": run.name, "without": sum(one.success for one in base.saved) / len(panel)} | {
        "curve": curve,
        "complete": complete,
        "reached": reached,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    runs = [coverage(run) for run in given.runs]
    curve = [
        {name: mean_over_seeds([run["curve"][at][name] for run in runs]).record() for name in runs[0]["curve"][at]}
        for at in range(len(runs[0]["curve"]))
    ]
    whole = {name: mean_over_seeds([run["complete"][name] for run in runs]).record() for name in runs[0]["complete"]}
    print(json.dumps({"version": version("d2skill"), "curve": curve, "complete": whole, "runs": runs}, indent=2))


if __name__ == "__main__":
    main()
