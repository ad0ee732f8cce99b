"""Nearest-neighbour lookup over one pool's key vectors, and near-duplicate detection for drafts and skills.

A near-duplicate has a like key and a like text, by cosine, and the same numbers in its text: "drawer 3" and "drawer 4"
are different advice however alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from d2skill.bank import ranking
from d2skill.bank.draft import Draft
from d2skill.bank.journal import BankState, Status
from d2skill.bank.ranking import Integers, Vectors
from d2skill.bank.safety import clean
from d2skill.types import Skill, SkillText
from d2skill.utils.text import storable

IN_BANK: tuple[Status, ...] = ("active", "trial", "held")
"""Statuses of skills that are in the bank."""
_BATCH = 1024  # keys compared with all others in one product


class Content(NamedTuple):
    """Vector [d] of a skill's text, and the numbers in it."""

    vector: Vectors
    numbers: tuple[str, ...]


class Pool:
    """Skills of one granularity that are in the bank, and the vectors of their keys.

    A large pool may have skills that have left the bank, too.

    Args:
        state: State of the bank.
        rows: Their rows in the bank, in order [S].
        keys: Vectors of their keys [S, d].
        embed: Returns the vectors [d] of texts.
    """

    def __init__(
        self,
        state: BankState,
        rows: Integers,
        keys: Vectors,
        embed: Callable[[Sequence[str]], Sequence[Vectors]],
    ) -> None:
        self._state = state
        self._rows = rows
        self._keys = keys
        self._size = len(rows)
        self._embed = embed
        self._contents: dict[int, Content] = {}

    @property
    def rows(self) -> Integers:
        """Rows of the bank that are in the pool [S]."""
        return self._rows[: self._size]

    @property
    def keys(self) -> Vectors:
        """Keys of these rows [S, d]."""
        return self._keys[: self._size]

    def in_bank(self) -> npt.NDArray[np.bool_]:
        """Returns for each row whether its skill is in the bank [S]."""
        return self._state.has_status(self.rows, *IN_BANK)

    def add(self, row: int, key: Vectors) -> None:
        """Adds a new skill, after all others."""
        if self._size == len(self._rows):
            room = max(self._size, 16)
            self._rows = np.concatenate([self.rows, np.zeros(room, dtype=np.int64)])
            self._keys = np.concatenate([self.keys.reshape(-1, len(key)), np.empty((room, len(key)), dtype=np.float32)])
        self._rows[self._size], self._keys[self._size] = row, key
        self._size += 1

    def drop_gone(self) -> None:
        """Removes the skills that have left the bank; from a large pool only once they are a quarter of it."""
        stay = self.in_bank()
        left = int(stay.sum())
        if left < self._size and (self._size < ranking.LARGE or left < 0.75 * self._size):
            self._rows, self._keys, self._size = self.rows[stay], self.keys[stay], left

    def without_key(self) -> list[int]:
        """Returns the rows of skills whose keys are 0, as there is nothing in them to embed."""
        return list(self.rows[self.in_bank() & ~self.keys.any(axis=1)].tolist())

    def exact_duplicate(self, draft: Draft, rows: Sequence[int]) -> int | None:
        """Returns the first of some rows with the same text and key as a draft."""
        return next((row for row in rows if _identity(self._state.skill(row)) == _identity(draft)), None)

    def near_duplicates(self, rows: Sequence[int], least: float) -> Iterator[tuple[int, list[int]]]:
        """Yields rows with their near-duplicates later in the list, by a cosine of `least`; each row only once."""
        order = {row: at for at, row in enumerate(rows)}
        places = {row: place for place, row in enumerate(self.rows.tolist())}
        gone: set[int] = set()
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            near = ranking.neighbours(self.keys[[places[row] for row in part]], self.keys, least)
            for row, found in zip(part, near, strict=True):
                later = [other for other in self.rows[found].tolist() if order.get(other, -1) > order[row]]
                if row in gone or not (later := [other for other in later if other not in gone]):
                    continue
                contents = self.contents([row, *later])
                if same := _near_duplicates(contents[row], {other: contents[other] for other in later}, least):
                    gone.update(same)
                    yield row, same

    def contents(self, rows: Sequence[int]) -> dict[int, Content]:
        """Returns the cached contents by row, after adding those of some rows; new ones are embedded all at once."""
        new = [row for row in rows if row not in self._contents]
        self._contents.update(zip(new, self.embed_contents([self._state.skill(row) for row in new]), strict=True))
        return self._contents

    def forget_contents(self) -> None:
        """Forgets the contents of all skills, after some texts have changed."""
        self._contents.clear()

    def embed_contents(self, skills: Sequence[Skill | Draft]) -> list[Content]:
        """Returns the contents of some skills: of title and principle, embedded all at once."""
        texts = [f"{skill.text.title}. {skill.text.principle}" for skill in skills]
        vectors = self._embed(texts)
        return [Content(vector, _numbers(text)) for vector, text in zip(vectors, texts, strict=True)]


class DraftComparison:
    """Comparison of new drafts with the skills of a pool and with each other.

    Contents are compared where keys are alike; only these are embedded, all at once.

    Args:
        pool: The skills.
        drafts: New drafts of the same granularity.
        keys: Vectors [d] of the drafts' keys.
        least: Least cosine of keys, and of contents, of duplicates.
    """

    def __init__(self, pool: Pool, drafts: Sequence[Draft], keys: Sequence[Vectors], least: float) -> None:
        self._pool = pool
        self._drafts = drafts
        self._keys = keys
        self._least = least
        stacked = np.stack(keys)
        rows, in_bank = pool.rows, pool.in_bank()
        near = ranking.neighbours(stacked, pool.keys, least)
        self._near = [rows[places[in_bank[places]]].tolist() for places in near]
        bare = np.flatnonzero(~stacked.any(axis=1)).tolist()
        self._without_key = dict.fromkeys(bare, pool.without_key() if bare else [])
        among = ranking.neighbours(stacked, stacked, least)
        self._earlier = [places[places < at].tolist() for at, places in enumerate(among)]
        self._taken: dict[int, int] = {}
        self._new: dict[tuple[SkillText, str, str], int] = {}
        self._known = pool.contents(list(dict.fromkeys(row for rows in self._near for row in rows)))
        alike = {place for at, places in enumerate(self._earlier) if places for place in (at, *places)}
        compared = sorted(alike | {at for at, rows in enumerate(self._near) if rows})
        self._contents = dict(zip(compared, pool.embed_contents([drafts[at] for at in compared]), strict=True))

    def duplicate(self, at: int) -> int | None:
        """Returns the row of the first exact duplicate of draft number `at`, or else of its first near-duplicate."""
        draft, known = self._drafts[at], self._without_key.get(at, self._near[at])
        same = self._pool.exact_duplicate(draft, known)
        if same is not None or (same := self._new.get(_identity(draft))) is not None:
            return same
        near = self._near[at] + [self._taken[other] for other in self._earlier[at] if other in self._taken]
        if not near:
            return None
        alike = _near_duplicates(self._contents[at], {row: self._known[row] for row in near}, self._least)
        return alike[0] if alike else None

    def add(self, at: int, row: int) -> None:
        """Adds draft number `at`, which has become a skill in a row of the bank, to the pool."""
        self._pool.add(row, self._keys[at])
        self._taken[at] = row
        self._new[_identity(self._drafts[at])] = row
        if at in self._contents:
            self._known[row] = self._contents[at]


def _near_duplicates(content: Content, others: Mapping[int, Content], least: float) -> list[int]:
    """Returns the rows of contents with the same numbers and a cosine of `least` or more."""
    rows = [row for row, other in others.items() if other.numbers == content.numbers]
    if not rows:
        return []
    vectors = np.concatenate([others[row].vector for row in rows]).reshape(len(rows), -1)
    alike = ranking.cosines(content.vector, vectors) >= least
    return [row for row, is_alike in zip(rows, alike.tolist(), strict=True) if is_alike]


def _identity(skill: Skill | Draft) -> tuple[SkillText, str, str]:
    """Returns the text and the key, which exact duplicates have in common."""
    return skill.text, skill.task_text, skill.observation


def _numbers(text: str) -> tuple[str, ...]:
    """Returns the numbers in a text, sorted."""
    return tuple(sorted(re.findall(r"\d+", text)))


def cleaned(draft: Draft) -> Draft:
    """Returns a draft with its texts as the bank stores them."""
    observation = storable(draft.observation) if draft.granularity == "step" else ""
    return Draft(
        draft.granularity, clean(draft.text), storable(draft.task_text), observation, storable(draft.source_task)
    )


def is_whole(text: SkillText) -> bool:
    """Returns True if no field of a text is empty."""
    return bool(text.title and text.principle and text.when_to_apply)
