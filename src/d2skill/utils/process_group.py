"""Process groups: the processes that train one run together, with broadcast, gather and all-reduce.

A launcher starts them (accelerate, torchrun), on one machine, each with a device of its own. Objects go through a gloo
group of their own, which waits as long as another process takes; tensors through nccl on GPUs, through gloo elsewhere.

A process that fails must not leave the others waiting. So common work stands in `synchronized`, where each exchange
first finds out if all processes got there: an error of one is then raised in all of them.
"""

from __future__ import annotations

import builtins
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from traceback import format_exception
from typing import Any

from d2skill import errors
from d2skill.errors import ConfigError, D2SkillError, RunError

_PATIENCE = timedelta(days=30)  # a reflector or an environment may keep the first process busy for long


def launched_processes() -> int:
    """Returns the number of processes that a launcher started, this one included; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE") or 1) if "LOCAL_RANK" in os.environ else 1


def report_to_launcher(error: D2SkillError) -> None:
    """Passes the sentence of an error on to the launcher, whose own report (a traceback) ends with it.

    Only exit status 0 would suppress that report, and then nobody could tell that the run failed.
    """
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        told = {"py_callstack": f"d2skill: {error}", "timestamp": str(int(time.time()))}
        with suppress(OSError):
            Path(file).write_text(json.dumps({"message": {"message": str(error), "extraInfo": told}}), "utf-8")


def shard_whole_groups(keys: Sequence[str], count: int) -> list[list[int]]:
    """Splits items into `count` shards, given the key of each, so that items with equal keys share a shard.

    Returns the indices of each shard's items in their order. Shards are about equally large: larger groups are
    dealt out first, each to the smallest shard.
    """
    groups: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    shares: list[list[int]] = [[] for _ in range(count)]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(shares, key=len).extend(group)
    return [sorted(share) for share in shares]


def shard_evenly(keys: Sequence[str], count: int) -> list[list[int]]:
    """Splits items into `count` shards whose sizes differ by one at most; equal keys are together where that allows it.

    Returns the indices of each shard's items.
    """
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    order = sorted(range(len(keys)), key=lambda place: (first[keys[place]], place))
    bounds = [len(order) * n // count for n in range(count + 1)]
    return [order[start:end] for start, end in pairwise(bounds)]


class ProcessGroup:
    """The process group of a single process, and the interface of larger ones."""

    rank = 0
    """Number of this process; the first one, 0, leads."""
    world_size = 1
    """Number of processes."""
    lost = False
    """True once the others can no longer be reached."""

    def broadcast(self, thing: Any = None) -> Any:
        """Returns the first process's object in every process; the others wait for it."""
        return thing

    def all_gather(self, own: Any) -> list[Any]:
        """Returns the objects of all processes, by rank, in every process. For small objects."""
        return [own]

    def gather(self, own: Any) -> list[Any]:
        """Returns the objects of all processes, by rank, in the first process; an empty list in the others."""
        return [own]

    def all_reduce(self, tensors: Sequence[Any]) -> None:
        """Makes each tensor, in place, the sum of those of all processes, the same to the bit everywhere."""

    def shard(self, keys: Sequence[str]) -> Sequence[int]:
        """Returns the indices of this process's share of some items, given the key of each (see `shard_evenly`)."""
        return range(len(keys))

    @contextmanager
    def synchronized(self) -> Iterator[None]:
        """Encloses common work. If some processes fail, all raise the error of the first one that did."""
        yield

    def close(self) -> None:
        """Leaves the group; from the first process this tells the others to stop."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """The error of a process, sent in place of its object."""

    error: Exception


class LaunchedProcessGroup(ProcessGroup):
    """One of several processes that a launcher started on this machine.

    Raises ConfigError if they are on several machines, there are fewer GPUs than processes (not `on_cpu`), or the
    package accelerate is not installed.
    """

    def __init__(self, on_cpu: bool) -> None:
        import torch

        here = int(os.environ.get("LOCAL_WORLD_SIZE") or launched_processes())
        if here != launched_processes():
            raise ConfigError(
                f"{launched_processes()} processes were started, {here} here: start all of them on one machine"
            )
        on_cpu = on_cpu or not torch.cuda.is_available()
        if not on_cpu and here > (gpus := torch.cuda.device_count()):
            raise ConfigError(f"{here} processes were started, but there are {gpus} GPUs: use --num_processes {gpus}")
        try:
            from accelerate import PartialState
        except ImportError:
            raise ConfigError('several processes need the package accelerate: pip install "d2skill[train]"') from None
        state = PartialState(cpu=on_cpu)
        self._torch: Any = torch.distributed
        self._group = self._torch.new_group(backend="gloo", timeout=_PATIENCE)
        self._backend: str = self._torch.get_backend()
        self._known: Exception | None = None
        self.rank, self.world_size = state.process_index, state.num_processes

    def broadcast(self, thing: Any = None) -> Any:
        """See ProcessGroup."""
        box = [thing]
        with self._linked():
            self._torch.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def all_gather(self, own: Any) -> list[Any]:
        """See ProcessGroup."""
        found = self._exchange(own)
        if failed := next((one for one in found if isinstance(one, _Failed)), None):
            self._known = failed.error
            raise failed.error
        return found

    def _exchange(self, own: Any) -> list[Any]:
        found = [None] * self.world_size
        with self._linked():
            self._torch.all_gather_object(found, own, group=self._group)
        return found

    def gather(self, own: Any) -> list[Any]:
        """See ProcessGroup."""
        self.all_gather(None)
        found: list[Any] = [None] * self.world_size if self.rank == 0 else []
        with self._linked():
            self._torch.gather_object(own, found or None, dst=0, group=self._group)
        return found

    def all_reduce(self, tensors: Sequence[Any]) -> None:
        """See ProcessGroup."""
        self.all_gather(None)
        with self._linked():
            for work in [self._torch.all_reduce(tensor, async_op=True) for tensor in tensors]:
                work.wait()

    def shard(self, keys: Sequence[str]) -> Sequence[int]:
        """See ProcessGroup."""
        return shard_evenly(keys, self.world_size)[self.rank]

    @contextmanager
    def synchronized(self) -> Iterator[None]:
        """See ProcessGroup. An interruption waits for nobody: the others find this process gone."""
        try:
            yield
            self.all_gather(None)
        except Exception as error:
            if self.lost or error is self._known:
                raise
            failed = self._exchange(_Failed(portable_error(error, f"process {self.rank}")))
            first = next(number for number, one in enumerate(failed) if isinstance(one, _Failed))
            if first == self.rank:
                raise
            raise failed[first].error from None
        except BaseException:
            self.lost = True
            raise

    @contextmanager
    def _linked(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self.lost = True
            raise RunError(
                f"another of the {self.world_size} processes is gone, what it or the launcher says tells why: "
                "go on by `d2skill resume`"
            ) from error

    def close(self) -> None:
        """See ProcessGroup."""
        if self.rank == 0 and not self.lost:
            with suppress(RunError):
                self.broadcast(None)
        self._group = None
        if not self.lost or self._backend == "gloo":  # nccl would wait for what the others never finish
            self._torch.destroy_process_group()


def portable_error(error: Exception, where: str) -> Exception:
    """Returns an error that any process can unpickle, of the nearest class known to all, with a note of its origin."""
    known = {**vars(builtins), **vars(errors)}
    kind = next(kind for kind in type(error).__mro__ if known.get(kind.__name__) is kind)
    text = str(error) if kind is type(error) else f"{type(error).__name__}: {error}"
    try:
        sent: Exception = kind(text)
    except TypeError:  # of those that are made from more than a text
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note(f"In {where}:\n{''.join(format_exception(error))}")
    return sent
