"""Skill bank: retrieval (Eq. 8), credit (Eq. 3), insertion, trials, merging and eviction (Eq. 9) of skills.

Retrieval changes nothing. The learner applies the results of an iteration once, at its end, in a form
that does not depend on the order in which episodes finished.

Every change of a bank is an event. `bank.ledger` applies it to the state in memory and writes it to the journal, if
there is one: both or neither, whatever raises. `bank.door` checks what callers hand in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Self, SupportsIndex, overload

import numpy as np

from d2skill.bank import display, door, ranking
from d2skill.bank.consolidation import Advised, Consolidated, Consolidation
from d2skill.bank.draft import Draft, Insertion
from d2skill.bank.duplicates import cleaned, is_whole
from d2skill.bank.index import KeyIndex
from d2skill.bank.journal import (
    BankState,
    Change,
    Credit,
    Event,
    Insert,
    Journal,
    JournalWriter,
    Origin,
    Probe,
    Repeat,
    Retrieve,
    Revise,
    Rewind,
    Status,
    Tally,
    source_task,
)
from d2skill.bank.kept_keys import KeptKeys
from d2skill.bank.key_graph import import_usearch
from d2skill.bank.ledger import Ledger
from d2skill.bank.retrieval import RankedRetrieval, objected
from d2skill.bank.safety import objection, suspicion
from d2skill.bank.worth import Worth
from d2skill.config import BankConfig, CreditConfig, RetrievalConfig
from d2skill.errors import BankError
from d2skill.knowledge.evidence import gather
from d2skill.protocols import Embedder
from d2skill.types import Granularity, Group, Retrieved, Skill
from d2skill.utils.text import counted

__all__ = ["Draft", "Insertion", "SkillBank"]

_REASONS: dict[Status, str] = {"active": "added", "trial": "on trial", "held": "held: "}
_TRIAL_MASS = 0.5  # of the interval that decides a trial, so 75 % to one side


class SkillBank:
    """Two pools of skills, task and step, and the record of the skills that have left them.

    A new bank is in memory until `record` ties it to a journal, or `open` with `create` does. From then on each change
    is on disk when the call returns, or for the calls in a `batch` when that ends. A call or a batch that raises has
    changed nothing. As a context manager it closes itself; a closed bank, or one opened to read, takes no changes.

    >>> from d2skill import Draft, SkillBank, SkillText
    >>> bank = SkillBank()
    >>> text = SkillText("Look first", "Open each drawer before you leave a room.", "something is to be found")
    >>> bank.insert(Draft("task", text, "find the key"))[0].reason
    'added'
    >>> [(one.skill.id, one.skill.text.title) for one in bank.retrieve_task("find the key")]
    [('t1', 'Look first')]
    >>> bank.credit({"t1": 0.5})
    >>> bank.get("t1").utility
    0.25
    """

    def __init__(
        self,
        embedder: Embedder | None = None,
        bank: BankConfig | None = None,
        retrieval: RetrievalConfig | None = None,
        credit: CreditConfig | None = None,
    ) -> None:
        """Creates an empty bank.

        Args:
            embedder: Embedder of the keys and texts; None for the default one, as for all settings.
            bank: Settings of pools, trials and eviction.
            retrieval: Settings of Eq. 8.
            credit: Settings of Eq. 3.
        """
        self._bank, self._retrieval, credit = door.settings_of(bank, retrieval, credit)
        if self._retrieval.index == "ann":
            import_usearch()
        self._embedder = door.embedder_of(embedder)
        self._beta: dict[Granularity, float] = {"task": credit.beta_task, "step": credit.beta_step}
        self._capacity: dict[Granularity, int] = {kind: self._bank.capacity(kind) for kind in ("task", "step")}
        self.step_signal = credit.step or ("act" if self.consolidated else "success")
        self._path: Path | None = None
        self._use(BankState(), None)

    @classmethod
    def open(
        cls,
        path: Path | str,
        embedder: Embedder | None = None,
        bank: BankConfig | None = None,
        retrieval: RetrievalConfig | None = None,
        credit: CreditConfig | None = None,
        *,
        create: bool = False,
        at: int | None = None,
        event: int | None = None,
    ) -> SkillBank:
        """Returns the bank in a journal, to read; with `create`, to change.

        A text that no bank would have taken is found when it would be shown first: retrieval raises `BankError` then.

        Args:
            path: The journal.
            embedder: Embedder that the bank was made with, as all settings see `SkillBank`.
            bank, retrieval, credit: Settings.
            create: Ties the bank to the journal as its only writer, and creates it if there is none.
            at: Returns the bank as it was after this iteration.
            event: Returns the bank as it was after the event of this number.

        Raises:
            BankError: For a damaged journal, another embedder, or with `create` a journal that is being written.
        """
        path, opened = door.path_of(path), cls(embedder, bank, retrieval, credit)
        at, event = door.point_of(at, event, create)
        if not create or path.exists():
            journal = Journal(path)
            door.require_embedder(path, journal.embedder, opened._embedder)
            state, head, kept = KeptKeys.replay(journal, at=at, event=event)
            door.require_reached(at, head.iteration, path)
            opened._path = path
            opened._use(state, kept, head.iteration if event is None else journal.iteration(event))
            opened._ledger.refusal = door.only_read(path)
        if create:
            opened.record(path)
        return opened

    def _use(self, state: BankState, kept: KeptKeys | None, iteration: int = 0) -> None:
        """Makes a state that of the bank."""
        self._state = state
        self._ledger = Ledger(state, self._applied, self._undone, self._keep_keys)
        self._ledger.iteration = iteration
        self._index = KeyIndex(state, self._embedder, kept, approximate=self._retrieval.index == "ann")
        self._retriever = RankedRetrieval(state, self._index, self._embedder, self._bank, self._retrieval, self._path)
        self.knowledge = self._knowledge()

    def record(self, path: Path | str, *, back_to: int | None = None, wait: float = 0.0) -> None:
        """Ties the bank to a journal, as its only writer until `close`.

        If there is none at `path` it is created, and begins with the bank's skills and their worth. Otherwise the bank
        has to be as the journal is, or was after event `back_to`; later events are undone then. Raises `BankError` if
        it is not, or if another process writes the journal for more than `wait` seconds.
        """
        path, back_to, wait = door.path_of(path), door.number_of(back_to, "an event"), door.seconds_of(wait)
        self._ledger.require_no_change("tied to a journal")
        if self._ledger.writer:
            raise BankError(f"the bank is tied to {self._ledger.writer.path} already: close it first")
        if not path.parent.is_dir():
            raise BankError(f"{path} cannot be made: there is no folder {path.parent}")
        new = not path.exists()
        writer = JournalWriter.create(path, self._embedder.fingerprint) if new else JournalWriter(path, wait=wait)
        try:
            door.require_embedder(path, writer.embedder, self._embedder)
            if new and len(self._state):
                writer.append(*self._state.events(self.iteration))
            elif not new and not writer.replay(seq=back_to).has_skills_of(self._state):
                raise BankError(f"{path} holds other skills than this bank: open the bank from it")
            if back_to is not None and back_to != writer.head().seq:
                writer.append(Rewind(back_to, self.iteration))
            self._ledger.attach(writer)
        except BaseException:
            writer.close()
            if new:
                path.unlink(missing_ok=True)
            raise
        self._path = self._path or path
        self._keep_keys()

    @property
    def iteration(self) -> int:
        """Iteration that the bank has reached: of its last change, or of the last `batch`."""
        return self._ledger.iteration

    def copy_from(self, path: Path | str) -> None:
        """Copies the active skills of another bank's journal into this empty bank, as of iteration 0.

        They keep their ids, utilities, counts and worth. Raises `BankError` if that bank is of another embedder.
        """
        journal = Journal(path := door.path_of(path))
        door.require_embedder(path, journal.embedder, self._embedder)
        other, _, kept = KeptKeys.replay(journal)
        rows = other.rows(None, "active")
        skills = tuple(replace(other.skill(row), created=0) for row in rows.tolist())
        worth = {skill.id: replace(own, last=0) for skill in skills if (own := other.worth(skill.id)).signals}
        for skill in skills:
            if why := objection(skill.text):
                raise objected(path, skill, why)
        tallies = {skill.id: other.tallies[skill.id] for skill in skills if skill.id in other.tallies}
        with self._ledger.change():
            tasks = tuple(sorted(other.credited_tasks))
            self._ledger.do(Insert(skills, 0, {"from": str(path)}, worth, {}, tasks, tallies))
            if vouched := [skill.id for skill in skills if skill.id in other.vouched]:
                self.hold(vouched)
                self.admit(vouched, reason=f"as in {path}")
            if repeats := {skill.id: other.repeats[skill.id] for skill in skills if skill.id in other.repeats}:
                self._ledger.do(Repeat(repeats, 0))
        self._index.take_over(KeyIndex(other, self._embedder, kept), rows)

    def seen_tasks(self, tasks: Collection[str]) -> set[str]:
        """Returns the tasks, among some, that active skills were written from or that signals came from."""
        state, seen = self._state, set(self._state.credited_tasks)
        for skill in self.skills():
            tally = state.tallies.get(skill.id, Tally())
            seen.update((skill.source_task, *state.repeats.get(skill.id, ())))
            seen.update(map(source_task, (*tally.supports, *tally.refutes)))
        return seen.intersection(tasks)

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        """Calls `callback` with every event from now on, once it is recorded; what it raises takes nothing back."""
        self._ledger.subscribers.append(callback)

    def apply(self, event: Event) -> None:
        """Applies an event of another bank with the same skills, after which both retrieve the same."""
        self._ledger.do(event, follow=True)
        self._index.add_missing()

    @property
    def last_event(self) -> int:
        """Number of the last event in the journal, 0 without a journal."""
        return self._ledger.writer.head().seq if self._ledger.writer else 0

    def batch(self, iteration: SupportsIndex | None = None) -> AbstractContextManager[int]:
        """Returns a block whose changes count together: they are one transaction of the journal.

        If the block raises, bank and journal are as before it. The iteration is the present one if none is given.
        """
        return self._ledger.change(iteration)

    def snapshot(self) -> None:
        """Stores a snapshot in the journal, for fast opening, if many events came since the last one."""
        if self._ledger.writer:
            self._ledger.writer.snapshot()

    def close(self) -> None:
        """Closes the journal; the bank can still be read."""
        self._ledger.detach()
        self._index.kept = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return display.line(self)

    __rich__, _repr_html_, flagged = display.table, display.html, display.flagged

    @property
    def path(self) -> Path | None:
        """The journal that the bank was opened from or is recorded in; None for a bank in memory."""
        return self._path

    def __len__(self) -> int:
        """Number of active skills."""
        return sum(self.counts().values())

    def skills(self, granularity: Granularity | None = None, status: Status | None = "active") -> list[Skill]:
        """Returns the skills of a status, or of any status for None, in order of insertion."""
        granularity, status = door.granularity_of(granularity), door.status_of(status)
        if status is None:
            return [skill for skill in self._state.skills() if granularity in (None, skill.granularity)]
        return [self._state.skill(row) for row in self._state.rows(granularity, status).tolist()]

    def get(self, skill_id: str) -> Skill:
        """Returns a skill, whatever its status. Raises `BankError` for an id that was never given out."""
        return self._state.skill(self._state.row(skill_id))

    def status(self, skill_id: str) -> Status:
        """Returns the status of a skill. Raises `BankError` for an id that was never given out."""
        return self._state.status(skill_id)

    def counts(self) -> dict[Granularity, int]:
        """Returns the number of active skills of each granularity."""
        return {"task": len(self._state.rows("task", "active")), "step": len(self._state.rows("step", "active"))}

    def mean_utility(self) -> float:
        """Returns the mean utility of the active skills, 0 for an empty bank."""
        rows = self._state.rows(None, "active")
        return float(np.mean(self._state.utility(rows))) if len(rows) else 0.0

    def worth(self, skill_id: str) -> Worth:
        """Returns the worth of a skill, with the signals of skills that were merged into it."""
        return self._state.worth(skill_id)

    @overload
    def retrieve_task(self, task_texts: str, *, trial: bool = False) -> tuple[Retrieved, ...]: ...  # type: ignore[overload-overlap]

    @overload
    def retrieve_task(self, task_texts: Sequence[str], *, trial: bool = False) -> list[tuple[Retrieved, ...]]: ...

    def retrieve_task(
        self, task_texts: str | Sequence[str], *, trial: bool = False
    ) -> tuple[Retrieved, ...] | list[tuple[Retrieved, ...]]:
        """Returns the task skills for a task, best first (Eq. 8), or for each of some tasks; counts none.

        With `trial` those on trial are among them. `render_skills` makes lines of a prompt of them.
        """
        found = self._retriever.retrieve("task", [(text, "") for text in door.texts_of(task_texts)], trial)
        return found[0] if isinstance(task_texts, str) else found

    @overload
    def retrieve_step(self, pairs: tuple[str, str], *, trial: bool = False) -> tuple[Retrieved, ...]: ...

    @overload
    def retrieve_step(
        self, pairs: Sequence[tuple[str, str]], *, trial: bool = False
    ) -> list[tuple[Retrieved, ...]]: ...

    def retrieve_step(
        self, pairs: tuple[str, str] | Sequence[tuple[str, str]], *, trial: bool = False
    ) -> tuple[Retrieved, ...] | list[tuple[Retrieved, ...]]:
        """Returns the step skills for a (task, observation), or for each of some, as `retrieve_task` does for tasks."""
        found = self._retriever.retrieve("step", door.pairs_of(pairs), trial)
        return found[0] if door.is_pair(pairs) else found

    @property
    def consolidated(self) -> bool:
        """True if skills are consolidated, and shown until they are done or refuted; else they are the paper's."""
        return self._bank.skills == "consolidated"

    def reliability(self, granularity: Granularity) -> float | None:
        """Returns how well mean signals repeat, see `BankState.reliability`."""
        return self._state.reliability(granularity)

    @overload
    def advise(self, pairs: tuple[str, str], *, trial: bool = False) -> Advised: ...

    @overload
    def advise(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> list[Advised]: ...

    def advise(
        self, pairs: tuple[str, str] | Sequence[tuple[str, str]], *, trial: bool = False
    ) -> Advised | list[Advised]:
        """Returns procedure and situations for a (task, first observation), or for each of some; counts none."""
        found = [self.knowledge.advise(task_text, start, trial=trial) for task_text, start in door.pairs_of(pairs)]
        return found[0] if door.is_pair(pairs) else found

    def learn(self, groups: Sequence[Group], iteration: SupportsIndex | None = None) -> Consolidated:
        """Counts what trajectories show, as support and refutation of consolidated skills, and adds new ones.

        A group has all trajectories of one task, with skills or without, won or lost. Returns the changes as counts.
        """
        with self._ledger.change(iteration) as now:
            return self.knowledge.consolidate(gather(door.groups_of(groups), self.knowledge.known), now)

    def recall(self, sample: int = 100) -> dict[Granularity, float]:
        """Returns how much of the exact answer the approximate index finds, of each pool that is large enough for one.

        It is the share of the retrieval.candidates most similar skills, with the keys of `sample` skills as queries.
        """
        found = {
            granularity: self._index.recall(granularity, self._retrieval.candidates, gate, sample)
            for granularity, gate in self._retriever.gate.items()
        }
        return {granularity: share for granularity, share in found.items() if share is not None}

    def count_retrievals(self, ids: Mapping[str, int] | Iterable[str], *, origin: Origin | None = None) -> None:
        """Adds to the retrieval counts how often each skill was put before the policy, from a dict or a list of ids."""
        counts = door.counts_of(ids)
        self._require_shown(counts)
        if counts:
            self._ledger.do(Retrieve(counts, self.iteration, door.origin_of(origin)))

    def credit(
        self,
        signals: Mapping[str, float | Sequence[float]],
        sources: Mapping[str, Sequence[str]] | None = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        """Moves utilities by all signals of one iteration (Eq. 3); their order does not matter.

        Signals are between -1 and 1 (`outcome_signals` makes them). `sources` may have for each signal the trajectory
        (task id # member) or group (task id #) that it is from. Raises `BankError`, and changes nothing, for a signal
        out of range and for a skill that is unknown or not shown to policies.
        """
        checked = door.signals_of(signals)
        names, by = door.sources_of(sources, checked)
        self._require_shown(checked)
        if checked:
            self._ledger.do(Credit(checked, dict(self._beta), self.iteration, door.origin_of(origin), names, by))

    def add_probes(self, effects: Mapping[str, Sequence[tuple[float, bool]]]) -> None:
        """Records the effects of leaving skills out of single prompts (see `d2skill.evaluation.skill_probe`)."""
        if checked := door.effects_of(effects):
            self._ledger.do(Probe(checked, self.iteration))

    def insert(
        self, drafts: Draft | Sequence[Draft], iteration: SupportsIndex | None = None, *, origin: Origin | None = None
    ) -> list[Insertion]:
        """Adds drafts, in their order, unless they are empty or duplicates of a skill or an earlier draft.

        With bank.suspicion hold, a text that does not look like advice is held; with bank.trial all other new skills
        come on trial. Returns one record per draft. `origin` is recorded.
        """
        checked, origin = door.drafts_of(drafts), door.origin_of(origin)
        with self._ledger.change(iteration) as now:
            try:
                return self._insert(checked, now, origin)
            except BaseException:
                self._undone()  # pools may have some of the drafts
                raise

    def _insert(self, drafts: Sequence[Draft], iteration: int, origin: Origin) -> list[Insertion]:
        stored = [cleaned(draft) for draft in drafts]
        compared = iter(self._index.compare([each for each in stored if is_whole(each.text)], self._bank.duplicate))
        numbers = {granularity: count(self._state.next_number(granularity)) for granularity in self._retriever.gate}
        new: dict[int, Skill] = {}
        statuses: dict[tuple[Status, str], list[str]] = {}
        repeats: dict[str, list[str]] = {}
        insertions = []
        for draft, own in zip(drafts, stored, strict=True):
            if not is_whole(own.text):
                insertions.append(Insertion(draft, None, "empty"))
                continue
            comparison, number = next(compared)
            if (row := comparison.duplicate(number)) is not None:
                known = new.get(row) or self._state.skill(row)
                repeats.setdefault(known.id, []).append(own.source_task)
                insertions.append(Insertion(draft, None, f"duplicate of {known.id}"))
                continue
            row = len(self._state) + len(new)
            skill = new[row] = Skill(
                f"{own.granularity[0]}{next(numbers[own.granularity])}",
                own.granularity,
                own.text,
                own.task_text,
                own.observation,
                created=iteration,
                source_task=own.source_task,
            )
            comparison.add(number, row)
            why = suspicion(skill.text) if self._bank.suspicion == "hold" else ""
            status: Status = "held" if why else "trial" if self._bank.trial else "active"
            if status != "active":
                statuses.setdefault((status, why), []).append(skill.id)
            insertions.append(Insertion(draft, skill, _REASONS[status] + why))
        if new:
            self._ledger.do(Insert(tuple(new.values()), iteration, origin))
        for (status, why), ids in statuses.items():
            self._ledger.do(Change(status, tuple(ids), iteration, why))
        if repeats:
            self._ledger.do(Repeat(repeats, iteration, origin))
        return insertions

    def evict(self, iteration: SupportsIndex | None = None) -> list[Skill]:
        """Evicts the least valuable skills of pools over their capacity (Eq. 9); returns them: they stay on record."""
        dropped: list[str] = []
        with self._ledger.change(iteration) as now:
            for granularity in ("task", "step"):
                rows = self._state.rows(granularity, "active")
                places = ranking.evict(
                    self.knowledge.known.standings(rows) if self.consolidated else self._retriever.values_of(rows),
                    self._state.created(rows),
                    iteration=now,
                    capacity=self._capacity[granularity],
                    protect=self._bank.protect,
                )
                dropped += [self._state.skill(row).id for row in rows[places].tolist()]
            if dropped:
                self._ledger.do(Change("evicted", tuple(dropped), now, "over capacity (Eq. 9)"))
        return [self.get(skill_id) for skill_id in dropped]

    def retire(self, iteration: SupportsIndex | None = None) -> list[Skill]:
        """Retires the skills that are probably worse than nothing, and returns them; they stay in the record.

        Their sample size is bank.retire_after iterations or more, and the 95 % interval of their mean signal below 0.
        """
        retired = []
        with self._ledger.change(iteration) as now:
            for skill in self.skills():
                worth = self.worth(skill.id)
                mean, low, high = worth.posterior()
                if worth.size >= self._bank.retire_after and high < 0:
                    retired.append(skill.id)
                    reason = f"worse than nothing: {mean:+.2f} ({low:+.2f} to {high:+.2f})"
                    self._ledger.do(Change("retired", (skill.id,), now, reason))
        return [self.get(skill_id) for skill_id in retired]

    def settle(self, iteration: SupportsIndex | None = None) -> tuple[list[Skill], list[Skill]]:
        """Ends trials: returns the skills that are active from now on, and those that are retired.

        From an effective sample size of bank.trial_after iterations on, a skill passes once its worth is above 0 with
        75 % probability, and fails once it is below with as much. It also fails bank.trial_iterations after it was
        written.
        """
        passed, failed = [], []
        with self._ledger.change(iteration) as now:
            for skill in self.skills(status="trial"):
                worth = self.worth(skill.id)
                mean, low, high = worth.posterior(mass=_TRIAL_MASS)
                result = f"{mean:+.2f} from {counted(worth.signals, 'signal')}"
                enough = worth.size >= self._bank.trial_after
                if enough and low > 0:
                    passed.append(skill.id)
                    self._ledger.do(Change("active", (skill.id,), now, f"passed its trial: {result}"))
                elif (enough and high < 0) or now - skill.created >= self._bank.trial_iterations:
                    failed.append(skill.id)
                    verdict = "failed its trial" if enough and high < 0 else "its trial showed no worth in time"
                    self._ledger.do(Change("retired", (skill.id,), now, f"{verdict}: {result}"))
        return [self.get(skill_id) for skill_id in passed], [self.get(skill_id) for skill_id in failed]

    def merge(
        self,
        iteration: SupportsIndex | None = None,
        similarity: float | None = None,
        granularity: Granularity | None = None,
        *,
        dry_run: bool = False,
    ) -> dict[str, list[str]]:
        """Merges near-duplicates among the active skills; returns the ids that went into each one that stays.

        The skill with most signals stays, the older one where they tie, with its text and utility. The signals of the
        others count for its worth as well, until they are admitted again.

        Args:
            iteration: Iteration of the merge, None for the present one.
            similarity: Least cosine of keys and of texts, None for bank.duplicate.
            granularity: The pool, None for both.
            dry_run: Only returns what would be merged.
        """
        least = door.similarity_of(similarity, self._bank.duplicate)
        merged: dict[str, list[str]] = {}
        for kind in (one,) if (one := door.granularity_of(granularity)) else self._retriever.gate:
            skills = sorted(self.skills(kind), key=lambda skill: -self.worth(skill.id).signals)
            rows = [self._state.row(skill.id) for skill in skills]
            for keeper, others in self._index.pool(kind).near_duplicates(rows, least):
                merged[self._state.skill(keeper).id] = [self._state.skill(row).id for row in others]
        if dry_run:
            return merged
        with self._ledger.change(iteration) as now:
            for keeper_id, ids in merged.items():
                self._ledger.do(Change("merged", tuple(ids), now, f"key and text {least:g} alike or more", keeper_id))
        return merged

    def admit(self, ids: str | Iterable[str], iteration: SupportsIndex | None = None, reason: str = "") -> None:
        """Makes skills active, whatever their status: on trial, held, evicted, retired or merged."""
        with self._ledger.change(iteration) as now:
            self._ledger.do(Change("active", tuple(door.ids_of(ids)), now, door.text_of(reason, "a reason")))

    def hold(self, ids: str | Iterable[str], iteration: SupportsIndex | None = None, reason: str = "") -> None:
        """Holds skills: they are not shown until they are admitted."""
        with self._ledger.change(iteration) as now:
            self._ledger.do(Change("held", tuple(door.ids_of(ids)), now, door.text_of(reason, "a reason")))

    def _applied(self, event: Event) -> None:
        """Follows an event that the state has applied."""
        self._index.update(event)
        if isinstance(event, Revise):
            self._retriever.forget_checks()
            self.knowledge = self._knowledge()

    def _undone(self) -> None:
        """Forgets what was made of events that were taken back."""
        self._index = self._retriever.index = self._index.renewed()
        self.knowledge = self._knowledge()
        self._retriever.forget_checks()

    def _knowledge(self) -> Consolidation:
        return Consolidation(self._ledger, self._bank, self._retrieval, self._retriever.checked)

    def _keep_keys(self) -> None:
        """Notes that all skills are in the journal, and writes the files of keys if many are new."""
        if writer := self._ledger.writer:
            kept = self._index.kept or KeptKeys(writer.path, self._embedder.fingerprint, writer.has)
            kept.head, kept.rows = writer.head, len(self._state)
            self._index.kept = kept
            self._index.keep()

    def _require_shown(self, ids: Mapping[str, object]) -> None:
        """Raises `BankError` for a skill that is unknown, or else for the first that is not shown to policies."""
        self._state.find(ids)
        for skill_id in ids:
            if (mark := self._state.marks.get(skill_id)) and mark.status != "trial":
                raise BankError(
                    f"skill {skill_id!r} was {mark.status} in iteration {mark.iteration} and is not shown to policies"
                )
