"""Where a skill was shown among saved trajectories, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from d2skill.runs.trajectories import Saved


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
