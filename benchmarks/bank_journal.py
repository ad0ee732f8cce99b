"""How fast the bank's journal records and opens; prints one JSON object.

All times include the disk: each append is on it when it returns. `fsync_ms` is what 4 kB cost there without a journal,
the least that an append can take; `--folder` puts the journal on another disk.

    python benchmarks/bank_journal.py
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

from d2skill.bank.journal import BankState, Credit, Insert, Journal, JournalWriter
from d2skill.types import Skill, SkillText

BETA = {"task": 0.1, "step": 0.1}
SKILLS, BATCH, SHOWN = 100_000, 1_000, 3_000
WORDS = (
    "open close take put heat cool clean examine look fridge drawer shelf desk lamp apple mug knife first then".split()
)


def skill(number: int, rng: random.Random) -> Skill:
    """A step skill with about 60 words, as many as a reflector writes."""

    def words(count: int) -> str:
        return " ".join(rng.choices(WORDS, k=count))

    text = SkillText(words(4), words(20), words(8))
    return Skill(f"s{number}", "step", text, words(8), words(25), created=number // BATCH, evidence=f"train/{number}")


def milliseconds(call: Callable[[], object], times: int) -> dict[str, float]:
    """The median and the 90th percentile of some calls."""
    taken = []
    for _ in range(times):
        started = perf_counter()
        call()
        taken.append(1000 * (perf_counter() - started))
    return {"median": round(float(np.median(taken)), 2), "p90": round(float(np.percentile(taken, 90)), 2)}


def fsync_ms(folder: Path) -> dict[str, float]:
    with (folder / "plain").open("wb", buffering=0) as plain:

        def write() -> None:
            plain.write(bytes(4096))
            os.fsync(plain.fileno())

        return milliseconds(write, 100)


def measure(folder: Path) -> dict[str, object]:
    rng = random.Random(0)
    path = folder / "bank.journal"
    batches = [[skill(i, rng) for i in range(first, first + BATCH)] for first in range(1, SKILLS + 1, BATCH)]
    report: dict[str, object] = {"fsync_ms": fsync_ms(folder)}
    with JournalWriter.create(path, "hashed-v2/512") as journal:
        started = perf_counter()
        for iteration, batch in enumerate(batches):
            journal.append(Insert(tuple(batch), iteration))
        report["skills_inserted_per_second"] = round(SKILLS / (perf_counter() - started))
        report["bytes_per_skill"] = path.stat().st_size // SKILLS
        started = perf_counter()
        journal.snapshot(BankState())
        report["snapshot_seconds"] = round(perf_counter() - started, 3)
    report["file_mb"] = round(path.stat().st_size / 1e6, 1)

    def credit() -> None:
        shown = rng.sample(range(1, SKILLS + 1), SHOWN)
        signals = {f"s{i}": [rng.uniform(-1, 1) for _ in range(rng.choice((1, 1, 2)))] for i in shown}
        started = perf_counter()
        journal.append(Credit(signals, BETA, SKILLS))
        credited.append(1000 * (perf_counter() - started))

    def read() -> None:
        assert len(Journal(path).replay(BankState()).skills()) == SKILLS

    report["open_ms"] = milliseconds(read, 5)
    credited: list[float] = []
    with JournalWriter(path) as journal:
        while len(credited) < 100 or not journal.snapshot(BankState()):
            credit()
        between = 1
        while not journal.snapshot(BankState()):
            credit()
            between += 1
        for _ in range(between - 2):
            credit()
    report["credit_ms"] = {q: round(float(np.percentile(credited, p)), 2) for q, p in (("median", 50), ("p90", 90))}
    report["iterations_between_snapshots"] = between
    report["open_ms_before_a_snapshot_is_due"] = milliseconds(read, 5)

    def open_to_write() -> None:
        JournalWriter(path).close()

    report["open_to_write_ms"] = milliseconds(open_to_write, 5)
    started = perf_counter()
    assert Journal(path).verify() is None
    report["verify_seconds"] = round(perf_counter() - started, 3)
    started = perf_counter()
    assert len(Journal(path).replay(BankState(), at=50).skills()) == 51 * BATCH
    report["replay_to_the_middle_seconds"] = round(perf_counter() - started, 3)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write; the default is the system's temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print(json.dumps(measure(Path(folder)), indent=2))


if __name__ == "__main__":
    main()
