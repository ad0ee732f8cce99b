"""Curves from one weak initial policy: consolidated skills, the paper's skills and GRPO; prints one JSON object.

Every method of a seed starts from the same policy, as in the paper: it has imitated --games games, each shown plain and
with advice, and solves a part of the tasks. `grpo-plain` is GRPO from demonstrations without advice, for comparison.
Each method trains until it has taken --steps environment steps. At every --every steps three panels are played, with
skills and without:

    panel   what settings are chosen by: ALFWorld's valid_seen, houses' valid_seen, WebShop's validation
    test    games of training that nobody trained on and nothing was chosen by, in floor plans that training knows
    unseen  games in floor plans that training never saw: of 20 of ALFWorld's 108 training scenes, drawn by a hash

WebShop has no floor plans: `test` is its test split, cut by product (--split-by product) or by goal.

Figures are means over seeds with Student's interval, at marks of environment steps (interpolated between validations),
and differences to GRPO are paired by seed. `steps_to` is how many steps a method needs to GRPO's level at the end.

    python benchmarks/weak_start.py --env alfworld --data FOLDER --max-steps 25 --seeds 0 1 2 --out runs/weak --jobs 2

With --out every run is kept there as a file, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from compact_json import compact

from d2skill.bank import SkillBank
from d2skill.bank.consolidation import as_retrieved, fill
from d2skill.components import Components
from d2skill.config import Config
from d2skill.evaluation.arms import arm_view
from d2skill.protocols import SkillSource
from d2skill.reflectors import ContrastReflector
from d2skill.rollout import Member, Rollouts
from d2skill.runs.tasks import RunTasks, TaskSet
from d2skill.trainer import Trainer
from d2skill.types import Skill
from d2skill.utils.rng import derive
from d2skill.utils.runtime import tuned_process
from d2skill.utils.statistics import mean_over_seeds, paired_over_seeds
from d2skill.warm_start import demonstrate, warm_start

METHODS: dict[str, dict[str, Any]] = {
    "d2skill": {},
    "grpo": {"rollout.with_skills": 0},
    "grpo-plain": {"rollout.with_skills": 0, "warm_start.advised": 0.0},
    "paper": {"bank.skills": "paper"},
    "no-task-skills": {"retrieval.k_task": 0},
    "no-step-skills": {"retrieval.k_step": 0},
    "shown-once": {"prompt.until_done": False},
    "latest": {},  # the newest alternative in place of the one that most evidence speaks for
    "group-normalised": {"advantage.normalise": "group"},
    "no-pruning": {"bank.task_capacity": 1_000_000, "bank.step_capacity": 1_000_000},
    "no-baseline-group": {"rollout.with_skills": 8},
}
HELD_OUT_SCENES = 20
TESTED = 140


def settings(given: argparse.Namespace, method: str, seed: int) -> Config:
    values: dict[str, Any] = {
        "seed": seed,
        "env.kind": given.env,
        "env.max_steps": given.max_steps,
        "env.data": str(given.data) if given.data else None,
        "warm_start.tasks": given.games,
        "warm_start.advised": given.advised,
        "validation.tasks": TESTED,
    }
    if given.env == "webshop":
        values |= {"env.validation_split": "validation", "env.webshop.split_by": given.split_by}
        values |= {"prompt.history": 15, "reward.score": 5.0}
    tree: dict[str, Any] = {}
    for name, value in (values | METHODS[method]).items():
        *sections, last = name.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return Config.model_validate(tree).resolved()


def tasks_and_panels(components: Components, config: Config) -> tuple[RunTasks, dict[str, list[str]]]:
    """Returns the tasks to train on, and the panels by name; no task is in two of them."""
    environment, tasks = components.environment, RunTasks.choose(components.environment, config)
    training, panels = list(tasks.training.task_ids), {"panel": list(tasks.validation.task_ids)}
    if config.env.kind == "webshop":
        panels["test"] = list(environment.task_ids("test"))
    elif config.env.kind == "houses":
        panels["test"] = list(environment.task_ids("test_seen"))[:TESTED]
        panels["unseen"] = list(environment.task_ids("valid_unseen"))[:TESTED]
    else:
        scenes = sorted({_scene(task) for task in training}, key=lambda scene: derive("held-out", scene))
        held = set(scenes[:HELD_OUT_SCENES])
        panels["panel"] = [task for task in panels["panel"] if _scene(task) not in held]
        panels["unseen"] = _drawn([task for task in training if _scene(task) in held])
        training = [task for task in training if _scene(task) not in held]
        panels["test"] = _drawn(training)
        training = [task for task in training if task not in set(panels["test"])]
    chosen = TaskSet(split=tasks.training.split, task_ids=tuple(training))
    return tasks.model_copy(update={"training": chosen}), panels


def _scene(task: str) -> str:
    return re.search(r"-(\d+)/", task)[1]


def _drawn(tasks: Sequence[str]) -> list[str]:
    return sorted(sorted(tasks, key=lambda task: derive("held-out", task))[:TESTED])


class Latest:
    """A view of a bank that shows the newest of alternatives."""

    consolidated = True

    def __init__(self, bank: SkillBank) -> None:
        self._bank = bank

    def advise(self, pairs, *, trial=False):
        out = []
        for task, start in pairs:
            newest = sorted(self._bank.knowledge.known.procedures(task), key=_age)[:1]
            procedures, situations = self._bank.advise([(task, start)], trial=trial)[0]
            shown = tuple(as_retrieved(fill(skill, task)) for skill in newest) if procedures else ()
            out.append((shown, tuple(sorted(situations, key=lambda one: _age(one.skill)))))
        return out


def _age(skill: Skill) -> int:
    return -int(skill.id[1:])


def imitate(config: Config, components: Components, train_ids: Sequence[str]) -> dict[str, float]:
    """Lets the policy imitate games that are shown plain and with advice, also with the paper's skills."""
    environment, policy, reflector = components.environment, components.policy, ContrastReflector()
    if config.bank.skills == "consolidated":
        return warm_start(config, environment, policy, reflector, train_ids)
    shown = []
    for advised in (0.0, config.warm_start.advised):
        settings = config.warm_start.model_copy(update={"advised": advised})
        own = config.model_copy(update={"warm_start": settings})
        shown += demonstrate(own, environment, reflector, policy, train_ids)
    metrics = policy.imitate(shown, derive(config.seed, "imitate"))
    policy.freeze_reference()
    return metrics


def run(given: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Trains one method from one seed and returns its validations."""
    config = settings(given, method, seed)
    with tuned_process("scorer"), tempfile.TemporaryDirectory() as folder:
        components = Components.make(config)
        tasks, panels = tasks_and_panels(components, config)
        bank = components.bank
        source: SkillSource = Latest(bank) if method == "latest" else bank
        rollouts = Rollouts(components.environment, components.policy, source, config.prompt, config.env.max_steps)
        trainer = Trainer(config, Path(folder) / "run", components, rollouts=rollouts)
        trainer._tasks = tasks
        trainer._recorder.save_rollouts = lambda *_: None
        started = imitate(config, components, tasks.training.task_ids)

        def play(arm: str, name: str, view: SkillSource = source) -> dict[str, float]:
            half = "none" if arm == "none" else "skills"
            player = Rollouts(components.environment, components.policy, view, config.prompt, config.env.max_steps)
            members = [Member(task, half, 0, derive(0, "validate", task)) for task in panels[name]]
            played = player.play(members, config.validation.temperature)
            figures = {"success": fmean(t.success for t in played), "steps": fmean(len(t.turns) for t in played)}
            scores = [t.score for t in played if t.score is not None]
            return figures | ({"score": sum(scores) / len(played)} if scores else {})

        def validate(steps: int) -> dict[str, Any]:
            arms = ["none"] if not config.rollout.with_skills else ["none", "bank"]
            found = {name: {arm: play(arm, name) for arm in arms} for name in panels}
            return {"steps": steps, "panels": found, "bank": bank.counts()}

        steps, iteration, curve = 0, 0, [validate(0)]
        while steps < given.steps:
            groups, _ = trainer._iterate(iteration)
            iteration += 1
            steps += sum(len(t.turns) for group in groups for t in group.trajectories)
            if steps // given.every > curve[-1]["steps"] // given.every or steps >= given.steps:
                curve.append(validate(steps))
                bank.evict(iteration)
        record = {"method": method, "seed": seed, "iterations": iteration, "warm_start": started, "curve": curve}
        if config.rollout.with_skills:
            record["reliability"] = {kind: bank.reliability(kind) for kind in ("task", "step")}
            placebo = arm_view("shuffled", bank, config.retrieval, seed)
            record["placebo"] = {name: play("shuffled", name, placebo)["success"] for name in panels}
            record["skills"] = {kind: skills_of(bank, kind, seed) for kind in ("task", "step")}
    return record


def skills_of(bank: SkillBank, granularity: str, seed: int) -> list[dict[str, Any]]:
    """Returns skills of a bank, drawn at random, to be read by eye."""
    skills = bank.skills(granularity)
    order = np.random.default_rng(seed).permutation(len(skills))[:50]
    return [
        {"title": one.text.title, "principle": one.text.principle, "supports": one.supports, "refutes": one.refutes}
        for one in (skills[at] for at in order)
    ]


def at_marks(
    record: dict[str, Any], panel: str, arm: str, marks: Sequence[int], figure: str = "success"
) -> list[float]:
    """Returns a figure in percent at marks of environment steps."""
    curve = record["curve"]
    arm = arm if arm in curve[0]["panels"][panel] else "none"
    values = [100 * one["panels"][panel][arm][figure] for one in curve]
    return np.interp(marks, [one["steps"] for one in curve], values).tolist()


def summary(records: Sequence[dict[str, Any]], given: argparse.Namespace) -> dict[str, Any]:
    """Returns means over seeds at the marks, and differences to GRPO."""
    by: dict[str, dict[int, dict[str, Any]]] = {}
    for record in records:
        by.setdefault(record["method"], {})[record["seed"]] = record
    marks = list(range(0, given.steps + 1, given.every))
    report: dict[str, Any] = {}
    for panel in records[0]["curve"][0]["panels"]:
        rows: dict[str, Any] = {}
        base = {seed: at_marks(one, panel, "none", marks) for seed, one in by.get("grpo", {}).items()}
        for method, runs in by.items():
            arms = ("bank", "none") if runs[min(runs)]["curve"][0]["panels"][panel].get("bank") else ("none",)
            for arm in arms:
                curves = {seed: at_marks(one, panel, arm, marks) for seed, one in runs.items()}
                row: dict[str, Any] = {"at": [_mean([own[at] for own in curves.values()]) for at in range(len(marks))]}
                both = sorted(set(curves) & set(base))
                if both and method != "grpo":
                    row["minus_grpo"] = [
                        _gap({s: curves[s][at] for s in both}, {s: base[s][at] for s in both})
                        for at in range(len(marks))
                    ]
                    area = {s: fmean(curves[s][1:]) for s in both}, {s: fmean(base[s][1:]) for s in both}
                    row["minus_grpo_over_curve"] = _gap(*area)
                    reached = [_steps_to(curves[s], base[s][-1], marks) / marks[-1] for s in both]
                    row["steps_to_grpos_end"] = _mean(reached)
                rows[method if arm != "none" or method.startswith("grpo") else f"{method}, no skills"] = row
        report[panel] = rows
    extra = {
        method: {
            "iterations": [one["iterations"] for one in runs.values()],
            "reliability": [one.get("reliability") for one in runs.values()],
            "placebo": {
                panel: _mean([100 * one["placebo"][panel] for one in runs.values()])
                for panel in records[0]["curve"][0]["panels"]
            },
        }
        for method, runs in by.items()
        if "placebo" in runs[min(runs)]
    }
    return {"marks": marks, "panels": report, "runs": extra, "skills": by.get("d2skill", {}).get(0, {}).get("skills")}


def _steps_to(curve: Sequence[float], level: float, marks: Sequence[int]) -> float:
    """Returns the first number of steps at which a curve has reached a level, twice the last mark if it never has."""
    for at in range(1, len(curve)):
        if curve[at] >= level:
            before, after = curve[at - 1], curve[at]
            share = 1.0 if after == before else min(1.0, max(0.0, (level - before) / (after - before)))
            return marks[at - 1] + share * (marks[at] - marks[at - 1])
    return 2.0 * marks[-1]


def _mean(values: Sequence[float]) -> dict[str, float] | float:
    return _rounded(mean_over_seeds(list(values)).record()) if len(values) > 1 else round(values[0], 2)


def _gap(one: dict[int, float], other: dict[int, float]) -> dict[str, float] | float:
    if len(one) < 2:
        return round(next(iter(one.values())) - next(iter(other.values())), 2)
    return _rounded(paired_over_seeds(one, other).record())


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in record.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", choices=("alfworld", "houses", "webshop"), default="houses")
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--split-by", choices=("goal", "product"), default="product", help="how WebShop's splits are cut"
    )
    parser.add_argument("--max-steps", type=int, default=25)
    parser.add_argument("--games", type=int, default=20, help="games that are demonstrated")
    parser.add_argument("--advised", type=float, default=1.0, help="share of them that is shown with advice as well")
    parser.add_argument("--steps", type=int, default=120_000, help="environment steps of training")
    parser.add_argument("--every", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["d2skill", "grpo"])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep the runs here")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given, given.one[0], int(given.one[1]))))
        return
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(given.jobs) as pool:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)

        def kept(method: str, seed: int) -> dict[str, Any]:
            file = folder / f"{method}-{seed}.json"
            if not file.exists():
                command = [sys.executable, __file__, *sys.argv[1:], "--one", method, str(seed)]
                threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
                done = subprocess.run(
                    command, check=True, capture_output=True, text=True, env={**os.environ, **threads}
                )
                file.write_text(done.stdout)
                print(f"{method} {seed}", file=sys.stderr)
            return json.loads(file.read_text())

        asked = [(method, seed) for seed in given.seeds for method in given.methods]
        records = list(pool.map(lambda one: kept(*one), asked))
    left_out = {"data", "out", "one", "jobs"}
    report = {
        "version": version("d2skill"),
        "settings": {name: value for name, value in vars(given).items() if name not in left_out},
        **summary(records, given),
    }
    print(compact(report))


if __name__ == "__main__":
    main()
