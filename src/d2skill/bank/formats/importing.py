"""Import of a bank's contents into a new journal, through the checks of `SkillBank.insert`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from d2skill.bank import Draft, SkillBank
from d2skill.bank.formats.contents import BankContents
from d2skill.bank.journal import GONE, Insert, JournalWriter, Mark, Note, Repeat, from_records
from d2skill.bank.safety import LIMITS
from d2skill.config import BankConfig, Config, CreditConfig, RetrievalConfig
from d2skill.embedders import make_embedder
from d2skill.protocols import Embedder
from d2skill.types import Skill, SkillText
from d2skill.utils.text import storable

_LONGEST_NOTE = 100_000
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s)|[。！？]")


@dataclass(frozen=True, slots=True)
class Imported:
    """The embedder of a new bank, the number of skills refused for each reason, and of those with more text beside."""

    embedder: str
    refused: Mapping[str, int]
    shortened: int


def import_bank(
    contents: BankContents,
    out: Path,
    config: Config | None = None,
    origin: str = "",
    suspicion: Literal["off", "flag", "hold"] = "hold",
) -> Imported:
    """Creates a journal with skills as a bank takes them: texts cleaned, duplicates and empty skills left out.

    Ids, counts, evidence, worths, statuses and notes are kept. A text that is too long ends with a whole sentence; a
    note has it in full, as the rest of a skill's file.

    Args:
        contents: Skills of any format.
        out: File of the new journal.
        config: Settings of the new bank, of which those of embedder and duplicates matter; without it, the defaults.
        origin: Where the skills are from, for the record.
        suspicion: What becomes of a skill that does not look like advice, in place of bank.suspicion.
    """
    parts = _parts(config, suspicion)
    embedder = parts[0]
    contents, more = _shortened(contents)
    skills, marks, refused = _accepted(contents, lambda: SkillBank(*parts))
    ids, state = {skill.id for skill in skills}, contents.state
    inserts = [event for event in (() if state is None else state.events(0)) if isinstance(event, Insert)]
    worth = {id: own for event in inserts for id, own in event.worth.items() if id in ids}
    tasks = [task for event in inserts for task in event.tasks]
    tallies = {id: tally for id, tally in contents.tallies.items() if id in ids}
    from_records(out, embedder.fingerprint, skills, worth, marks, tasks, origin, tallies)
    with JournalWriter(out) as writer:
        iteration = writer.head().iteration
        writer.append(*(Note(id, text, iteration) for id, text in more.items() if id in ids))
        if state is not None:
            repeats = {id: sources for id, sources in state.repeats.items() if id in ids}
            notes = ((id, text) for id, texts in state.notes.items() if id in ids for text in texts)
            writer.append(
                *([Repeat(repeats, iteration)] if repeats else []), *(Note(id, text, iteration) for id, text in notes)
            )
    return Imported(embedder.fingerprint, dict(refused), len(more))


def add_to_bank(
    contents: BankContents,
    out: Path,
    config: Config | None = None,
    origin: str = "",
    suspicion: Literal["off", "flag", "hold"] = "hold",
) -> Imported:
    """Adds the active skills of a bank to another one, as new skills: under new ids, without counts and evidence.

    Args:
        contents: Skills of any format.
        out: Journal of the bank.
        config: Settings of that bank; without it, the defaults.
        origin: Where the skills are from, for the record.
        suspicion: What becomes of a skill that does not look like advice, in place of bank.suspicion.
    """
    parts = _parts(config, suspicion)
    contents, more = _shortened(contents)
    skills = contents.select()
    drafts = [Draft(one.granularity, one.text, one.task_text, one.observation, one.source_task) for one in skills]
    with SkillBank.open(out, *parts, create=True) as bank:
        insertions = bank.insert(drafts, origin={"from": origin})
    pairs = [(one, made.skill) for one, made in zip(skills, insertions, strict=True)]
    refused = Counter(re.split(r"\W", made.reason)[0] for made in insertions if made.skill is None)
    with JournalWriter(out) as writer:
        iteration = writer.head().iteration
        writer.append(*(Note(new.id, more[one.id], iteration) for one, new in pairs if new and one.id in more))
    return Imported(parts[0].fingerprint, dict(refused), len(more))


def _parts(
    config: Config | None, suspicion: Literal["off", "flag", "hold"]
) -> tuple[Embedder, BankConfig, RetrievalConfig, CreditConfig]:
    """Returns the embedder and the settings of a bank, with its suspicion in place of bank.suspicion."""
    config = config or Config()
    settings = config.bank.model_copy(update={"suspicion": suspicion})
    return make_embedder(config.embedder), settings, config.retrieval, config.credit


def _shortened(contents: BankContents) -> tuple[BankContents, dict[str, str]]:
    """Returns contents with texts that fit a bank, and by id all that a skill says beyond them."""
    skills: list[Skill] = []
    more: dict[str, str] = {}
    for skill in contents.skills:
        fields = {name: getattr(skill.text, name) for name in LIMITS}
        cut = {name: whole_sentences(text, LIMITS[name]) for name, text in fields.items()}
        beyond = [contents.rest.get(skill.id, ""), *(text for name, text in fields.items() if cut[name] != text)]
        if told := "\n\n".join(filter(None, beyond)):
            more[skill.id] = f"In full: {storable(told[:_LONGEST_NOTE])}"
        skills.append(replace(skill, text=SkillText(**cut)))
    return replace(contents, skills=tuple(skills)), more


def whole_sentences(text: str, limit: int) -> str:
    """Returns a text with the whole sentences that fit a limit; a first one that is longer is cut at a word."""
    if len(" ".join(text.split())) <= limit:
        return text
    text = " ".join(text.split())
    ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, limit)]
    return text[: ends[-1]].rstrip() if ends else f"{text[: limit - 3].rpartition(' ')[0] or text[: limit - 3]}..."


def _accepted(
    contents: BankContents, new_bank: Callable[[], SkillBank]
) -> tuple[list[Skill], dict[str, Mark], Counter[str]]:
    """Returns skills as a bank takes them, the marks of those that are not active, and the reasons of refusals.

    Skills are compared with each other, active ones first; but one that has left may say the same as another, and of
    those with evidence, which are alternatives of each other, only the very same are duplicates.
    """
    bank = new_bank()
    accepted: dict[str, Skill] = {}
    marks: dict[str, Mark] = {}
    refused: Counter[str] = Counter()
    known: set[tuple[SkillText, str, str]] = set()
    for skill in sorted(contents.skills, key=lambda skill: contents.status(skill) != "active"):
        draft = Draft(skill.granularity, skill.text, skill.task_text, skill.observation, skill.source_task)
        gone, counted = contents.status(skill) in GONE, skill.id in contents.tallies
        (insertion,) = (new_bank() if gone or counted else bank).insert([draft])
        if (new := insertion.skill) is None:
            refused[re.split(r"\W", insertion.reason)[0]] += 1
            continue
        if counted and not gone:
            content = (new.text, new.task_text, new.observation)
            if content in known:
                refused["duplicate"] += 1
                continue
            known.add(content)
        fields = {name: getattr(new, name) for name in ("text", "task_text", "observation", "source_task")}
        accepted[skill.id] = replace(skill, **fields)
        mark = contents.marks.get(skill.id)
        if insertion.reason.startswith("held: ") and not (mark and mark.status == "held"):
            mark = Mark("held", skill.created, insertion.reason.removeprefix("held: "))
        if mark:
            marks[skill.id] = mark
    for id, mark in marks.items():
        if mark.into and mark.into not in accepted:
            marks[id] = Mark("evicted", mark.iteration, f"was merged into {mark.into}, which was left out")
    return [accepted[skill.id] for skill in contents.skills if skill.id in accepted], marks, refused
