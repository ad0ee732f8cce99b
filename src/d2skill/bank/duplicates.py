"""What of a bank is looked up by likeness: the keys of one granularity, and what says the same already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from d2skill.bank import ranking
from d2skill.bank.draft import Draft, numbers, said
from d2skill.bank.ranking import Integers, Vectors
from d2skill.types import Skill, SkillText

_TOGETHER = 1024  # keys held against all others in one product

Identity = tuple[SkillText, str, str]


def identity(skill: Skill | Draft) -> Identity:
    """Returns what two skills that are the same have in common: text and key."""
    return skill.text, skill.task_text, skill.observation


class Content(NamedTuple):
    """What a skill says, to compare it by: the vector [d] of its text and the numbers in it."""

    vector: Vectors
    numbers: tuple[str, ...]


class Pool:
    """The skills of one granularity that are in the bank: their rows there, in order, and their keys [S, d].

    `skill` returns the skill of a row, `embed` the vectors of texts [n, d].
    """

    def __init__(
        self,
        rows: Integers,
        keys: Vectors,
        skill: Callable[[int], Skill],
        embed: Callable[[Sequence[str]], Sequence[Vectors]],
    ) -> None:
        self._rows = rows
        self._keys = keys
        self._size = len(rows)
        self._skill = skill
        self._embed = embed
        self._same: dict[Identity, int] | None = None
        self._contents: dict[int, Content] = {}

    @property
    def rows(self) -> Integers:
        """The rows of the bank that are in the pool [S]."""
        return self._rows[: self._size]

    @property
    def keys(self) -> Vectors:
        """Their keys [S, d]."""
        return self._keys[: self._size]

    def add(self, row: int, key: Vectors, skill: Skill) -> None:
        """Takes in a new skill, after all others."""
        if self._size == len(self._rows):
            room = max(self._size, 16)
            self._rows = np.concatenate([self.rows, np.zeros(room, dtype=np.int64)])
            self._keys = np.concatenate([self.keys.reshape(-1, len(key)), np.empty((room, len(key)), dtype=np.float32)])
        self._rows[self._size], self._keys[self._size] = row, key
        self._size += 1
        if self._same is not None:
            self._same.setdefault(identity(skill), row)

    def drop(self, rows: Sequence[int]) -> None:
        """Takes out the skills of some rows."""
        stay = ~np.isin(self.rows, rows)
        self._rows, self._keys, self._size = self.rows[stay], self.keys[stay], int(stay.sum())
        self._same = None

    def same(self, new: Draft) -> int | None:
        """Returns the row of the first skill with the same text and key."""
        if self._same is None:
            self._same = {identity(self._skill(row)): row for row in reversed(self.rows.tolist())}
        return self._same.get(identity(new))

    def alike(self, rows: Sequence[int], least: float) -> Iterator[tuple[int, list[int]]]:
        """Yields rows with those later ones in the list that say the same for a like key, each only once."""
        order = {row: at for at, row in enumerate(rows)}
        places = {row: place for place, row in enumerate(self.rows.tolist())}
        gone: set[int] = set()
        for start in range(0, len(rows), _TOGETHER):
            part = rows[start : start + _TOGETHER]
            near = ranking.near(self.keys[[places[row] for row in part]], self.keys, least)
            for row, found in zip(part, near, strict=True):
                later = [other for other in self.rows[found].tolist() if order.get(other, -1) > order[row]]
                if row in gone or not (later := [other for other in later if other not in gone]):
                    continue
                known = self.contents([row, *later])
                if same := say_the_same(known[row], {other: known[other] for other in later}, least):
                    gone.update(same)
                    yield row, same

    def contents(self, rows: Sequence[int]) -> dict[int, Content]:
        """Returns what skills say, those of some rows among them; kept for the next time."""
        new = [row for row in rows if row not in self._contents]
        self._contents.update(zip(new, self.read([self._skill(row) for row in new]), strict=True))
        return self._contents

    def read(self, skills: Sequence[Skill | Draft]) -> list[Content]:
        """Returns what some skills say, embedded all at once."""
        texts = [said(skill.text) for skill in skills]
        return [Content(vector, numbers(text)) for vector, text in zip(self._embed(texts), texts, strict=True)]


class Newcomers:
    """Drafts held against the skills of a pool and against each other.

    What they say is only looked at where keys [n, d] are alike, at least `least`; all of that is embedded at once.
    """

    def __init__(self, pool: Pool, drafts: Sequence[Draft], keys: Vectors, least: float) -> None:
        self._pool = pool
        self._drafts = drafts
        self._least = least
        self._near = [pool.rows[places].tolist() for places in ranking.near(keys, pool.keys, least)]
        self._each_other = [places[places < at].tolist() for at, places in enumerate(ranking.near(keys, keys, least))]
        self._taken: dict[int, int] = {}
        self._known = pool.contents(list(dict.fromkeys(row for rows in self._near for row in rows)))
        alike = {place for at, places in enumerate(self._each_other) if places for place in (at, *places)}
        read = sorted(alike | {at for at, rows in enumerate(self._near) if rows})
        self._said = dict(zip(read, pool.read([drafts[at] for at in read]), strict=True))

    def duplicate(self, at: int) -> int | None:
        """Returns the row of the first skill that is the same as a newcomer, or else of the first that is like it."""
        if (same := self._pool.same(self._drafts[at])) is not None:
            return same
        near = self._near[at] + [self._taken[other] for other in self._each_other[at] if other in self._taken]
        if not near:
            return None
        alike = say_the_same(self._said[at], {row: self._known[row] for row in near}, self._least)
        return alike[0] if alike else None

    def add(self, at: int, row: int, key: Vectors, skill: Skill) -> None:
        """Takes a newcomer, now a skill with an id, into the pool."""
        self._pool.add(row, key, skill)
        self._taken[at] = row
        if at in self._said:
            self._known[row] = self._said[at]


def say_the_same(content: Content, others: Mapping[int, Content], least: float) -> list[int]:
    """Returns the rows of those contents that are at least so like one: "drawer 3" is never like "drawer 4"."""
    rows = [row for row, other in others.items() if other.numbers == content.numbers]
    if not rows:
        return []
    vectors = np.concatenate([others[row].vector for row in rows]).reshape(len(rows), -1)
    alike = ranking.cosines(content.vector, vectors) >= least
    return [row for row, is_alike in zip(rows, alike.tolist(), strict=True) if is_alike]
