"""How good the two experts are on ALFWorld games: the planner, which sees everything, and the exploring one.

Prints one JSON object, times in milliseconds on one core. The planner is compared with the walkthroughs, which the
official planner wrote, and each of its plans is played; games that are marked as unsolvable are given to it as well.
The exploring expert plays the games marked as solvable without hints, at most 50 steps each.

    python benchmarks/alfworld_experts.py --data FOLDER
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from time import perf_counter

from d2skill.envs.alfworld import Game
from d2skill.envs.alfworld.environment import AlfworldEnvironment
from d2skill.envs.alfworld.planner import shortest_plan

LIMIT, SHORT = 50, 20


def planned(paths: list[Path]) -> dict:
    """Returns how the planner does on games."""
    times, lengths, walkthroughs, compared = [], [], [], []
    solvable = {True: [], False: []}
    won = 0
    for path in paths:
        game = Game.load(path)
        started = perf_counter()
        commands = shortest_plan(game)
        times.append(1e3 * (perf_counter() - started))
        solvable[json.loads(path.read_bytes())["solvable"]].append(commands is not None)
        if commands is None:
            continue
        lengths.append(len(commands))
        won += wins(game, commands)
        if game.walkthrough:
            walkthroughs.append(len(game.walkthrough))
            compared.append(len(commands) - len(game.walkthrough))
    return {
        "games": len(paths),
        "marked_solvable": len(solvable[True]),
        "marked_solvable_with_plan": sum(solvable[True]),
        "marked_unsolvable": len(solvable[False]),
        "marked_unsolvable_without_plan": solvable[False].count(False),
        "plans": len(lengths),
        "plans_that_win": won,
        "with_walkthrough": len(compared),
        "longer_than_walkthrough": sum(difference > 0 for difference in compared),
        "equal_to_walkthrough": compared.count(0),
        "shorter_than_walkthrough": sum(difference < 0 for difference in compared),
        "mean_plan": mean(lengths),
        "mean_walkthrough": mean(walkthroughs),
        "mean_ms": mean(times),
        "max_ms": max(times),
    }


def wins(game: Game, commands: list[str]) -> bool:
    for command in commands:
        game.step(command)
    return game.won


def explored(environment: AlfworldEnvironment, task_ids: list[str]) -> dict:
    """Returns how the exploring expert does on games."""
    steps = [play(environment, task_id) for task_id in task_ids]
    wins = [n for n in steps if n is not None]
    return {
        "games": len(steps),
        f"success_within_{LIMIT}": len(wins) / len(steps),
        f"success_within_{SHORT}": sum(n <= SHORT for n in wins) / len(steps),
        "mean_steps_of_successes": mean(wins),
    }


def play(environment: AlfworldEnvironment, task_id: str) -> int | None:
    """Returns the number of steps that the exploring expert needs for a game, None beyond the limit."""
    session = environment.start(task_id)
    expert = environment.expert(session.task, hints=(), seed=0)
    for number in range(1, LIMIT + 1):
        if session.step(expert.act(session.observation)).success:
            return number
    return None


def mean(values: list[float]) -> float | None:
    return statistics.mean(values) if values else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with json_2.1.1 or alfworld_2021/json_2.1.1")
    parser.add_argument("--games", type=int, help="at most so many of each split, spread over it; default all")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    given = parser.parse_args()
    report = {}
    for root in (given.data / "json_2.1.1", given.data / "alfworld_2021" / "json_2.1.1"):
        for split in sorted(root.glob("*/")):
            environment = AlfworldEnvironment(root)
            paths = spread(sorted(split.glob("*/*/game.tw-pddl")), given.games)
            report[str(split.relative_to(given.data))] = {
                "planner": planned(paths),
                "explorer": explored(environment, spread(list(environment.task_ids(split.name)), given.games)),
            }
    if not report:
        parser.error(f"{given.data} holds neither json_2.1.1 nor alfworld_2021/json_2.1.1 with splits in it")
    text = json.dumps(report, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


def spread(things: list, most: int | None) -> list:
    """Returns at most so many of the things, from all over the list."""
    return things if most is None else things[:: max(1, -(-len(things) // most))]


if __name__ == "__main__":
    main()
