"""Splits of sets of questions by a hash of their ids: no question is in two of them, wherever else it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from d2skill.envs.search_qa.questions import QAQuestion
from d2skill.envs.search_qa.scoring import normalise

PARTS = ("test", "validation", "train")
"""Names of the parts of a set, the most held out first"""

_PERCENT = {"test": 20, "validation": 10}  # of a set; training has the rest


def split_sets(
    sets: Mapping[str, Sequence[QAQuestion]], panels: Iterable[QAQuestion], seed: int
) -> dict[str, dict[str, list[QAQuestion]]]:
    """Returns the parts of each set, by name of the part and of the set, each in the order of the hashes.

    A question that comes twice, in one set or in several, is in the most held out of the parts that it falls in; one
    that is also in a panel is in test. So of 1,000 questions 700, 100 and 200 are in train, validation and test, or a
    few more or less.

    Args:
        sets: The questions of each set, by its name.
        panels: Questions of other panels, which are kept out of train and validation.
        seed: Seed of the hashes.
    """
    groups: dict[str, list[QAQuestion]] = {}
    for question in (question for name in sets for question in sets[name]):
        groups.setdefault(normalise(question.text), []).append(question)
    names = {text: min(f"{one.set}/{one.id}" for one in group) for text, group in groups.items()}
    keys = {text: sha256(f"{seed}/{name}".encode()).digest() for text, name in names.items()}
    held_out = {normalise(question.text) for question in panels}
    places = {text: 0 if text in held_out else len(PARTS) for text in groups}
    ordered = {
        name: sorted(questions, key=lambda one: (keys[normalise(one.text)], one.id)) for name, questions in sets.items()
    }
    for questions in ordered.values():
        for rank, question in enumerate(questions):
            text = normalise(question.text)
            places[text] = min(places[text], _place(rank, len(questions)))
    parts: dict[str, dict[str, list[QAQuestion]]] = {part: {name: [] for name in sets} for part in PARTS}
    for name, questions in ordered.items():
        for question in questions:
            parts[PARTS[places[normalise(question.text)]]][name].append(question)
    return parts


def _place(rank: int, count: int) -> int:
    """Returns the place in `PARTS` of the question with this rank among so many."""
    end = 0
    for place, part in enumerate(PARTS[:-1]):
        end += count * _PERCENT[part] // 100
        if rank < end:
            return place
    return len(PARTS) - 1


@dataclass(frozen=True, slots=True)
class Leaks:
    """Numbers of questions of a test that share something with training: the question, a golden answer."""

    questions: int
    answers: int
    count: int

    @classmethod
    def between(cls, test: Sequence[QAQuestion], train: Sequence[QAQuestion]) -> Leaks:
        """Counts questions of a test that training asks too, and those with a golden answer that is right there too."""
        asked = {normalise(one.text) for one in train}
        known = {normalise(answer) for one in train for answer in one.answers}
        return cls(
            sum(normalise(one.text) in asked for one in test),
            sum(any(normalise(answer) in known for answer in one.answers) for one in test),
            len(test),
        )
