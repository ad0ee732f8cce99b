"""Keys of a bank's skills in files beside its journal, so that they are not embedded again.

`bank.db-task-keys` and `bank.db-step-keys` have rows of the bank, their keys, and digests of the texts that these were
made from. They belong to an embedder and to an event of the journal. If that event counts, all rows are as they were;
else, after a rewind or in a past state, those whose texts have the same digests. Without the files all is the same, but
slower.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2skill.bank.journal import BankState, Journal, JournalHead
from d2skill.bank.ranking import Integers, Vectors
from d2skill.types import Granularity
from d2skill.utils import array_file


@dataclass(slots=True)
class KeptKeys:
    """Files of the keys of one journal.

    Args:
        path: The journal.
        embedder: Fingerprint of the embedder.
        counts: Returns True if an event that was once the last one of the journal counts for the bank.
        head: Returns the head of the journal; None if nothing is to be written.
        rows: Number of rows of the bank at that head.
    """

    path: Path
    embedder: str
    counts: Callable[[JournalHead], bool]
    head: Callable[[], JournalHead] | None = None
    rows: int = 0

    @classmethod
    def replay(
        cls, journal: Journal, *, at: int | None = None, event: int | None = None
    ) -> tuple[BankState, JournalHead, KeptKeys]:
        """Returns the state after iteration `at` or an event, else the present one; the journal's head; and the keys.

        Files are written for the present state only.
        """
        head = journal.head()
        seq = head.seq if event is None else event
        state = journal.replay(at=at, seq=seq)
        kept = cls(journal.path, journal.embedder, partial(journal.has, at=at, seq=seq))
        if at is None and seq == head.seq:
            kept.head, kept.rows = lambda: head, len(state)
        return state, head, kept

    def read(self, granularity: Granularity, state: BankState) -> tuple[Integers, Vectors] | None:
        """Returns the rows [n] of which there are keys, in order, and the keys [n, d]; None without a fitting file."""
        file = array_file.read(self.file(granularity), f"keys of {self.embedder}")
        if file is None:
            return None
        rows, keys, digests = (file.arrays[name] for name in ("rows", "keys", "digests"))
        seq, iteration, checksum = file.values["head"]
        if not self.counts(JournalHead(seq, iteration, bytes.fromhex(checksum))):
            places = np.flatnonzero(np.isin(rows, state.rows(granularity)))
            places = places[digests[places] == digests_of(state.keys(rows[places]))]
            rows, keys = rows[places], keys[places]
        return rows, keys

    def write(self, granularity: Granularity, state: BankState, rows: Integers, keys: Vectors, new: int) -> bool:
        """Writes the keys of rows if so many are new that it is worth it; returns True if it tried.

        Args:
            granularity: The pool.
            state: State of the bank.
            rows: Rows that have keys, shape [n].
            keys: Keys, shape [n, d].
            new: Number of keys that are not in the file.
        """
        if self.head is None or not are_many(new, len(rows)) or not os.access(self.path.parent, os.W_OK):
            return False
        seq, iteration, checksum = self.head()
        recorded = int(np.searchsorted(rows, self.rows))
        rows, keys = rows[:recorded], keys[:recorded]
        values = {"head": [seq, iteration, checksum.hex()]}
        arrays: dict[str, array_file.Array] = {"rows": rows, "keys": keys, "digests": digests_of(state.keys(rows))}
        array_file.write(self.file(granularity), f"keys of {self.embedder}", values, arrays)
        return True

    def file(self, granularity: Granularity, what: str = "keys") -> Path:
        """Returns the path of a file beside the journal."""
        return self.path.with_name(f"{self.path.name}-{granularity}-{what}")


def are_many(new: int, all_keys: int) -> bool:
    """Returns True if new keys are worth another file: one in 64 and more, as fewer are embedded in a short time."""
    return new > 64 + all_keys // 64


def digests_of(keys: Sequence[tuple[str, str]]) -> npt.NDArray[np.uint64]:
    """Returns a digest of the two texts of each key [n]."""
    texts = (f"{len(task)} {task}{observation}".encode("utf-8", "surrogatepass") for task, observation in keys)
    return np.frombuffer(b"".join(blake2b(text, digest_size=8).digest() for text in texts), np.uint64)
