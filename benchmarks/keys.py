"""What it takes to open a large bank and get the first answer, and what a decision costs then; prints one JSON object.

A bank of half task skills and half step skills is written, all with keys of their own (8 words, and 25 of observation).
`first_search` are processes that open it and retrieve for one task and one step, with the files of keys that the first
of them has left beside the journal, in turns with processes that only import the same; `first_reader` is that first
one, which embeds all keys. `bank_search` is the command, for words that many skills have and for one that none has.
Figures are seconds of processor time of a whole process, and of the clock after its imports; the median of some turns,
and the best. `--threads 1` is for NumPy.

`decision` is in milliseconds for one of 128 queries together, and for one alone, by task keys: retrieval, and in turns
with it the matrix product alone on the same arrays. With `--ann` also with the approximate index, where it is used,
how long that took to make, and what it finds: of the 10 most similar of 100 keys, and of the answers to the queries.

    python benchmarks/keys.py           # 50,000, 200,000 and 1,000,000 skills, 4 GB on disk, 15 minutes
    python benchmarks/keys.py --ann     # 40 minutes; needs d2skill[ann]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time

import numpy as np
from threadpoolctl import threadpool_limits

from d2skill.bank import SkillBank
from d2skill.bank.journal import Insert, JournalWriter
from d2skill.bank.key_graph import GRAPH_FROM
from d2skill.config import RetrievalConfig
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.types import Skill, SkillText

BATCH, QUERIES, GATE = 1_000, 128, HashedEmbedder.task_gate
WORDS = (
    "open close take put heat cool clean examine look fridge drawer shelf desk lamp apple mug knife first then".split()
)
OPEN = """
import sys, time
from pathlib import Path
from d2skill.bank import SkillBank
{}
started = time.perf_counter()
bank = SkillBank.open(Path(sys.argv[1]))
bank.retrieve_task(["take the apple in the drawer and cool it"])
bank.retrieve_step([("take the apple in the drawer and cool it", "you see a fridge, a desk and a lamp")])
print(time.perf_counter() - started)
"""


def words(count: int, rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=count))


def skill(number: int, rng: random.Random) -> Skill:
    text = SkillText(words(4, rng), words(20, rng), words(8, rng))
    created, source = number // BATCH, f"train/{number}"
    if number % 2:
        return Skill(f"t{number}", "task", text, words(8, rng), created=created, source_task=source)
    return Skill(f"s{number}", "step", text, words(8, rng), words(25, rng), created=created, source_task=source)


def write_bank(path: Path, size: int) -> dict[str, float]:
    rng, started = random.Random(0), process_time()
    with JournalWriter.create(path, HashedEmbedder(512).fingerprint) as journal:
        for iteration, first in enumerate(range(1, size + 1, BATCH)):
            journal.append(Insert(tuple(skill(number, rng) for number in range(first, first + BATCH)), iteration))
        journal.snapshot()
    return {"s": round(process_time() - started, 1), "journal_mb": path.stat().st_size >> 20}


def child(*command: str) -> tuple[float, float]:
    """Returns the processor time of a process in seconds, and the number that it prints first, 0 for none."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    number = out.split()[0] if out[:1].isdigit() else "0"
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, float(number)


def summary(figures: Sequence[float], digits: int = 3) -> dict[str, float]:
    return {"median": round(float(np.median(figures)), digits), "best": round(min(figures), digits)}


def opening(path: Path, turns: int) -> dict[str, object]:
    """The first reader, later ones, and the command."""
    cpu, clock = child("-c", OPEN.format(""), str(path))
    report: dict[str, object] = {"first_reader": {"cpu_s": round(cpu, 1), "clock_after_imports_s": round(clock, 1)}}
    sizes = {file.name.removeprefix(path.name): file.stat().st_size >> 20 for file in path.parent.iterdir()}
    report["files_mb"] = {name: size for name, size in sorted(sizes.items()) if name.endswith(("-keys", "-state"))}
    search = ["-c", "from d2skill.cli.main import main; main()", "bank", "search", str(path)]
    commands = {
        "imports": ["-c", OPEN.format("sys.exit()"), str(path)],
        "first_search": ["-c", OPEN.format(""), str(path)],
        "bank_search_hits": [*search, "fridge knife lamp"],
        "bank_search_no_hit": [*search, "zebra fridge"],
    }
    taken = [{name: child(*command) for name, command in commands.items()} for _ in range(turns)]
    for name in commands:
        report[name] = {"cpu_s": summary([turn[name][0] for turn in taken])}
    own = {"cpu_without_imports_s": summary([turn["first_search"][0] - turn["imports"][0] for turn in taken])}
    own["clock_after_imports_s"] = summary([turn["first_search"][1] for turn in taken])
    report["first_search"] = {"cpu_s": summary([turn["first_search"][0] for turn in taken]), **own}
    return report


def milliseconds(calls: dict[str, Callable[[], object]], turns: int, queries: int) -> dict[str, dict[str, float]]:
    """Processor time of some calls for one query, in turns; the first turn is for warmth."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns + 1):
        for name, call in calls.items():
            started = process_time()
            call()
            taken[name].append(1000 * (process_time() - started) / queries)
    return {name: summary(own[1:]) for name, own in taken.items()}


def decisions(path: Path, turns: int, ann: bool) -> dict[str, object]:
    rng = random.Random(1)
    texts = [words(8, rng) for _ in range(QUERIES)]
    banks = {"retrieve": SkillBank.open(path)}
    report: dict[str, object] = {"task_skills": banks["retrieve"].counts()["task"]}
    ann = ann and banks["retrieve"].counts()["task"] >= GRAPH_FROM
    if ann:
        banks["ann"] = SkillBank.open(path, retrieval=RetrievalConfig(index="ann"))
        started = process_time()
        banks["ann"].retrieve_task(texts[:1])
        report["ann_made_in_s"] = round(process_time() - started)
    keys = banks["retrieve"]._index.search_set("task").keys
    vectors = HashedEmbedder(512).embed(texts)
    for name, count in (("ms_of_128", QUERIES), ("ms_alone", 1)):
        calls: dict[str, Callable[[], object]] = {"product": lambda count=count: vectors[:count] @ keys.T}
        for kind, bank in banks.items():
            calls[kind] = lambda bank=bank, count=count: bank.retrieve_task(texts[:count])
        report[name] = milliseconds(calls, turns, count)
    if ann:
        report["ann_recall"] = {kind: round(share, 4) for kind, share in banks["ann"].recall().items()}
        pairs = zip(*(bank.retrieve_task(texts) for bank in banks.values()), strict=True)
        report["ann_same_answers"] = round(float(np.mean([one == two for one, two in pairs])), 4)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skills", type=int, nargs="+", default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the matrix products")
    parser.add_argument("--ann", action="store_true", help="also the approximate index (pip install usearch)")
    parser.add_argument("--folder", type=Path, help="where to write; the default is the system's temporary folder")
    given = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(given.threads)
    report: dict[str, object] = {"threads": given.threads, "dimension": 512}
    for size in given.skills:
        with tempfile.TemporaryDirectory(dir=given.folder) as name, threadpool_limits(given.threads):
            path = Path(name) / "bank.db"
            made = write_bank(path, size)
            report[f"{size:,} skills"] = {
                "written": made,
                **opening(path, given.turns),
                "decision": decisions(path, given.turns, given.ann),
            }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
