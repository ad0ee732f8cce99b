"""Compares our exact match and F1 with two published scorers, and our BM25 with Lucene and bm25s, on the real data.

    python benchmarks/search_scores.py --data FOLDER [--reference DIR] [--squad MODULE] [--lucene RUN] [--topics FILE]

Prints one JSON object. Scores: all golden answers of the three sets, and changed ones (letters' case, articles,
punctuation, blanks, hyphens, accents, other forms of Unicode, words left out and doubled), each against its question's
golden answers; a difference is one of exact match, or of F1 by more than rounding (1e-12). The scorers are loaded where
they are found, and none is part of this project:

- `--reference`: a folder with skyrl-gym 0.4 (pip install --no-deps --target DIR skyrl-gym==0.4.0), whose search
  environment has Search-R1's exact match;
- `--squad`: SQuAD's evaluation, for exact match and F1: a module with compute_exact(gold, given) and
  compute_f1(gold, given), such as transformers.data.metrics.squad_metrics.

SQuAD's script gives an answer without words a score of its own in F1, 1 if both are empty and else 0, as ours does.

BM25: the best ten passages for a thousand questions. bm25s (pip install bm25s) gets our terms, method lucene and the
same k1 and b; it has exact lengths where Lucene has rounded ones, and another order of ties, so it is compared with our
index made of exact lengths, too (`bm25s_exact_lengths`). `--lucene` is a run of Anserini, made with the jar of
pyserini's source archive and Java 21 or more:

    java --add-modules jdk.incubator.vector -cp JAR io.anserini.index.IndexCollection -collection JsonCollection
        -input DIR_OF_CORPUS -index INDEX -generator DefaultLuceneDocumentGenerator -threads 1
    java --add-modules jdk.incubator.vector -cp JAR io.anserini.search.SearchCollection -index INDEX -topics TOPICS
        -topicReader TsvInt -bm25 -hits 10 -output RUN

where `--topics FILE` writes the questions for it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from d2skill.envs.search_qa.questions import QAQuestion, read_questions
from d2skill.envs.search_qa.scoring import exact_match, f1
from d2skill.envs.text_search import BM25Index, analyze, bm25

try:
    import bm25s
except ImportError:
    bm25s = None

SETS = ("nq", "triviaqa", "popqa")
QUESTIONS, BEST = 1000, 10
CHANGES: Sequence[Callable[[str, random.Random], str]] = (
    lambda text, rng: text.upper(),
    lambda text, rng: text.swapcase(),
    lambda text, rng: text.casefold(),
    lambda text, rng: text.replace(" ", "-"),
    lambda text, rng: text.replace(" ", "\u00a0"),
    lambda text, rng: text.replace(" ", "  \n\t"),
    lambda text, rng: text.replace("-", "–"),
    lambda text, rng: text.replace("'", "’"),
    lambda text, rng: unicodedata.normalize("NFD", text),
    lambda text, rng: unicodedata.normalize("NFKC", text),
    lambda text, rng: "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)),
    lambda text, rng: f"{rng.choice(('the', 'a', 'An', 'THE', 'thé', 'a-', 'the_'))} {text}",
    lambda text, rng: f"{text} {rng.choice(('the', 'and', 'a', '.', '?!', '—', '…', 'ⅷ', '²'))}",
    lambda text, rng: f'"{text}".',
    lambda text, rng: " ".join(rng.sample(text.split(), len(text.split()))),
    lambda text, rng: " ".join(text.split()[: -1 or None]),
    lambda text, rng: f"{text} {text}",
    lambda text, rng: "".join(c for c in text if rng.random() > 0.1),
    lambda text, rng: "".join(f"{c}{rng.choice(',;:!_~`@')}" if rng.random() < 0.2 else c for c in text),
    lambda text, rng: f"{text}\u200b\ufeff\u2028",
)


def given_answers(questions: Sequence[QAQuestion]) -> Iterator[tuple[str, QAQuestion]]:
    """Yields answers and the question that each is scored on: its golden answers, changed ones, and another's."""
    rng = random.Random(0)
    for question in questions:
        for answer in question.answers:
            yield answer, question
            yield rng.choice(CHANGES)(answer, rng), question
        for change in CHANGES:
            yield change(rng.choice(question.answers), rng), question
        yield rng.choice(rng.choice(questions).answers), question


def published(reference: Path | None, squad: str | None) -> dict[str, Callable[[str, Sequence[str]], float]]:
    """Returns the scorers that are there, by name."""
    scorers: dict[str, Callable[[str, Sequence[str]], float]] = {}
    if reference:
        em = load(reference / "skyrl_gym/envs/search/utils.py").em_check
        scorers["exact_match, skyrl-gym"] = lambda text, answers: float(em(text, list(answers)))
    if squad:
        module = importlib.import_module(squad)
        scorers["exact_match, squad"] = lambda text, answers: max(
            float(module.compute_exact(answer, text)) for answer in answers
        )
        scorers["f1, squad"] = lambda text, answers: max(float(module.compute_f1(answer, text)) for answer in answers)
    return scorers


def load(file: Path) -> Any:
    """Returns a Python file as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare_scores(
    questions: Sequence[QAQuestion], scorers: Mapping[str, Callable[[str, Sequence[str]], float]]
) -> dict[str, Any]:
    """Returns how many answers were scored, and how many of them each scorer scores otherwise than we do."""
    counts: dict[str, Any] = {"answers": 0, "exact": 0, "partly": 0} | dict.fromkeys(scorers, 0)
    for text, question in given_answers(questions):
        own = {"exact_match": float(exact_match(text, question.answers)), "f1": f1(text, question.answers)}
        counts["answers"] += 1
        counts["exact"] += int(own["exact_match"])
        counts["partly"] += 0 < own["f1"] < 1
        for name, scorer in scorers.items():
            theirs = scorer(text, question.answers)
            if abs(own[name.partition(",")[0]] - theirs) > 1e-12:
                counts[name] += 1
                counts.setdefault(f"first of {name}", [text, question.answers[:5], own, theirs])
    return counts


def compare_rankings(own: Sequence[Sequence[tuple[str, float]]], other: Any) -> dict[str, Any]:
    """Returns how far two rankings of the same questions agree."""
    ordered = sum([a for a, _ in x] == [b for b, _ in y] for x, y in zip(own, other, strict=True))
    members = sum({a for a, _ in x} == {b for b, _ in y} for x, y in zip(own, other, strict=True))
    first = sum(x[:1] and y[:1] and x[0][0] == y[0][0] for x, y in zip(own, other, strict=True))
    pairs = [(s, t) for x, y in zip(own, other, strict=True) for (_, s), (_, t) in zip(x, y, strict=False)]
    return {
        "questions": len(own),
        "same_order": ordered,
        "same_members": members,
        "same_first": first,
        "largest_difference_of_scores": max(abs(s - t) for s, t in pairs),
    }


def bm25s_ranking(texts: Sequence[str], ids: Sequence[str], queries: Sequence[str]) -> Any:
    """Returns what bm25s finds, by our terms."""
    terms = [analyze(text) for text in texts]
    retriever = bm25s.BM25(k1=float(bm25.K1), b=float(bm25.B), method="lucene")
    retriever.index(terms, show_progress=False)
    known = set().union(*map(set, terms))
    ranking = []
    for query in queries:
        wanted = [term for term in analyze(query) if term in known]
        rows, scores = retriever.retrieve([wanted], k=BEST, show_progress=False)
        ranking.append([(ids[row], float(score)) for row, score in zip(rows[0], scores[0], strict=True)])
    return ranking


def main() -> None:
    """Compares what can be compared, and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", metavar="MODULE")
    for name in ("--data", "--reference", "--lucene", "--topics"):
        parser.add_argument(name, type=Path, required=name == "--data")
    args = parser.parse_args()
    sets = {name: read_questions(args.data / f"{name}.jsonl", name) for name in SETS}
    share = -(-QUESTIONS // len(SETS))
    queries = [" ".join(one.text.split()) for members in sets.values() for one in members[:share]][:QUESTIONS]
    if args.topics:
        args.topics.write_text("".join(f"{number}\t{query}\n" for number, query in enumerate(queries)), "utf-8")
    report: dict[str, Any] = {}
    if scorers := published(args.reference, args.squad):
        report["scores"] = {name: compare_scores(members, scorers) for name, members in sets.items()}
    passages = [json.loads(line) for line in (args.data / "corpus.jsonl").open(encoding="utf-8")]
    ids, texts = [one["id"] for one in passages], [one["contents"] for one in passages]
    index = BM25Index.build(ids, texts)
    own = [index.search(query, BEST) for query in queries]
    if args.lucene:
        found: dict[int, list[tuple[str, float]]] = defaultdict(list)
        for line in args.lucene.read_text("utf-8").splitlines():
            number, _, passage, _, score, _ = line.split()
            found[int(number)].append((passage, float(score)))
        report["lucene"] = compare_rankings(own, [found[number] for number in range(len(queries))])
    if bm25s is not None:
        theirs = bm25s_ranking(texts, ids, queries)
        report["bm25s"] = {"version": bm25s.__version__} | compare_rankings(own, theirs)
        bm25.encoded_lengths = lambda lengths: lengths
        exact = BM25Index.build(ids, texts)
        report["bm25s_exact_lengths"] = compare_rankings([exact.search(query, BEST) for query in queries], theirs)
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
