"""Work shared by processes of this machine."""

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


def in_processes(
    count: int, make: Callable[[], Callable[[_Item], _Result]], items: Sequence[_Item]
) -> Generator[tuple[int, _Result], None, None]:
    """Yields the place of each item and what becomes of it, as soon as it is ready.

    Each of `count` new processes calls `make`, which has to be picklable, once, and what that returns on items; they
    end with the iterator. An error of one is raised here; one that just ends raises `D2SkillError`.
    """
    context: Any = get_context("spawn")
    waiting = deque(enumerate(items))
    crew: dict[Any, Any] = {}
    try:
        for _ in range(min(count, len(items))):
            ours, theirs = context.Pipe()
            process = crew[ours] = context.Process(target=_work, args=(theirs, make), daemon=True)
            with _unheard():
                process.start()
            theirs.close()
            _send(ours, waiting)
        left = len(items)
        while left:
            for connection in wait(list(crew)):
                yield _received(connection, crew[connection])
                left -= 1
                _send(connection, waiting)
    finally:
        for process in crew.values():
            process.terminate()
        for process in crew.values():
            process.join()


def _send(connection: Any, waiting: deque[Any]) -> None:
    """Gives a process the next item, if there is one; that it is gone is found where its answer is waited for."""
    if waiting:
        with suppress(OSError):
            connection.send(waiting.popleft())


def _received(connection: Any, process: Any) -> tuple[int, Any]:
    try:
        at, result, error = connection.recv()
    except (EOFError, OSError):
        process.join()
        raise D2SkillError(
            f"a worker process ended with status {process.exitcode}, perhaps for want of memory: try fewer --workers"
        ) from None
    if error is not None:
        raise error
    return at, result


def _work(connection: Connection, make: Callable[[], Callable[[Any], Any]]) -> None:
    """Answers what comes until nobody asks any more."""
    with suppress(EOFError, OSError):
        act = None
        while True:
            at, item = connection.recv()
            try:
                act = act or make()
                answer: tuple[int, Any, Exception | None] = (at, act(item), None)
            except D2SkillError as error:
                answer = (at, None, error)
            except Exception as error:
                answer = (at, None, RuntimeError("in a worker process:\n" + "".join(format_exception(error))))
            connection.send(answer)


@contextmanager
def _unheard() -> Iterator[None]:
    """Starts processes that do not hear Ctrl-C: whoever started them does, and ends them."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
