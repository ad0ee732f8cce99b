"""The side file of a journal, `bank.journal-lock`: its one writer holds it and notes in it what was acknowledged.

The system frees the lock when its holder dies. The note is written after an event has reached the disk and not synced
itself, so after a power cut it may be of an earlier event, but never of one that was not recorded.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from d2skill.errors import BankError

_POLL_SECONDS = 0.02
_HELD: weakref.WeakSet[WriteLock] = weakref.WeakSet()


class Acknowledged(NamedTuple):
    """The number and checksum of the last event that a writer was told is recorded."""

    seq: int
    checksum: bytes


class WriteLock:
    """The right to write a journal, from its making until `close`."""

    def __init__(self, path: Path, wait: float) -> None:
        """Waits up to `wait` seconds for it; then raises `BankError`, which names the process that holds it."""
        side = _side_file(path)
        try:
            self._file = os.open(side, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise BankError(f"{path} cannot be written: {side.name}: {error.strerror}") from error
        _HELD.add(self)
        give_up = time.monotonic() + wait
        while not self._locked():
            if time.monotonic() >= give_up:
                holder, _ = _parse(os.pread(self._file, 200, 0))
                self.close()
                raise BankError(
                    f"{path} is being written by another process ({holder or 'just started'}): stop it, or wait longer "
                    "(bank.wait)"
                )
            time.sleep(_POLL_SECONDS)
        _, self.acknowledged = _parse(os.pread(self._file, 200, 0))
        self._write()

    def note(self, acknowledged: Acknowledged | None) -> None:
        """Notes what has been acknowledged; None for nothing."""
        self.acknowledged = acknowledged
        self._write()

    def close(self) -> None:
        """Gives the lock up."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _write(self) -> None:
        seq, checksum = self.acknowledged or (-1, b"")
        line = f"pid {os.getpid():<10} event {seq:<12} {checksum.hex():<16}"
        os.pwrite(self._file, f"{line} {_digest(line)}\n".encode(), 0)


def acknowledged(path: Path) -> Acknowledged | None:
    """Returns what a journal's last writer was told is recorded, None if that is not known."""
    try:
        return _parse(_side_file(path).read_bytes())[1]
    except OSError:
        return None


def _side_file(path: Path) -> Path:
    return path.with_name(f"{path.name}-lock")


def _parse(data: bytes) -> tuple[str, Acknowledged | None]:
    """Returns holder and note of a side file; a line that was read while it was written counts as no note."""
    line, _, digest = data.decode("ascii", "replace").partition("\n")[0].rpartition(" ")
    if digest != _digest(line):
        return "", None
    _, pid, _, seq, *checksum = line.split()
    return f"pid {pid}", Acknowledged(int(seq), bytes.fromhex(checksum[0])) if checksum else None


def _digest(line: str) -> str:
    return blake2b(line.encode(), digest_size=8).hexdigest()


def _leave_locks_to_the_parent() -> None:
    """Closes, in a forked process, the locks of its parent, which would else outlive the parent in it."""
    for lock in _HELD:
        with suppress(OSError):
            lock.close()


os.register_at_fork(after_in_child=_leave_locks_to_the_parent)
