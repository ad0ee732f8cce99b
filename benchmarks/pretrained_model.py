"""Imitation, a bank that grows, and the arms of an evaluation, all with a pretrained language model; one JSON object.

The model, such as the folder that `d2skill models fetch smollm2` makes, imitates the decisions of --games demonstrated
games, each shown plain and with advice, in the chat form: an adapter learns, and only admissible actions are generated
(answer choice). Then it stays as it is while a bank grows over --iterations iterations, half of each group with skills.
At last the bank is frozen, and --tasks games of the validation split are played in five arms from the same states, with
--seeds sampling seeds:

    none, bank, shuffled (a placebo), task and step (the skills of one granularity alone)

`imitated` has what was learned, `growth` the success of both halves over all iterations, and the probe: leaving one
skill out of a prompt changes the greedy action in a share `changes` of `probes`, and the log-probability of the chosen
one by `log_prob` nats. `heeded` are the skills that change it most often.

    python benchmarks/pretrained_model.py --model FOLDER --env alfworld --data FOLDER --games 38 --out runs/smollm2

On two cores this takes hours: the run folder in --out is gone on with where it was stopped, and what was evaluated is
kept there. What follows -- are flags of `d2skill train`.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from compact_json import compact

from d2skill import Config, Run, evaluate, train
from d2skill.bank.formats.contents import read_bank
from d2skill.bank.worth import Influence
from d2skill.config.cli_flags import parse_settings
from d2skill.runs import trajectories
from d2skill.runs.folder import RunFolder

ARMS = ("none", "bank", "shuffled", "task", "step")
MOST_HEEDED = 10


def settings(given: argparse.Namespace) -> Config:
    """Returns the settings of the run."""
    flags = {
        "env": given.env,
        **({"data": given.data} if given.data else {}),
        "env.max-steps": given.max_steps,
        "seed": given.seed,
        "policy": "causal-lm",
        "policy.train": "False",
        "policy.lm.model": given.model,
        "policy.lm.lora-rank": 16,
        "policy.lm.list-actions": "False",  # the choice is among them anyway, and prompts are half as long
        "policy.lm.microbatch-tokens": 1300,
        "policy.lm.generate-batch": 8,
        "prompt.max-tokens": 2048,
        "warm-start.tasks": given.games,
        "warm-start.advised": 1,
        "warm-start.epochs": 1,
        "warm-start.minibatch-rows": 8,
        "warm-start.learning-rate": 5e-4,
        "rollout.tasks": 4,
        "rollout.group-size": 2,
        "train.iterations": given.iterations,
        "train.checkpoint-every": 4,
        # the panel of the evaluation is another one
        "validation.tasks": 2,
        "validation.every": 1000,
        "bank.probe": 4,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return parse_settings([*words, *given.more], "pretrained_model.py")


def evaluated(run: Run, given: argparse.Namespace) -> dict[str, Any]:
    """Returns the arms of an evaluation and their differences; each arm is played once and kept."""
    kept = run.folder / "evaluated.json"
    if not kept.exists():
        found = evaluate(
            run,
            arms=ARMS,
            panel="valid_seen" if given.env == "alfworld" else None,
            tasks=given.tasks,
            seeds=given.seeds,
            workers=1,
            trajectories=run.folder / "evaluated.jsonl.gz",
        )
        kept.write_text(compact(found))
    result: dict[str, Any] = json.loads(kept.read_text())
    played = trajectories.read(run.folder / "evaluated.jsonl.gz")
    turns = [turn for saved in played for turn in saved.turns]
    result["inadmissible"] = sum(not turn.admissible for turn in turns) / len(turns)
    return {name: result[name] for name in ("arms", "differences", "inadmissible", "split", "temperature")}


def influence(run: Run) -> dict[str, Influence]:
    """Returns the sums of the probes of each skill, also of those that are gone."""
    state = read_bank(RunFolder(run.folder).bank).state
    return state.influence if state else {}


def growth(run: Run) -> dict[str, Any]:
    """Returns what happened over the iterations: success of both halves, skills, and the probe."""
    rows = [row for row in run.metrics if "rollout/skill_half_success" in row]
    probed = influence(run).values()
    probes = sum(one.decisions for one in probed)
    halves = {half: fmean(row[f"rollout/{half}_half_success"] for row in rows) for half in ("skill", "baseline")}
    return {
        "iterations": len(rows),
        "success": halves,
        "skills": {"task": rows[-1]["bank/task"], "step": rows[-1]["bank/step"]},
        "probes": probes,
        "changes": sum(one.changes for one in probed) / probes if probes else None,
        "log_prob": sum(one.log_prob for one in probed) / probes if probes else None,
        "env_steps": rows[-1]["env_steps"],
        "seconds": round(rows[-1]["time/seconds"]),
    }


def heeded(run: Run) -> list[dict[str, Any]]:
    """Returns the skills that changed the greedy action in the largest number of probed prompts."""
    probed = influence(run)
    found = [(probed[skill.id], skill.text.title) for skill in run.bank.skills() if skill.id in probed]
    found.sort(key=lambda pair: (-pair[0].changes, pair[0].decisions, pair[1]))
    rows = ({"title": title, "probes": one.decisions, "changes": one.changes} for one, title in found if one.changes)
    return list(rows)[:MOST_HEEDED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or name of the model")
    parser.add_argument("--env", default="alfworld")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--max-steps", type=int, default=20)
    parser.add_argument("--games", type=int, default=38, help="demonstrated games; ALFWorld has some 14 decisions each")
    parser.add_argument("--iterations", type=int, default=24)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    own, more = sys.argv[1:], []
    if "--" in own:
        own, more = own[: own.index("--")], own[own.index("--") + 1 :]
    given = parser.parse_args(own)
    given.more = more
    run = train(settings(given), folder=given.out, resume_if_begun=True)
    imitated = {name: value for name, value in RunFolder(run.folder).read_metrics()[0].items() if "warm_start" in name}
    kept = ("env", "max_steps", "games", "iterations", "tasks", "seeds", "seed")
    print(
        compact(
            {
                "version": version("d2skill"),
                "model": Path(given.model).name,
                "settings": {name: getattr(given, name) for name in kept} | {"flags": more},
                "imitated": imitated,
                "growth": growth(run),
                "heeded": heeded(run),
                **evaluated(run, given),
            }
        )
    )


if __name__ == "__main__":
    main()
