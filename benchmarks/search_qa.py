"""Benchmark of search QA: start, environment steps a second, and the reference's loop; prints one JSON object.

    python benchmarks/search_qa.py --data FOLDER
    PYTHONPATH=DIR python benchmarks/search_qa.py --data FOLDER    # with skyrl-gym 0.4 in DIR, see search_reference.py

A random agent plays training questions. `listed` is with lists of actions, from which it draws; `free` is without, as a
model that writes plays it: it searches with words of the question and answers. `warm` plays episodes once more that
were all played before, so that each query is known; `cold` plays in an environment that knows no query, each question
once; `first` is as cold, and also knows no passage yet, whose spans are found once in a process. In `free` each query
of the cold part is new; in `listed` some of an episode's are the next one's too, as they are made from what was found.
Rates have the agent's own choices and all starts of episodes in them.

`start` is of fresh processes, import included: `first` builds the index of the corpus, `second` opens it, both up to
the first question's first search. Rates, and `own` of the start, are by the process's own time, those of the clock
beside them, for others may use the machine too; the best of some passes each. `reference` is SearchEnv of skyrl-gym
with requests, against a server in a process of its own that searches our index by the same queries as `free`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from search_reference import make_reference

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.environment import SearchQAEnvironment

BARS = {"warm": 20_000.0, "cold": 1500.0, "start_s": 1.0}
EPISODES, REFERENCE_EPISODES, PASSES, STARTS = 600, 100, 3, 5
START = """
import json, sys, time
from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.environment import SearchQAEnvironment
imported = time.time()
environment = SearchQAEnvironment(sys.argv[1], SearchQAConfig())
opened = time.time()
session = environment.start(environment.task_ids("train")[0])
assert session.step(f"search[{session.task.text}]").actions
print(json.dumps([imported, opened, time.time()]))
"""
SERVER = """
import json, sys, time
from search_reference import serve
texts = [json.loads(line)["contents"] for line in open(sys.argv[1], encoding="utf-8")]
with serve(texts) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def started(data: Path, cache: Path) -> dict[str, float]:
    """Returns the seconds of a fresh process: import, opening, first search, all of it, and the process's own time."""
    begun, used = time.time(), os.times()
    variables = os.environ | {"XDG_CACHE_HOME": str(cache)}
    out = subprocess.run(
        [sys.executable, "-c", START, str(data)], env=variables, check=True, capture_output=True, text=True
    )
    imported, opened, searched = json.loads(out.stdout)
    now = os.times()
    own = now.children_user + now.children_system - used.children_user - used.children_system
    parts = {"import": imported - begun, "open": opened - imported, "search": searched - opened}
    return {name: round(value, 3) for name, value in (parts | {"total": searched - begun, "own": own}).items()}


def words(question: str, rng: random.Random) -> str:
    """Returns some words of a question, in their order."""
    all_words = question.split()
    kept = sorted(rng.sample(range(len(all_words)), rng.randint(min(2, len(all_words)), len(all_words))))
    return " ".join(all_words[place] for place in kept)


def free_actions(question: str, turns: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yields what an agent does that needs no list: searches, and an answer at the last turn."""
    for _ in range(turns - 1):
        yield "search", words(question, rng)
    yield "answer", words(question, rng)


def play_listed(environment: SearchQAEnvironment, ids: Iterable[str]) -> int:
    """Plays episodes by the listed actions, at random; returns the steps."""
    steps = 0
    for task_id in ids:
        rng, session = random.Random(task_id), environment.start(task_id)
        while not session.observation.done:
            session.step(rng.choice(session.observation.actions))
            steps += 1
    return steps


def play_free(environment: SearchQAEnvironment, ids: Iterable[str]) -> int:
    """Plays episodes without looking at lists; returns the steps."""
    steps = 0
    for task_id in ids:
        rng, session = random.Random(task_id), environment.start(task_id)
        for name, text in free_actions(session.task.text, 4, rng):
            session.step(f"{name}[{text}]")
            steps += 1
    return steps


def rates(
    data: Path, settings: SearchQAConfig, play: Callable[[SearchQAEnvironment, Sequence[str]], int]
) -> dict[str, float]:
    """Returns steps a second: first and cold, where no query is known, and warm, of episodes that were played."""
    best: dict[str, float] = {}
    for number in range(PASSES):
        environment = SearchQAEnvironment(data, settings)
        ids = environment.task_ids("train")[:EPISODES]
        for kind in ("cold" if number else "first", "warm", "warm"):
            begun, clock = process_time(), perf_counter()
            steps = play(environment, ids)
            for name, seconds in ((kind, process_time() - begun), (f"{kind}_wall", perf_counter() - clock)):
                best[name] = max(best.get(name, 0), round(steps / seconds))
    return best | {"steps": steps}


@contextmanager
def server(corpus: Path) -> Iterator[str]:
    """Serves a corpus by a process of its own; yields the address."""
    here = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(corpus)],
        env=os.environ | {"PYTHONPATH": here},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()


def reference_rate(data: Path) -> dict[str, float] | None:
    """Returns the steps a second of the reference's loop over HTTP, by the clock; None where it is not installed."""
    try:
        import skyrl_gym.envs.search.env  # noqa: F401
    except ImportError:
        return None
    environment = SearchQAEnvironment(data, SearchQAConfig(queries=0, answers=0))
    questions = environment.questions("train")[:REFERENCE_EPISODES]
    best = 0.0
    with server(data / "corpus.jsonl") as url:
        for _ in range(PASSES):
            steps, begun = 0, perf_counter()
            for question in questions:
                rng = random.Random(question.id)
                env = make_reference(url, question.answers, 4)
                for name, text in free_actions(question.text, 4, rng):
                    out = env.step(f"<think>So.</think><{name}>{text}</{name}>")
                    assert out["done"] == (name == "answer")
                    steps += 1
            best = max(best, steps / (perf_counter() - begun))
    return {"steps_per_second": round(best), "steps": steps}


def main() -> None:
    """Measures all and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data.expanduser()
    with tempfile.TemporaryDirectory() as cache:
        first = started(data, Path(cache))
        second = min((started(data, Path(cache)) for _ in range(STARTS)), key=lambda one: one["own"])
        os.environ["XDG_CACHE_HOME"] = cache
        listed = rates(data, SearchQAConfig(), play_listed)
        free = rates(data, SearchQAConfig(queries=0, answers=0), play_free)
        reference = reference_rate(data)
    ratios = {}
    if reference:
        kinds = {"listed": listed, "free": free}
        ratios = {
            f"{name}_{kind}_over_reference": round(rate[kind] / reference["steps_per_second"], 1)
            for name, rate in kinds.items()
            for kind in ("warm_wall", "cold_wall")
        }
    reached = {
        "warm": min(listed["warm"], free["warm"]) >= BARS["warm"],
        "cold": min(listed["cold"], free["cold"]) >= BARS["cold"],
        "start": second["own"] <= BARS["start_s"],
    }
    report: dict[str, Any] = {
        "start_s": {"first": first, "second": second},
        "steps_per_second": {"listed": listed, "free": free},
        "reference": reference,
        "ratios": ratios,
        "bars": BARS,
        "reached": reached,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
