"""The skill bank, the one way in: retrieve (Eq. 8), credit (Eq. 3), insert, evict (Eq. 9).

Retrieval changes nothing. The learner applies what an iteration did to the bank once, at its end, in a form
that does not depend on the order in which episodes finished.

What changes the bank is an event: applied to the state in memory, and on record if the bank has a journal. So a bank
and a replay of its journal are the same by construction.
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
from d2skill.bank.draft import Draft, Insertion
from d2skill.bank.index import Choice, Index
from d2skill.bank.journal import (
    Again,
    BankState,
    Change,
    Credit,
    Event,
    Insert,
    Journal,
    JournalWriter,
    Origin,
    Probe,
    Retrieve,
    Rewind,
    Status,
)
from d2skill.bank.ranking import Vectors
from d2skill.bank.safety import clean, objection, suspicion
from d2skill.bank.worth import Worth
from d2skill.config import BankConfig, CreditConfig, EmbedderConfig, RetrievalConfig
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.protocols import Embedder
from d2skill.types import Granularity, Retrieved, Skill, SkillText
from d2skill.utils.text import storable

__all__ = ["Draft", "Insertion", "SkillBank"]

_ADMITTED: dict[Status, str] = {"active": "added", "trial": "on trial", "held": "held: "}
_SURE = 0.5  # mass of the interval that decides a trial, so 75 % to one side


class SkillBank:
    """Two pools of skills, task and step, and the record of those that have left them.

    A bank is in memory until `record` ties it to a journal; from then on what changes it is on disk when the call
    returns, or for the calls in a `batch` when that ends.
    """

    def __init__(
        self,
        embedder: Embedder | None = None,
        bank: BankConfig | None = None,
        retrieval: RetrievalConfig | None = None,
        credit: CreditConfig | None = None,
    ) -> None:
        """Makes an empty bank; what is not given is the default."""
        embedder, bank = embedder or make_embedder(EmbedderConfig()), bank or BankConfig()
        retrieval, credit = retrieval or RetrievalConfig(), credit or CreditConfig()
        self._embedder = embedder
        self._bank = bank
        self._retrieval = retrieval
        gates = (embedder.task_gate, embedder.step_gate) if retrieval.gate is None else (retrieval.gate,) * 2
        self._gate: dict[Granularity, float] = {"task": gates[0], "step": gates[1]}
        self._k: dict[Granularity, int] = {"task": retrieval.k_task, "step": retrieval.k_step}
        self._beta: dict[Granularity, float] = {"task": credit.beta_task, "step": credit.beta_step}
        self._capacity: dict[Granularity, int] = {"task": bank.task_capacity, "step": bank.step_capacity}
        self._state = BankState()
        self._index = Index(self._state, embedder)
        self._from: Path | None = None
        self._unread = 0
        self._read: set[int] = set()
        self._iteration = 0
        self._writer: JournalWriter | None = None
        self._batch: list[Event] | None = None
        self._watchers: list[Callable[[Event], None]] = []

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
        """Returns the bank in a journal as it is, was after iteration `at`, or was after event number `event`.

        What is done to it stays in memory until `record`. The embedder has to be the one that the bank was made with;
        settings that are not given are the defaults. Raises `BankError` for a damaged journal or another embedder. A
        text that no bank would have taken is found when it would be shown first: retrieval raises `BankError` then.
        """
        opened, journal = cls(embedder, bank, retrieval, credit), Journal(path)
        _require_embedder(path, journal.embedder, opened._embedder)
        opened._state = journal.replay(BankState(), at=at, seq=event)
        opened._index = Index(opened._state, opened._embedder)
        opened._unread = len(opened._state)
        opened._from = path
        opened._iteration = journal.head().iteration
        return opened

    def record(self, path: Path, *, back_to: int | None = None, wait: float = 0.0) -> None:
        """Ties the bank to a journal, as its only writer until `close`.

        Without one at `path` it is made, and begins with the skills there are and their evidence. Otherwise the bank
        has to be as the journal is, or was after event `back_to`: what came later is undone then. Raises `BankError`
        if it is not, and if another process writes the journal for more than `wait` seconds.
        """
        if not path.exists():
            self._writer = JournalWriter.create(path, self._embedder.fingerprint)
            if len(self._state):
                self._writer.append(*self._state.events(self._iteration))
            return
        writer = JournalWriter(path, wait=wait)
        try:
            _require_embedder(path, writer.embedder, self._embedder)
            if writer.replay(BankState(), seq=back_to).skills() != self._state.skills():
                raise BankError(f"{path} holds other skills than this bank: open the bank from it")
            if back_to is not None and back_to != writer.head().seq:
                writer.append(Rewind(back_to, self._iteration))
        except BaseException:
            writer.close()
            raise
        self._writer = writer

    def adopt(self, path: Path) -> None:
        """Takes over the active skills of another bank into this empty one, as of iteration 0.

        They keep their ids, utilities, counts and evidence. Raises `BankError` if that bank is of another embedder.
        """
        journal = Journal(path)
        _require_embedder(path, journal.embedder, self._embedder)
        other = journal.replay(BankState())
        rows = other.rows(None, "active").tolist()
        skills = tuple(replace(other.skill(row), created=0) for row in rows)
        evidence = {skill.id: replace(own, last=0) for skill in skills if (own := other.evidence(skill.id)).signals}
        for skill in skills:
            if why := objection(skill.text, vouched=skill.id in other.vouched):
                raise _objected(path, skill, why)
        self._do(Insert(skills, 0, {"from": str(path)}, evidence, tasks=tuple(sorted(other.seen))))
        if vouched := [skill.id for skill in skills if skill.id in other.vouched]:
            self.hold(vouched, 0)
            self.admit(vouched, 0, f"as in {path}")
        if again := {skill.id: other.again[skill.id] for skill in skills if skill.id in other.again}:
            self._do(Again(again, 0))

    def seen(self, tasks: Collection[str]) -> set[str]:
        """Returns those of some tasks that skills were written from failures in, or got their signals in."""
        written = {task for s in self.skills() for task in (s.evidence, *self._state.again.get(s.id, ()))}
        return (written | self._state.seen).intersection(tasks)

    def watch(self, take: Callable[[Event], None]) -> None:
        """Gives every event from now on to `take`."""
        self._watchers.append(take)

    def follow(self, event: Event) -> None:
        """Lets an event happen that another bank of the same skills has had, so that it finds the same as that one."""
        self._do(event)
        self._index.catch_up()

    @property
    def event(self) -> int:
        """Number of the last event in the journal, 0 without one."""
        return self._writer.head().seq if self._writer else 0

    @contextmanager
    def batch(self, iteration: int) -> Iterator[None]:
        """Makes all that happens to the bank in an iteration one record, whole or not there."""
        self._iteration = iteration
        self._batch = []
        try:
            yield
            if self._writer and self._batch:
                self._writer.append(*self._batch)
        finally:
            self._batch = None

    def snapshot(self) -> None:
        """Lets later openings start from here, if much has happened since the last snapshot."""
        if self._writer:
            self._writer.snapshot(BankState())

    def close(self) -> None:
        """Leaves the journal to the next writer; the bank goes on in memory."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def __len__(self) -> int:
        """Number of active skills."""
        return sum(self.counts().values())

    def skills(self, granularity: Granularity | None = None, status: Status | None = "active") -> list[Skill]:
        """Returns the skills of a status, of any for None, in order of insertion."""
        if status is None:
            return [skill for skill in self._state.skills() if granularity in (None, skill.granularity)]
        return [self._state.skill(row) for row in self._state.rows(granularity, status).tolist()]

    def get(self, skill_id: str) -> Skill:
        """Returns a skill, whatever its status. Raises `BankError` for an id that was never given out."""
        return self._state.skill(self._state.row(skill_id))

    def status(self, skill_id: str) -> Status:
        """Returns what a skill is. Raises `BankError` for an id that was never given out."""
        return self._state.status(skill_id)

    def counts(self) -> dict[Granularity, int]:
        """Returns the number of active skills of each granularity."""
        return {"task": len(self._state.rows("task", "active")), "step": len(self._state.rows("step", "active"))}

    def mean_utility(self) -> float:
        """Returns the mean utility of the active skills, 0 for an empty bank."""
        rows = self._state.rows(None, "active")
        return float(np.mean(self._state.utility(rows))) if len(rows) else 0.0

    def evidence(self, skill_id: str) -> Worth:
        """Returns what the signals of a skill add up to, with those of skills that were merged into it."""
        return self._state.evidence(skill_id)

    def retrieve_task(self, task_texts: Sequence[str], *, trial: bool = False) -> list[tuple[Retrieved, ...]]:
        """Returns the task skills for each task, best first (Eq. 8), on a `trial` new ones too; counts nothing."""
        unique = list(dict.fromkeys(task_texts))
        found = dict(zip(unique, self._retrieve("task", self._index.embed(unique), trial), strict=True))
        return [found[text] for text in task_texts]

    def retrieve_step(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> list[tuple[Retrieved, ...]]:
        """Returns the step skills for each (task, observation), as `retrieve_task` does for tasks."""
        unique = list(dict.fromkeys(pairs))
        found = dict(zip(unique, self._retrieve("step", self._index.keys("step", unique), trial), strict=True))
        return [found[pair] for pair in pairs]

    def count_retrievals(self, ids: Mapping[str, int], *, origin: Origin | None = None) -> None:
        """Adds to n of each skill how often it was put before the policy, all of an iteration at once."""
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
        """Moves utilities by all signals of one iteration (Eq. 3), in whatever order they come.

        `sources` may tell for each signal the trajectory (task id # member) or group (task id #) it is from. Raises
        `BankError`, and changes nothing, for a skill that is unknown or not shown to policies.
        """
        self._require_shown(signals)
        if not signals:
            return
        names = dict.fromkeys(name for own in (sources or {}).values() for name in own)
        number = {name: n for n, name in enumerate(names)}
        by = {skill_id: [number[name] for name in own] for skill_id, own in (sources or {}).items()}
        self._do(Credit(dict(signals), dict(self._beta), self._iteration, dict(origin or {}), tuple(names), by))

    def probed(self, effects: Mapping[str, Sequence[tuple[float, bool]]]) -> None:
        """Notes what leaving skills out of single prompts did (see `d2skill.evaluation.skill_probe`)."""
        if effects:
            self._do(Probe({skill_id: list(own) for skill_id, own in effects.items()}, self._iteration))

    def insert(self, drafts: Sequence[Draft], iteration: int, *, origin: Origin | None = None) -> list[Insertion]:
        """Adds drafts, in their order, unless they are empty or say what a skill says for a like key.

        What looks like no advice is held back, and with bank.trial all others come on trial. Returns one record per
        draft. Of two near-duplicates among the drafts the first stays. `origin` goes on record.
        """
        self._iteration = iteration
        read = [_cleaned(draft) for draft in drafts]
        newcomers = self._index.newcomers([own for own in read if _is_whole(own.text)], self._bank.duplicate)
        numbers = {granularity: count(self._state.following(granularity)) for granularity in self._gate}
        new: dict[int, Skill] = {}
        statuses: dict[tuple[Status, str], list[str]] = {}
        again: dict[str, list[str]] = {}
        inserted = []
        for draft, own in zip(drafts, read, strict=True):
            if not _is_whole(own.text):
                inserted.append(Insertion(draft, None, "empty"))
                continue
            among, at, key = next(newcomers)
            if (same := among.duplicate(at)) is not None:
                known = new.get(same) or self._state.skill(same)
                again.setdefault(known.id, []).append(own.evidence)
                inserted.append(Insertion(draft, None, f"duplicate of {known.id}"))
                continue
            row = len(self._state) + len(new)
            skill = new[row] = Skill(
                f"{own.granularity[0]}{next(numbers[own.granularity])}",
                own.granularity,
                own.text,
                own.task_text,
                own.observation,
                created=iteration,
                evidence=own.evidence,
            )
            among.add(at, row, key, skill)
            status, reason = self._admission(skill)
            if status != "active":
                statuses.setdefault((status, reason), []).append(skill.id)
            inserted.append(Insertion(draft, skill, _ADMITTED[status] + reason))
        if new:
            self._do(Insert(tuple(new.values()), iteration, dict(origin or {})))
        for (status, reason), ids in statuses.items():
            self._do(Change(status, tuple(ids), iteration, reason))
        if again:
            self._do(Again(again, iteration, dict(origin or {})))
        return inserted

    def _admission(self, skill: Skill) -> tuple[Status, str]:
        """Returns what a new skill becomes, and why if it is held back."""
        if why := suspicion(skill.text):
            return "held", why
        return ("trial" if self._bank.trial else "active"), ""

    def evict(self, iteration: int) -> list[Skill]:
        """Takes the least valuable skills out of each pool over its capacity (Eq. 9), and returns them.

        They stay in the record, with the iteration in which they left.
        """
        self._iteration = iteration
        dropped: list[str] = []
        for granularity in ("task", "step"):
            choice = self._index.choice(granularity)
            places = ranking.evict(
                self._values(choice),
                self._state.created(choice.rows),
                iteration=iteration,
                capacity=self._capacity[granularity],
                protect=self._bank.protect,
            )
            dropped += [self._state.skill(row).id for row in choice.rows[places].tolist()]
        if dropped:
            self._do(Change("evicted", tuple(dropped), iteration, "over capacity (Eq. 9)"))
        return [self.get(skill_id) for skill_id in dropped]

    def retire(self, iteration: int) -> list[Skill]:
        """Takes out the skills that are probably worse than nothing, and returns them.

        These are the ones with bank.retire_after iterations of evidence or more, by effective sample size, and a 95 %
        interval of the mean signal below 0. Like evicted skills they stay in the record.
        """
        self._iteration = iteration
        gone = []
        for skill in self.skills():
            evidence = self.evidence(skill.id)
            worth = evidence.posterior()
            if evidence.size >= self._bank.retire_after and worth.high < 0:
                gone.append(skill.id)
                reason = f"worse than nothing: {worth.mean:+.2f} ({worth.low:+.2f} to {worth.high:+.2f})"
                self._do(Change("retired", (skill.id,), iteration, reason))
        return [self.get(skill_id) for skill_id in gone]

    def settle(self, iteration: int) -> tuple[list[Skill], list[Skill]]:
        """Ends trials: returns the skills that are active from now on, and those that are retired.

        After bank.trial_after iterations of evidence, by effective sample size, a skill passes once its worth is above
        0 with 75 % probability, and fails once it is below with as much, or bank.trial_iterations after it was written.
        """
        self._iteration = iteration
        passed, failed = [], []
        for skill in self.skills(status="trial"):
            evidence = self.evidence(skill.id)
            worth = evidence.posterior(mass=_SURE)
            told = f"{worth.mean:+.2f} from {evidence.signals} signal{'s' * (evidence.signals != 1)}"
            enough = evidence.size >= self._bank.trial_after
            if enough and worth.low > 0:
                passed.append(skill.id)
                self._do(Change("active", (skill.id,), iteration, f"passed its trial: {told}"))
            elif (enough and worth.high < 0) or iteration - skill.created >= self._bank.trial_iterations:
                failed.append(skill.id)
                verdict = "failed its trial" if enough and worth.high < 0 else "its trial showed no worth in time"
                self._do(Change("retired", (skill.id,), iteration, f"{verdict}: {told}"))
        return [self.get(skill_id) for skill_id in passed], [self.get(skill_id) for skill_id in failed]

    def merge(
        self, iteration: int, similarity: float | None = None, granularity: Granularity | None = None
    ) -> dict[str, list[str]]:
        """Merges active skills that are alike in key and text; returns the ids that went into each one that stays.

        The one with most signals stays, the older one where they tie, with its text and utility; the evidence of the
        others counts for it as well, until one of them is admitted again. Without a `similarity` it is bank.duplicate,
        without a granularity both are looked at.
        """
        self._iteration = iteration
        least = self._bank.duplicate if similarity is None else similarity
        merged: dict[str, list[str]] = {}
        kinds: tuple[Granularity, ...] = (granularity,) if granularity else ("task", "step")
        for kind in kinds:
            skills = self.skills(kind)
            skills.sort(key=lambda skill: -self.evidence(skill.id).signals)
            rows = [self._state.row(skill.id) for skill in skills]
            for keeper, others in self._index.pool(kind).alike(rows, least):
                merged[self._state.skill(keeper).id] = [self._state.skill(row).id for row in others]
        for keeper_id, ids in merged.items():
            self._do(Change("merged", tuple(ids), iteration, f"key and text {least:g} alike or more", keeper_id))
        return merged

    def admit(self, ids: Sequence[str], iteration: int, reason: str = "") -> None:
        """Makes skills active, whatever they were: in quarantine, evicted, retired or merged into another."""
        self._iteration = iteration
        self._do(Change("active", tuple(ids), iteration, reason))

    def hold(self, ids: Sequence[str], iteration: int, reason: str = "") -> None:
        """Holds skills back: nobody is shown them until they are admitted."""
        self._iteration = iteration
        self._do(Change("held", tuple(ids), iteration, reason))

    def _do(self, event: Event) -> None:
        """Lets an event happen, and records it."""
        self._state.apply(event)
        self._index.follow(event)
        for take in self._watchers:
            take(event)
        if self._batch is not None:
            self._batch.append(event)
        elif self._writer:
            self._writer.append(event)

    def _retrieve(
        self, granularity: Granularity, queries: Sequence[Vectors], trial: bool
    ) -> list[tuple[Retrieved, ...]]:
        if not queries:
            return []
        choice = self._index.choice(granularity, trial)
        if not len(choice.rows):
            return [() for _ in queries]
        ranked = ranking.rank(
            np.stack(queries),
            choice.keys,
            self._values(choice),
            gate=self._gate[granularity],
            candidates=self._retrieval.candidates,
            k=self._k[granularity],
            alpha=self._retrieval.alpha,
        )
        rows = choice.rows.tolist()
        return [
            tuple(
                Retrieved(self._checked(rows[place]), similarity, score)
                for place, similarity, score in zip(*slots, strict=True)
                if place >= 0
            )
            for slots in zip(*(part.tolist() for part in ranked), strict=True)
        ]

    def _checked(self, row: int) -> Skill:
        """Returns a skill that is about to be shown; raises `BankError` if no bank would have taken its text."""
        skill = self._state.skill(row)
        if row < self._unread and row not in self._read:
            if why := objection(skill.text, vouched=skill.id in self._state.vouched):
                raise _objected(self._from, skill, why)
            self._read.add(row)
        return skill

    def _values(self, choice: Choice) -> ranking.Floats:
        if choice.values is None:
            rows = choice.rows
            choice.values = ranking.utility_bonus(self._worths(rows), self._state.retrievals(rows), self._retrieval.eta)
        return choice.values

    def _worths(self, rows: ranking.Integers) -> ranking.Floats:
        """Returns what ranks and evicts skills, apart from the bonus."""
        if self._bank.worth == "none":
            return np.zeros(len(rows))
        if self._bank.worth == "utility":
            return self._state.utility(rows)
        evidence = [self._state.evidence(self._state.skill(row).id) for row in rows.tolist()]
        signals = sum(one.signals for one in evidence)
        prior = math.fsum(one.total for one in evidence) / signals if signals else 0.0
        return np.array([one.posterior(prior).mean for one in evidence], dtype=np.float64)

    def _require_shown(self, ids: Mapping[str, object]) -> None:
        """Raises `BankError` for the first skill that policies are not shown."""
        if (skill_id := self._state.first_not(ids, "active", "trial")) is not None:
            mark = self._state.marks[skill_id]
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


def _cleaned(draft: Draft) -> Draft:
    """Returns a draft as the bank would hold it."""
    observation = storable(draft.observation) if draft.granularity == "step" else ""
    return Draft(draft.granularity, clean(draft.text), storable(draft.task_text), observation, storable(draft.evidence))


def _is_whole(text: SkillText) -> bool:
    return bool(text.title and text.principle and text.when_to_apply)
