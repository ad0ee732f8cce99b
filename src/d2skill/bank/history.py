"""What a bank's journal tells: the story of a skill, what changed between two banks, a bank in numbers, and searches.

Pure functions of journals, skills and saved trajectories; the commands only put into words what they return.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np

from d2skill.bank.journal import (
    GONE,
    BankState,
    Change,
    Credit,
    Event,
    Insert,
    Journal,
    Mark,
    Note,
    Retrieve,
    Rewind,
    file,
)
from d2skill.bank.journal.view import View
from d2skill.bank.ranking import credited_utility
from d2skill.errors import BankError
from d2skill.protocols import Embedder
from d2skill.trajectories import Saved
from d2skill.types import Granularity, Skill


@dataclass(frozen=True, slots=True)
class Written:
    """The skill entered the bank, as it is here.

    `failure` and `success` are the members of its task's group that it was written from.
    """

    skill: Skill
    origin: Mapping[str, str]
    failure: int | None = None
    success: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """The skill was put before the policy so many times."""

    times: int


@dataclass(frozen=True, slots=True)
class Credited:
    """The skill's utility was moved by signals (Eq. 3)."""

    signals: tuple[float, ...]
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Moved:
    """The skill got another status."""

    status: str
    reason: str
    into: str


@dataclass(frozen=True, slots=True)
class Said:
    """Somebody noted something about the skill."""

    text: str


@dataclass(frozen=True, slots=True)
class Undid:
    """What happened after event `to` was undone, or counts again if that was itself undone."""

    to: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What event `number` was to one skill; `undone` says that it no longer counts."""

    number: int
    iteration: int
    what: Written | Shown | Credited | Moved | Said | Undid
    undone: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """All that happened to a skill, oldest first, and the skill as it is after that."""

    skill: Skill
    entries: tuple[Entry, ...]

    def utilities(self) -> list[tuple[int, float]]:
        """Returns the utility after each credit that counts, with its iteration."""
        return [(e.iteration, e.what.after) for e in self.entries if isinstance(e.what, Credited) and not e.undone]

    def shown(self) -> list[int]:
        """Returns the iterations in which it was put before the policy, as far as they count, in order."""
        return sorted({e.iteration for e in self.entries if isinstance(e.what, Shown) and not e.undone})

    def signals(self) -> list[float]:
        """Returns all signals that count, in order."""
        credited = [e.what.signals for e in self.entries if isinstance(e.what, Credited) and not e.undone]
        return [signal for signals in credited for signal in signals]


def story(journal: Journal, skill_id: str, *, at: int | None = None, rewound: bool = False) -> Story:
    """Returns what happened to a skill, up to iteration `at`; `rewound` adds what a rewind undid.

    Raises `BankError` if it is not in the bank, and with `rewound` if it never was.
    """
    end = journal.head().seq
    if not rewound:
        states, entries = _follow(journal.events(seq=end, at=at), skill_id)
    else:
        live = {number for number, _ in journal.events(seq=end)}
        past = ((n, event) for n, event in journal.events(rewound=True) if n <= end)
        states, entries = _follow(past, skill_id)
        entries = [replace(e, undone=not (isinstance(e.what, Undid) or e.number in live)) for e in entries]
    skill = next((skill for _, skill in reversed(states) if skill), None)
    if skill is None:
        way_out = (
            "" if rewound else ": `d2skill bank list --evicted` lists all, --rewound finds what was undone as well"
        )
        raise BankError(f"there is no skill {skill_id!r} in {journal.path}{way_out}")
    return Story(skill, tuple(entries))


def _follow(events: Iterable[tuple[int, Event]], skill_id: str) -> tuple[list[tuple[int, Skill | None]], list[Entry]]:
    """Returns the states of a skill after each event that is about it, and these events."""
    states: list[tuple[int, Skill | None]] = [(0, None)]
    entries: list[Entry] = []
    for number, event in events:
        if isinstance(event, Rewind):
            if any(entry.number > event.to for entry in entries):
                states.append((number, next(skill for n, skill in reversed(states) if n <= event.to)))
                entries.append(Entry(number, event.iteration, Undid(event.to)))
            continue
        if isinstance(event, Insert):
            skill = next((skill for skill in event.skills if skill.id == skill_id), None)
            if skill:
                failure, success = (_member(event.origin, key, skill) for key in ("trajectories", "successes"))
                states.append((number, skill))
                entries.append(Entry(number, event.iteration, Written(skill, event.origin, failure, success)))
            continue
        skill = states[-1][1]
        if skill is None:
            continue
        what: Shown | Credited | Moved | Said | None = None
        match event:
            case Retrieve(counts) if skill_id in counts:
                what, skill = Shown(counts[skill_id]), replace(skill, retrievals=skill.retrievals + counts[skill_id])
            case Credit(signals, beta) if own := signals.get(skill_id):
                utility = credited_utility(skill.utility, own, beta[skill.granularity])
                what = Credited(tuple(own), skill.utility, utility)
                skill = replace(skill, utility=utility, credits=skill.credits + len(own))
            case Change(status, ids, iteration, reason, into) if skill_id in ids:
                what = Moved(status, reason, into)
                skill = replace(skill, evicted=iteration if status in GONE else None)
            case Note(noted, text) if noted == skill_id:
                what = Said(text)
        if what:
            states.append((number, skill))
            entries.append(Entry(number, event.iteration, what))
    return states, entries


def _member(origin: Mapping[str, str], key: str, skill: Skill) -> int | None:
    """Returns the member of the skill's task that an origin names, as in "train/0012#3"."""
    found = re.search(rf"(?:^| ){re.escape(skill.evidence)}#(\d+)(?= |$)", origin.get(key, ""))
    return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Left:
    """A skill that was active before and is not any more, and why as far as it is known."""

    skill: Skill
    reason: str


@dataclass(frozen=True, slots=True)
class Shift:
    """A skill that was and is active, before and after."""

    before: Skill
    after: Skill

    @property
    def by(self) -> float:
        """How far the utility moved."""
        return self.after.utility - self.before.utility

    @property
    def credits(self) -> int:
        """Number of signals between."""
        return self.after.credits - self.before.credits


@dataclass(frozen=True, slots=True)
class Difference:
    """What is another in the second of two banks.

    `came` are in order of insertion, `moved` by how far the utility moved. `passed` counts the skills that came and
    left between.
    """

    came: tuple[Skill, ...]
    left: tuple[Left, ...]
    moved: tuple[Shift, ...]
    same: int
    passed: int


def compare(
    before: Sequence[Skill], after: Sequence[Skill], marks: Mapping[str, Mark] | None = None, *, by_id: bool = True
) -> Difference:
    """Compares the active skills of two banks, with those that have left among both where they are known.

    Skills are the same if they have the same id, or for banks of different runs the same text and key. `marks` are
    those of the second bank.
    """

    def same(skill: Skill) -> object:
        return skill.id if by_id else (skill.granularity, skill.text, skill.task_text, skill.observation)

    then = {same(skill): skill for skill in before if skill.evicted is None}
    now = {same(skill): skill for skill in after if skill.evicted is None}
    ever = {same(skill) for skill in before}
    gone = {same(skill): skill for skill in after if skill.evicted is not None}
    left = []
    for key, skill in then.items():
        if key not in now:
            last = gone.get(key)
            mark = (marks or {}).get(last.id) if last else None
            left.append(Left(last or skill, told(mark, last) if last else ""))
    shifts = [Shift(skill, now[key]) for key, skill in then.items() if key in now]
    moved = sorted((shift for shift in shifts if shift.by), key=lambda shift: -abs(shift.by))
    return Difference(
        came=tuple(skill for key, skill in now.items() if key not in then),
        left=tuple(left),
        moved=tuple(moved),
        same=len(shifts) - len(moved),
        passed=sum(key not in ever for key in gone.keys() - now.keys()) if by_id else 0,
    )


def told(mark: Mark | None, skill: Skill) -> str:
    """Returns in words why and when a skill left, "" for one that is active."""
    if mark is None:
        return "" if skill.evicted is None else f"evicted in iteration {skill.evicted}"
    into = f" into {mark.into}" if mark.into else ""
    reason = f": {mark.reason}" if mark.reason else ""
    return f"{mark.status}{into} in iteration {mark.iteration}{reason}"


Quantiles = tuple[float, float, float, float, float]
"""Lowest, lower quartile, median, upper quartile, highest."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """One pool in numbers: how many skills have which status, and quantiles of the active ones."""

    statuses: Mapping[str, int] = field(default_factory=dict)
    utility: Quantiles | None = None
    credits: Quantiles | None = None
    retrievals: Quantiles | None = None
    age: Quantiles | None = None
    above: int = 0
    below: int = 0
    never_shown: int = 0
    never_credited: int = 0

    @property
    def active(self) -> int:
        """Number of active skills."""
        return self.statuses.get("active", 0)


@dataclass(frozen=True, slots=True)
class Statistics:
    """A bank in numbers; `evidence` are the tasks that most of its active skills were written from."""

    pools: Mapping[Granularity, PoolStatistics]
    evidence: tuple[tuple[str, int], ...]
    tasks: int


def statistics(state: BankState, iteration: int, *, tasks: int = 5) -> Statistics:
    """Returns a bank in numbers, as it is after an iteration."""
    skills = state.skills()
    evidence = Counter(skill.evidence for skill in skills if skill.evicted is None and skill.evidence)
    pools: dict[Granularity, PoolStatistics] = {
        kind: _pool([skill for skill in skills if skill.granularity == kind], state.marks, iteration)
        for kind in ("task", "step")
    }
    return Statistics(pools, tuple(evidence.most_common(tasks)), len(evidence))


def _pool(skills: Sequence[Skill], marks: Mapping[str, Mark], iteration: int) -> PoolStatistics:
    active = [skill for skill in skills if skill.evicted is None]
    statuses: Counter[str] = Counter(marks[skill.id].status if skill.id in marks else "active" for skill in skills)
    if not active:
        return PoolStatistics(statuses)
    return PoolStatistics(
        statuses=statuses,
        utility=_quantiles([skill.utility for skill in active]),
        credits=_quantiles([skill.credits for skill in active]),
        retrievals=_quantiles([skill.retrievals for skill in active]),
        age=_quantiles([iteration - skill.created for skill in active]),
        above=sum(skill.utility > 0 for skill in active),
        below=sum(skill.utility < 0 for skill in active),
        never_shown=sum(not skill.retrievals for skill in active),
        never_credited=sum(not skill.credits for skill in active),
    )


def _quantiles(values: Sequence[float]) -> Quantiles:
    low, lower, median, upper, high = np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0)).tolist()
    return low, lower, median, upper, high


def by_words(skills: Sequence[Skill], query: str) -> list[tuple[Skill, int]]:
    """Returns the skills that have all words of a query, with the number of hits: most first, then highest utility.

    A word hits where a word of text or key begins with it, whatever its case.
    """
    wanted = list(dict.fromkeys(re.findall(r"\w+", query.casefold())))
    found = []
    for skill in skills:
        text = skill.text
        parts = (text.title, text.principle, text.when_to_apply, skill.task_text, skill.observation)
        words = re.findall(r"\w+", " ".join(parts).casefold())
        hits = [sum(word.startswith(one) for word in words) for one in wanted]
        if hits and all(hits):
            found.append((skill, sum(hits)))
    return sorted(found, key=lambda one: (-one[1], -one[0].utility))


def by_meaning(skills: Sequence[Skill], query: str, embedder: Embedder) -> list[tuple[Skill, float]]:
    """Returns all skills with the cosine of a query and their text or task, whichever is nearer: nearest first."""
    if not skills:
        return []
    texts = [" ".join((s.text.title, s.text.principle, s.text.when_to_apply)) for s in skills]
    vectors = embedder.embed([query, *texts, *(skill.task_text for skill in skills)])
    cosines = (vectors[1:] @ vectors[0]).reshape(2, len(skills)).max(axis=0)
    order = np.argsort(-cosines, kind="stable")
    return [(skills[row], float(cosines[row])) for row in order]


@dataclass(frozen=True, slots=True)
class Use:
    """Where a skill was shown among saved trajectories, by number from 1, and how the same tasks went without skills.

    `baseline` is won and played, of the trajectories without skills of the same tasks.
    """

    won: tuple[int, ...]
    lost: tuple[int, ...]
    baseline: tuple[int, int]


def use(saved: Sequence[Saved], skill_id: str) -> Use:
    """Returns where a skill was shown, and what came of it."""
    shown = [n for n, one in enumerate(saved, start=1) if any(skill_id in turn.skills for turn in one.turns)]
    tasks = {saved[n - 1].task.id for n in shown}
    without = [one.success for one in saved if one.arm == "none" and one.task.id in tasks]
    return Use(
        won=tuple(n for n in shown if saved[n - 1].success),
        lost=tuple(n for n in shown if not saved[n - 1].success),
        baseline=(sum(without), len(without)),
    )


@dataclass(frozen=True, slots=True)
class Episode:
    """A training episode: which iteration, which task, which member of its group."""

    iteration: int
    task: str
    member: int


@dataclass(frozen=True, slots=True)
class Training:
    """The training episodes in which a skill was shown, latest first, and how their tasks went without skills.

    `baseline` is won and played, of the episodes without skills of the same tasks in the same iterations.
    """

    won: tuple[Episode, ...]
    lost: tuple[Episode, ...]
    baseline: tuple[int, int]


def training(played: Iterable[tuple[int, Sequence[Saved]]], skill_id: str) -> Training:
    """Returns where a skill was shown in training, and what came of it, of iterations and their trajectories."""
    won: list[Episode] = []
    lost: list[Episode] = []
    wins = without = 0
    for iteration, saved in played:
        found = use(saved, skill_id)
        for episodes, numbers in ((won, found.won), (lost, found.lost)):
            episodes += [Episode(iteration, saved[n - 1].task.id, saved[n - 1].index) for n in numbers]
        wins, without = wins + found.baseline[0], without + found.baseline[1]
    for episodes in (won, lost):
        episodes.sort(key=lambda one: -one.iteration)
    return Training(tuple(won), tuple(lost), (wins, without))


def undone(journal: Journal, to: int) -> tuple[int, int]:
    """Returns how many events would no longer count if the journal went back to event `to`, and how many again.

    Raises `BankError` if there is no such event.
    """
    after = {number for number, _ in journal.events(seq=to)}
    before = {number for number, _ in journal.events()}
    return len(before - after), len(after - before)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A journal as a file: its events, those of them that do not count for a rewind, and its size."""

    events: int
    undone: int
    rewinds: int
    snapshots: int
    bytes: int


def recorded(journal: Journal) -> Recorded:
    """Returns what a journal consists of."""
    end = journal.head().seq
    counted = sum(1 for _ in journal.events(seq=end))
    rewinds = sum(isinstance(event, Rewind) for number, event in journal.events(rewound=True) if number <= end)
    with file.explained(journal.path), closing(file.connect_to_read(journal.path)) as connection:
        snapshots = len(View(journal.path, connection).snapshots(BankState.name))
    size = sum(path.stat().st_size for path in (journal.path, file.beside(journal.path, "-wal")) if path.exists())
    return Recorded(end, end - counted - rewinds, rewinds, snapshots, size)
