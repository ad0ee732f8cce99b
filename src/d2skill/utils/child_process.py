"""Child processes: Python processes that answer requests of this one, over their standard input and output.

They are started from scratch, by no code of the caller's main module, so a script needs no guard for them. A child ends
when it is closed, and at once when this process ends, whatever ended it: it then reads the end of its input. Ctrl-C is
not for children: the process that started them hears it and ends them. So it is with SIGTERM and SIGHUP, which some
schedulers send to every process.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

from d2skill.errors import RunError
from d2skill.utils.process_group import portable_error

_CODE = "import sys; sys.path[:] = sys.argv[1:]; from d2skill.utils.child_process import serve; serve()"
_PATIENCE = 5.0
"""Seconds that a child has to end by itself"""
_RESUME = "go on by `d2skill resume`, with fewer --processes"


class ChildProcess:
    """A process that calls a function for each request, one after another."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], way_out: str = _RESUME) -> None:
        """Starts the process, which calls `make` for the function; both can be pickled by name.

        `way_out` is the advice for a process that is gone.
        """
        self._way_out = way_out
        own_group: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {"creationflags": 0x200}
        command = [sys.executable, "-c", _CODE, *sys.path]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **own_group)
        assert self._process.stdin and self._process.stdout
        self._to: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._from: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self.send(make)

    def send(self, request: Any) -> None:
        """Sends a request; a process that is gone is noticed by `receive`."""
        with suppress(OSError):
            pickle.dump(request, self._to, protocol=5)
            self._to.flush()

    def receive(self) -> Any:
        """Waits for the answer to the oldest open request, and returns it.

        Raises the error that the function raised, and `RunError` when the process is gone.
        """
        try:
            failed, answer = pickle.load(self._from)  # nosec B301
        except (EOFError, OSError, pickle.UnpicklingError):
            status = self._process.wait()
            raise RunError(
                f"a worker process ended with status {status}, perhaps for want of memory: {self._way_out}"
            ) from None
        if failed:
            raise answer
        return answer

    def close(self) -> None:
        """Ends the process."""
        with suppress(OSError):
            self._to.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from.close()


def serve() -> None:
    """Answers requests as a child: the first one says how to make the function, the others are its arguments."""
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):  # not all on Windows
            signal.signal(number, _leave_to_parent)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    incoming = os.fdopen(os.dup(0), "rb")
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what else is printed must not get among the answers
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    threading.Thread(target=_listen, args=(incoming, requests), daemon=True).start()
    function = None
    while True:
        try:
            request = requests.get()  # nosec B113
            if isinstance(request, Exception):
                raise request
            if function is None:
                function = request()
                continue
            answer = False, function(request)
        except Exception as error:
            answer = True, portable_error(error, "a worker process")
        try:
            pickle.dump(answer, outgoing, protocol=5)
            outgoing.flush()
        except OSError:  # nobody listens any more
            os._exit(1)


def _leave_to_parent(*_: object) -> None:
    """Does nothing at a signal; other than `SIG_IGN`, processes that are started from here do not inherit it."""


def _listen(incoming: BinaryIO, requests: queue.SimpleQueue[Any]) -> None:
    """Queues requests; ends the process at once when there will be no more."""
    while True:
        try:
            requests.put(pickle.load(incoming))  # nosec B301 B113
        except (EOFError, OSError):
            os._exit(0)
        except Exception as error:
            requests.put(error)  # nosec B113
