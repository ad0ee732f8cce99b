"""Compares our ALFWorld engine with the official one, live and observation by observation; prints one JSON object.

Needs the official engine in the same environment (`pip install alfworld`; alfworld 0.4.2, textworld 1.7.0 were used).
Each game is played twice in both engines: the walkthrough and on after the goal, then random admissible commands with
inadmissible and malformed ones in between. Text, command list and won flag have to be equal at every step.

The official engine takes about two seconds a game, so the outcome of each is a line in --out at once, games that
have a line are left out, and several processes can share the work:

    python benchmarks/alfworld_parity.py --data FOLDER --out parity.jsonl --share 1/2

A line holds a digest of what the official engine said. With --replay the same commands are played in our engine alone
and compared with the digests, which takes a minute and needs no official engine; those of all games are in
tests/envs/alfworld/data/official_digests.jsonl.xz.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import time
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from d2skill.envs.alfworld import Game
from d2skill.utils.rng import generator

RANDOM_STEPS = 30
STEPS_AFTER_THE_GOAL = 4
ODD = 0.15
MALFORMED = ("", "go to", "go to nowhere 1", "dance", "open fridge 99", "take from", "examine {o}", "[x|y]", "#look#")
QUIET = ("look", "inventory", "help", "examine", "go")


class OfficialFailed(Exception):
    """The official engine raised something."""


@cache
def official_environment():
    """Returns the official environment, one for all games: each new one loads the planner's library anew, for good.

    It parses each text once: its parsers are pure functions and take most of its time.
    """
    import fast_downward
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld import logic
    from textworld.envs.pddl import PddlEnv, textgen

    fast_downward.pddl2sas = lru_cache(maxsize=2)(fast_downward.pddl2sas)
    logic._PARSER.parse = lru_cache(maxsize=10_000)(logic._PARSER.parse)
    textgen._PARSER.parse = lru_cache(maxsize=10_000)(textgen._PARSER.parse)
    wanted = textworld.EnvInfos(admissible_commands=True, won=True, feedback=True)
    return AlfredDemangler(PddlEnv(wanted), shuffle=False)


class Official:
    """The official engine on one game."""

    def __init__(self, path: Path) -> None:
        self._env = official_environment()
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
    seen: list[str] = []
    played = 0
    while played < (STEPS_AFTER_THE_GOAL if walk else RANDOM_STEPS):
        admissible = game.clone().step("look").commands
        seen.extend(admissible)
        if rng.random() < ODD:
            yield odd(admissible, seen, rng)
            continue
        verbs = sorted({command.split()[0] for command in admissible})
        weights = np.array([1.0 if verb in QUIET else 3.0 for verb in verbs])
        verb = str(rng.choice(verbs, p=weights / weights.sum()))
        yield pick([command for command in admissible if command.split()[0] == verb], rng)
        played += 1


def odd(admissible: list[str], seen: list[str], rng: np.random.Generator) -> str:
    """Returns a command that is malformed, oddly written, or admissible at another time, perhaps with other things."""
    match int(rng.integers(4)):
        case 0:
            return pick(MALFORMED, rng)
        case 1:
            command = pick(admissible, rng)
            return pick((command.upper(), f"  {command} ", command.replace(" ", "  "), command[:-1]), rng)
        case 2:
            return pick(seen, rng)
        case _:
            words, others = pick(seen, rng).split(), pick(seen, rng).split()
            return " ".join(words[:-2] + others[-2:])


def pick(things: list[str] | tuple[str, ...], rng: np.random.Generator) -> str:
    return things[int(rng.integers(len(things)))]


def plays(path: Path, name: str) -> Iterator[tuple[str, tuple[str, list[str], bool]]]:
    """Plays a game in our engine twice and yields each command, "(reset)" first, with what was then seen."""
    game = Game.load(path)
    rng = generator("parity", name)
    for walk in (True, False):
        seen = game.reset()
        yield "(reset)", (seen.text, seen.commands, seen.won)
        for command in commands(game, rng, walk):
            seen = game.step(command)
            yield command, (seen.text, seen.commands, seen.won)


def compare(path: Path, name: str) -> dict:
    """Returns how many observations were compared and their digest, or the first difference if there is one."""
    official = Official(path)
    digest = hashlib.sha256()
    count = 0
    for command, ours in plays(path, name):
        expected = official.reset() if command == "(reset)" else official.step(command)
        count += 1
        digest.update(json.dumps(expected).encode())
        if ours != expected:
            return {"game": name, "observations": count, "at": command, "ours": ours, "official": expected}
    return {"game": name, "observations": count, "digest": digest.hexdigest()[:16]}


def read_lines(path: Path) -> list[dict]:
    """Returns the lines of a file of outcomes, which may be packed (.xz)."""
    data = path.read_bytes()
    text = (lzma.decompress(data) if path.suffix == ".xz" else data).decode()
    return [json.loads(line) for line in text.splitlines()]


def replay(path: Path, line: dict) -> bool:
    """Tells whether our engine, alone, says what the official one said when the line was written."""
    digest = hashlib.sha256()
    for _, ours in plays(path, line["game"]):
        digest.update(json.dumps(ours).encode())
    return digest.hexdigest()[:16] == line["digest"]


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
    parser.add_argument("--replay", action="store_true", help="compare our engine with the digests in --out")
    given = parser.parse_args()
    lines = read_lines(given.out) if given.out.exists() else []
    if given.replay:
        lines = [line for line in lines if "digest" in line and (given.data / line["game"]).is_dir()]
        different = [line["game"] for line in lines if not replay(given.data / line["game"] / "game.tw-pddl", line)]
        print(json.dumps({"games": len(lines), "games_with_differences": len(different), "first": different[:5]}))
        return
    first, of = map(int, given.share.split("/"))
    known = {line["game"] for line in lines}
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
    results = read_lines(given.out)
    report = {
        "games": len(results),
        "observations": sum(result["observations"] for result in results),
        "games_with_differences": sum("at" in result for result in results),
        "games_that_the_official_engine_fails_on": sum("official_fails" in result for result in results),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
