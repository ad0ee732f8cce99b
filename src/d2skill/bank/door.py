"""Checks of what callers hand to a bank: each mistake is a `BankError` of one sentence, before anything changes."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from d2skill.bank.draft import Draft
from d2skill.bank.journal import Status
from d2skill.errors import BankError
from d2skill.types import Granularity, SkillText
from d2skill.utils.text import short

_GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
_STATUSES: tuple[Status, ...] = get_args(Status)
_MOST_COUNTED = 1_000_000_000
_LEAST, _MOST = -1.0 - 1e-9, 1.0 + 1e-9  # signals are differences of success rates, which rounding may move


def path_of(path: Path | str) -> Path:
    """Returns a path that may be given as a string."""
    if not isinstance(path, (str, os.PathLike)):
        raise BankError(f"a path is a string or a Path, not {short(path)}")
    return Path(path)


def granularity_of(granularity: Granularity | None) -> Granularity | None:
    """Returns a granularity, or None for both."""
    if granularity is not None and granularity not in _GRANULARITIES:
        raise BankError(f"{short(granularity)} is no granularity: task or step")
    return granularity


def texts_of(texts: str | Sequence[str]) -> list[str]:
    """Returns a list of texts, also of one alone."""
    found = [texts] if isinstance(texts, str) else list(_iterated(texts, "a text or a list of texts"))
    return [text_of(text, "a text") for text in found]


def pairs_of(pairs: Any) -> list[tuple[str, str]]:
    """Returns a list of pairs of a task text and an observation, also of one pair alone."""
    wanted = "a pair of a task text and an observation, or a list of such pairs"
    found = [pairs] if is_pair(pairs) else list(_iterated(pairs, wanted))
    if strange := [pair for pair in found if not is_pair(pair)]:
        raise BankError(f"{short(strange[0])} is not {wanted}")
    return [tuple(pair) for pair in found]


def is_pair(value: Any) -> bool:
    """Returns True for a sequence of two texts."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(one, str) for one in value)


def drafts_of(drafts: Draft | Sequence[Draft]) -> list[Draft]:
    """Returns a list of drafts, also of one alone."""
    found = [drafts] if isinstance(drafts, Draft) else list(_iterated(drafts, "a Draft or a list of drafts"))
    for draft in found:
        if not isinstance(draft, Draft):
            raise BankError(f"{short(draft)} is no Draft: d2skill.Draft(granularity, SkillText(...), task_text)")
        if granularity_of(draft.granularity) is None:
            raise BankError("a draft has a granularity: task or step")
        if not isinstance(draft.text, SkillText):
            raise BankError(
                f"the text of a draft is a SkillText(title, principle, when_to_apply), not {short(draft.text)}"
            )
        for name in ("title", "principle", "when_to_apply"):
            text_of(getattr(draft.text, name), f"the {name} of a draft")
        for name in ("task_text", "observation", "source_task"):
            text_of(getattr(draft, name), f"the {name} of a draft")
    return found


def ids_of(ids: str | Iterable[str]) -> list[str]:
    """Returns a list of ids of skills, also of one alone, without repetitions."""
    found = [ids] if isinstance(ids, str) else list(_iterated(ids, "an id of a skill or a list of ids"))
    return list(dict.fromkeys(text_of(skill_id, "an id of a skill") for skill_id in found))


def counts_of(counts: Mapping[str, int] | Iterable[str]) -> dict[str, int]:
    """Returns how often each skill was shown, also from a list of ids that may repeat."""
    found: dict[str, int] = {}
    if not isinstance(counts, Mapping):
        ids = [counts] if isinstance(counts, str) else _iterated(counts, "a dict of counts by id, or a list of ids")
        for skill_id in ids:
            found[text_of(skill_id, "an id of a skill")] = found.get(skill_id, 0) + 1
        return found
    for skill_id, times in counts.items():
        try:
            found[text_of(skill_id, "an id of a skill")] = operator.index(times)
        except TypeError:
            raise BankError(f"skill {skill_id}: a count is a whole number, not {short(times)}") from None
        if not 0 <= found[skill_id] < _MOST_COUNTED:
            raise BankError(f"skill {skill_id}: a count is 0 or more and below a billion, not {short(times)}")
    return found


def signals_of(signals: Mapping[str, float | Sequence[float]]) -> dict[str, list[float]]:
    """Returns a list of signals for each skill, also from one number alone."""
    if not isinstance(signals, Mapping):
        raise BankError(f'signals are a dict by id of a skill, such as {{"t1": [0.5]}}, not {short(signals)}')
    found: dict[str, list[float]] = {}
    for skill_id, own in signals.items():
        text_of(skill_id, "an id of a skill")
        values = own if isinstance(own, Iterable) and not isinstance(own, str) else [own]
        try:
            found[skill_id] = [float(value) for value in values]
        except (TypeError, ValueError, OverflowError):
            raise BankError(f"skill {skill_id}: a signal is a number, not {short(own)}") from None
        for value in found[skill_id]:
            if not (math.isfinite(value) and _LEAST <= value <= _MOST):
                raise BankError(
                    f"skill {skill_id}: signal {value:g} is not between -1 and 1: a signal is an outcome from 0 to 1, "
                    "less the mean outcome without skills"
                )
    return found


def sources_of(
    sources: Mapping[str, Sequence[str]] | None, signals: Mapping[str, Sequence[float]]
) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Returns the sources of signals, each once, and for each skill their numbers, one for each of its signals."""
    if sources is None:
        return (), {}
    if not isinstance(sources, Mapping):
        raise BankError(f"sources are a dict by id of a skill, not {short(sources)}")
    numbers: dict[str, int] = {}
    by: dict[str, list[int]] = {}
    for skill_id, own in sources.items():
        names = [text_of(name, "a source") for name in _iterated(own, "a list of sources")]
        if len(names) != len(signals.get(skill_id, ())):
            raise BankError(f"skill {skill_id}: there is one source for each of its signals, in a list")
        by[skill_id] = [numbers.setdefault(name, len(numbers)) for name in names]
    return tuple(numbers), by


def origin_of(origin: Mapping[str, str] | None) -> dict[str, str]:
    """Returns the origin of an event, texts by name."""
    if origin is None:
        return {}
    if not isinstance(origin, Mapping):
        raise BankError(f"an origin is a dict of texts, not {short(origin)}")
    return {text_of(name, "a name of an origin"): text_of(text, "an origin") for name, text in origin.items()}


def status_of(status: Status | None) -> Status | None:
    """Returns a status of skills, or None for any."""
    if status is not None and status not in _STATUSES:
        raise BankError(f"{short(status)} is no status of a skill: {', '.join(_STATUSES)}")
    return status


def _iterated(values: Any, wanted: str) -> Iterable[Any]:
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
        raise BankError(f"{short(values)} is not {wanted}")
    return values


def text_of(value: Any, name: str) -> str:
    """Returns a text; `name` says in an error of which."""
    if not isinstance(value, str):
        raise BankError(f"{name} is a string, not {short(value)}")
    return value
