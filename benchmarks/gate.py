"""How well an embedder's gates separate related keys from unrelated ones; prints one JSON object.

Pairs of training tasks are sorted by what they share: the room (the first observation), the object (the thing that the
task is about), both or neither. For each class: quantiles of the similarity and the share above the gate.

    python benchmarks/gate.py --env houses
    python benchmarks/gate.py --env alfworld --data FOLDER --tasks 1200
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from d2skill.bank.index import Index
from d2skill.bank.journal import BankState
from d2skill.config import Config, EnvConfig
from d2skill.embedders import make_embedder
from d2skill.embedders.calibrate import best_threshold
from d2skill.envs import make_environment
from d2skill.envs.alfworld.expert import parse_task
from d2skill.rng import generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="houses", choices=["houses", "alfworld"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tasks", type=int, default=480)
    given = parser.parse_args()
    config = Config()
    embedder = make_embedder(config.embedder)
    index = Index(BankState(), embedder)
    environment = make_environment(EnvConfig(kind=given.env, data=given.data))
    ids = list(environment.task_ids("train"))
    picks = generator("gate").permutation(len(ids))[: given.tasks]
    sessions = [environment.start(ids[i]) for i in picks]
    texts = [session.task.text for session in sessions]
    rooms = np.array([session.observation.text for session in sessions])
    objects = np.array([request.target if (request := parse_task(text)) else "" for text in texts])
    goals = np.array(texts)
    step = np.stack([index.encode_step(text, room) for text, room in zip(texts, rooms.tolist(), strict=True)])
    task = np.stack([index.encode_task(text) for text in texts])
    upper = np.triu_indices(len(sessions), 1)
    room = (rooms[:, None] == rooms)[upper]
    thing = (objects[:, None] == objects)[upper]
    goal = (goals[:, None] == goals)[upper]
    step_classes = {
        "same room, same object": room & thing,
        "same room, other object": room & ~thing,
        "other room, same object": ~room & thing,
        "other room, other object": ~room & ~thing,
    }
    task_classes = {"same goal": goal, "same object": thing & ~goal, "other object": ~thing}
    report = {
        "embedder": embedder.fingerprint,
        "env": given.env,
        "tasks": len(sessions),
        "step": classes((step @ step.T)[upper], step_classes, embedder.step_gate, room & thing),
        "task": classes((task @ task.T)[upper], task_classes, embedder.task_gate, thing),
    }
    print(json.dumps(report, indent=2))


def classes(similarity: np.ndarray, members: dict[str, np.ndarray], gate: float, related: np.ndarray) -> dict:
    best, _ = best_threshold(similarity[related], similarity[~related])
    report: dict = {"gate": gate, "best_balanced_accuracy_at": round(best, 2)}
    for name, member in members.items():
        values = similarity[member]
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
        report[name] = {
            "pairs": int(member.sum()),
            "p10_p50_p90": [round(float(x), 2) for x in (low, middle, high)],
            "share_above_gate": round(float((values >= gate).mean()), 3),
        }
    return report


if __name__ == "__main__":
    main()
