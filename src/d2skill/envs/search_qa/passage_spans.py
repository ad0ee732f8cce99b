"""Spans of a passage that can be answers, found once for each passage: names, dates, numbers, titles, phrases.

A name is a run of capitalised words, also with particles inside ("University of Oxford") and in parts of it. Nothing
here knows the question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from d2skill.envs.search_qa.passage import Passage
from d2skill.envs.text_search.analyzer import STOP_WORDS, normalize

KINDS = ("name", "part", "word", "title", "quoted", "date", "year", "number", "phrase")
"""Kinds of spans: a name of several words, a part of one, one of one word; then what they are called"""

NEAR = 4
"""Words on each side of a span in which words of the question count most"""
_PLACES = {kind: at for at, kind in enumerate(KINDS)}
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*(?:st|nd|rd|th|s)?(?![^\W\d_])|[^\W_]+(?:['’&.\-][^\W_]+)*")
_QUOTED = re.compile(r'""([^"\n]{2,80}?)""|“([^”\n]{2,80}?)”|(?<!")"(?!")([^"\n]{2,80}?)"(?!")')
_PARTICLES = frozenset("of the de von van der den la le di da du del dos al bin y ibn".split())
_JOINTS = frozenset("and in on at for to a with from by".split())
_ABBREVIATED = frozenset("Mr Mrs Ms Dr St Jr Sr Lt Col Gen Sgt Capt Rev vs No".split())
_MONTHS = frozenset("january february march april may june july august september october november december".split())
_NUMBER_WORDS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million".split()
)
_FUNCTION_WORDS = STOP_WORDS | frozenset(
    "he she his her him its it's we you your our i my me them who whom whose which what when where how why than from "
    "has had have been being were do does did can could would should may might must also after before during while "
    "since until over under between through about against both each other some any all most more many several few "
    "only just so too very however although though because upon within without among along per up out off down again "
    "one two first second later then often usually well early new same another".split()
)
_ARTICLES = frozenset(("a", "an", "the"))
_LONGEST_NAME = 8
_LONGEST_PHRASE = 3
_LONGEST_TERM = 6

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class PassageSpans:
    """The tokens of a passage, title first, and its spans as ranges of tokens.

    Args:
        words: The tokens, in small letters, a blank behind each.
        starts: Place of each token in `words`, and the end.
        terms: Places of each term, by term as search has it.
        sentence: Number of the sentence of each token.
        title: Number of tokens of the title.
        texts: Text of each span.
        keys: Text of each span as answers are compared, without articles and marks.
        hashes: Hash of each key.
        kinds: Kind of each span.
        ranges: First token of each span, and the one behind it.
        table: First token of each span, the one behind it, both ends with `NEAR` tokens more, its sentence, its number
            of tokens with a term, and the place of its kind, shape [7, spans].
    """

    words: str
    starts: tuple[int, ...]
    terms: dict[str, tuple[int, ...]]
    sentence: Ints
    title: int
    texts: tuple[str, ...]
    keys: tuple[str, ...]
    hashes: tuple[int, ...]
    kinds: tuple[str, ...]
    ranges: tuple[tuple[int, int], ...]
    table: Ints


@lru_cache(maxsize=2**14)
def passage_spans(contents: str) -> PassageSpans:
    """Returns the spans of the contents of a passage."""
    title = Passage("", contents).title
    body = contents.partition("\n")[2]
    whole = f"{title}\n{body}".replace("[", " ").replace("]", " ")
    found = list(_TOKEN.finditer(whole))
    tokens = tuple(one[0] for one in found)
    gaps = [whole[one.end() : after.start()] for one, after in pairwise(found)] + ["\n"] * bool(found)
    ends = [
        gap != " " and _ends_sentence(token, gap, following)
        for token, gap, following in zip(tokens, gaps, (*tokens[1:], ""), strict=False)
    ]
    lower = [token.lower() for token in tokens]
    sentence = np.cumsum([0, *ends[:-1]], dtype=np.int32) if tokens else np.zeros(0, np.int32)
    in_title = sum(one.start() < len(title) for one in found)
    spans: dict[tuple[int, int], str] = {}
    for kind, first, last in (
        *_titles(whole, found, in_title, title),
        *_dates(tokens, lower, gaps),
        *_names(tokens, gaps, ends),
        *_numbers(tokens, lower, gaps),
        *_phrases(lower, tokens, gaps),
    ):
        spans.setdefault((first, last), kind)
    starts, stops = [one.start() for one in found], [one.end() for one in found]
    texts = [whole[starts[first] : stops[last - 1]] for first, last in spans]
    texts[:1] = [" ".join(whole[: len(title)].split())] if in_title else texts[:1]
    bare = ["" if word in _ARTICLES else word for word in lower]
    keys = tuple(" ".join(filter(None, bare[first:last])) for first, last in spans)
    terms = [term_of(token) for token in tokens]
    places: dict[str, list[int]] = {}
    for at, term in enumerate(terms):
        if term:
            places.setdefault(term, []).append(at)
    ranges = tuple(spans)
    begins, behind = np.array(ranges, np.int32).reshape(-1, 2).T
    content = np.cumsum([0, *map(bool, terms)], dtype=np.int32)
    kinds = np.array([_PLACES[kind] for kind in spans.values()], np.int32)
    low, high = np.maximum(begins - NEAR, 0), np.minimum(behind + NEAR, len(tokens))
    return PassageSpans(
        "".join(f"{word} " for word in lower),
        tuple(accumulate((len(word) + 1 for word in lower), initial=0)),
        {term: tuple(own) for term, own in places.items()},
        sentence,
        in_title,
        tuple(texts),
        keys,
        tuple(map(hash, keys)),
        tuple(spans.values()),
        ranges,
        np.stack([begins, behind, low, high, sentence[begins], content[behind] - content[begins], kinds]),
    )


def term_of(word: str) -> str:
    """Returns the beginning of a word's stem, by which words are compared: "director" and "directed" are alike."""
    return normalize(word)[:_LONGEST_TERM]


def _ends_sentence(token: str, gap: str, following: str) -> bool:
    """Returns True if a sentence ends between two tokens."""
    if "\n" in gap:
        return True
    starts = not following[:1].islower() and any(sign in gap for sign in ".!?")
    return starts and len(token) > 1 and token not in _ABBREVIATED


def _joined(token: str, gap: str) -> bool:
    """Returns True if a name may go on after a token."""
    return gap in (" ", "-", "'", "’") or (gap == ". " and (len(token) == 1 or token in _ABBREVIATED))


def _titles(whole: str, found: list[re.Match[str]], in_title: int, title: str) -> Iterator[tuple[str, int, int]]:
    """Yields the title, also without what stands in brackets behind it, and what stands in quotation marks."""
    if in_title:
        yield "title", 0, in_title
        plain = len(_TOKEN.findall(_without_brackets(title)))
        if 0 < plain < in_title:
            yield "title", 0, plain
    starts, ends = {one.start(): at for at, one in enumerate(found)}, {one.end(): at for at, one in enumerate(found)}
    for quoted in _QUOTED.finditer(whole, len(title)):
        group = quoted.lastindex or 0
        inside = quoted[group].rstrip(" ,.!?'")
        first, last = starts.get(quoted.start(group)), ends.get(quoted.start(group) + len(inside))
        if first is not None and last is not None and last - first < _LONGEST_NAME:
            yield "quoted", first, last + 1


def _without_brackets(title: str) -> str:
    """Returns a title without what stands in brackets at its end."""
    inside, end, behind = title.rstrip().rpartition(")")
    start = inside.find("(", inside.rfind(")") + 1)
    return title[:start] if end and not behind and start >= 0 else title


def _dates(tokens: tuple[str, ...], lower: list[str], gaps: list[str]) -> Iterator[tuple[str, int, int]]:
    """Yields dates, whole and in parts, and years."""
    for at, token in enumerate(tokens):
        if lower[at] in _MONTHS and token[0].isupper():
            first = at - 1 if at and _is_day(tokens[at - 1]) and gaps[at - 1] == " " else at
            last = at + 1
            if first == at and last < len(tokens) and gaps[at] == " " and _is_day(tokens[last]):
                last += 1
                yield "date", at, last
            if last < len(tokens) and gaps[last - 1] in (" ", ", ") and _is_year(tokens[last]):
                yield "date", first, last + 1
                if last == at + 1:
                    yield "date", at, last + 1
            if first < at:
                yield "date", first, at + 1
            yield "date", at, at + 1
        elif token[0].isdecimal() and _is_year(token):
            yield "year", at, at + 1
            if at + 1 < len(tokens) and gaps[at] in ("–", "-", " to ") and tokens[at + 1].isdecimal():
                yield "year", at, at + 2


def _is_day(token: str) -> bool:
    return token.rstrip("sthndr").isdecimal() and len(token) <= 4 and int(token.rstrip("sthndr")) <= 31


def _is_year(token: str) -> bool:
    plain = token.removesuffix("s")
    return len(plain) == 4 and plain.isdecimal() and "1000" <= plain < "2100"


def _names(tokens: tuple[str, ...], gaps: list[str], ends: list[bool]) -> Iterator[tuple[str, int, int]]:
    """Yields runs of capitalised words, whole and in parts."""
    at = 0
    while at < len(tokens):
        if not _is_capital(tokens, ends, at):
            at += 1
            continue
        pieces = [(at, at + 1)]  # between joints
        end = at + 1
        while end < len(tokens) and end - at < 2 * _LONGEST_NAME:
            first = pieces[-1][0]
            gap = gaps[end - 1]
            if gap == ", " and tokens[end][0].isupper() and len(pieces) < 3:
                pieces.append((end, end + 1))
            elif not _joined(tokens[end - 1], gap):
                break
            elif tokens[end][0].isupper() or (tokens[end].isdigit() and len(tokens[end]) < 4):
                pieces[-1] = (first, end + 1)
            else:
                beyond = end
                while beyond < len(tokens) and tokens[beyond] in _PARTICLES | _JOINTS and gaps[beyond] == " ":
                    beyond += 1
                if beyond == end or beyond - end > 2 or beyond >= len(tokens) or not tokens[beyond][0].isupper():
                    break
                if any(word in _JOINTS for word in tokens[end:beyond]):
                    if len(pieces) >= 3:
                        break
                    pieces.append((beyond, beyond + 1))
                else:
                    pieces[-1] = (first, beyond + 1)
                end = beyond
            end += 1
        yield from _parts_of(pieces, tokens)
        at = end


def _is_capital(tokens: tuple[str, ...], ends: list[bool], at: int) -> bool:
    """Returns True for a capitalised word that is no function word at the beginning of a sentence."""
    token = tokens[at]
    if not token[0].isupper():
        return False
    following = at + 1 < len(tokens) and tokens[at + 1][0].isupper() and not ends[at]
    return token.lower() not in _FUNCTION_WORDS or (token == "The" and following)


def _parts_of(pieces: list[tuple[int, int]], tokens: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Yields the pieces of a run, neighbouring pieces together, and shorter names in each piece."""
    for first, last in pieces:
        if last - first <= _LONGEST_NAME:
            yield ("name" if last - first > 1 else "word"), first, last
    for (first, _), (_, last) in pairwise(pieces):
        if last - first <= _LONGEST_NAME:
            yield "part", first, last
    if len(pieces) == 3 and pieces[-1][1] - pieces[0][0] <= _LONGEST_NAME:
        yield "part", pieces[0][0], pieces[-1][1]
    for first, last in pieces:
        for skip in (1, 2):
            if last - first - skip >= 1:
                if tokens[first + skip][0].isupper():
                    yield "part", first + skip, last
                if tokens[last - skip - 1][0].isupper():
                    yield "part", first, last - skip
        for at in range(first + 1, last):
            if tokens[at] in _PARTICLES:
                yield "part", first, at
            if tokens[at - 1] in _PARTICLES and tokens[at] not in _PARTICLES:
                yield "part", at, last


def _numbers(tokens: tuple[str, ...], lower: list[str], gaps: list[str]) -> Iterator[tuple[str, int, int]]:
    """Yields numbers in digits or words, alone and with the one or two words behind them."""
    for at, token in enumerate(tokens):
        if not token[0].isdecimal() and lower[at] not in _NUMBER_WORDS:
            continue
        end = at + 1
        beyond = min(len(tokens), at + _LONGEST_NAME)
        while end < beyond and gaps[end - 1] in (" ", "-") and lower[end] in _NUMBER_WORDS:
            end += 1
        yield "number", at, end
        for more in (1, 2):
            unit = end + more
            if unit <= len(tokens) and gaps[unit - 2] in (" ", "-") and tokens[unit - 1].islower():
                if tokens[unit - 1] not in _FUNCTION_WORDS:
                    yield "number", at, unit
            else:
                break


def _phrases(lower: list[str], tokens: tuple[str, ...], gaps: list[str]) -> Iterator[tuple[str, int, int]]:
    """Yields runs of up to three words of which the last is neither capitalised nor a function word."""
    run = 0  # words up to here that a phrase may have
    for at, word in enumerate(lower):
        if word in _FUNCTION_WORDS or not word[0].isalpha():
            run = 0
            continue
        run = min(_LONGEST_PHRASE, run + 1) if run and gaps[at - 1] in (" ", "-") else 1
        if len(word) > 2 and tokens[at][0].islower():
            for size in range(1, run + 1):
                yield "phrase", at + 1 - size, at + 1
