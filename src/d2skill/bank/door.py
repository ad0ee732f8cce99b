"""Checks of what callers hand to a bank: each mistake is a `BankError` of one sentence, before anything changes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, get_args

from d2skill.bank.draft import Draft
from d2skill.bank.journal import Status
from d2skill.config import BankConfig, CreditConfig, EmbedderConfig, RetrievalConfig
from d2skill.config.parts import EMBEDDER, require_protocol
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.protocols import Embedder
from d2skill.types import Granularity, Group, SkillText, Task, Trajectory
from d2skill.utils import arguments
from d2skill.utils.text import short

_GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
_STATUSES: tuple[Status, ...] = get_args(Status)
_MOST_COUNTED = 1_000_000_000
_LEAST, _MOST = -1.0 - 1e-9, 1.0 + 1e-9  # signals are differences of success rates, which rounding may move


def path_of(path: Path | str) -> Path:
    """Returns a path, which may be given as a string, that a later change of the current folder does not move."""
    return arguments.path_of(path, "a path", BankError).absolute()


def only_read(path: Path) -> str:
    """Returns why a bank that was opened to read takes no changes."""
    return (
        f"the bank of {path} was opened to read, and a change would be lost: open it to write by "
        "SkillBank.open(..., create=True)"
    )


def point_of(at: SupportsIndex | None, event: SupportsIndex | None, create: bool) -> tuple[int | None, int | None]:
    """Returns the iteration and the event of which a bank is wanted, None for the present state."""
    if create and (at is not None or event is not None):
        raise BankError("a past state of a bank cannot be written: leave out create, or at and event")
    return number_of(at, "an iteration"), number_of(event, "an event")


def require_reached(at: int | None, iteration: int, path: Path) -> None:
    """Raises `BankError` for an iteration that a bank has not reached."""
    if at is not None and not 0 <= at <= iteration:
        raise BankError(f"the bank of {path} has reached iteration {iteration}: there is no iteration {at}")


def number_of(number: SupportsIndex | None, name: str) -> int | None:
    """Returns the number of an event or an iteration, or None for none."""
    return None if number is None else arguments.whole_of(number, name, error=BankError)


def settings_of(
    bank: BankConfig | None, retrieval: RetrievalConfig | None, credit: CreditConfig | None
) -> tuple[BankConfig, RetrievalConfig, CreditConfig]:
    """Returns the settings of a bank, those that are None by default."""
    made: list[Any] = []
    for given, kind in ((bank, BankConfig), (retrieval, RetrievalConfig), (credit, CreditConfig)):
        if given is not None and not isinstance(given, kind):
            raise BankError(f"{short(given)} is no {kind.__name__}: make one by d2skill.config.{kind.__name__}(...)")
        made.append(given or kind())
    return made[0], made[1], made[2]


def embedder_of(embedder: Embedder | None) -> Embedder:
    """Returns an embedder, the default one for None."""
    if embedder is None:
        return make_embedder(EmbedderConfig())
    require_protocol(EMBEDDER, short(embedder), embedder)
    return embedder


def require_embedder(path: Path, made_with: str, embedder: Embedder) -> None:
    """Raises `BankError` for a journal that was made with another embedder."""
    if made_with != embedder.fingerprint:
        raise BankError(
            f"{path} was made with embedder {made_with}, not with {embedder.fingerprint}: set the embedder it was made "
            "with (embedder.kind, embedder.model, embedder.dimension), make one for the new embedder by "
            "`d2skill bank reembed`, or start a new bank"
        )


def groups_of(groups: Group | Sequence[Group]) -> list[Group]:
    """Returns a list of groups, also of one alone."""
    wanted = "a list of groups, d2skill.Group(Task(...), (Trajectory.of(...), ...))"
    found = [groups] if isinstance(groups, Group) else _iterated(groups, wanted)
    for group in found:
        parts = (group.task, *_iterated(group.trajectories, wanted)) if isinstance(group, Group) else ()
        if not parts or [type(part) for part in parts] != [Task, *[Trajectory] * (len(parts) - 1)]:
            raise BankError(f"{short(group)} is not one of {wanted}")
    return found


def effects_of(effects: Mapping[str, Sequence[tuple[float, bool]]]) -> dict[str, list[tuple[float, bool]]]:
    """Returns the effects of leaving skills out of prompts, by id."""
    wanted = 'a dict of (log-probability, changed) pairs by id of a skill, such as {"t1": [(0.5, True)]}'
    if not isinstance(effects, Mapping):
        raise BankError(f"{short(effects)} is not {wanted}")
    found: dict[str, list[tuple[float, bool]]] = {}
    for skill_id, own in effects.items():
        pairs = [tuple(_iterated(pair, wanted)) for pair in _iterated(own, wanted)]
        if strange := [pair for pair in pairs if len(pair) != 2]:
            raise BankError(f"{short(strange[0])} of skill {skill_id} is not in {wanted}")
        name = f"an effect of skill {text_of(skill_id, 'an id of a skill')}"
        found[skill_id] = [(arguments.number_of(gain, name, error=BankError), bool(changed)) for gain, changed in pairs]
    return found


def similarity_of(similarity: float | None, default: float) -> float:
    """Returns the least similarity of near-duplicates."""
    return default if similarity is None else arguments.number_of(similarity, "similarity", 0, 1, BankError)


def seconds_of(seconds: float) -> float:
    """Returns the seconds to wait."""
    return arguments.number_of(seconds, "wait", 0, error=BankError)


def granularity_of(granularity: Granularity | None) -> Granularity | None:
    """Returns a granularity, or None for both."""
    if granularity is not None and granularity not in _GRANULARITIES:
        raise BankError(f"{short(granularity)} is no granularity: task or step")
    return granularity


def texts_of(texts: str | Sequence[str]) -> list[str]:
    """Returns a list of texts, also of one alone."""
    found = [texts] if isinstance(texts, str) else _iterated(texts, "a text or a list of texts")
    return [text_of(text, "a text") for text in found]


def pairs_of(pairs: Any) -> list[tuple[str, str]]:
    """Returns a list of pairs of a task text and an observation, also of one pair alone."""
    wanted = "a pair of a task text and an observation, or a list of such pairs"
    found = [pairs] if is_pair(pairs) else _iterated(pairs, wanted)
    if strange := [pair for pair in found if not is_pair(pair)]:
        raise BankError(f"{short(strange[0])} is not {wanted}")
    return [tuple(pair) for pair in found]


def is_pair(value: Any) -> bool:
    """Returns True for a sequence of two texts."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(one, str) for one in value)


def drafts_of(drafts: Draft | Sequence[Draft]) -> list[Draft]:
    """Returns a list of drafts, also of one alone."""
    found = [drafts] if isinstance(drafts, Draft) else _iterated(drafts, "a Draft or a list of drafts")
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
    found = [ids] if isinstance(ids, str) else _iterated(ids, "an id of a skill or a list of ids")
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


def _iterated(values: Any, wanted: str) -> list[Any]:
    return arguments.items_of(values, wanted, BankError)


def text_of(value: Any, name: str) -> str:
    """Returns a text; `name` says in an error of which."""
    return arguments.text_of(value, name, BankError)
