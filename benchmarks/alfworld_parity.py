"""Compares our ALFWorld engine with the official one, live and observation by observation; prints one JSON object.

Needs the official engine in the same environment (`pip install alfworld`; alfworld 0.4.2, textworld 1.7.0 were used).
Each game is played twice in both engines: the walkthrough and on after the goal, then random admissible commands with
inadmissible and malformed ones in between. Text, command list and won flag have to be equal at every step.

The official engine takes about four seconds a game, so the outcome of each is a line in --out at once, games that have
a line are left out, and several processes can share the work:

    python benchmarks/alfworld_parity.py --data FOLDER --out results/alfworld_parity.jsonl --share 1/2
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import textworld
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
from textworld.envs.pddl import PddlEnv

from d2skill.envs.alfworld import Game
from d2skill.rng import generator

RANDOM_STEPS = 32
STEPS_AFTER_THE_GOAL = 4
MALFORMED = ("", "go to", "go to nowhere 1", "dance", "open fridge 99", "take from", "Look", "examine {o}", "[x|y]")


class OfficialFailed(Exception):
    """The official engine raised something."""


class Official:
    """The official engine on one game."""

    def __init__(self, path: Path) -> None:
        wanted = textworld.EnvInfos(admissible_commands=True, won=True, feedback=True)
        self._env = AlfredDemangler(PddlEnv(wanted), shuffle=False)
        self._ask(lambda: self._env.load(str(path)))

    def reset(self) -> tuple[str, list[str], bool]:
        return self._seen(self._ask(self._env.reset))

    def step(self, command: str) -> tuple[str, list[str], bool]:
        return self._seen(self._ask(lambda: self._env.step(command)[0]))

    @staticmethod
    def _ask(call):
        try:
            return call()
        except Exception as error:
            raise OfficialFailed(f"{type(error).__name__}: {error}") from error

    @staticmethod
    def _seen(state) -> tuple[str, list[str], bool]:
        return state.feedback, state["admissible_commands"], state["won"]


def commands(game: Game, rng: np.random.Generator, walk: bool) -> Iterator[str]:
    """Yields what to play next; reads what is admissible off our own engine."""
    if walk:
        yield from game.walkthrough
    for _ in range(STEPS_AFTER_THE_GOAL if walk else RANDOM_STEPS):
        admissible = game.clone().step("look").commands
        if rng.random() < 0.1:
            odd = (*MALFORMED, admissible[int(rng.integers(len(admissible)))].upper())
            yield odd[int(rng.integers(len(odd)))]
            continue
        verbs = sorted({command.split()[0] for command in admissible})
        verb = verbs[int(rng.integers(len(verbs)))]
        fitting = [command for command in admissible if command.split()[0] == verb]
        yield fitting[int(rng.integers(len(fitting)))]


def compare(path: Path, name: str) -> dict:
    """Returns how many observations were compared, and the first difference if there is one."""
    game, official = Game.load(path), Official(path)
    rng = generator("parity", name)
    count = 0
    for walk in (True, False):
        seen, expected, command = game.reset(), official.reset(), "(reset)"
        ahead = commands(game, rng, walk)
        while True:
            count += 1
            if (seen.text, seen.commands, seen.won) != expected:
                ours = [seen.text, seen.commands, seen.won]
                return {"game": name, "observations": count, "at": command, "ours": ours, "official": list(expected)}
            command = next(ahead, None)
            if command is None:
                break
            seen, expected = game.step(command), official.step(command)
    return {"game": name, "observations": count}


def outcome(path: Path, name: str) -> dict:
    """Compares a game; where the official engine itself fails on it, says so."""
    try:
        return compare(path, name)
    except OfficialFailed as error:
        return {"game": name, "observations": 0, "official_fails": str(error)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with game.tw-pddl files, at any depth")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a game; made or gone on with")
    parser.add_argument("--share", default="1/1", help="I/N: take every Nth game, starting with the Ith")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    given = parser.parse_args()
    first, of = map(int, given.share.split("/"))
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    known = {json.loads(line)["game"] for line in lines}
    paths = sorted(given.data.rglob("game.tw-pddl"))
    order = generator("parity order").permutation(len(paths))
    started = time.monotonic()
    for i in order[first - 1 :: of]:
        name = str(paths[i].parent.relative_to(given.data))
        if name in known:
            continue
        if time.monotonic() - started > given.seconds:
            break
        with given.out.open("a") as file:
            file.write(json.dumps(outcome(paths[i], name)) + "\n")
    results = [json.loads(line) for line in given.out.read_text().splitlines()]
    report = {
        "games": len(results),
        "observations": sum(result["observations"] for result in results),
        "games_with_differences": sum("at" in result for result in results),
        "games_that_the_official_engine_fails_on": sum("official_fails" in result for result in results),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
