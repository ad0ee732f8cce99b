"""Benchmark of WebShop: start, search and step times, and memory; prints one JSON object and says which bars are met.

Times are of one core. `start` is of fresh processes, import included: `cold` has to clean and index the products,
`cached` opens what another process left; the files themselves are in the system's cache in both. `agent` searches with
words of the instruction and clicks at random; its rate has its own choices and all resets in it. `search_ms` is of the
index alone, which keeps no results: different queries, each at the best of three passes over all, for others may use
the machine too. Where bm25s is installed (`pip install bm25s`) it does the same queries on the same documents, on terms
that our analysis gives it. A session's bytes have in them what the catalogue keeps of the pages that it saw.

    python benchmarks/webshop.py --data FOLDER                    # the original's small set: half a minute
    python benchmarks/webshop.py --data FOLDER --full [PRODUCTS]  # and a million made after it: 8 minutes

A million products take 6 GB of disk for that time, and 4 GB of memory while they are indexed. `synthetic_goals` are
those of all products, drawn anew, which the first process with a seed does, and as it left them in the cache.

A made product has the lengths, prices, options and instructions of real ones. Three words in ten stay those of one real
product, so that words that belong together come together; the others are drawn from all real words by how frequent they
are, and from a tail of new ones (Pitman and Yor's, its discount estimated), so that the vocabulary grows as it does
from some real products to more. Memory is read off /proc and left out elsewhere: `own` is the process's alone,
`mapped` is files in memory, which all processes share.
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
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

import numpy as np

from d2skill.config import WebshopConfig
from d2skill.envs.text_search import BM25Index, analyze
from d2skill.envs.webshop import Catalogue, Goal, GoalSet, Page, Shop, cache_folder, make_goals
from d2skill.envs.webshop.environment import WebshopEnvironment
from d2skill.envs.webshop.pages import SUB_PAGES

try:
    import bm25s
except ImportError:
    bm25s = None

FULL = 1_000_000
SESSIONS = (128, 10_000)
LONGEST_EPISODE, STEPS_OF_FULL = 50, 20_000
ORIGINAL = {
    "ms_per_step": 38,
    "steps_per_second": 26,
    "source": "the original, timed when the recorded sessions were made",
}
OWN = 0.3
"""The share of words that a made product has of one real product."""
CHUNK = 10_000
PASSES = 3
GOALS_READ = 5000

START = """
import json, sys, time
from d2skill.envs.webshop import Catalogue, Shop, make_goals
imported = time.time()
catalogue = Catalogue.load(sys.argv[1])
opened = time.time()
goals = make_goals(catalogue, human=sys.argv[2] == "human")
made = time.time()
assert Shop(catalogue, goals.prices).reset(goals.goals[0]).search
print(json.dumps([imported, opened, made, time.time()]))
"""
START_ENVIRONMENT = """
import json, sys, time
from d2skill.config import WebshopConfig
from d2skill.envs.webshop.environment import WebshopEnvironment
imported = time.time()
environment = WebshopEnvironment(sys.argv[1], WebshopConfig(goals=sys.argv[2]))
opened = time.time()
assert environment.start(environment.task_ids("train")[0]).observation.actions
print(json.dumps([imported, opened, opened, time.time()]))
"""


# What is measured of any catalogue


def percentiles(seconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    ms = 1e3 * np.array(seconds)
    named = {"mean": ms.mean(), "p50": np.percentile(ms, 50), "p99": np.percentile(ms, 99), "worst": ms.max()}
    return {name: round(float(value), 4) for name, value in named.items()}


def cut(text: str, rng: random.Random) -> str:
    """Returns 3 to 12 words of a text that follow each other."""
    words = text.replace("[", " ").replace("]", " ").split()
    size = rng.randint(3, 12)
    first = rng.randrange(max(1, len(words) - size + 1))
    return " ".join(words[first : first + size])


def different_queries(texts: Sequence[str], most: int, rng: random.Random) -> list[str]:
    tried = (cut(rng.choice(texts), rng) for _ in range(10 * most))
    return list(islice(dict.fromkeys(tried), most))


def query_times(search: Callable[[str], object], queries: Sequence[str]) -> dict[str, float]:
    """Returns times of queries, each the best of some passes over all, and the mean of the first pass."""
    passes = np.empty((PASSES, len(queries)))
    for taken in passes:
        for number, query in enumerate(queries):
            started = perf_counter()
            search(query)
            taken[number] = perf_counter() - started
    return percentiles(passes.min(axis=0)) | {"mean_of_first_pass": round(1e3 * float(passes[0].mean()), 4)}


def typed_queries(folder: Path) -> list[str]:
    """Returns what people searched for, where the file with it is."""
    typed = folder / "goal_query_map.json"
    asked = json.loads(typed.read_bytes()).values() if typed.is_file() else ()
    return list(dict.fromkeys(query for some in asked for query in some))


def kind_of(shop: Shop, page: Page, action: str) -> str:
    if page.done:
        return "purchase"
    if page.search:
        return "first"
    if shop.product is None:
        return "search" if action.startswith("search") else "results"
    return "part" if action[6:-1] in SUB_PAGES else "product"


def choose(page: Page, goal: Goal, rng: random.Random) -> str:
    return f"search[{cut(goal.text, rng)}]" if page.search else f"click[{rng.choice(page.click)}]"


def play(catalogue: Catalogue, goals: GoalSet, steps: int, rng: random.Random) -> dict[str, Any]:
    """Plays at random. Times are by the page that a step led to: results are turned pages, a search made them anew.

    The catalogue keeps results of searches, so there is also a rate as if each search took what new ones did.
    """
    taken: dict[str, list[float]] = defaultdict(list)
    asked: dict[str, float] = {}
    shop = Shop(catalogue, goals.prices)
    episodes = done = 0
    begun = perf_counter()
    looked = 0.0
    while done < steps:
        goal = rng.choice(goals.goals)
        page = shop.reset(goal)
        episodes += 1
        for _ in range(min(LONGEST_EPISODE, steps - done)):
            action = choose(page, goal, rng)
            started = perf_counter()
            page = shop.step(action)
            ended = perf_counter()
            kind = kind_of(shop, page, action)
            taken[kind].append(ended - started)
            if kind == "search":
                asked.setdefault(action, ended - started)
            looked += perf_counter() - ended
            done += 1
            if page.done:
                break
    whole = perf_counter() - begun - looked
    searches = taken["search"]
    anew = len(searches) * float(np.mean(list(asked.values()))) - sum(searches)
    return {
        "steps": done,
        "episodes": episodes,
        "steps_per_second": round(done / whole),
        "engine_alone_steps_per_second": round(done / sum(map(sum, taken.values()))),
        "share_of_new_searches": round(len(asked) / len(searches), 3),
        "all_searches_new_steps_per_second": round(done / (whole + anew)),
        "ms_by_page": {
            kind: {"share": round(len(some) / done, 3)} | percentiles(some) for kind, some in sorted(taken.items())
        },
    }


def play_sessions(environment: WebshopEnvironment, steps: int, rng: random.Random) -> int:
    """Returns how many steps a second a random agent does that plays the environment's sessions, labels and all."""
    ids, done, begun = environment.task_ids("train"), 0, perf_counter()
    while done < steps:
        session = environment.start(rng.choice(ids))
        for _ in range(min(LONGEST_EPISODE, steps - done)):
            done += 1
            if session.step(rng.choice(session.observation.actions)).done:
                break
    return round(done / (perf_counter() - begun))


def in_the_middle(catalogue: Catalogue, goals: GoalSet, rng: random.Random) -> Shop:
    """Returns a session of a goal of its own, which looks at a product with an option clicked if it has one."""
    goal = rng.choice(goals.goals)
    shop = Shop(catalogue, goals.prices)
    shop.reset(goal)
    page = shop.step(f"search[{cut(goal.text, rng)}]")
    if found := [name for name in page.click if shop.linked_product(name)]:
        page = shop.step(f"click[{rng.choice(found)}]")
        shop.step(f"click[{page.click[-1]}]" if page.click[-1] != "buy now" else "click[features]")
    return shop


def memory_of_sessions(catalogue: Catalogue, goals: GoalSet, rng: random.Random) -> dict[str, int]:
    """Returns bytes of Python objects for each session, what the catalogue keeps for all of them included."""
    report = {}
    for sessions in SESSIONS:
        tracemalloc.start()
        shops = [in_the_middle(catalogue, goals, rng) for _ in range(sessions)]
        report[f"of_{sessions}"] = round(tracemalloc.get_traced_memory()[0] / len(shops))
        tracemalloc.stop()
    return report


def beside_bm25s(catalogue: Catalogue, queries: Sequence[str]) -> dict[str, float] | str:
    if bm25s is None:
        return "not installed"
    peer = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
    peer.index([analyze(product.text) for product in catalogue], show_progress=False)
    most = min(50, len(catalogue))

    def search(query: str) -> None:
        if terms := analyze(query):
            peer.retrieve([terms], k=most, show_progress=False, n_threads=0)

    return {"version": bm25s.__version__} | query_times(search, queries)


# Fresh processes and what they take


def megabytes(path: str, *names: str) -> list[float]:
    try:
        lines = dict(line.split(":") for line in Path(path).read_text().splitlines()[1:])
        return [round(int(lines[name].split()[0]) / 1024, 1) for name in names]
    except (OSError, KeyError, ValueError, IndexError):
        return []


def memory() -> dict[str, float]:
    """Returns what this process has in memory, in MiB."""
    found = megabytes("/proc/self/smaps_rollup", "Rss", "Anonymous", "Private_Dirty", "Private_Clean")
    if not found:
        return {}
    rss, own, dirty, clean = found
    mapped, alone = round(rss - own, 1), round(dirty + clean - own, 1)
    peak = max([rss, *megabytes("/proc/self/status", "VmHWM")])
    return {"rss_mb": rss, "own_mb": own, "mapped_mb": mapped, "mapped_by_no_other_mb": alone, "peak_rss_mb": peak}


def environment_of(cache: Path) -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return os.environ | threads | {"D2SKILL_CACHE": str(cache)}


def start(data: Path, cache: Path, goals: str, code: str = START) -> dict[str, float]:
    begun = time.time()
    done = subprocess.run(
        [sys.executable, "-c", code, data, goals], env=environment_of(cache), stdout=subprocess.PIPE, check=True
    )
    imported, opened, made, seen = json.loads(done.stdout)
    return {
        "to_first_page_s": seen - begun,
        "import_s": imported - begun,
        "load_s": opened - imported,
        "goals_s": made - opened,
        "load_and_goals_s": made - imported,
    }


def median_start(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.median([run[name] for run in runs])), 3) for name in runs[0]}


def launch(part: str, data: Path, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--data", str(data), "--part", part]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment_of(cache), stdin=pipe, stdout=pipe, text=True)


def measured(part: str, data: Path, cache: Path) -> dict[str, Any]:
    """Runs a part in a process of its own, and adds the most that it had for itself, looked at ten times a second."""
    say(part)
    child = launch(part, data, cache)
    peak = 0.0
    while child.poll() is None:
        peak = max([peak, *megabytes(f"/proc/{child.pid}/status", "RssAnon")])
        time.sleep(0.1)
    out, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"the part {part} failed")
    report = json.loads(out)
    return report | {"peak_own_mb": max(peak, report["memory"].get("own_mb", 0.0))}


def part_build(data: Path) -> dict[str, Any]:
    begun = perf_counter()
    catalogue = Catalogue.load(data)
    return {"seconds": round(perf_counter() - begun, 1), "products": len(catalogue), "memory": memory()}


def part_open(data: Path) -> dict[str, Any]:
    before = memory()
    begun = perf_counter()
    Catalogue.load(data)
    opened = perf_counter() - begun
    return {"seconds": round(opened, 4), "memory_before": before, "memory": memory()}


def part_goals(data: Path, human: bool) -> dict[str, Any]:
    """Makes the goals, then some at random, then draws one, which weighs all."""
    catalogue, rng = Catalogue.load(data), random.Random(0)
    before, begun = memory(), perf_counter()
    made = make_goals(catalogue, human=human)
    ready, after = perf_counter(), memory()
    for _ in range(GOALS_READ):
        rng.choice(made.goals)
    read = perf_counter()
    made.draw(rng)
    return {
        "goals": len(made.goals),
        "seconds": round(ready - begun, 3),
        "ms_per_goal_read": round(1e3 * (read - ready) / GOALS_READ, 4),
        "first_draw_s": round(perf_counter() - read, 3),
        "memory_before": before,
        "memory": after,
    }


def part_environment(data: Path) -> dict[str, Any]:
    """Opens the environment with all synthetic goals, asks for the ids of all splits and starts an episode."""
    begun = perf_counter()
    environment = WebshopEnvironment(data, WebshopConfig())
    opened = perf_counter()
    ids = {split: environment.task_ids(split) for split in ("train", "validation", "test")}
    listed = perf_counter()
    environment.start(ids["train"][0])
    return {
        "tasks": {split: len(some) for split, some in ids.items()},
        "open_s": round(opened - begun, 3),
        "task_ids_s": round(listed - opened, 4),
        "first_episode_s": round(perf_counter() - listed, 4),
        "memory": memory(),
    }


def part_use(data: Path) -> dict[str, Any]:
    """Searches and plays with the goals by people, which a process can have at any size; then waits for a line."""
    rng = random.Random(0)
    catalogue = Catalogue.load(data)
    goals = make_goals(catalogue, human=True)
    ready = memory()
    index = BM25Index.open(next(cache_folder().glob("*/index")))
    queries = different_queries([goal.text for goal in goals.goals], 2000, rng)
    return {
        "queries": len(queries),
        "search_ms": query_times(index.search, queries),
        "agent": play(catalogue, goals, STEPS_OF_FULL, rng),
        "memory_when_ready": ready,
        "memory": memory(),
    }


# A catalogue as large as one likes


def coined(rank: int) -> str:
    """Returns the new word of a rank: no other has it, and nothing is stripped off it."""
    word = "k"
    while rank:
        rank, vowel = divmod(rank, 5)
        rank, consonant = divmod(rank, 20)
        word = "bcdfghjklmnprstvwxyz"[consonant] + "aeiou"[vowel] + word
    return word


class Maker:
    """Makes raw products after real ones."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.rng, self.random = np.random.default_rng(seed), random.Random(seed)
        self.raw = json.loads((folder / "items_shuffle_1000.json").read_bytes())
        self.attributes = json.loads((folder / "items_ins_v2_1000.json").read_bytes())
        self.people = json.loads((folder / "items_human_ins.json").read_bytes())
        self.prices = [one["pricing"] for one in self.raw]
        self.values: dict[str, dict[str, None]] = defaultdict(dict)
        numbers: dict[str, int] = defaultdict(count().__next__)
        self.models = []
        for one in self.raw:
            bullets = one["small_description"] if isinstance(one["small_description"], list) else []
            texts = [text.split() for text in (one["name"], one["full_description"], *bullets)]
            words = np.array([numbers[word] for text in texts for word in text], np.int64)
            self.models.append((one, [len(text) for text in texts], words))
            for name, contents in (one["customization_options"] or {}).items():
                self.values[name].update((content["value"], None) for content in contents or ())
        self.words = np.array(list(numbers), object)
        counts = np.bincount(np.concatenate([words for *_, words in self.models]))
        self.discount = float((counts == 1).mean())
        self.new = self.discount * len(counts) / counts.sum()
        self.known = np.cumsum(counts - self.discount)
        self.known *= (1 - self.new / (1 - OWN)) / self.known[-1]

    def text(self, words: np.ndarray) -> np.ndarray:
        """Returns as many words as there are numbers of words of real products."""
        others = np.flatnonzero(self.rng.random(len(words)) >= OWN)
        drawn = np.searchsorted(self.known, self.rng.random(len(others)), side="right")
        beyond = drawn == len(self.words)
        chosen = words.copy()
        chosen[others] = np.where(beyond, 0, drawn)
        found = self.words[chosen]
        chances = self.rng.random(int(beyond.sum()))
        ranks = np.minimum(len(self.words) * (1 - chances) ** (-self.discount / (1 - self.discount)), 1e15)
        found[others[beyond]] = [coined(rank) for rank in ranks.astype(np.int64).tolist()]
        return found

    def products(self, wanted: int) -> Iterator[tuple[dict[str, Any], str]]:
        """Yields raw products, each with the asin of the real one that it is made after."""
        for first in range(0, wanted, CHUNK):
            models = self.random.choices(self.models, k=min(CHUNK, wanted - first))
            words = self.text(np.concatenate([words for *_, words in models]))
            at = 0
            for number, (one, sizes, _) in enumerate(models, first):
                texts = []
                for size in sizes:
                    texts.append(" ".join(words[at : at + size].tolist()))
                    at += size
                name, description, *bullets = texts
                given = one["customization_options"]
                options = {key: self.options(key, contents) for key, contents in given.items()} if given else given
                own = {"name": name, "full_description": description, "small_description": bullets}
                asin = f"B{np.base_repr(number * 2654435761 % 36**8, 36):0>9}"
                own |= {"pricing": self.random.choice(self.prices), "customization_options": options, "asin": asin}
                yield one | own, one["asin"]
            if (first + CHUNK) % (10 * CHUNK) == 0:
                say(f"made {first + CHUNK:,} products")

    def options(self, name: str, contents: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        if contents is None:
            return None
        values = self.random.sample(list(self.values[name]), len({content["value"] for content in contents}))
        return [content | {"value": value} for content, value in zip(contents, values, strict=False)]

    def write(self, folder: Path, wanted: int) -> None:
        with (
            (folder / "items_shuffle.json").open("w") as products,
            (folder / "items_ins_v2.json").open("w") as attributes,
            (folder / "items_human_ins.json").open("w") as people,
        ):
            opening = "[", "{", "{"
            for product, model in self.products(wanted):
                asin = product["asin"]
                products.write(opening[0] + json.dumps(product))
                if model in self.attributes:
                    entry(attributes, opening[1], asin, self.attributes[model])
                    opening = ", ", ", ", opening[2]
                if model in self.people:
                    entry(people, opening[2], asin, [told | {"asin": asin} for told in self.people[model]])
                    opening = *opening[:2], ", "
            products.write("]")
            attributes.write("}")
            people.write("}" if opening[2] == ", " else "{}")


def entry(file: TextIO, opening: str, asin: str, value: Any) -> None:
    file.write(f'{opening}"{asin}": {json.dumps(value)}')


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def size_mb(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20, 1)


def full(real: Path, wanted: int, given: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=given, prefix="webshop-") as name:
        data, cache = Path(name) / "data", Path(name) / "cache"
        data.mkdir()
        maker = Maker(real)
        begun = perf_counter()
        maker.write(data, wanted)
        report: dict[str, Any] = {"products": wanted, "making_s": round(perf_counter() - begun, 1)}
        report["source_mb"] = size_mb(data)
        report["build"] = measured("build", data, cache)
        report["cache_mb"] = size_mb(cache)
        report["cache_files_mb"] = {
            path.name: round(path.stat().st_size / 2**20, 1)
            for path in sorted(cache.rglob("*"))
            if path.is_file() and path.stat().st_size > 1 << 20
        }
        arrays = next(cache.rglob("index"))
        report["terms"] = len(np.load(arrays / "term_ends.npy", mmap_mode="r")) - 1
        report["postings"] = len(np.load(arrays / "rows.npy", mmap_mode="r"))
        report["open"] = measured("open", data, cache)
        report["start_with_goals_by_people"] = median_start([start(data, cache, "human") for _ in range(3)])
        report["goals_by_people"] = measured("human", data, cache)
        say("use, by two processes at once")
        one = launch("use", data, cache)
        assert one.stdin and one.stdout
        report["use"] = json.loads(one.stdout.readline())
        other = launch("use", data, cache)
        assert other.stdin and other.stdout
        beside = json.loads(other.stdout.readline())
        report["second_process"] = {key: beside[key] for key in ("search_ms", "memory_when_ready", "memory")}
        for child in (one, other):
            child.communicate("\n")
        report["synthetic_goals"] = {how: measured("synthetic", data, cache) for how in ("drawn", "cached")}
        report["environment"] = {how: measured("environment", data, cache) for how in ("splits_drawn", "cached")}
        starts = [start(data, cache, "synthetic", START_ENVIRONMENT) for _ in range(3)]
        report["start_of_environment_to_first_page_s"] = median_start(starts)["to_first_page_s"]
    return report


# The original's small set


def small(data: Path, steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="webshop-") as name:
        caches = [Path(name) / str(number) for number in range(6)]
        say("starts")
        start(data, caches[0], "synthetic")
        cold = [start(data, cache, "synthetic") for cache in caches[1:]]
        cached = [start(data, caches[0], "synthetic") for _ in range(10)]
        whole = [start(data, caches[0], "synthetic", START_ENVIRONMENT) for _ in range(5)]
        report: dict[str, Any] = {
            "start": {"cold": median_start(cold), "cached": median_start(cached)},
            "start_of_environment_to_first_page_s": median_start(whole)["to_first_page_s"],
            "cache_mb": size_mb(caches[0]),
        }
        os.environ["D2SKILL_CACHE"] = str(caches[0])
        catalogue = Catalogue.load(data)
        goals = make_goals(catalogue)
        rng = random.Random(0)
        report |= {"products": len(catalogue), "goals": len(goals.goals)}
        say("searches")
        index = BM25Index.open(next(cache_folder().glob("*/index")))
        queries = different_queries([goal.text for goal in goals.goals], 5000, rng)
        report |= {"queries": len(queries), "search_ms": query_times(index.search, queries)}
        report["bm25s_search_ms"] = beside_bm25s(catalogue, queries)
        if asked := typed_queries(data):
            report |= {"typed_queries": len(asked), "typed_search_ms": query_times(index.search, asked)}
        say("steps")
        report["first_steps"] = {key: play(catalogue, goals, 1000, rng)[key] for key in ("steps", "steps_per_second")}
        report["agent"] = play(catalogue, goals, steps, rng)
        settings = WebshopConfig()
        report["environment_steps_per_second"] = play_sessions(WebshopEnvironment(data, settings), steps // 4, rng)
        say("memory of sessions")
        report["bytes_per_session"] = memory_of_sessions(Catalogue.load(data), goals, rng)
    return report


def bars(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns what was asked for, what there is, and whether that is enough."""
    own = report["small"]
    start_up = own["start"]["cached"]["to_first_page_s"]
    found = {
        "start_up_s": (2, start_up, start_up <= 2),
        "steps_per_second": (3000, own["agent"]["steps_per_second"], own["agent"]["steps_per_second"] >= 3000),
        "search_ms": (0.3, own["search_ms"]["mean"], own["search_ms"]["mean"] <= 0.3),
    }
    for sessions, taken in own["bytes_per_session"].items():
        found[f"bytes_per_session_{sessions}"] = (100_000, taken, taken < 100_000)
    return {name: {"bar": bar, "measured": value, "met": bool(met)} for name, (bar, value, met) in found.items()}


PARTS = {
    "build": part_build,
    "open": part_open,
    "human": lambda data: part_goals(data, human=True),
    "synthetic": lambda data: part_goals(data, human=False),
    "environment": part_environment,
    "use": part_use,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the original's small set")
    parser.add_argument("--full", type=int, nargs="?", const=FULL, help="also make so many products and measure those")
    parser.add_argument("--full-only", action="store_true", help="leave out the small set")
    parser.add_argument("--folder", type=Path, help="where to make them; the default is the system's temporary folder")
    parser.add_argument("--steps", type=int, default=40_000, help="of the random agent")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](given.data)), flush=True)
        if given.part == "use":
            sys.stdin.readline()
        return
    report: dict[str, Any] = {"original": ORIGINAL}
    if not given.full_only:
        report["small"] = small(given.data, given.steps)
        report["bars"] = bars(report)
    if given.full:
        report["full"] = full(given.data, given.full, given.folder)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
