"""Signals that ask a process to end: a command ends by them as by Ctrl-C, tidily and with how to go on.

The exit status is the usual one, 128 and the number of the signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
"""

from __future__ import annotations

import errno
import os
import signal
from time import monotonic
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # not all on Windows
_TOGETHER = 2.0  # seconds in which further signals are the same request

_last: tuple[int, float] | None = None


def interrupt_at_stop_signals() -> None:
    """Makes SIGTERM and SIGHUP raise `KeyboardInterrupt`; what ignores one, as below nohup, goes on to do so.

    Of several processes of a launcher only the first one has anything to tidy up; the others end at once.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    for number in _SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)


def exit_status() -> int:
    """Returns the exit status of a command that was interrupted."""
    return 128 + (_last[0] if _last else signal.SIGINT)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    global _last
    before, _last = _last, (number, monotonic())
    for descriptor in (1, 2):
        if _is_gone(descriptor):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    if before is None or _last[1] - before[1] > _TOGETHER:
        raise KeyboardInterrupt


def _is_gone(descriptor: int) -> bool:
    """Returns True for a terminal that was closed: it takes nothing any more."""
    try:
        return os.write(descriptor, b"") < 0
    except OSError as error:
        return error.errno == errno.EIO
