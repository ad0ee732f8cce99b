"""Ceiling of search QA for policies that choose: share of questions whose golden answer is listed; one JSON object.

For each set and number of listed answers: `first` after one search with the question, `best` if an oracle chooses up to
--searches searches among the listed ones. `passages` is the share with a golden answer in the text of the passages that
the first search finds, `top` with one as the first answer, and `expert` the exact match of the scripted player.

    python benchmarks/search_ceiling.py --data FOLDER --split validation
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.candidates import queries, spans
from d2skill.envs.search_qa.environment import SearchQAEnvironment
from d2skill.envs.search_qa.passage import Passage, PassageSearch
from d2skill.envs.search_qa.retrieval import make_retriever
from d2skill.envs.search_qa.scoring import normalise

COUNTS = (20, 40, 80, 200)


def nodes(question: str, find, searches: int, listed: int) -> Iterator[tuple[Passage, ...]]:
    """Yields the passages of all choices of up to some searches, fewest searches first; the newest come first."""
    level: list[tuple[tuple[str, ...], tuple[Passage, ...]]] = [((), ())]
    seen: set[frozenset[str]] = set()
    for _ in range(searches):
        following = []
        for asked, passages in level:
            for query in queries(question, passages, asked, listed):
                found = tuple({one.id: one for one in (*find(query), *passages)}.values())
                key = frozenset(one.id for one in found)
                if key not in seen:
                    seen.add(key)
                    following.append(((*asked, query), found))
                    yield found
        level = following


def listed_at(question: str, answers: Sequence[str], passages: Sequence[Passage]) -> int | None:
    """Returns the place of the first golden answer among the listed ones, None if it is not there."""
    golden = {normalise(one) for one in answers}
    texts = (normalise(span.text) for span in spans(question, passages, COUNTS[-1]))
    return next((at for at, text in enumerate(texts) if text in golden), None)


def played(environment: SearchQAEnvironment, task_id: str) -> bool:
    session = environment.start(task_id)
    expert = environment.expert(session.task, (), 0)
    while not session.observation.done:
        session.step(expert.act(session.observation))
    return session.observation.success


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--tasks", type=int, help="the first of each set, without it all")
    parser.add_argument("--searches", type=int, default=3)
    given = parser.parse_args()
    settings = SearchQAConfig()
    environment = SearchQAEnvironment(given.data, settings)
    search: PassageSearch = make_retriever(settings, given.data)
    find = lru_cache(maxsize=None)(lambda query: tuple(search.search([query], settings.passages)[0]))
    report = {"split": given.split, "searches": given.searches, "queries": settings.queries, "sets": {}}
    for name in settings.sets:
        tasks = environment.task_ids(f"{given.split}-{name}")[: given.tasks]
        questions = environment.questions(f"{given.split}-{name}")[: given.tasks]
        first, best, inside = [], [], []
        for question in questions:
            passages = find(question.text)
            text = f" {normalise(' '.join(one.contents for one in passages))} "
            inside.append(any(f" {normalise(one)} " in text for one in question.answers))
            at = listed_at(question.text, question.answers, passages)
            first.append(COUNTS[-1] if at is None else at)
            lowest = first[-1]
            for node in nodes(question.text, find, given.searches, settings.queries):
                if lowest < COUNTS[0]:
                    break
                at = listed_at(question.text, question.answers, node)
                lowest = min(lowest, COUNTS[-1] if at is None else at)
            best.append(lowest)
        report["sets"][name] = {
            "questions": len(questions),
            "passages": round(100 * fmean(inside), 1),
            "top": round(100 * fmean(at == 0 for at in first), 1),
            "first": {str(n): round(100 * fmean(at < n for at in first), 1) for n in COUNTS},
            "best": {str(n): round(100 * fmean(at < n for at in best), 1) for n in COUNTS},
            "expert": round(100 * fmean(played(environment, task) for task in tasks), 1),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
