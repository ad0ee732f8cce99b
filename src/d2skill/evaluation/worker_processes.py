"""Worker processes: maps a function over items in several processes of this machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from d2skill.utils.child_process import ChildProcess

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
        RunError: A process ended without a word. An error of the function is raised here as it is.
    """
    waiting = deque(enumerate(items))
    answers: SimpleQueue[tuple[int, Any, Exception | None]] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(min(count, len(items))):
            child = ChildProcess(make, "try fewer --workers")
            stack.callback(child.close)
            Thread(target=_feed, args=(child, waiting, answers), daemon=True).start()
        stack.callback(waiting.clear)
        for _ in items:
            at, result, error = answers.get()
            if error is not None:
                raise error
            yield at, result


def _feed(child: ChildProcess, waiting: deque[tuple[int, Any]], answers: SimpleQueue[Any]) -> None:
    """Gives a process one item after another and puts its answers, up to its first error."""
    while waiting:
        try:
            at, item = waiting.popleft()
        except IndexError:  # another process has taken the last one
            return
        try:
            child.send(item)
            answers.put((at, child.receive(), None))
        except Exception as error:
            answers.put((at, None, error))
            return
