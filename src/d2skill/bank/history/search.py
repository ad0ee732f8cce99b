"""Search for active skills by words or by meaning, over the columns of a bank's state."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from d2skill.bank import ranking
from d2skill.bank.index import KeyIndex
from d2skill.bank.journal import BankState
from d2skill.bank.journal.columns import Bytes
from d2skill.bank.ranking import Floats, Integers
from d2skill.types import Granularity

_ALL = 1000  # skills up to which all are compared
_COMPARED = 100
_PORTION = 8192  # rows that are searched at a time, so that they stay in the cache
_TEXTS = ("title", "principle", "when_to_apply", "task_text", "observation")
_WORD_BYTE = np.array([chr(byte).isalnum() or byte == ord("_") for byte in range(128)])


def count_hits(state: BankState, query: str) -> Integers:
    """Returns the hits of each word of a query in each row [words, rows].

    A word of text or key is a hit if it begins with the word of the query, in any case.
    """
    wanted = list(dict.fromkeys(re.findall(r"\w+", query.casefold())))
    hits = np.zeros((len(wanted), len(state)), dtype=np.int64)
    for column in map(state.texts, _TEXTS):
        piece, ends = column.packed()
        for first in range(0, len(state) if wanted else 0, _PORTION):
            start, own_ends = int(ends[first - 1]) if first else 0, ends[first : first + _PORTION]
            here, own_ends = piece[start : own_ends[-1]], own_ends - start
            others = np.unique(np.searchsorted(own_ends, np.flatnonzero(here >= 128), side="right"))
            hits[:, first : first + _PORTION] += _count_ascii(here, own_ends, wanted, others)
            for row in (first + others).tolist():
                words = re.findall(r"\w+", column[row].casefold())
                hits[:, row] += [sum(word.startswith(start) for word in words) for start in wanted]
    return hits


def _count_ascii(piece: Bytes, ends: Integers, wanted: Sequence[str], others: Integers) -> Integers:
    """Returns the hits of each word [words, rows] in texts that end in these places [rows], 0 in the other ones."""
    counts = np.zeros((len(wanted), len(ends)), dtype=np.int64)
    lowered = piece.tobytes().lower()
    for word, own in zip(wanted, counts, strict=True):
        if word.isascii():
            marked = lowered.replace(word.encode(), b"\xff".ljust(len(word)))  # a byte that is not in UTF-8
            found = np.flatnonzero(np.frombuffer(marked, np.uint8) == 255)
            found = found[~_WORD_BYTE[piece[found - 1] & 127] | (found == 0)]
            own += np.bincount(np.searchsorted(ends, found, side="right"), minlength=len(ends))
    counts[:, others] = 0
    return counts


def search_by_words(state: BankState, rows: Integers, hits: Integers) -> tuple[Integers, Integers]:
    """Returns those of some rows that have all words of a query, and their hits: most first, then highest utility.

    Args:
        state: State of the bank.
        rows: Rows to search [n].
        hits: Hits of each word in each row of the state [words, rows], as `count_hits` returns them.
    """
    found = rows[(hits[:, rows] > 0).all(axis=0) & (len(hits) > 0)]
    total = hits[:, found].sum(axis=0)
    order = np.lexsort((-state.utility(found), -total))
    return found[order], total[order]


def search_by_meaning(
    state: BankState, index: KeyIndex, query: str, hits: Integers, granularity: Granularity | None = None
) -> tuple[Integers, Floats]:
    """Returns rows of active skills, nearest first, with the cosine of a query and their text or task, the greater.

    Of more than 1,000 skills only those with the 100 nearest keys are compared, and 100 with most words of the query.

    Args:
        state: State of the bank.
        index: Keys of the bank.
        query: Text to look for.
        hits: Hits of each word in each row of the state [words, rows], as `count_hits` returns them.
        granularity: Task skills or step skills only.
    """
    rows = state.rows(granularity, "active")
    if len(rows) > _ALL:
        kinds: tuple[Granularity, ...] = (granularity,) if granularity else ("task", "step")
        own = hits[:, rows]
        parts = [rows[np.lexsort((-own.sum(axis=0), -(own > 0).sum(axis=0)))[:_COMPARED]]]
        for kind in kinds:
            found = index.search_set(kind)
            places = ranking.nearest(index.encode_task(query)[None], found.keys, -1.0, _COMPARED, found.shown)
            parts.append(found.rows[places[places >= 0]])
        rows = np.unique(np.concatenate(parts))
    skills = [state.skill(row) for row in rows.tolist()]
    texts = [" ".join((s.text.title, s.text.principle, s.text.when_to_apply)) for s in skills]
    vectors = np.array(index.embed([query, *texts, *(skill.task_text for skill in skills)]), np.float32)
    cosines = (vectors[1:] @ vectors[0]).reshape(2, len(skills)).max(axis=0, initial=-1.0)
    order = np.argsort(-cosines, kind="stable")
    return rows[order], cosines[order].astype(np.float64)
