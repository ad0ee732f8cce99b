"""Skill bank: retrieval (Eq. 8), credit (Eq. 3), insertion, trials, merging and eviction (Eq. 9) of skills.

Retrieval changes nothing. The learner applies the results of an iteration once, at its end, in a form
that does not depend on the order in which episodes finished.

Every change of a bank is an event. It is applied to the state in memory, and recorded if the bank has a journal, so a
bank and a replay of its journal are the same by construction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np

from d2skill.bank import ranking
from d2skill.bank.consolidation import Advised, Consolidation
from d2skill.bank.draft import Draft, Insertion
from d2skill.bank.duplicates import cleaned, is_whole
from d2skill.bank.index import KeyIndex, SearchSet
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
from d2skill.bank.safety import objection, suspicion
from d2skill.bank.worth import Worth
from d2skill.config import BankConfig, CreditConfig, EmbedderConfig, RetrievalConfig
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.protocols import Embedder
from d2skill.types import Granularity, Retrieved, Skill

__all__ = ["Draft", "Insertion", "SkillBank"]

_REASONS: dict[Status, str] = {"active": "added", "trial": "on trial", "held": "held: "}
_TRIAL_MASS = 0.5  # of the interval that decides a trial, so 75 % to one side


class SkillBank:
    """Two pools of skills, task and step, and the record of the skills that have left them.

    A bank is in memory until `record` ties it to a journal. From then on each change is on disk when the call returns,
    or for the calls in a `batch` when that ends.
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
        retrieval, credit = retrieval or RetrievalConfig(), credit or CreditConfig()
        if retrieval.index == "ann":
            import_usearch()
        embedder, bank = embedder or make_embedder(EmbedderConfig()), bank or BankConfig()
        self._embedder = embedder
        self._bank = bank
        self._retrieval = retrieval
        gates = (embedder.task_gate, embedder.step_gate) if retrieval.gate is None else (retrieval.gate,) * 2
        self._gate: dict[Granularity, float] = {"task": gates[0], "step": gates[1]}
        self._k: dict[Granularity, int] = {"task": retrieval.k_task, "step": retrieval.k_step}
        self._beta: dict[Granularity, float] = {"task": credit.beta_task, "step": credit.beta_step}
        self._capacity: dict[Granularity, int] = {kind: bank.capacity(kind) for kind in ("task", "step")}
        self.step_signal = credit.step or ("act" if self.consolidated else "success")
        self._state = BankState()
        self._index = self._index_of(self._state, None)
        self.knowledge = self._knowledge()
        self._path: Path | None = None
        self._unchecked = 0  # rows from a journal, whose texts are checked before they are shown
        self._checked_rows: set[int] = set()
        self._iteration = 0
        self._writer: JournalWriter | None = None
        self._batch: list[Event] | None = None
        self._as_recorded = True  # False once recording has failed, as the bank has more than the journal since then
        self._subscribers: list[Callable[[Event], None]] = []

    @classmethod
    def open(
        cls,
        path: Path,
        embedder: Embedder | None = None,
        bank: BankConfig | None = None,
        retrieval: RetrievalConfig | None = None,
        credit: CreditConfig | None = None,
        *,
        at: int | None = None,
        event: int | None = None,
    ) -> SkillBank:
        """Returns the bank in a journal; its changes stay in memory until `record`.

        A text that no bank would have taken is found when it would be shown first: retrieval raises `BankError` then.

        Args:
            path: The journal.
            embedder: Embedder that the bank was made with, as all settings see `SkillBank`.
            bank, retrieval, credit: Settings.
            at: Returns the bank as it was after this iteration.
            event: Returns the bank as it was after the event of this number.

        Raises:
            BankError: For a damaged journal or another embedder.
        """
        opened, journal = cls(embedder, bank, retrieval, credit), Journal(path)
        _require_embedder(path, journal.embedder, opened._embedder)
        opened._state, head, kept = KeptKeys.replay(journal, at=at, event=event)
        opened.knowledge = opened._knowledge()
        opened._index = opened._index_of(opened._state, kept)
        opened._unchecked = len(opened._state)
        opened._path = path
        opened._iteration = head.iteration
        return opened

    def record(self, path: Path, *, back_to: int | None = None, wait: float = 0.0) -> None:
        """Ties the bank to a journal, as its only writer until `close`.

        If there is none at `path` it is created, and begins with the bank's skills and their worth. Otherwise the bank
        has to be as the journal is, or was after event `back_to`; later events are undone then. Raises `BankError` if
        it is not, or if another process writes the journal for more than `wait` seconds.
        """
        if not path.exists():
            self._writer = JournalWriter.create(path, self._embedder.fingerprint)
            if len(self._state):
                self._writer.append(*self._state.events(self._iteration))
            self._keep_keys()
            return
        writer = JournalWriter(path, wait=wait)
        try:
            _require_embedder(path, writer.embedder, self._embedder)
            if not writer.replay(seq=back_to).has_skills_of(self._state):
                raise BankError(f"{path} holds other skills than this bank: open the bank from it")
            if back_to is not None and back_to != writer.head().seq:
                writer.append(Rewind(back_to, self._iteration))
        except BaseException:
            writer.close()
            raise
        self._writer = writer
        self._keep_keys()

    def copy_from(self, path: Path) -> None:
        """Copies the active skills of another bank's journal into this empty bank, as of iteration 0.

        They keep their ids, utilities, counts and worth. Raises `BankError` if that bank is of another embedder.
        """
        journal = Journal(path)
        _require_embedder(path, journal.embedder, self._embedder)
        other, _, kept = KeptKeys.replay(journal)
        rows = other.rows(None, "active")
        skills = tuple(replace(other.skill(row), created=0) for row in rows.tolist())
        worth = {skill.id: replace(own, last=0) for skill in skills if (own := other.worth(skill.id)).signals}
        for skill in skills:
            if why := objection(skill.text, vouched=skill.id in other.vouched):
                raise _objected(path, skill, why)
        tallies = {skill.id: other.tallies[skill.id] for skill in skills if skill.id in other.tallies}
        self._do(Insert(skills, 0, {"from": str(path)}, worth, {}, tuple(sorted(other.credited_tasks)), tallies))
        self._index.take_over(KeyIndex(other, self._embedder, kept), rows)
        if vouched := [skill.id for skill in skills if skill.id in other.vouched]:
            self.hold(vouched, 0)
            self.admit(vouched, 0, f"as in {path}")
        if repeats := {skill.id: other.repeats[skill.id] for skill in skills if skill.id in other.repeats}:
            self._do(Repeat(repeats, 0))

    def seen_tasks(self, tasks: Collection[str]) -> set[str]:
        """Returns the tasks, among some, that active skills were written from or that signals came from."""
        state, seen = self._state, set(self._state.credited_tasks)
        for skill in self.skills():
            tally = state.tallies.get(skill.id, Tally())
            seen.update((skill.source_task, *state.repeats.get(skill.id, ())))
            seen.update(map(source_task, (*tally.supports, *tally.refutes)))
        return seen.intersection(tasks)

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        """Calls `callback` with every event from now on."""
        self._subscribers.append(callback)

    def apply(self, event: Event) -> None:
        """Applies an event of another bank with the same skills, after which both retrieve the same."""
        self._do(event)
        self._index.add_missing()

    @property
    def last_event(self) -> int:
        """Number of the last event in the journal, 0 without a journal."""
        return self._writer.head().seq if self._writer else 0

    @contextmanager
    def batch(self, iteration: int) -> Iterator[None]:
        """Records all changes of an iteration in one transaction: all of them or none."""
        self._iteration = iteration
        events: list[Event] = []
        self._batch = events
        try:
            yield
            self._record_events(events)
        except BaseException:
            self._as_recorded, self._index.kept = False, None
            raise
        finally:
            self._batch = None

    def snapshot(self) -> None:
        """Stores a snapshot in the journal, for fast opening, if many events came since the last one."""
        if self._writer:
            self._writer.snapshot()

    def close(self) -> None:
        """Closes the journal; the bank goes on in memory."""
        if self._writer:
            self._writer.close()
            self._writer = self._index.kept = None

    def __len__(self) -> int:
        """Number of active skills."""
        return sum(self.counts().values())

    def skills(self, granularity: Granularity | None = None, status: Status | None = "active") -> list[Skill]:
        """Returns the skills of a status, or of any status for None, in order of insertion."""
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

    def retrieve_task(self, task_texts: Sequence[str], *, trial: bool = False) -> list[tuple[Retrieved, ...]]:
        """Returns the task skills for each task, best first (Eq. 8), with `trial` those on trial too; counts none."""
        return self._retrieve("task", [(text, "") for text in task_texts], trial)

    def retrieve_step(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> list[tuple[Retrieved, ...]]:
        """Returns the step skills for each (task, observation), as `retrieve_task` does for tasks."""
        return self._retrieve("step", pairs, trial)

    @property
    def consolidated(self) -> bool:
        """True if skills are consolidated, and shown until they are done or refuted; else they are the paper's."""
        return self._bank.skills == "consolidated"

    def reliability(self, granularity: Granularity) -> float | None:
        """Returns how well mean signals repeat, see `BankState.reliability`."""
        return self._state.reliability(granularity)

    def advise(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> list[Advised]:
        """Returns for each (task, first observation) the procedure and the situations to show; counts none."""
        return [self.knowledge.advise(task_text, start, trial=trial) for task_text, start in pairs]

    def recall(self, sample: int = 100) -> dict[Granularity, float]:
        """Returns how much of the exact answer the approximate index finds, of each pool that is large enough for one.

        It is the share of the retrieval.candidates most similar skills, with the keys of `sample` skills as queries.
        """
        found = {
            granularity: self._index.recall(granularity, self._retrieval.candidates, gate, sample)
            for granularity, gate in self._gate.items()
        }
        return {granularity: share for granularity, share in found.items() if share is not None}

    def count_retrievals(self, ids: Mapping[str, int], *, origin: Origin | None = None) -> None:
        """Adds an iteration's counts to the retrieval counts: how often each skill was put before the policy."""
        self._require_shown(ids)
        if ids:
            self._do(Retrieve(dict(ids), self._iteration, dict(origin or {})))

    def credit(
        self,
        signals: Mapping[str, Sequence[float]],
        sources: Mapping[str, Sequence[str]] | None = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        """Moves utilities by all signals of one iteration (Eq. 3); their order does not matter.

        `sources` may have for each signal the trajectory (task id # member) or group (task id #) that it is from.
        Raises `BankError`, and changes nothing, for a skill that is unknown or not shown to policies.
        """
        self._require_shown(signals)
        if not signals:
            return
        names = dict.fromkeys(name for own in (sources or {}).values() for name in own)
        number = {name: n for n, name in enumerate(names)}
        by = {skill_id: [number[name] for name in own] for skill_id, own in (sources or {}).items()}
        self._do(Credit(dict(signals), dict(self._beta), self._iteration, dict(origin or {}), tuple(names), by))

    def add_probes(self, effects: Mapping[str, Sequence[tuple[float, bool]]]) -> None:
        """Records the effects of leaving skills out of single prompts (see `d2skill.evaluation.skill_probe`)."""
        if effects:
            self._do(Probe({skill_id: list(own) for skill_id, own in effects.items()}, self._iteration))

    def insert(self, drafts: Sequence[Draft], iteration: int, *, origin: Origin | None = None) -> list[Insertion]:
        """Adds drafts, in their order, unless they are empty or duplicates of a skill or an earlier draft.

        A text that does not look like advice is held; with bank.trial all other new skills come on trial. Returns one
        record per draft. `origin` is recorded.
        """
        self._iteration = iteration
        stored = [cleaned(draft) for draft in drafts]
        compared = iter(self._index.compare([each for each in stored if is_whole(each.text)], self._bank.duplicate))
        numbers = {granularity: count(self._state.next_number(granularity)) for granularity in self._gate}
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
            why = suspicion(skill.text)
            status: Status = "held" if why else "trial" if self._bank.trial else "active"
            if status != "active":
                statuses.setdefault((status, why), []).append(skill.id)
            insertions.append(Insertion(draft, skill, _REASONS[status] + why))
        if new:
            self._do(Insert(tuple(new.values()), iteration, dict(origin or {})))
        for (status, why), ids in statuses.items():
            self._do(Change(status, tuple(ids), iteration, why))
        if repeats:
            self._do(Repeat(repeats, iteration, dict(origin or {})))
        return insertions

    def evict(self, iteration: int) -> list[Skill]:
        """Evicts the least valuable skills of pools over their capacity (Eq. 9); returns them: they stay on record."""
        self._iteration = iteration
        dropped: list[str] = []
        for granularity in ("task", "step"):
            rows = self._state.rows(granularity, "active")
            values = self.knowledge.known.standings(rows) if self.consolidated else self._values_of(rows)
            places = ranking.evict(
                values,
                self._state.created(rows),
                iteration=iteration,
                capacity=self._capacity[granularity],
                protect=self._bank.protect,
            )
            dropped += [self._state.skill(row).id for row in rows[places].tolist()]
        if dropped:
            self._do(Change("evicted", tuple(dropped), iteration, "over capacity (Eq. 9)"))
        return [self.get(skill_id) for skill_id in dropped]

    def retire(self, iteration: int) -> list[Skill]:
        """Retires the skills that are probably worse than nothing, and returns them; they stay in the record.

        Their sample size is bank.retire_after iterations or more, and the 95 % interval of their mean signal below 0.
        """
        self._iteration = iteration
        retired = []
        for skill in self.skills():
            worth = self.worth(skill.id)
            mean, low, high = worth.posterior()
            if worth.size >= self._bank.retire_after and high < 0:
                retired.append(skill.id)
                reason = f"worse than nothing: {mean:+.2f} ({low:+.2f} to {high:+.2f})"
                self._do(Change("retired", (skill.id,), iteration, reason))
        return [self.get(skill_id) for skill_id in retired]

    def settle(self, iteration: int) -> tuple[list[Skill], list[Skill]]:
        """Ends trials: returns the skills that are active from now on, and those that are retired.

        From an effective sample size of bank.trial_after iterations on, a skill passes once its worth is above 0 with
        75 % probability, and fails once it is below with as much. It also fails bank.trial_iterations after it was
        written.
        """
        self._iteration = iteration
        passed, failed = [], []
        for skill in self.skills(status="trial"):
            worth = self.worth(skill.id)
            mean, low, high = worth.posterior(mass=_TRIAL_MASS)
            result = f"{mean:+.2f} from {worth.signals} signal{'s' * (worth.signals != 1)}"
            enough = worth.size >= self._bank.trial_after
            if enough and low > 0:
                passed.append(skill.id)
                self._do(Change("active", (skill.id,), iteration, f"passed its trial: {result}"))
            elif (enough and high < 0) or iteration - skill.created >= self._bank.trial_iterations:
                failed.append(skill.id)
                verdict = "failed its trial" if enough and high < 0 else "its trial showed no worth in time"
                self._do(Change("retired", (skill.id,), iteration, f"{verdict}: {result}"))
        return [self.get(skill_id) for skill_id in passed], [self.get(skill_id) for skill_id in failed]

    def merge(
        self, iteration: int, similarity: float | None = None, granularity: Granularity | None = None
    ) -> dict[str, list[str]]:
        """Merges near-duplicates among the active skills; returns the ids that went into each one that stays.

        The skill with most signals stays, the older one where they tie, with its text and utility. The signals of the
        others count for its worth as well, until they are admitted again. `similarity` is the least cosine of keys and
        of texts, None for bank.duplicate; without a granularity both pools are merged.
        """
        self._iteration = iteration
        least = self._bank.duplicate if similarity is None else similarity
        merged: dict[str, list[str]] = {}
        kinds: tuple[Granularity, ...] = (granularity,) if granularity else ("task", "step")
        for kind in kinds:
            skills = self.skills(kind)
            skills.sort(key=lambda skill: -self.worth(skill.id).signals)
            rows = [self._state.row(skill.id) for skill in skills]
            for keeper, others in self._index.pool(kind).near_duplicates(rows, least):
                merged[self._state.skill(keeper).id] = [self._state.skill(row).id for row in others]
        for keeper_id, ids in merged.items():
            self._do(Change("merged", tuple(ids), iteration, f"key and text {least:g} alike or more", keeper_id))
        return merged

    def admit(self, ids: Sequence[str], iteration: int, reason: str = "") -> None:
        """Makes skills active, whatever their status: on trial, held, evicted, retired or merged."""
        self._iteration = iteration
        self._do(Change("active", tuple(ids), iteration, reason))

    def hold(self, ids: Sequence[str], iteration: int, reason: str = "") -> None:
        """Holds skills: they are not shown until they are admitted."""
        self._iteration = iteration
        self._do(Change("held", tuple(ids), iteration, reason))

    def _do(self, event: Event) -> None:
        """Applies an event, and records it."""
        self._state.apply(event)
        self._index.update(event)
        if isinstance(event, Revise):
            self._checked_rows.clear()
            self.knowledge = self._knowledge()
        for callback in self._subscribers:
            callback(event)
        if self._batch is not None:
            self._batch.append(event)
        else:
            self._record_events([event])

    def _record_events(self, events: Sequence[Event]) -> None:
        """Appends events that have been applied to the journal, if there is one."""
        if self._writer and events:
            try:
                self._writer.append(*events)
            except BaseException:
                self._as_recorded, self._index.kept = False, None
                raise
            self._keep_keys()

    def _knowledge(self) -> Consolidation:
        return Consolidation(self._state, self._bank, self._retrieval, self._do, self._checked)

    def _index_of(self, state: BankState, kept: KeptKeys | None) -> KeyIndex:
        return KeyIndex(state, self._embedder, kept, approximate=self._retrieval.index == "ann")

    def _keep_keys(self) -> None:
        """Notes that all skills are in the journal, and writes the files of keys if many are new."""
        if self._writer and self._as_recorded:
            kept = self._index.kept or KeptKeys(self._writer.path, self._embedder.fingerprint, self._writer.has)
            kept.head, kept.rows = self._writer.head, len(self._state)
            self._index.kept = kept
            self._index.keep()

    def _retrieve(
        self, granularity: Granularity, pairs: Sequence[tuple[str, str]], trial: bool
    ) -> list[tuple[Retrieved, ...]]:
        if not pairs:
            return []
        unique = list(dict.fromkeys(pairs))
        queries = np.stack(self._index.keys(granularity, unique))
        candidates = self._index.search_set(granularity, trial)
        if not len(candidates.rows):
            return [() for _ in pairs]
        gate, count = self._gate[granularity], self._retrieval.candidates
        ranked = ranking.rank(
            queries,
            candidates.keys if candidates.exact is None else candidates.exact,
            self._values(candidates),
            gate=gate,
            candidates=count,
            k=self._k[granularity],
            alpha=self._retrieval.alpha,
            shown=candidates.shown,
            near=self._index.near(granularity, candidates, queries, count, gate),
        )
        retrieved = {
            pair: tuple(
                Retrieved(self._checked(int(candidates.rows[place])), similarity, score)
                for place, similarity, score in zip(*slots, strict=True)
                if place >= 0
            )
            for pair, *slots in zip(unique, *(part.tolist() for part in ranked), strict=True)
        }
        return [retrieved[pair] for pair in pairs]

    def _checked(self, row: int) -> Skill:
        """Returns a skill that is about to be shown; raises `BankError` if no bank would have taken its text."""
        skill = self._state.skill(row)
        if row < self._unchecked and row not in self._checked_rows:
            if why := objection(skill.text, vouched=skill.id in self._state.vouched):
                raise _objected(self._path, skill, why)
            self._checked_rows.add(row)
        return skill

    def _values(self, candidates: SearchSet) -> ranking.Floats:
        """Returns the values of candidates by Eq. 8 [S], 0 for those that do not count."""
        if candidates.values is None:
            shown = slice(None) if candidates.shown is None else candidates.shown
            candidates.values = np.zeros(len(candidates.rows))
            candidates.values[shown] = self._values_of(candidates.rows[shown])
        return candidates.values

    def _values_of(self, rows: ranking.Integers) -> ranking.Floats:
        """Returns the values of some rows, all that are chosen from, by Eq. 8 and 9."""
        return ranking.utility_bonus(self._worths(rows), self._state.retrievals(rows), self._retrieval.eta)

    def _worths(self, rows: ranking.Integers) -> ranking.Floats:
        """Returns the values of some rows without the bonus, as bank.worth sets: 0, utility or posterior mean."""
        if self._bank.worth == "none":
            return np.zeros(len(rows))
        if self._bank.worth == "utility":
            return self._state.utility(rows)
        worths = [self._state.worth(self._state.skill(row).id) for row in rows.tolist()]
        signals = sum(worth.signals for worth in worths)
        prior = math.fsum(worth.total for worth in worths) / signals if signals else 0.0
        return np.array([worth.posterior(prior).mean for worth in worths], dtype=np.float64)

    def _require_shown(self, ids: Mapping[str, object]) -> None:
        """Raises `BankError` for a skill that is unknown, or else for the first that is not shown to policies."""
        self._state.find(ids)
        for skill_id in ids:
            if (mark := self._state.marks.get(skill_id)) and mark.status != "trial":
                raise BankError(
                    f"skill {skill_id!r} was {mark.status} in iteration {mark.iteration} and is not shown to policies"
                )


def _require_embedder(path: Path, made_with: str, embedder: Embedder) -> None:
    if made_with != embedder.fingerprint:
        raise BankError(
            f"{path} was made with embedder {made_with}, not with {embedder.fingerprint}: set the embedder it was made "
            "with (embedder.kind, embedder.model, embedder.dimension), make one for the new embedder by "
            "`d2skill bank reembed`, or start a new bank"
        )


def _objected(path: Path | None, skill: Skill, why: str) -> BankError:
    return BankError(
        f"{path}: the text of skill {skill.id} is not one that a bank takes ({why}): the journal was made by another "
        "program or version; `d2skill bank import` takes over what can be taken"
    )
