"""Benchmark of the search of search QA: building, opening and asking; prints one JSON object.

    python benchmarks/search_retrieval.py --data FOLDER                           # the real corpus: a minute
    python benchmarks/search_retrieval.py --data FOLDER --made 250000 1000000     # and made ones: 20 minutes

FOLDER has corpus.jsonl and nq.jsonl. Each part runs in a fresh process. `own` memory is the process's alone, looked at
ten times a second; mapped files are not in it. `cpu_s` is processor time, for machines on which other things run. Each
query is another question, at the best of three passes over all. A made passage has the lengths of a real one. Three
words in ten stay those of that passage; the others are drawn from all words by how frequent they are, and from a tail
of new ones, so that the vocabulary grows (see webshop.py). A million take 3 GB of disk for that time. `planned` goes on
in a straight line from the two largest made corpora, so the vocabulary, which grows more slowly, is overestimated.
Vectors are random; their search is exact and reads them all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from webshop import CHUNK, OWN, coined, environment_of, megabytes, memory, query_times, say, size_mb

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.retrieval import make_retriever
from d2skill.envs.search_qa.retrieval.bm25 import BM25Search
from d2skill.envs.search_qa.retrieval.corpus import Corpus
from d2skill.envs.search_qa.retrieval.dense import best_rows

WIKI_18 = 21_015_324
QUERIES = 500
START = """
import sys, time
from pathlib import Path
from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.retrieval import make_retriever
imported = time.perf_counter()
make_retriever(SearchQAConfig(), Path(sys.argv[1])).search(["who wrote uncle tom's cabin"], 3)
print(time.perf_counter() - imported)
"""


class Maker:
    """Makes passages after those of a corpus."""

    def __init__(self, real: Corpus) -> None:
        self.rng = np.random.default_rng(0)
        numbers: dict[str, int] = {}
        texts = [passage.contents.split() for passage in real]
        self.models = [np.array([numbers.setdefault(word, len(numbers)) for word in text]) for text in texts]
        self.words = np.array(list(numbers), object)
        counts = np.bincount(np.concatenate(self.models))
        self.discount = float((counts == 1).mean())
        self.known = np.cumsum(counts - self.discount)
        self.known *= (1 - self.discount * len(counts) / counts.sum() / (1 - OWN)) / self.known[-1]

    def passages(self, wanted: int) -> Iterator[list[str]]:
        """Yields the words of passages."""
        for first in range(0, wanted, CHUNK):
            models = [self.models[i] for i in self.rng.integers(len(self.models), size=min(CHUNK, wanted - first))]
            chosen = np.concatenate(models)
            others = np.flatnonzero(self.rng.random(len(chosen)) >= OWN)
            drawn = np.searchsorted(self.known, self.rng.random(len(others)), side="right")
            beyond = drawn == len(self.words)
            chosen[others] = np.where(beyond, 0, drawn)
            found = self.words[chosen]
            chances = self.rng.random(int(beyond.sum()))
            ranks = np.minimum(len(self.words) * (1 - chances) ** (-self.discount / (1 - self.discount)), 1e15)
            found[others[beyond]] = [coined(rank) for rank in ranks.astype(np.int64).tolist()]
            for words in np.split(found, np.cumsum([len(model) for model in models])[:-1]):
                yield words.tolist()

    def write(self, folder: Path, wanted: int) -> None:
        with (folder / "corpus.jsonl").open("w") as file:
            for number, words in enumerate(self.passages(wanted)):
                contents = f'"{" ".join(words[:3])}"\n{" ".join(words[3:])}'
                file.write(json.dumps({"id": str(number), "contents": contents}) + "\n")


def questions(data: Path) -> list[str]:
    with (data / "nq.jsonl").open() as file:
        return [json.loads(line)["question"] for line in file][:QUERIES]


def part_build(data: Path, _: Path) -> dict[str, Any]:
    before, begun, used = memory(), perf_counter(), process_time()
    corpus = Corpus.open(data / "corpus.jsonl")
    mapped = perf_counter()
    BM25Search(corpus)
    return {
        "passages": len(corpus),
        "lines_s": round(mapped - begun, 3),
        "index_s": round(perf_counter() - mapped, 1),
        "cpu_s": round(process_time() - used, 1),
        "memory_before": before,
    }


def part_use(data: Path, real: Path) -> dict[str, Any]:
    """Opens what is there, and asks for 3 passages: the index alone, then the whole search, then what it remembers."""
    begun = perf_counter()
    retriever = make_retriever(SearchQAConfig(), data)
    opened = perf_counter() - begun
    asked = questions(real)
    search = BM25Search(Corpus.open(data / "corpus.jsonl"))
    ms = query_times(lambda query: search.search([query], 3), asked)
    retriever.search(asked, 3)
    again = perf_counter()
    for query in asked:
        retriever.search([query], 3)
    remembered = 1e3 * (perf_counter() - again) / len(asked)
    return {"open_s": round(opened, 3), "search_ms": ms, "remembered_ms": round(remembered, 4), "memory": memory()}


def measured(part: str, data: Path, real: Path, cache: Path) -> dict[str, Any]:
    """Runs a part in a process of its own, and adds the most memory that it had for itself."""
    say(part)
    command = [sys.executable, __file__, "--data", str(real), "--part", part, "--folder", str(data)]
    child = subprocess.Popen(command, env=environment_of(cache), stdout=subprocess.PIPE, text=True)
    peak = 0.0
    while child.poll() is None:
        peak = max([peak, *megabytes(f"/proc/{child.pid}/status", "RssAnon")])
        time.sleep(0.1)
    if child.returncode:
        raise SystemExit(f"the part {part} failed")
    out, _ = child.communicate()
    return json.loads(out) | {"peak_own_mb": peak}


def corpus_of(data: Path, real: Path, scratch: Path) -> dict[str, Any]:
    """Measures one corpus with an empty cache."""
    cache = scratch / "cache"
    report: dict[str, Any] = {"corpus_mb": round((data / "corpus.jsonl").stat().st_size / 2**20, 1)}
    report["build"] = measured("build", data, real, cache)
    report["cache_mb"] = size_mb(cache)
    arrays = next(cache.rglob("bm25"))
    report["terms"] = len(np.load(arrays / "term_ends.npy", mmap_mode="r")) - 1
    report["postings"] = len(np.load(arrays / "rows.npy", mmap_mode="r"))
    report["use"] = measured("use", data, real, cache)
    starts = [
        subprocess.run([sys.executable, "-c", START, data], env=environment_of(cache), stdout=-1, check=True).stdout
        for _ in range(5)
    ]
    report["start_to_first_result_s"] = round(float(np.median([float(each) for each in starts])), 3)
    return report


def made(real: Path, wanted: int, given: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=given, prefix="search-qa-") as name:
        say(f"making {wanted:,} passages")
        Maker(Corpus.open(real / "corpus.jsonl")).write(Path(name), wanted)
        return corpus_of(Path(name), real, Path(name))


def planned(small: dict[str, Any], large: dict[str, Any]) -> dict[str, float]:
    """Returns what wiki-18 would take, on the straight line through two corpora."""

    def line(value: Any) -> float:
        step = (value(large) - value(small)) / (large["build"]["passages"] - small["build"]["passages"])
        return value(large) + step * (WIKI_18 - large["build"]["passages"])

    return {
        "passages": WIKI_18,
        "build_cpu_hours": round(line(lambda one: one["build"]["cpu_s"]) / 3600, 2),
        "build_own_gb": round(line(lambda one: one["build"]["peak_own_mb"]) / 1024, 2),
        "cache_gb": round(line(lambda one: one["cache_mb"]) / 1024, 1),
        "search_ms": round(line(lambda one: one["use"]["search_ms"]["mean"]), 1),
        "use_own_mb": round(line(lambda one: one["use"]["peak_own_mb"])),
    }


def dense(count: int, dimension: int, given: Path | None) -> dict[str, Any]:
    """Searches random vectors in a mapped file, one query and 64 at once; each the best of three."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=given, prefix="search-qa-") as name:
        path = Path(name) / "vectors.npy"
        vectors = np.lib.format.open_memmap(path, "w+", np.float16, (count, dimension))
        for start in range(0, count, CHUNK):
            block = rng.standard_normal((min(CHUNK, count - start), dimension), np.float32)
            vectors[start : start + CHUNK] = block / np.linalg.norm(block, axis=1, keepdims=True)
        report: dict[str, Any] = {"vectors": count, "dimension": dimension, "mb": round(vectors.nbytes / 2**20)}
        for queries in (1, 64):
            asked = rng.standard_normal((queries, dimension), np.float32)
            taken, used = [], []
            for _ in range(3):
                begun, cpu = perf_counter(), process_time()
                best_rows(vectors, asked, 3)
                taken.append(perf_counter() - begun)
                used.append(process_time() - cpu)
            report[f"s_of_{queries}_at_once"] = round(min(taken), 3)
            report[f"cpu_s_of_{queries}_at_once"] = round(min(used), 3)
    return report


PARTS = {"build": part_build, "use": part_use}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with corpus.jsonl and nq.jsonl")
    parser.add_argument("--made", type=int, nargs="*", default=[], help="also make corpora of so many passages")
    parser.add_argument("--vectors", type=int, default=100_000, help="random vectors to search")
    parser.add_argument("--dimension", type=int, default=384, help="of the vectors")
    parser.add_argument("--folder", type=Path, help="where to make them; the default is the system's temporary folder")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](given.folder, given.data)), flush=True)
        return
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="search-qa-") as name:
        os.environ["D2SKILL_CACHE"] = name
        report: dict[str, Any] = {"real": corpus_of(given.data, given.data, Path(name))}
        report["made"] = [made(given.data, wanted, given.folder) for wanted in sorted(given.made)]
    if len(report["made"]) > 1:
        report["planned"] = planned(*report["made"][-2:])
    report["dense"] = dense(given.vectors, given.dimension, given.folder)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
