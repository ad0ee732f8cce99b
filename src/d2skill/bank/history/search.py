"""Search for skills by words or by meaning."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from d2skill.protocols import Embedder
from d2skill.types import Skill


def search_by_words(skills: Sequence[Skill], query: str) -> list[tuple[Skill, int]]:
    """Returns the skills that have all words of a query, with the number of hits: most first, then highest utility.

    A word of text or key is a hit if it begins with a word of the query, in any case.
    """
    wanted = list(dict.fromkeys(re.findall(r"\w+", query.casefold())))
    matches = []
    for skill in skills:
        text = skill.text
        parts = (text.title, text.principle, text.when_to_apply, skill.task_text, skill.observation)
        words = re.findall(r"\w+", " ".join(parts).casefold())
        hits = [sum(word.startswith(start) for word in words) for start in wanted]
        if hits and all(hits):
            matches.append((skill, sum(hits)))
    return sorted(matches, key=lambda match: (-match[1], -match[0].utility))


def search_by_meaning(skills: Sequence[Skill], query: str, embedder: Embedder) -> list[tuple[Skill, float]]:
    """Returns all skills, nearest first, with the cosine of a query and their text or task, whichever is nearer."""
    if not skills:
        return []
    texts = [" ".join((s.text.title, s.text.principle, s.text.when_to_apply)) for s in skills]
    vectors = embedder.embed([query, *texts, *(skill.task_text for skill in skills)])
    cosines = (vectors[1:] @ vectors[0]).reshape(2, len(skills)).max(axis=0)
    order = np.argsort(-cosines, kind="stable")
    return [(skills[row], float(cosines[row])) for row in order]
