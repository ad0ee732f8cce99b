"""Process settings that make runs of the scorer policy fast: BLAS threads and the garbage collector's thresholds."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def tuned_process(policy_kind: str) -> Iterator[None]:
    """Sets this process up for a policy kind, and back at the end; only `scorer` asks for anything.

    NumPy keeps to one core, as the scorer's products are too small to share among threads. The garbage collector looks
    seldom for cycles: a run makes hardly any, and looking after every 700 records took 15 % of its time.
    """
    if policy_kind != "scorer":
        yield
        return
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        gc.set_threshold(*thresholds)
