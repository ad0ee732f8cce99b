"""Worker processes: maps a function over items in several processes of this machine."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from traceback import format_exception
from typing import Any, TypeVar

from d2skill.errors import D2SkillError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_processes(
    count: int, make: Callable[[], Callable[[_Item], _Result]], items: Sequence[_Item]
) -> Generator[tuple[int, _Result], None, None]:
    """Yields the index and the result of each item, as soon as it is ready.

    Args:
        count: Number of new processes; they end with the iterator.
        make: Picklable function that each process calls once; it returns the function that is applied to items.
        items: Items, which have to be picklable as well.

    Raises:
        D2SkillError: A process ended without a word. An error of the function is raised here as it is.
    """
    context: Any = get_context("spawn")
    waiting = deque(enumerate(items))
    workers: dict[Any, Any] = {}
    try:
        for _ in range(min(count, len(items))):
            ours, theirs = context.Pipe()
            process = workers[ours] = context.Process(target=_work, args=(theirs, make), daemon=True)
            with _interrupts_ignored():
                process.start()
            theirs.close()
            _send(ours, waiting)
        left = len(items)
        while left:
            for connection in wait(list(workers)):
                yield _receive(connection, workers[connection])
                left -= 1
                _send(connection, waiting)
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.join()


def _send(connection: Any, waiting: deque[Any]) -> None:
    """Sends a process the next item, if there is one; a process that is gone is noticed in `_receive`."""
    if waiting:
        with suppress(OSError):
            connection.send(waiting.popleft())


def _receive(connection: Any, process: Any) -> tuple[int, Any]:
    """Returns index and result that a process sends; raises the error that it had."""
    try:
        at, result, error = connection.recv()
    except (EOFError, OSError):
        process.join()
        raise D2SkillError(
            f"a worker process ended with status {process.exitcode}, perhaps out of memory: try fewer --workers"
        ) from None
    if error is not None:
        raise error
    return at, result


def _work(connection: Connection, make: Callable[[], Callable[[Any], Any]]) -> None:
    """Serves items in a worker process until the connection closes."""
    with suppress(EOFError, OSError):
        function = None
        while True:
            at, item = connection.recv()
            try:
                function = function or make()
                answer: tuple[int, Any, Exception | None] = (at, function(item), None)
            except D2SkillError as error:
                answer = (at, None, error)
            except Exception as error:
                answer = (at, None, RuntimeError("in a worker process:\n" + "".join(format_exception(error))))
            connection.send(answer)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Starts processes that ignore Ctrl-C: the process that starts them hears it and ends them."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
