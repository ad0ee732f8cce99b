"""Arms of an evaluation: the skills that each one shows, as views of one bank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from d2skill.bank import SkillBank
from d2skill.bank.consolidation import Advised
from d2skill.config import RetrievalConfig
from d2skill.errors import ConfigError
from d2skill.evaluation.consolidated_arms import BestSupported, Placebo
from d2skill.protocols import SkillSource
from d2skill.types import Arm, Retrieved, Skill
from d2skill.utils.arguments import items_of, text_of
from d2skill.utils.rng import generator

Retrievals = list[tuple[Retrieved, ...]]

ARMS = ("none", "bank", "shuffled", "task", "step", "top")
UNRETRIEVED = frozenset({"shuffled", "top"})
"""Arms that show skills which were not retrieved."""


def require_arms(names: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the arms of some names, or of a text with commas, each once.

    Raises `ConfigError` for an unknown name and for none.
    """
    listed = names.split(",") if isinstance(names, str) else items_of(names, "a list of arms")
    arms = tuple(text_of(name, "an arm").strip() for name in dict.fromkeys(listed))
    if unknown := [name for name in arms if name not in ARMS]:
        raise ConfigError(f'there is no arm "{unknown[0]}": --arms takes some of {",".join(ARMS)}')
    if not arms:
        raise ConfigError(f"--arms names no arm: it takes some of {','.join(ARMS)}")
    return arms


def half_of_arm(arm: str) -> Arm:
    """Returns the half that trajectories of an arm belong to: with skills, or without."""
    return "none" if arm == "none" else "skills"


def arm_view(arm: str, bank: SkillBank, retrieval: RetrievalConfig, seed: int) -> SkillSource:
    """Returns the skills that an arm shows, as a view of a bank, which must not change while it is used.

    Args:
        arm: One of `ARMS`: `bank` shows the retrieved skills, `task` and `step` those of one granularity, `shuffled` a
            placebo, another skill of the same granularity in place of each, and `top` those of highest utility, or of
            most support, in every prompt. `none` never retrieves.
        bank: The bank.
        retrieval: Settings with the number of skills that `top` shows.
        seed: Seed of the exchange in `shuffled`.
    """
    if bank.consolidated:
        return _consolidated_view(arm, bank, retrieval, seed)
    if arm == "task":
        return _ArmView(bank.retrieve_task, _nothing)
    if arm == "step":
        return _ArmView(_nothing, bank.retrieve_step)
    if arm == "shuffled":
        task = _replacements(bank.skills("task"), generator(seed, "shuffled", "task"))
        step = _replacements(bank.skills("step"), generator(seed, "shuffled", "step"))
        return _ArmView(_replacing(bank.retrieve_task, task), _replacing(bank.retrieve_step, step))
    if arm == "top":
        best_task = _highest_utility(bank.skills("task"), retrieval.k_task)
        best_step = _highest_utility(bank.skills("step"), retrieval.k_step)
        return _ArmView(
            lambda texts, **_: [best_task for _ in texts],
            lambda pairs, **_: [best_step for _ in pairs],
        )
    return bank


def _consolidated_view(arm: str, bank: SkillBank, retrieval: RetrievalConfig, seed: int) -> SkillSource:
    if arm in ("task", "step"):
        return _AdviceView(_one_granularity(bank.advise, arm))
    if arm == "shuffled":
        return _AdviceView(Placebo(bank, seed).advise)
    if arm == "top":
        return _AdviceView(BestSupported(bank, retrieval).advise)
    return bank


class _Advise(Protocol):
    """A function like `SkillSource.advise`."""

    def __call__(self, pairs: Sequence[tuple[str, str]], /, *, trial: bool = False) -> list[Advised]: ...


class _Retrieve(Protocol):
    """A function like the other two of `SkillSource`."""

    def __call__(self, queries: Sequence[Any], /, *, trial: bool = False) -> Retrievals: ...


def _nothing(queries: Sequence[Any], *, trial: bool = False) -> Retrievals:
    """Retrieves no skills."""
    return [() for _ in queries]


def _no_advice(pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> list[Advised]:
    """Gives no advice."""
    return [((), ()) for _ in pairs]


@dataclass(frozen=True, slots=True)
class _ArmView:
    """A `SkillSource` of the paper's skills, made of two functions."""

    retrieve_task: _Retrieve
    retrieve_step: _Retrieve
    advise: _Advise = _no_advice
    consolidated: bool = False


@dataclass(frozen=True, slots=True)
class _AdviceView:
    """A `SkillSource` of consolidated skills, made of one function."""

    advise: _Advise
    retrieve_task: _Retrieve = _nothing
    retrieve_step: _Retrieve = _nothing
    consolidated: bool = True


def _one_granularity(advise: _Advise, arm: str) -> _Advise:
    """Returns a function that gives advice of one granularity alone."""

    def advise_one(pairs: Sequence[tuple[str, str]], *, trial: bool = False) -> list[Advised]:
        advised = advise(pairs, trial=trial)
        return [(task, ()) if arm == "task" else ((), step) for task, step in advised]

    return advise_one


def _replacing(retrieve: _Retrieve, replacements: Mapping[str, Skill]) -> _Retrieve:
    """Returns a function that retrieves another skill in place of each, and none for a skill without replacement."""

    def retrieve_replaced(queries: Sequence[Any], *, trial: bool = False) -> Retrievals:
        return [
            tuple(replace(one, skill=replacements[one.skill.id]) for one in skills if one.skill.id in replacements)
            for skills in retrieve(queries, trial=trial)
        ]

    return retrieve_replaced


def _highest_utility(skills: Sequence[Skill], k: int) -> tuple[Retrieved, ...]:
    """Returns the k skills of highest utility; among equals the older comes first."""
    best = sorted(skills, key=lambda skill: -skill.utility)[:k]
    return tuple(Retrieved(skill, 0.0, skill.utility) for skill in best)


def _replacements(skills: Sequence[Skill], rng: np.random.Generator) -> dict[str, Skill]:
    """Returns for each skill, by id, another one with another text; no two skills get the same.

    The skills are put in a random order with equal texts side by side, and each gets the one that comes n places later,
    where n is the number of skills with the most frequent text: no run of equal texts is longer. If more than half of
    the skills have the same text, some get none.
    """
    mixed = [skills[i] for i in rng.permutation(len(skills))]
    count = Counter(skill.text for skill in mixed)
    place = {text: at for at, text in enumerate(count)}
    ordered = sorted(mixed, key=lambda skill: place[skill.text])
    longest = max(count.values(), default=0)
    pairs = zip(ordered, ordered[longest:] + ordered[:longest], strict=True)
    return {skill.id: other for skill, other in pairs if skill.text != other.text}
