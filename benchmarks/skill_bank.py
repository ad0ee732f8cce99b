"""How fast the skill bank retrieves, takes in, credits and opens; prints one JSON object.

Each figure is the median and the best of some calls, in ms. Retrieval is measured in turns with the matrix product
alone and with faiss's exact index where that is installed (pip install faiss-cpu), on the same float32 arrays and with
as many threads; keys and queries lie around 20 centres, so that a gate of 0.5 lets one in 20 pass.

Under `journal_of_100000` are the journal's own calls, and as `skillbank_...` what a user opens and fills; no figure has
the time of an embedder. What includes the journal includes the disk: each append is on it when it returns. `fsync` is
what 4 kB cost there without a journal, the least that an append can take; `--folder` puts the journal on another disk.

    python benchmarks/skill_bank.py
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import perf_counter
from zlib import crc32

import numpy as np
from threadpoolctl import threadpool_limits

from d2skill.bank import Draft, SkillBank, ranking
from d2skill.bank.journal import Credit, Insert, Journal, JournalWriter
from d2skill.bank.safety import clean, suspicion
from d2skill.config import BankConfig, CreditConfig, RetrievalConfig
from d2skill.types import Skill, SkillText

try:
    import faiss
except ImportError:
    faiss = None

BETA = {"task": 0.1, "step": 0.1}
QUERIES, DIMENSION, GATE = 128, 384, 0.5
SKILLS, BATCH, SHOWN = 100_000, 1_000, 3_000
WORDS = (
    "open close take put heat cool clean examine look fridge drawer shelf desk lamp apple mug knife first then".split()
)
CENTRES = np.random.default_rng(0).standard_normal((20, DIMENSION))


class Given:
    """Vectors that cost next to nothing, so that the bank is measured and not the embedder."""

    task_gate = step_gate = GATE
    fingerprint = f"given/{DIMENSION}"
    dimension = DIMENSION

    def __init__(self) -> None:
        self._vectors = around_centres(1 << 16, seed=3)

    def embed(self, texts: Sequence[str]):
        return self._vectors[[crc32(text.encode()) % len(self._vectors) for text in texts]]


def around_centres(count: int, seed: int):
    """Unit vectors [count, d] about 0.94 alike if they are around the same of 20 centres, and unlike if not."""
    generator = np.random.default_rng(seed)
    points = generator.standard_normal((count, DIMENSION), dtype=np.float32)
    points = 0.2 * points + 0.8 * CENTRES[generator.integers(len(CENTRES), size=count)]
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def words(count: int, rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=count))


def skill(number: int, rng: random.Random) -> Skill:
    """A step skill with about 60 words, as many as a reflector writes."""
    text = SkillText(words(4, rng), words(20, rng), words(8, rng))
    key = words(8, rng), words(25, rng)
    return Skill(f"s{number}", "step", text, *key, created=number // BATCH, source_task=f"train/{number}")


def shown_signals(rng: random.Random, ids: Sequence[str]) -> dict[str, list[float]]:
    """What an iteration has to credit: one signal a skill and trajectory that saw it, mostly one."""
    return {
        shown: [rng.uniform(-1, 1) for _ in range(rng.choice((1, 1, 2)))]
        for shown in rng.sample(ids, min(SHOWN, len(ids)))
    }


def summary(taken: Iterable[float]) -> dict[str, float]:
    """The median and the best of some times in seconds, in ms."""
    ms = 1000 * np.array(list(taken))
    return {"median": round(float(np.median(ms)), 3), "best": round(float(ms.min()), 3)}


def seconds(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def milliseconds(call: Callable[[], object], times: int) -> dict[str, float]:
    return summary([seconds(call) for _ in range(times)])


def in_turns(calls: dict[str, Callable[[], object]], times: int) -> dict[str, dict[str, float]]:
    """Times several calls, so that what else the machine does falls on all alike; the first turn is for warmth."""
    turns = [{name: seconds(call) for name, call in calls.items()} for _ in range(times + 1)]
    return {name: summary(turn[name] for turn in turns[1:]) for name in calls}


def retrieval(size: int, times: int, threads: int) -> dict[str, object]:
    """Gate, score and top-k over a pool, embeddings given."""
    queries, keys = around_centres(QUERIES, seed=1), around_centres(size, seed=2)
    values = np.random.default_rng(4).standard_normal(size)

    def rank() -> ranking.RankedSkills:
        return ranking.rank(queries, keys, values, gate=GATE, candidates=10, k=3, alpha=0.1)

    calls: dict[str, Callable[[], object]] = {"product": lambda: queries @ keys.T, "rank": rank}
    if faiss:
        faiss.omp_set_num_threads(threads)
        index = faiss.IndexFlatIP(DIMENSION)
        index.add(keys)
        calls["faiss"] = lambda: index.search(queries, 10)
    taken = in_turns(calls, times)
    return {
        "skills": size,
        "share_over_the_gate": round(float((queries @ keys.T >= GATE).mean()), 3),
        **{f"{name}_ms": taken.get(name) for name in ("product", "rank", "faiss")},
        "times_the_product": {q: round(taken["rank"][q] / taken["product"][q], 2) for q in ("median", "best")},
    }


def new_bank() -> SkillBank:
    capacity = BankConfig(task_capacity=2 * SKILLS, step_capacity=2 * SKILLS)
    return SkillBank(Given(), capacity, RetrievalConfig(), CreditConfig())


def drafts(rng: random.Random, count: int) -> list[Draft]:
    made = [skill(number, rng) for number in range(count)]
    return [Draft("step", one.text, one.task_text, one.observation, one.source_task) for one in made]


def whole_bank(folder: Path, rng: random.Random) -> dict[str, object]:
    """What a user's calls cost: encoding of keys, cleaning, suspicion, the search for duplicates and the journal."""
    bank = new_bank()
    bank.insert(drafts(rng, 600), 0)
    pairs = [(words(8, rng), words(25, rng)) for _ in range(QUERIES)]
    report: dict[str, object] = {"retrieve_step_of_600_ms": milliseconds(lambda: bank.retrieve_step(pairs), 100)}
    batches = [drafts(rng, BATCH) for _ in range(10)]
    taken = []
    for number, batch in enumerate(batches):
        bank = new_bank()
        bank.record(folder / f"new{number}.db")
        taken.append(seconds(lambda bank=bank, batch=batch: bank.insert(batch, 0)))
        bank.close()
    report["insert_into_a_new_bank_per_second"] = per_second(taken)
    bank = new_bank()
    bank.record(folder / "whole.db")
    taken = [seconds(lambda batch=batch: bank.insert(batch, 0)) for batch in batches]
    report["insert_into_one_that_grows_to_10000_per_second"] = per_second(taken)
    known, new = around_centres(5 * BATCH, seed=5), around_centres(BATCH, seed=6)
    report["of_that_the_product_with_5000_keys_ms"] = milliseconds(lambda: new @ known.T, 10)
    report["clean_and_suspect_skills_per_second"] = per_second(
        [seconds(lambda batch=batch: [suspicion(clean(draft.text)) for draft in batch]) for batch in batches]
    )
    ids = [one.id for one in bank.skills()]
    credits = [shown_signals(rng, ids) for _ in range(100)]
    report["credit_ms"] = summary([seconds(lambda own=own: bank.credit(own)) for own in credits])
    bank.close()
    return report


def per_second(taken: Sequence[float]) -> dict[str, int]:
    return {"median": round(BATCH / float(np.median(taken))), "best": round(BATCH / min(taken))}


def fsync(folder: Path) -> dict[str, float]:
    with (folder / "plain").open("wb", buffering=0) as plain:

        def write() -> None:
            plain.write(bytes(4096))
            os.fsync(plain.fileno())

        return milliseconds(write, 100)


def large_journal(folder: Path, rng: random.Random) -> dict[str, object]:
    """A journal of 100,000 skills: the events alone, then opening it."""
    path = folder / "large.db"
    batches = [[skill(i, rng) for i in range(first, first + BATCH)] for first in range(1, SKILLS + 1, BATCH)]
    ids = [one.id for batch in batches for one in batch]
    report: dict[str, object] = {"fsync_ms": fsync(folder)}
    with JournalWriter.create(path, Given.fingerprint) as journal:
        taken = [
            seconds(lambda at=at, batch=batch: journal.append(Insert(tuple(batch), at)))
            for at, batch in enumerate(batches)
        ]
        report["insert_skills_per_second"] = per_second(taken)
        report["bytes_per_skill"] = path.stat().st_size // SKILLS
        report["snapshot_ms"] = milliseconds(lambda: journal.snapshot(), 1)

    def read() -> None:
        assert len(Journal(path).replay().skills()) == SKILLS

    report["replay_ms"] = milliseconds(read, 5)
    credited: list[float] = []
    with JournalWriter(path) as journal:

        def credit() -> None:
            event = Credit(shown_signals(rng, ids), BETA, SKILLS)
            credited.append(seconds(lambda: journal.append(event)))

        while len(credited) < 100 or not journal.snapshot():
            credit()
        between = 1
        while not journal.snapshot():
            credit()
            between += 1
        for _ in range(between - 2):
            credit()
    report["credit_ms"] = summary(credited)
    report["iterations_between_snapshots"] = between
    report["replay_ms_before_a_snapshot_is_due"] = milliseconds(read, 5)
    report["open_to_write_ms"] = milliseconds(lambda: JournalWriter(path).close(), 5)
    report["verify_ms"] = milliseconds(lambda: Journal(path).verify(), 1)
    report["replay_to_the_middle_ms"] = milliseconds(lambda: Journal(path).replay(at=50), 1)
    opened: list[SkillBank] = []
    capacity = BankConfig(task_capacity=2 * SKILLS, step_capacity=2 * SKILLS)
    given = Given()
    report["skillbank_open_ms"] = milliseconds(lambda: opened.append(SkillBank.open(path, given, capacity)), 5)
    bank = opened[0]
    report["skillbank_first_retrieval_ms"] = milliseconds(lambda: bank.retrieve_step([("put", "room")]), 1)
    shutil.copy(path, path.with_name("changed.db"))
    bank = SkillBank.open(path.with_name("changed.db"), given, capacity, create=True)
    bank.retrieve_step([("put", "room")])
    into = [seconds(lambda batch=batch: bank.insert(batch, 0)) for batch in [drafts(rng, BATCH) for _ in range(3)]]
    report["skillbank_insert_into_it_per_second"] = per_second(into)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write; the default is the system's temporary folder")
    parser.add_argument("--threads", type=int, default=1, help="of the matrix products, ours and faiss's")
    parser.add_argument("--retrieval-only", action="store_true", help="leave out the journal")
    given = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory(dir=given.folder) as name, threadpool_limits(given.threads):
        folder = Path(name)
        report: dict[str, object] = {
            "threads": given.threads,
            "retrieval": [retrieval(600, 300, given.threads), retrieval(SKILLS, 15, given.threads)],
        }
        if not given.retrieval_only:
            report["skillbank_with_journal"] = whole_bank(folder, rng)
            report["journal_of_100000"] = large_journal(folder, rng)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
