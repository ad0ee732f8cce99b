"""State of a large bank as arrays in a file beside the journal, `bank.db-state`, from which opening is fast.

It is of the last event when it was written. The journal decides if it counts: number and checksum of that event are in
it, and if they do not fit, or the file is damaged or missing, a replay does the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from d2skill.bank.journal.sqlite_file import JournalHead, beside
from d2skill.bank.journal.state import BankState
from d2skill.utils import array_file

KEPT_FROM = 10_000
"""Skills from which on the file is written; fewer are read from a snapshot in a tenth of a second."""


class KeptState(NamedTuple):
    """Head of the journal when the file was written, and the state as `BankState.unpack` takes it."""

    head: JournalHead
    values: dict[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]


def keep(path: Path, head: JournalHead, state: BankState) -> None:
    """Writes the file of the journal at `path`, if the state is large and the folder allows it."""
    if len(state) >= KEPT_FROM and os.access(path.parent, os.W_OK):
        values, arrays = state.packed()
        values["head"] = [head.seq, head.iteration, head.checksum.hex()]
        array_file.write(beside(path, "-state"), BankState.name, values, arrays)


def read(path: Path) -> KeptState | None:
    """Returns the state in the file of the journal at `path`; None if there is none of this version."""
    file = array_file.read(beside(path, "-state"), BankState.name)
    if file is None:
        return None
    try:
        seq, iteration, checksum = file.values["head"]
        return KeptState(JournalHead(seq, iteration, bytes.fromhex(checksum)), file.values, file.arrays)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
