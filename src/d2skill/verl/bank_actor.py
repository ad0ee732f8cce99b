"""The bank actor: the one process of a run that holds its skill bank, for all agent loop workers and the trainer.

It answers retrievals and learns from iterations. Ray starts the actor again whenever it dies, and it goes on from the
journal. So a caller passes the last event of the bank that it knows: if the journal has more, the call was done already
and only its answer was lost.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from d2skill import credit, errors
from d2skill.bank import SkillBank
from d2skill.bank.journal import Change, Journal
from d2skill.bank.journal.lock import WriteLock
from d2skill.config import Config
from d2skill.embedders import make_embedder
from d2skill.envs import answers_of
from d2skill.errors import BankError, D2SkillError, RunError
from d2skill.learner import BankUpdate, Learner, PendingReflections
from d2skill.protocols import BudgetedReflector
from d2skill.reflectors import make_reflector
from d2skill.runs.folder import RunFolder
from d2skill.types import Group, Retrieved

TaskQuery = tuple[Literal["task"], str, bool]
"""A query for task skills: the task's text, and whether those on trial are shown as well."""
StepQuery = tuple[Literal["step"], str, str, bool]
"""A query for step skills: the texts of task and observation, and whether those on trial are shown as well."""
AdviceQuery = tuple[Literal["advice"], str, str, bool]
"""A query for the advice of an episode, asked once: the texts of task and first observation, and those on trial."""
Query = TaskQuery | StepQuery | AdviceQuery

NAMESPACE = "d2skill"
LOCK_SECONDS = 60.0
"""Least time that an actor waits for its predecessor, which died and may still hold the journal."""


@dataclass(frozen=True, slots=True)
class ObserveResult:
    """Changes of the bank in an iteration, and calls and metrics of a reflector that accounts for them.

    Without an update, it was done before a restart and its answer was lost, and so were the calls.
    """

    update: BankUpdate | None
    calls: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


class BankActor:
    """The bank of a run, its learner and its reflector. Only the trainer calls it, except for `retrieve`."""

    def __init__(self, run: Path) -> None:
        """Goes on from the end of the run's journal, as its only writer; makes the journal if there is none.

        Raises `RunError` if there is no such run, and `BankError` for a damaged journal or one that another process
        goes on writing.
        """
        self._run = RunFolder.open(run)
        config = self._run.config()
        self._settings = config.bank
        self._bank = _open_bank(self._run.bank, config)
        self._reflector = make_reflector(config.reflect, check=False)
        answers = answers_of(config.env) if config.reflect.guard_answers else None
        self._learner = Learner(self._bank, self._reflector, config.reflect, answers)
        self._pending: tuple[int, PendingReflections] | None = None
        if isinstance(self._reflector, BudgetedReflector):
            self._reflector.restore_usage(self._run.read_reflections())

    def check(self) -> None:
        """Raises `ConfigError` with the way out if the server of a reflector does not answer."""
        if isinstance(self._reflector, BudgetedReflector):
            self._reflector.check()

    def retrieve(self, queries: Sequence[Query]) -> list[tuple[Retrieved, ...]]:
        """Returns the skills to show for each query, in order, best first; counts nothing.

        Advice is the procedure followed by the situations. Raises `BankError` for a skill whose text no bank would have
        taken.
        """
        results: list[tuple[Retrieved, ...]] = [()] * len(queries)
        for trial in (False, True):
            tasks, steps, advice = (
                [i for i, query in enumerate(queries) if query[0] == kind and query[-1] is trial]
                for kind in ("task", "step", "advice")
            )
            retrieved = self._bank.retrieve_task([queries[i][1] for i in tasks], trial=trial)
            retrieved += self._bank.retrieve_step([_pair(queries[i]) for i in steps], trial=trial)
            for procedure, situations in self._bank.advise([_pair(queries[i]) for i in advice], trial=trial):
                retrieved.append((*procedure, *situations))
            for i, skills in zip((*tasks, *steps, *advice), retrieved, strict=True):
                results[i] = skills
        return results

    def reflect(self, groups: Sequence[Group], iteration: int, seed: int) -> None:
        """Begins to reflect on the failures of an iteration; returns at once, if the reflector works elsewhere."""
        if self._pending is None or self._pending[0] != iteration:
            hindsights = credit.hindsight(groups)
            self._pending = iteration, self._learner.reflect(groups, hindsights, iteration=iteration, seed=seed)

    def observe(self, groups: Sequence[Group], iteration: int, seed: int, after: int) -> ObserveResult:
        """Lets the bank learn from an iteration, with the reflections that have begun or else from their beginning.

        Raises `BankError` if the journal does not go as far as `after`; errors of the reflector propagate.

        Args:
            groups: the groups of the iteration.
            iteration: its number, from 0.
            seed: its seed.
            after: the last event of the bank before.
        """
        if self._done_since(after):
            self._pending = None
            return ObserveResult(None)
        self.reflect(groups, iteration, seed)
        assert self._pending
        _, pending = self._pending
        try:
            update = self._learner.observe(
                groups, credit.hindsight(groups), iteration=iteration, seed=seed, reflecting=pending
            )
        finally:
            self._pending = None
        if not isinstance(self._reflector, BudgetedReflector):
            return ObserveResult(update)
        calls, metrics = self._reflector.drain_calls()
        return ObserveResult(update, calls, metrics | {"time/reflect": pending.seconds})

    def settle(self, iteration: int, after: int) -> dict[str, int]:
        """Retires skills, if the settings say so, and evicts those over capacity, as follows a validation.

        Returns its metrics. `after` is the last event of the bank before. Raises `BankError` if the journal does not
        go as far.
        """
        if not self._done_since(after):
            with self._bank.batch(iteration):
                if self._settings.retire:
                    self._bank.retire(iteration)
                self._bank.evict(iteration)
        changes = [event for _, event in Journal(self._run.bank).events(after) if isinstance(event, Change)]
        statuses = ("retired", "evicted") if self._settings.retire else ("evicted",)
        return {f"bank/{status}": sum(len(e.ids) for e in changes if e.status == status) for status in statuses}

    def state(self) -> dict[str, Any]:
        """Returns the number of the bank's last event, its counts and its mean utility."""
        counts = self._bank.counts()
        return {"event": self._bank.last_event, "counts": dict(counts), "mean_utility": self._bank.mean_utility()}

    def snapshot(self) -> None:
        """Lets later openings of the journal start from here, if much has happened since the last snapshot."""
        self._bank.snapshot()

    def close(self) -> None:
        """Leaves the journal to the next writer, and gives up reflections that are under way."""
        self._bank.close()
        if isinstance(self._reflector, BudgetedReflector):
            self._reflector.stop()

    def _done_since(self, after: int) -> bool:
        """Returns True if the journal has events after one; raises `BankError` if it lacks even that one."""
        event = self._bank.last_event
        if event < after:
            raise BankError(
                f"{self._run.bank} ends at event {event}, and the run was at {after} already: is it on a disk that all "
                "nodes share, and not a copy?"
            )
        return event > after


def start_bank_actor(run: Path) -> Any:
    """Returns the Ray actor with the `BankActor` of a run, which is started on this node if there is none.

    It lives as long as the process that started it. Ray starts it again when it dies, and then repeats the calls that
    had no answer. Raises the errors of `BankActor` and its `check`.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": _actor_name(run), "namespace": NAMESPACE, "get_if_exists": True, "num_cpus": 0}
    options |= {"max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": this_node}
    actor = ray.remote(BankActor).options(**options).remote(run)
    with unwrapped_ray_errors():
        ray.get(actor.check.remote())
    return actor


def find_bank_actor(run: Path) -> Any:
    """Returns the Ray actor with the `BankActor` of a run; raises `RunError` if none was started."""
    import ray

    try:
        return ray.get_actor(_actor_name(run), namespace=NAMESPACE)
    except ValueError as error:
        raise RunError(f"{run} has no bank actor in this Ray cluster: the trainer starts it") from error


def stop_bank_actor(actor: Any) -> None:
    """Closes the actor that `start_bank_actor` returned, and ends its process."""
    import ray

    ray.get(actor.close.remote())
    ray.kill(actor)


@contextmanager
def unwrapped_ray_errors() -> Iterator[None]:
    """Raises an error of this package that an actor raised itself, in place of Ray's error around it."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        # The error itself is there only if it came from a call and can be pickled; its text always is.
        ours = re.findall(r"^d2skill[\w.]*\.(\w+): (.*)$", str(error), re.MULTILINE)
        if not ours:
            raise
        name, message = ours[-1]
        raise getattr(errors, name, D2SkillError)(message) from error


def _pair(query: Query) -> tuple[str, str]:
    """Returns the texts of task and observation of a query that has both."""
    return cast(StepQuery | AdviceQuery, query)[1:3]


def _actor_name(run: Path) -> str:
    """Returns the actor's name in Ray; a cluster has many drivers, and run folders often the same name."""
    digest = hashlib.blake2b(str(run.resolve()).encode(), digest_size=8).hexdigest()
    return f"bank-{run.name}-{digest}"


def _open_bank(path: Path, config: Config) -> SkillBank:
    settings = make_embedder(config.embedder), config.bank, config.retrieval, config.credit
    wait = max(config.bank.wait, LOCK_SECONDS)
    if not path.exists():
        bank = SkillBank(*settings)
    else:
        WriteLock(path, wait).close()  # what its last writer, just dying, still wrote must be there when it is read
        bank = SkillBank.open(path, *settings)
    bank.record(path, wait=wait)
    return bank
