"""Lock of a journal's one writer, and the side file `bank.journal-lock` with the last acknowledged event.

The lock is an `flock` on the side file itself, as in earlier versions; the system releases it when its holder dies.
Where `fcntl` is missing, as on Windows, another file is locked, `bank.journal-writer`, because others may not be able
to read a locked file. Where the system has no locks at all, the existence of that file is the lock, and the next writer
removes it if its holder has died. (`FileLock` is not used on the side file: some of its versions truncate the file.)

The note is written after an event has reached the disk and not synced itself, so after a power cut it may be of an
earlier event, but never of one that was not recorded.
"""

from __future__ import annotations

import os
import time
import weakref
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from d2skill.errors import BankError
from d2skill.utils.links import open_unlinked

_POLL_SECONDS = 0.02
_LONGEST_NOTE = 200
_HELD: weakref.WeakSet[WriteLock] = weakref.WeakSet()


class Acknowledged(NamedTuple):
    """Number and checksum of the last event that a writer was told is recorded."""

    seq: int
    checksum: bytes


class WriteLock:
    """Exclusive right to write a journal, from the making of this object until `close`."""

    def __init__(self, path: Path, wait: float) -> None:
        """Waits up to `wait` seconds for the lock; then raises `BankError`, which names the process that holds it."""
        from filelock import FileLock, has_fcntl  # here, as readers have no lock to take

        side = _side_file(path)
        self._other = None if has_fcntl else FileLock(path.with_name(f"{path.name}-writer"), thread_local=False)
        give_up = time.monotonic() + wait
        try:
            self._file = open(side, "r+b", buffering=0, opener=_open_or_create)  # noqa: SIM115
            _HELD.add(self)
            while not self._acquired():
                if time.monotonic() >= give_up:
                    holder, _ = _parse(self._file.read(_LONGEST_NOTE))
                    self._file.close()
                    if holder == f"pid {os.getpid()}":
                        raise BankError(
                            f"this process has {path} open for writing already: close that bank first "
                            "(`bank.close()`, or open it by `with SkillBank.open(...) as bank`)"
                        )
                    raise BankError(
                        f"{path} is being written by another process ({holder or 'just started'}): stop it, or wait "
                        "longer (bank.wait)"
                    )
                time.sleep(_POLL_SECONDS)
        except OSError as error:
            raise BankError(f"{path} cannot be written: {side.name}: {error.strerror}") from error
        _, self.acknowledged = _parse(self._file.read(_LONGEST_NOTE))
        self.note(self.acknowledged)

    def note(self, acknowledged: Acknowledged | None) -> None:
        """Notes the last acknowledged event; None for none."""
        self.acknowledged = acknowledged
        seq, checksum = acknowledged or (-1, b"")
        line = f"pid {os.getpid():<10} event {seq:<12} {checksum.hex():<16}"
        self._file.seek(0)
        self._file.write(f"{line} {_digest(line)}\n".encode())

    def close(self) -> None:
        """Releases the lock."""
        self._file.close()
        if self._other:
            self._other.release()

    def _acquired(self) -> bool:
        """Tries once to take the lock; returns True if it is held now."""
        from filelock import Timeout, lock_descriptor

        if self._other is None:
            return lock_descriptor(self._file.fileno(), blocking=False)
        try:
            self._other.acquire(timeout=0)
        except Timeout:
            return False
        return True


def acknowledged(path: Path) -> Acknowledged | None:
    """Returns the last acknowledged event of a journal, None if it is not known."""
    try:
        return _parse(_side_file(path).read_bytes())[1]
    except OSError:
        return None


def _side_file(path: Path) -> Path:
    path = path.resolve()  # a link to a journal has the same lock
    return path.with_name(f"{path.name}-lock")


def _open_or_create(path: str, flags: int) -> int:
    return open_unlinked(path, flags | os.O_CREAT)


def _parse(data: bytes) -> tuple[str, Acknowledged | None]:
    """Returns the holder and the note in a side file; a line that was read while it was written counts as no note."""
    line, _, digest = data.decode("ascii", "replace").partition("\n")[0].rpartition(" ")
    if digest != _digest(line):
        return "", None
    _, pid, _, seq, *checksum = line.split()
    return f"pid {pid}", Acknowledged(int(seq), bytes.fromhex(checksum[0])) if checksum else None


def _digest(line: str) -> str:
    return blake2b(line.encode(), digest_size=8).hexdigest()


def _close_inherited_locks() -> None:
    """Closes, in a forked process, the side files of its parent, which would keep their locks in it."""
    for lock in _HELD:
        lock._file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited_locks)
