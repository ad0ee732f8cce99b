"""The arms of an evaluation: what of a bank is shown, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from d2skill.bank import SkillBank
from d2skill.config import RetrievalConfig
from d2skill.errors import ConfigError
from d2skill.protocols import SkillSource
from d2skill.types import Arm, Granularity, Retrieved, Skill
from d2skill.utils.rng import generator

Shown = list[tuple[Retrieved, ...]]

ARMS = ("none", "bank", "shuffled", "task", "step", "top")
UNRETRIEVED = frozenset({"shuffled", "top"})
"""Arms that show skills which were not retrieved."""


def arm_names(names: str) -> tuple[str, ...]:
    """Returns the arms of a list such as bank,none, each once. Raises `ConfigError` for an unknown one and for none."""
    found = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if unknown := [name for name in found if name not in ARMS]:
        raise ConfigError(f'there is no arm "{unknown[0]}": --arms takes some of {",".join(ARMS)}')
    if not found:
        raise ConfigError(f"--arms names no arm: it takes some of {','.join(ARMS)}")
    return found


def group_of(arm: str) -> Arm:
    """Returns what the trajectories of an arm are: with skills, or without."""
    return "none" if arm == "none" else "skills"


def view_of(arm: str, bank: SkillBank, retrieval: RetrievalConfig, seed: int) -> SkillSource:
    """Returns what an arm shows of a bank, which must not change meanwhile.

    bank      what is retrieved; with none as well, where nobody asks
    task      of that the task skills only
    step      of that the step skills only
    shuffled  in place of each skill that is retrieved another one, always the same for a seed
    top       in place of what is retrieved the skills of highest utility, the same everywhere
    """
    views: dict[str, Callable[[], SkillSource]] = {
        "task": lambda: Only(bank, "task"),
        "step": lambda: Only(bank, "step"),
        "shuffled": lambda: Shuffled(bank, seed),
        "top": lambda: Top(bank, retrieval.k_task, retrieval.k_step),
    }
    return views[arm]() if arm in views else bank


class Only:
    """The skills of one granularity (see Retrieves)."""

    def __init__(self, bank: SkillSource, granularity: Granularity) -> None:
        self._bank = bank
        self._granularity = granularity

    def retrieve_task(self, task_texts: Sequence[str], *, trial: bool = False) -> Shown:
        """See SkillSource."""
        if self._granularity != "task":
            return [() for _ in task_texts]
        return self._bank.retrieve_task(task_texts, trial=trial)

    def retrieve_step(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> Shown:
        """See SkillSource."""
        if self._granularity != "step":
            return [() for _ in pairs]
        return self._bank.retrieve_step(pairs, trial=trial)


class Shuffled:
    """A placebo (see Retrieves): as many skills, where and when the bank shows some, but not those that belong there.

    Each active skill has another of its granularity in its place, which says something else; no two have the same, and
    which it is hangs on the seed. Where more than half of the skills say the same, some have none in their place.
    """

    def __init__(self, bank: SkillBank, seed: int) -> None:
        self._bank = bank
        self._instead = {
            **_others(bank.skills("task"), generator(seed, "shuffled", "task")),
            **_others(bank.skills("step"), generator(seed, "shuffled", "step")),
        }

    def retrieve_task(self, task_texts: Sequence[str], *, trial: bool = False) -> Shown:
        """See SkillSource."""
        return [self._exchange(found) for found in self._bank.retrieve_task(task_texts, trial=trial)]

    def retrieve_step(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> Shown:
        """See SkillSource."""
        return [self._exchange(found) for found in self._bank.retrieve_step(pairs, trial=trial)]

    def _exchange(self, found: tuple[Retrieved, ...]) -> tuple[Retrieved, ...]:
        return tuple(replace(one, skill=self._instead[one.skill.id]) for one in found if one.skill.id in self._instead)


class Top:
    """No retrieval (see Retrieves): always the active skills of highest utility, as many as are shown at most."""

    def __init__(self, bank: SkillBank, k_task: int, k_step: int) -> None:
        self._task, self._step = _best(bank.skills("task"), k_task), _best(bank.skills("step"), k_step)

    def retrieve_task(self, task_texts: Sequence[str], *, trial: bool = False) -> Shown:
        """See SkillSource."""
        return [self._task for _ in task_texts]

    def retrieve_step(self, pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> Shown:
        """See SkillSource."""
        return [self._step for _ in pairs]


def _best(skills: Sequence[Skill], k: int) -> tuple[Retrieved, ...]:
    """Returns the skills of highest utility, of equal ones the older."""
    best = sorted(skills, key=lambda skill: -skill.utility)[:k]
    return tuple(Retrieved(skill, 0.0, skill.utility) for skill in best)


def _others(skills: Sequence[Skill], rng: np.random.Generator) -> dict[str, Skill]:
    """Returns for each skill, by id, one that says something else.

    In a random order with equal texts side by side, it is the one that comes as many places later as the most frequent
    text has skills: no text reaches so far.
    """
    mixed = [skills[i] for i in rng.permutation(len(skills))]
    count = Counter(skill.text for skill in mixed)
    place = {text: at for at, text in enumerate(count)}
    ordered = sorted(mixed, key=lambda skill: place[skill.text])
    far = max(count.values(), default=0)
    pairs = zip(ordered, ordered[far:] + ordered[:far], strict=True)
    return {skill.id: other for skill, other in pairs if skill.text != other.text}
