"""Candidates: searches and answers that a policy which chooses may choose from, made from the question and passages.

Answers are spans of the passages, ranked by what the question asks for and by the question's words around them. The
weights of the ranking were fitted once, on training questions.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, chain, islice
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2skill.envs.search_qa.passage import Passage
from d2skill.envs.search_qa.passage_spans import PassageSpans, passage_spans, term_of
from d2skill.envs.text_search.analyzer import normalize

ASKS = ("who", "when", "where", "count", "kind", "what", "yes-no")
"""Things that a question asks for; kind is a sort of thing, in small letters: an occupation, a genre"""

_WORD = re.compile(r"[^\W_]+(?:['’&.\-][^\W_]+)*")
_PEOPLE = (
    "actor|actress|singer|author|writer|poet|novelist|artist|painter|composer|musician|president|king|queen|"
    "politician|player|footballer|golfer|boxer|comedian|director|scientist|philosopher|woman|man|person|monarch|"
    "emperor|pope|explorer|presenter|architect|inventor|designer|band|prime minister|driver|chef|model|character"
)
_PLACES = (
    "city|country|state|county|town|capital|continent|island|river|place|nation|province|village|lake|sea|ocean|"
    "mountain"
)
_ASKED = [
    (ask, re.compile(rf".*?\b(?:{pattern})(?!\w)", re.IGNORECASE))
    for ask, pattern in (
        ("count", "how (?:many|much|old|long|far|tall|big|high|deep|fast|often|large)"),
        ("count", "(?:what|which) (?:number|percentage|percent|age|population)"),
        ("when", "when|(?:what|which) (?:year|date|decade|century|month|day)"),
        ("kind", "(?:what|which) (?:genre|sport|colou?r|type|kind|sort|animal|language|religion|material)"),
        ("kind", "what is .+ occupation"),
        ("where", rf"where|(?:what|which) (?:\w+ )?(?:{_PLACES})"),
        ("who", rf"who|whose|whom|(?:what|which) (?:\w+ ){{0,2}}?(?:{_PEOPLE})"),
        ("what", "what|which|how|why|name"),
    )
] + [("yes-no", re.compile(r"(?:is|are|was|were|do|does|did|can|could|has|have|had|will|would|should)\b", re.I))]

_ASKING = frozenset("who whose whom what which when where why how many much did does do is was were are name".split())
_QUOTED = re.compile(r"[\"“]{1,8}([^\"”]{2,80})[\"”]+|(?<!\w)['‘]([^'’]{2,80})['’](?!\w)")
_SHOWN = 8  # words on each side of a span that its label has
_LAST_RANK = 3  # passages behind it count alike
_BRIDGES = 3  # names of the passages that queries are made of
_STANDINGS = ("first-", "early-", "early-", *[""] * 7, "late-")  # in labels, by rank
_WEIGHTS = {
    "near": 0.42,
    "sentence": 0.38,
    "often": 0.81,
    "title": 0.56,
    "early": -0.37,
    "rank": -0.64,
    "asked": -2.57,
    "length": -0.14,
}
"""Weights of what is measured of a span: the question's words near it, in its sentence and in the title of its passage,
how often it comes, how far behind it stands, the rank of its passage, the share of its words that the question has, and
its length"""
_PRIORS = np.array(
    [
        [3.2, -0.5, 0.6, 3.4, -0.4, -1.0, -1.3, -1.4, -2.8],
        [0.2, -1.6, -0.9, 0.6, 0.1, 2.2, 2.5, -0.7, -2.1],
        [1.9, -0.1, 2.0, 0.0, -0.2, -0.4, -0.6, -0.8, -2.0],
        [-0.3, -0.8, -0.4, 0.0, 0.0, -0.2, 0.2, 2.5, -0.9],
        [-0.3, -0.2, 0.2, 0.0, 0.0, -0.4, -0.4, -0.4, 1.4],
        [1.3, -1.0, 0.2, 2.6, 2.1, -1.2, -1.3, -1.1, -1.6],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ]
)
"""The weight of each kind of spans, by what is asked for"""

Floats = NDArray[np.float64]


class Span(NamedTuple):
    """An answer: its text, and its label.

    The label begins with the standing in the list, what is asked for and the kind, "first-who-name", and has the words
    around the answer.
    """

    text: str
    label: str


class _Question(NamedTuple):
    """A question: what it asks for, its words, and its terms without those that ask."""

    ask: str
    words: tuple[str, ...]
    terms: tuple[str, ...]


@lru_cache(maxsize=2**12)
def _parsed(question: str) -> _Question:
    """Returns the words of a question, their terms, and what it asks for."""
    words = tuple(_WORD.findall(question))
    plain = " ".join(words)
    ask = next((ask for ask, pattern in _ASKED if pattern.match(plain)), "what")
    terms = dict.fromkeys(term for word in words if (term := term_of(word)) and word.lower() not in _ASKING)
    return _Question(ask, words, tuple(terms))


def spans(question: str, passages: Sequence[Passage], count: int) -> list[Span]:
    """Returns the best answers among the spans of some passages, at most `count`, best first.

    Names that the question has are none, except where it asks to choose, with "or". A question that asks for yes or no
    has these two first.
    """
    asked = _parsed(question)
    answers = [Span(text, f"yes-no {text}") for text in ("yes", "no") if asked.ask == "yes-no"][:count]
    for passage, at in _ranked(asked, tuple(one.contents for one in passages)):
        if len(answers) >= count:
            break
        answers.append(Span(passage.texts[at], _label(asked.ask, passage, at, len(answers))))
    return answers


def _ranked(asked: _Question, contents: tuple[str, ...]) -> Iterator[tuple[PassageSpans, int]]:
    """Yields the different spans of some passages as the passage and the place in it, best first."""
    parsed, order, starts = _order(asked, contents)
    taken: set[int] = set()
    for at in order:
        number = bisect_right(starts, at) - 1
        passage, place = parsed[number], at - starts[number]
        key = passage.hashes[place]
        if passage.keys[place] and key not in taken:
            taken.add(key)
            yield passage, place


@lru_cache(maxsize=2**8)  # the same for answers and queries
def _order(
    asked: _Question, contents: tuple[str, ...]
) -> tuple[tuple[PassageSpans, ...], Sequence[int], tuple[int, ...]]:
    """Returns the spans of some passages, their order over all, best first, and where those of each passage start."""
    passages = tuple(map(passage_spans, contents))
    if not passages:
        return (), (), ()
    starts = tuple(accumulate((len(one.texts) for one in passages[:-1]), initial=0))
    scores = _scores(asked, passages)
    best = np.argsort(-scores, kind="stable")[: np.count_nonzero(scores > -np.inf)]
    return passages, best.tolist(), starts


def _scores(asked: _Question, passages: Sequence[PassageSpans]) -> Floats:
    """Returns how much speaks for each span of all passages, minus infinity for those that the question has."""
    starts = list(accumulate((len(one.starts) - 1 for one in passages), initial=0))
    counts = {term: sum(len(one.terms.get(term, ())) for one in passages) for term in asked.terms}
    weights = {term: log(1 + starts[-1] / (1 + 4 * count)) / 5 for term, count in counts.items() if count}
    values = np.zeros(starts[-1] + 1)
    tables, sentences, end = [], [], 0
    for one, start in zip(passages, starts, strict=False):
        for term, weight in weights.items():
            for at in one.terms.get(term, ()):
                values[start + at + 1] = weight
        tables.append(one.table + np.array([[start]] * 4 + [[end], [0], [0]], np.int32))
        sentences.append(one.sentence + end)
        end += int(one.sentence[-1]) + 1 if len(one.sentence) else 0
    first, last, low, high, sentence, content, kinds = np.concatenate(tables, axis=1)
    before, matched = values.cumsum(), (values > 0).cumsum()
    inside, named = before[last] - before[first], matched[last] - matched[first]
    by_passage = [
        _WEIGHTS["title"] * (before[start + one.title] - before[start]) + _WEIGHTS["rank"] * min(rank, _LAST_RANK)
        for rank, (one, start) in enumerate(zip(passages, starts, strict=False))
    ]
    sizes = [len(one.texts) for one in passages]
    early = _WEIGHTS["early"] / np.maximum(1, np.diff(starts))
    times = Counter(chain.from_iterable(one.hashes for one in passages))
    often = np.fromiter(
        map(times.__getitem__, chain.from_iterable(one.hashes for one in passages)), np.int64, sum(sizes)
    )
    scores: Floats = (
        _PRIORS[ASKS.index(asked.ask)][kinds]
        + _WEIGHTS["near"] * (before[high] - before[low] - inside)
        + _WEIGHTS["sentence"] * (np.bincount(np.concatenate(sentences), values[1:])[sentence] - inside)
        + _WEIGHTS["asked"] * named / np.maximum(1, content)
        + _WEIGHTS["often"] * np.log(often)
        + _WEIGHTS["length"] * (last - first)
        + np.repeat(early, sizes) * (first - np.repeat(starts[:-1], sizes))
        + np.repeat(by_passage, sizes)
    )
    if "or" not in asked.words:
        scores[(named >= content) & (named > 0)] = -np.inf
    return scores


def _label(ask: str, passage: PassageSpans, at: int, rank: int) -> str:
    first, last = passage.ranges[at]
    words, starts = passage.words, passage.starts
    before = words[starts[max(0, first - _SHOWN)] : starts[first]]
    after = words[starts[last] : starts[min(last + _SHOWN, len(starts) - 1)]]
    standing = _STANDINGS[min(rank, len(_STANDINGS) - 1)]
    return f"{standing}{ask}-{passage.kinds[at]} {(before + after)[:-1]}"


def queries(question: str, passages: Sequence[Passage], asked: Sequence[str], count: int) -> list[str]:
    """Returns searches that were not asked before, at most `count`, best first.

    They are the question, what it names, names of the passages with the question's other words, titles of the
    passages, and the question without the words that ask.

    Args:
        question: The question.
        passages: The passages that were found so far.
        asked: The searches so far.
        count: Number of searches, at most.
    """
    known = {_plain(query) for query in asked}
    made: list[str] = []
    for query in _queries(_parsed(question), question, passages):
        plain = _plain(query)
        if plain and plain not in known and len(made) < count:
            known.add(plain)
            made.append(" ".join(query.replace("[", " ").replace("]", " ").split()))
    return made


def _queries(asked: _Question, question: str, passages: Sequence[Passage]) -> Iterator[str]:
    yield question
    content = [word for word in asked.words if normalize(word) and word.lower() not in _ASKING]
    named = [*_quoted(question), *_names(question)]
    yield from named[:2]
    ranked = _ranked(asked, tuple(one.contents for one in passages))
    names = (one.texts[at] for one, at in ranked if one.kinds[at] in ("name", "title", "quoted"))
    bridges = list(islice(names, _BRIDGES))
    for bridge in bridges:
        own = {normalize(word) for word in _WORD.findall(bridge)}
        yield " ".join([bridge, *(word for word in content if normalize(word) not in own)])
    yield " ".join(content)
    yield from bridges
    yield from dict.fromkeys(one.title for one in passages)
    yield from named[2:]


def _quoted(question: str) -> list[str]:
    return [one[1] or one[2] for one in _QUOTED.finditer(question)]


def _names(question: str) -> list[str]:
    """Returns the names in a question, longest first."""
    found = passage_spans(f"\n{question}")
    names = {
        text: last - first
        for text, kind, (first, last) in zip(found.texts, found.kinds, found.ranges, strict=True)
        if kind in ("name", "word", "quoted") and first > 0
    }
    return sorted(names, key=lambda name: -names[name])


@lru_cache(maxsize=2**14)
def _plain(query: str) -> str:
    return " ".join(_WORD.findall(query.lower()))
