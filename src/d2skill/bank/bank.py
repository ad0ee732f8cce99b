"""The skill bank, the one way in: retrieve (Eq. 8), credit (Eq. 3), insert, evict (Eq. 9).

Retrieval changes nothing. The learner applies what an iteration did to the bank once, at its end, in a form
that does not depend on the order in which episodes finished.

A step key has two parts, and its vector is the normalised sum of their unit vectors: in one concatenated
text a room listing of 60 words would drown a task of 8. With the parts weighed equally, on ALFWorld, keys of
the same room are 0.55 alike for different objects and 0.70 for the same (medians, benchmarks/gate.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from d2skill.bank import ranking
from d2skill.bank.drafts import Draft, Insertion, numbers, said, storable
from d2skill.bank.evidence import Evidence
from d2skill.bank.journal import BankState, Change, Credit, Event, Insert, Journal, JournalWriter, Retrieve, Rewind
from d2skill.bank.safety import clean, objection, suspicion
from d2skill.config import BankConfig, CreditConfig, EmbedderConfig, RetrievalConfig
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.protocols import Embedder
from d2skill.types import Granularity, Retrieved, Skill, SkillText

__all__ = ["Draft", "Insertion", "SkillBank"]

_NO_EVIDENCE = Evidence()
Vectors = npt.NDArray[np.float32]

_CACHED_TEXTS = 1 << 14  # 32 MB at 512 dimensions


class _Pool:
    """The active skills of one granularity with their keys [S, d] and their values of Eq. 8 and 9 [S].

    Keys stay as they are while skills only change their numbers.
    """

    def __init__(
        self, skills: Sequence[Skill], keys: Vectors, eta: float, worths: Callable[[Sequence[Skill]], ranking.Floats]
    ) -> None:
        self.skills = list(skills)
        self._keys = keys
        self._eta = eta
        self._worths = worths
        self._rows = {skill.id: row for row, skill in enumerate(skills)}
        self._values: ranking.Floats | None = None
        self._said: dict[tuple[str | SkillText, ...], int] | None = None

    @property
    def keys(self) -> Vectors:
        return self._keys[: len(self.skills)]

    @property
    def values(self) -> ranking.Floats:
        if self._values is None:
            self._values = ranking.utility_bonus(
                self._worths(self.skills),
                np.array([skill.retrievals for skill in self.skills], dtype=np.int64),
                self._eta,
            )
        return self._values

    def add(self, skill: Skill, key: Vectors) -> None:
        """Takes in a new skill, after all others."""
        row = len(self.skills)
        if row >= len(self._keys):
            more = np.empty((max(row, 16), len(key)), dtype=np.float32)
            self._keys = np.concatenate([self.keys, more]) if row else more
        self._keys[row] = key
        self._rows[skill.id] = row
        self.skills.append(skill)
        self._values = None
        if self._said is not None:
            self._said.setdefault(_identity(skill), row)

    def change(self, skill: Skill) -> bool:
        """Takes over the numbers of a skill; false if it is not in the pool, or should no longer be."""
        row = self._rows.get(skill.id)
        if row is None or skill.evicted is not None:
            return False
        self.skills[row] = skill
        self._values = None
        return True

    def same(self, new: Skill) -> Skill | None:
        """Returns the first skill with the same text and key."""
        if self._said is None:
            rows = range(len(self.skills) - 1, -1, -1)
            self._said = {_identity(self.skills[row]): row for row in rows}
        row = self._said.get(_identity(new))
        return None if row is None else self.skills[row]


class _New(NamedTuple):
    """A skill that has no id yet, its key, and which of the first `among` rows of its pool have a key near that."""

    skill: Skill
    key: Vectors
    near: ranking.Integers
    among: int


class SkillBank:
    """Two pools of skills, task and step, and the record of those that were evicted.

    A bank is in memory until `record` ties it to a journal; from then on what changes it is on disk when the call
    returns, or for the calls in a `batch` when that ends.
    """

    def __init__(self, embedder: Embedder, bank: BankConfig, retrieval: RetrievalConfig, credit: CreditConfig) -> None:
        self._embedder = embedder
        self._bank = bank
        self._retrieval = retrieval
        gates = (embedder.task_gate, embedder.step_gate) if retrieval.gate is None else (retrieval.gate,) * 2
        self._gate: dict[Granularity, float] = {"task": gates[0], "step": gates[1]}
        self._k: dict[Granularity, int] = {"task": retrieval.k_task, "step": retrieval.k_step}
        self._beta: dict[Granularity, float] = {"task": credit.beta_task, "step": credit.beta_step}
        self._capacity: dict[Granularity, int] = {"task": bank.task_capacity, "step": bank.step_capacity}
        self._next: dict[Granularity, int] = {"task": 1, "step": 1}
        self._skills: dict[str, Skill] = {}
        self._pools: dict[Granularity, _Pool] = {}
        self._keys: dict[str, Vectors] = {}
        self._vectors: dict[str, Vectors] = {}
        self._evidence: dict[str, Evidence] = {}
        self._unread: set[str] = set()
        self._from: Path | None = None
        self._iteration = 0
        self._writer: JournalWriter | None = None
        self._batch: list[Event] | None = None

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
        settings that are not given are the defaults. Raises `BankError` for a damaged journal or another embedder. That
        its texts are such as a bank takes is looked at before the first retrieval, which raises `BankError` if not.
        """
        embedder = embedder or make_embedder(EmbedderConfig())
        journal = Journal(path)
        _require_embedder(path, journal.embedder, embedder)
        opened = cls(embedder, bank or BankConfig(), retrieval or RetrievalConfig(), credit or CreditConfig())
        state = journal.replay(BankState(), at=at, seq=event)
        opened._set(state.skills())
        opened._evidence = state.evidence
        opened._unread = set(opened._skills)
        opened._from = path
        opened._iteration = journal.head().iteration
        return opened

    def record(self, path: Path, *, back_to: int | None = None, wait: float = 0.0) -> None:
        """Ties the bank to a journal, as its only writer until `close`.

        Without one at `path` it is made, and begins with the skills there are, not with their evidence. Otherwise the
        bank has to be as the journal is, or was after event `back_to`: what came later is undone then. Raises
        `BankError` if it is not, and if another process writes the journal for more than `wait` seconds.
        """
        if not path.exists():
            self._writer = JournalWriter.create(path, self._embedder.fingerprint)
            if self._skills:
                self._append([Insert(tuple(self._skills.values()), self._iteration)])
            return
        writer = JournalWriter(path, wait=wait)
        try:
            _require_embedder(path, writer.embedder, self._embedder)
            if writer.replay(BankState(), seq=back_to).skills() != list(self._skills.values()):
                raise BankError(f"{path} holds other skills than this bank: open the bank from it")
            if back_to is not None and back_to != writer.head().seq:
                writer.append(Rewind(back_to, self._iteration))
        except BaseException:
            writer.close()
            raise
        self._writer = writer

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
            self._append(self._batch)
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
        return len(self.skills())

    def skills(self, granularity: Granularity | None = None, include_evicted: bool = False) -> list[Skill]:
        """Returns skills in order of insertion."""
        return [
            skill
            for skill in self._skills.values()
            if granularity in (None, skill.granularity) and (include_evicted or skill.evicted is None)
        ]

    def get(self, skill_id: str) -> Skill:
        """Returns a skill, active or evicted. Raises `BankError` for an id that was never given out."""
        try:
            return self._skills[skill_id]
        except KeyError:
            raise BankError(f"there is no skill {skill_id!r} in this bank of {len(self._skills)}") from None

    def counts(self) -> dict[Granularity, int]:
        """Returns the number of active skills of each granularity."""
        return {"task": len(self.skills("task")), "step": len(self.skills("step"))}

    def mean_utility(self) -> float:
        """Returns the mean utility of the active skills, 0 for an empty bank."""
        utilities = [skill.utility for skill in self.skills()]
        return float(np.mean(utilities)) if utilities else 0.0

    def evidence(self, skill_id: str) -> Evidence:
        """Returns what the signals of a skill add up to."""
        return self._evidence.get(skill_id, _NO_EVIDENCE)

    def encode_task(self, text: str) -> Vectors:
        """Returns the vector [d] of a task text, as key of a task skill or as query."""
        vector = self._vectors.get(text)
        if vector is None:
            self._embed([text])
            vector = self._vectors[text]
        return vector

    def encode_step(self, task_text: str, observation: str) -> Vectors:
        """Returns the vector [d] of a task and an observation, weighed equally, as key or as query."""
        both = self.encode_task(task_text) + self.encode_task(observation)
        length = float(np.sqrt(both @ both))
        return both / np.float32(length) if length > 0.0 else both

    def retrieve_task(self, task_texts: Sequence[str]) -> list[tuple[Retrieved, ...]]:
        """Returns the task skills for each task, best first (Eq. 8); counts nothing."""
        unique = list(dict.fromkeys(task_texts))
        self._embed(unique)
        found = dict(zip(unique, self._retrieve("task", [self.encode_task(t) for t in unique]), strict=True))
        return [found[text] for text in task_texts]

    def retrieve_step(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[Retrieved, ...]]:
        """Returns the step skills for each (task, observation), best first (Eq. 8); counts nothing."""
        unique = list(dict.fromkeys(pairs))
        self._embed([text for pair in unique for text in pair])
        found = dict(zip(unique, self._retrieve("step", [self.encode_step(*p) for p in unique]), strict=True))
        return [found[pair] for pair in pairs]

    def count_retrievals(self, ids: Mapping[str, int]) -> None:
        """Adds to n of each skill how often it was put before the policy, all of an iteration at once."""
        for skill in [self._active(skill_id) for skill_id in ids]:
            self._put(replace(skill, retrievals=skill.retrievals + ids[skill.id]))
        if ids:
            self._log(Retrieve(dict(ids), self._iteration))

    def credit(self, signals: Mapping[str, Sequence[float]]) -> None:
        """Moves utilities by all signals of one iteration (Eq. 3), in whatever order they come.

        Raises `BankError`, and changes nothing, for an id that is unknown or evicted.
        """
        for skill in [self._active(skill_id) for skill_id in signals]:
            own = signals[skill.id]
            utility = ranking.credited_utility(skill.utility, own, self._beta[skill.granularity])
            self._evidence[skill.id] = self.evidence(skill.id).add(own, self._iteration)
            self._put(_credited(skill, utility, skill.credits + len(own)))
        if signals:
            own_signals = {skill_id: list(own) for skill_id, own in signals.items()}
            self._log(Credit(own_signals, dict(self._beta), self._iteration))

    def insert(
        self, drafts: Sequence[Draft], iteration: int, *, origin: Mapping[str, str] | None = None
    ) -> list[Insertion]:
        """Adds drafts, in their order, unless they are empty, suspicious or say what a skill says for a like key.

        Returns one record per draft. Of two near-duplicates among the drafts the first stays. `origin` goes on record.
        """
        self._iteration = iteration
        read = [_skill(draft, iteration) for draft in drafts]
        new = iter(self._new([skill for skill in read if isinstance(skill, Skill)]))
        inserted = [
            self._insert(draft, next(new)) if isinstance(skill, Skill) else Insertion(draft, None, skill)
            for draft, skill in zip(drafts, read, strict=True)
        ]
        if added := tuple(one.skill for one in inserted if one.skill):
            self._log(Insert(added, iteration, dict(origin or {})))
        return inserted

    def evict(self, iteration: int) -> list[Skill]:
        """Takes the least valuable skills out of each pool over its capacity (Eq. 9), and returns them.

        They stay in the record, with the iteration in which they left.
        """
        dropped: list[Skill] = []
        for granularity in ("task", "step"):
            pool = self._pool(granularity)
            rows = ranking.evict(
                pool.values,
                np.array([skill.created for skill in pool.skills], dtype=np.int64),
                iteration=iteration,
                capacity=self._capacity[granularity],
                protect=self._bank.protect,
            )
            dropped += [replace(pool.skills[row], evicted=iteration) for row in rows]
        self._iteration = iteration
        for skill in dropped:
            self._put(skill)
        if dropped:
            self._log(Change("evicted", tuple(skill.id for skill in dropped), iteration, "over capacity (Eq. 9)"))
        return dropped

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
            if evidence.size < self._bank.retire_after or worth.high >= 0:
                continue
            gone.append(replace(skill, evicted=iteration))
            self._put(gone[-1])
            reason = f"worse than nothing: {worth.mean:+.2f} ({worth.low:+.2f} to {worth.high:+.2f})"
            self._log(Change("retired", (skill.id,), iteration, reason))
        return gone

    def _retrieve(self, granularity: Granularity, queries: Sequence[Vectors]) -> list[tuple[Retrieved, ...]]:
        pool = self._pool(granularity)
        if not queries or not pool.skills:
            return [() for _ in queries]
        ranked = ranking.rank(
            np.stack(queries),
            pool.keys,
            pool.values,
            gate=self._gate[granularity],
            candidates=self._retrieval.candidates,
            k=self._k[granularity],
            alpha=self._retrieval.alpha,
        )
        return [
            tuple(
                Retrieved(pool.skills[row], similarity, score)
                for row, similarity, score in zip(*slots, strict=True)
                if row >= 0
            )
            for slots in zip(*(part.tolist() for part in ranked), strict=True)
        ]

    def _new(self, skills: Sequence[Skill]) -> list[_New]:
        """Returns new skills with their keys and where in the bank near keys are, found for all of them at once."""
        self._embed([text for skill in skills for text in (skill.task_text, skill.observation)])
        keys = [self._key(skill) for skill in skills]
        near = [np.empty(0, dtype=np.int64)] * len(skills)
        pools = {granularity: self._pool(granularity) for granularity in {skill.granularity for skill in skills}}
        for granularity, pool in pools.items():
            own = [at for at, skill in enumerate(skills) if skill.granularity == granularity]
            found = ranking.near(np.stack([keys[at] for at in own]), pool.keys, self._bank.duplicate)
            for at, rows in zip(own, found, strict=True):
                near[at] = rows
        among = [len(pools[skill.granularity].skills) for skill in skills]
        return [_New(*parts) for parts in zip(skills, keys, near, among, strict=True)]

    def _insert(self, draft: Draft, new: _New) -> Insertion:
        granularity = new.skill.granularity
        if (same := self._duplicate(new)) is not None:
            return Insertion(draft, None, f"duplicate of {same.id}")
        skill = replace(new.skill, id=f"{granularity[0]}{self._next[granularity]}")
        self._next[granularity] += 1
        self._skills[skill.id] = skill
        self._keys[skill.id] = new.key
        self._pool(granularity).add(skill, new.key)
        return Insertion(draft, skill, "added")

    def _duplicate(self, new: _New) -> Skill | None:
        """Returns an active skill with the same text and key, or else the first whose key and text are near.

        Texts with different numbers in them are not near: "look in drawer 3" is not "look in drawer 4".
        """
        pool = self._pool(new.skill.granularity)
        if (same := pool.same(new.skill)) is not None:
            return same
        since = ranking.near(new.key[None], pool.keys[new.among :], self._bank.duplicate)[0] + new.among
        content = said(new.skill.text)
        rows: list[int] = [*new.near.tolist(), *since.tolist()]
        for row in rows:
            other = said(pool.skills[row].text)
            if (
                numbers(content) == numbers(other)
                and ranking.cosines(self.encode_task(content), self.encode_task(other)) >= self._bank.duplicate
            ):
                return pool.skills[row]
        return None

    def _active(self, skill_id: str) -> Skill:
        skill = self.get(skill_id)
        if skill.evicted is not None:
            raise BankError(f"skill {skill_id!r} was evicted in iteration {skill.evicted} and takes no credit")
        return skill

    def _log(self, event: Event) -> None:
        if self._batch is not None:
            self._batch.append(event)
        else:
            self._append([event])

    def _append(self, events: Sequence[Event]) -> None:
        if self._writer and events:
            self._writer.append(*events)

    def _set(self, skills: Sequence[Skill]) -> None:
        """Takes over all skills there ever were, in order of insertion."""
        self._skills = {skill.id: skill for skill in skills}
        for skill in skills:
            self._next[skill.granularity] = max(self._next[skill.granularity], int(skill.id[1:]) + 1)

    def _put(self, skill: Skill) -> None:
        """Sets a skill that has changed; its pool is made anew if it comes or goes."""
        self._skills[skill.id] = skill
        pool = self._pools.get(skill.granularity)
        if pool and not pool.change(skill):
            del self._pools[skill.granularity]

    def _pool(self, granularity: Granularity) -> _Pool:
        if granularity not in self._pools:
            skills = self.skills(granularity)
            self._read(skills)
            new = [skill for skill in skills if skill.id not in self._keys]
            self._embed([text for skill in new for text in (skill.task_text, skill.observation)])
            self._keys.update((skill.id, self._key(skill)) for skill in new)
            keys = np.array([self._keys[skill.id] for skill in skills], dtype=np.float32)
            self._pools[granularity] = _Pool(skills, keys, self._retrieval.eta, self._worths)
        return self._pools[granularity]

    def _read(self, skills: Sequence[Skill]) -> None:
        """Looks at texts that came from a file. Raises `BankError` for the first that no bank would have taken."""
        for skill in skills:
            if skill.id in self._unread and (why := objection(skill.text)):
                raise BankError(
                    f"{self._from}: the text of skill {skill.id} is not one that a bank takes ({why}): the journal was "
                    "made by another program or version; `d2skill bank import` takes over what can be taken"
                )
        self._unread.difference_update(skill.id for skill in skills)

    def _worths(self, skills: Sequence[Skill]) -> ranking.Floats:
        """Returns what ranks and evicts skills, apart from the bonus."""
        if self._bank.worth == "utility":
            return np.array([skill.utility for skill in skills], dtype=np.float64)
        evidence = [self.evidence(skill.id) for skill in skills]
        signals = sum(one.signals for one in evidence)
        prior = math.fsum(one.total for one in evidence) / signals if signals else 0.0
        return np.array([one.posterior(prior).mean for one in evidence], dtype=np.float64)

    def _key(self, skill: Skill) -> Vectors:
        if skill.granularity == "task":
            return self.encode_task(skill.task_text)
        return self.encode_step(skill.task_text, skill.observation)

    def _embed(self, texts: Sequence[str]) -> None:
        """Puts the vectors of texts into the cache, in one batch; the same observations recur many times."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if not missing:
            return
        if len(self._vectors) + len(missing) > _CACHED_TEXTS:
            self._vectors = {text: self._vectors[text] for text in texts if text in self._vectors}
        self._vectors.update(zip(missing, self._embedder.embed(missing), strict=True))


def _credited(skill: Skill, utility: float, credits: int) -> Skill:
    """Returns a skill with other numbers; `dataclasses.replace` takes twice as long, and there are thousands."""
    return Skill(
        skill.id,
        skill.granularity,
        skill.text,
        skill.task_text,
        skill.observation,
        utility,
        skill.retrievals,
        credits,
        skill.created,
        skill.evidence,
        skill.evicted,
    )


def _require_embedder(path: Path, made_with: str, embedder: Embedder) -> None:
    if made_with != embedder.fingerprint:
        raise BankError(
            f"{path} was made with embedder {made_with}, not with {embedder.fingerprint}: set the embedder it was made "
            "with (embedder.kind, embedder.dimension), or start a new bank"
        )


def _skill(draft: Draft, iteration: int) -> Skill | str:
    """Returns what a draft says as a skill, without an id yet, or why it cannot be one."""
    text = clean(draft.text)
    if not (text.title and text.principle and text.when_to_apply):
        return "empty"
    if why := suspicion(text):
        return f"suspicious: {why}"
    return Skill(
        id="",
        granularity=draft.granularity,
        text=text,
        task_text=storable(draft.task_text),
        observation=storable(draft.observation) if draft.granularity == "step" else "",
        created=iteration,
        evidence=storable(draft.evidence),
    )


def _identity(skill: Skill) -> tuple[str | SkillText, ...]:
    return skill.text, skill.task_text, skill.observation
