"""Memory of answers in search QA: exact match and F1 of answers remembered from training; prints one JSON object.

Each question is answered without a search, by the first golden answer of the training question that the embedder finds
most similar. `unseen` are questions of a split, which no training question repeats. `repeated` are training questions
that come again: with reflect.guard_answers off a skill may hold their answers, so this is what an agent that learns
nothing but answers gets in training; with the guard, its own answer is out of reach (`guarded`).

    python benchmarks/answer_memory.py --data FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

import numpy as np

from d2skill.config import EmbedderConfig, SearchQAConfig
from d2skill.embedders import make_embedder
from d2skill.envs.search_qa.environment import SearchQAEnvironment
from d2skill.envs.search_qa.scoring import exact_match, f1


def remembered(questions, vectors, known, known_vectors, *, own: bool) -> dict[str, float]:
    """Returns the scores of answers of the most similar known questions, of the question itself only with `own`."""
    similar = vectors @ known_vectors.T
    if not own:
        places = {one: at for at, one in enumerate(known)}
        for row, question in enumerate(questions):
            if question in places:
                similar[row, places[question]] = -2
    nearest = similar.argmax(axis=1)
    pairs = [(known[at].answers[0], question.answers) for at, question in zip(nearest, questions, strict=True)]
    return {
        "exact_match": round(100 * fmean(exact_match(text, answers) for text, answers in pairs), 1),
        "f1": round(100 * fmean(f1(text, answers) for text, answers in pairs), 1),
        "similarity": round(float(np.mean(similar.max(axis=1))), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    environment = SearchQAEnvironment(given.data, SearchQAConfig())
    embedder = make_embedder(EmbedderConfig())
    train = environment.questions("train")
    vectors = embedder.embed([one.text for one in train])
    report = {"embedder": embedder.fingerprint, "unseen": {}, "repeated": {}, "guarded": {}}
    for name in SearchQAConfig().sets:
        for part in ("validation", "test"):
            own = environment.questions(f"{part}-{name}")
            found = remembered(own, embedder.embed([one.text for one in own]), train, vectors, own=False)
            report["unseen"].setdefault(part, {})[name] = found
        members = [at for at, one in enumerate(train) if one.set == name]
        own = [train[at] for at in members]
        report["repeated"][name] = remembered(own, vectors[members], train, vectors, own=True)
        report["guarded"][name] = remembered(own, vectors[members], train, vectors, own=False)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
