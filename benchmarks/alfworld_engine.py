"""How fast the ALFWorld engine loads, resets and steps; prints one JSON object, times in milliseconds.

Random admissible play with the full command list at every step, on one core. Where the official engine is installed
(`pip install alfworld`) it is timed beside ours, on the same games and commands, and `times_faster` is the ratio.

    python benchmarks/alfworld_engine.py --data FOLDER            # or without --data, on generated houses
"""

from __future__ import annotations

import argparse
import json
import tempfile
import tracemalloc
from pathlib import Path
from time import perf_counter

import numpy as np

from d2skill.config import HousesConfig
from d2skill.envs.alfworld import Game
from d2skill.envs.houses import generate
from d2skill.utils.rng import generator

HELD_AT_ONCE = 128
LONG_PLAY = 300


def ours(paths: list[Path], steps: int, rng: np.random.Generator) -> tuple[dict[str, float], list[list[str]]]:
    """Returns mean times of our engine, and the commands that were played in each game."""
    load = reset = step = 0.0
    played = []
    for path in paths:
        started = perf_counter()
        game = Game.load(path)
        loaded = perf_counter()
        commands = game.reset().commands
        load, reset = load + loaded - started, reset + perf_counter() - loaded
        played.append([])
        for _ in range(steps):
            command = commands[int(rng.integers(len(commands)))]
            started = perf_counter()
            commands = game.step(command).commands
            step += perf_counter() - started
            played[-1].append(command)
    count = len(paths)
    return {"load": 1e3 * load / count, "reset": 1e3 * reset / count, "step": 1e3 * step / (count * steps)}, played


def official(paths: list[Path], played: list[list[str]]) -> dict[str, float] | None:
    """Returns mean times of the official engine on the same commands, or None where it is not installed."""
    try:
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
        from textworld.envs.pddl import PddlEnv
    except ImportError:
        return None
    load = reset = step = 0.0
    for path, commands in zip(paths, played, strict=True):
        wanted = textworld.EnvInfos(admissible_commands=True, won=True, feedback=True)
        started = perf_counter()
        env = AlfredDemangler(PddlEnv(wanted), shuffle=False)
        env.load(str(path))
        loaded = perf_counter()
        env.reset()
        load, reset = load + loaded - started, reset + perf_counter() - loaded
        started = perf_counter()
        for command in commands:
            env.step(command)
        step += perf_counter() - started
    count, steps = len(paths), sum(map(len, played))
    return {"load": 1e3 * load / count, "reset": 1e3 * reset / count, "step": 1e3 * step / steps}


def memory_mb(paths: list[Path], rng: np.random.Generator) -> dict[str, float]:
    """Returns what games held at once take, in MiB of Python objects: loaded, and after a long random play of each."""
    tracemalloc.start()
    games = [Game.load(paths[i % len(paths)]) for i in range(HELD_AT_ONCE)]
    loaded = tracemalloc.get_traced_memory()[0] / 2**20
    for game in games:
        for _ in range(LONG_PLAY):
            game.play(game.commands[int(rng.integers(len(game.commands)))])
    played = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    return {"loaded": loaded, "played": played}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with game.tw-pddl files, at any depth")
    parser.add_argument("--games", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--official-games", type=int, default=5)
    given = parser.parse_args()
    rng = generator("benchmark", "engine")
    with tempfile.TemporaryDirectory() as folder:
        if given.data:
            found = sorted(given.data.rglob("game.tw-pddl"))
            paths = [found[i] for i in rng.permutation(len(found))[: given.games]]
        else:
            paths = [Path(folder) / f"{number}.tw-pddl" for number in range(given.games)]
            for number, path in enumerate(paths):
                path.write_text(json.dumps(generate(HousesConfig(), "train", number)))
        own, played = ours(paths, given.steps, rng)
        beside = official(paths[: given.official_games], played[: given.official_games])
        memory = memory_mb(paths, rng)
    report = {
        "games": len(paths),
        "d2skill_ms": own,
        "official_ms": beside,
        f"memory_of_{HELD_AT_ONCE}_games_mb": memory,
    }
    if beside:
        report["times_faster"] = {name: beside[name] / own[name] for name in own}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
