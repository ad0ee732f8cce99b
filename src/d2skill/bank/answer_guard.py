"""Guard of answers: no skill holds an answer of a task that it comes from, where the environment tells its answers.

Such a skill would be the answer, not how to find it. A text that names its steps loses those that hold an answer; one
that holds it elsewhere is refused. Words are compared without case, accents, marks and articles, so that what counts
as the answer (`exact match`) and what has marks in it or around it are both found.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace

from d2skill.bank.draft import Draft
from d2skill.bank.journal import source_task
from d2skill.errors import ConfigError
from d2skill.knowledge.evidence import Evidence
from d2skill.knowledge.procedures import sentence, steps_in
from d2skill.protocols import KnowsAnswers
from d2skill.types import Edit, Skill, SkillText

_ARTICLES = frozenset(("a", "an", "the"))
_MARK = "-"  # in place of each mark


class AnswerGuard:
    """Takes answers out of what is about to enter a bank, and counts it.

    Args:
        known: The source of answers; without one everything passes.
    """

    def __init__(self, known: KnowsAnswers | None) -> None:
        self._known = known
        self._caught = 0

    def caught(self) -> int | None:
        """Returns how many texts held an answer since the last call; None without a source of answers."""
        count, self._caught = self._caught, 0
        return count if self._known else None

    def drafts(self, drafts: Iterable[Draft]) -> list[Draft]:
        """Returns drafts without answers of their tasks, and without those that cannot do without."""
        checked = ((draft, self.text(draft.text, [draft.source_task])) for draft in drafts)
        return [replace(draft, text=text) for draft, text in checked if text]

    def evidence(self, evidence: Iterable[Evidence]) -> list[Evidence]:
        """Returns evidence without answers of the tasks that support it.

        A text that cannot do without is not supported by these tasks.
        """
        kept = []
        for one in evidence:
            holding = {source for source in one.supports if _holds(one.text, self._answers([source]))}
            if holding:
                text = self.text(one.text, holding)
                one = replace(one, text=text) if text else replace(one, supports=one.supports - holding)
            if one.supports or one.refutes:
                kept.append(one)
        return kept

    def edits(self, edits: Iterable[Edit], task: str, known: Sequence[Skill]) -> list[Edit]:
        """Returns the edits of a reflector about a task without answers of it, or of the source of a revised skill."""
        sources = {skill.id: skill.source_task for skill in known}
        checked = (
            (edit, self.text(edit.text, [task, sources.get(edit.skill_id, task)]) if edit.text else None)
            for edit in edits
        )
        return [replace(edit, text=text) for edit, text in checked if text or not edit.text]

    def text(self, text: SkillText, sources: Iterable[str]) -> SkillText | None:
        """Returns a text without the steps that hold answers of its sources, None if that leaves one, or no step."""
        answers = self._answers(sources)
        if not _holds(text, answers):
            return text
        self._caught += 1
        steps = steps_in(text.principle)
        left = [step for step in steps if not _names(step, answers)]
        cut = replace(text, principle=sentence(left))
        return cut if left and len(steps) > 1 and not _holds(cut, answers) else None

    def _answers(self, sources: Iterable[str]) -> set[str]:
        """Returns the answers of some sources, as they are compared."""
        found: set[str] = set()
        for task in {source_task(source) for source in sources} if self._known else ():
            try:
                for answer in self._known.golden_answers(task) if self._known else ():
                    found.update(_readings(answer))
            except ConfigError:  # a skill that came from elsewhere, of a task that is none here
                continue
        return found - {""}


def _readings(text: str) -> tuple[str, str]:
    """Returns a text as it is compared, with its marks left out, "usa" of "U.S.A.", and with gaps in their place.

    The letters of scripts without capitals, which may have no blanks between words, are words each.
    """
    letters = ""
    for one in unicodedata.normalize("NFKD", text.casefold()):
        category = unicodedata.category(one)
        if category[0] == "P" or one in string.punctuation:
            letters += _MARK
        elif category not in ("Mn", "Cf"):
            letters += f" {one} " if category == "Lo" else one
    return _words(letters.replace(_MARK, "")), " ".join(_words(letters).replace(_MARK, " ").split())


def _words(text: str) -> str:
    return " ".join(word for word in text.split() if word not in _ARTICLES)


def _names(text: str, answers: Iterable[str]) -> bool:
    """Returns True if a text has one of some answers, in whole words."""
    words = f" {' , '.join(_readings(text))} "
    return any(f" {answer} " in words for answer in answers)


def _holds(text: SkillText, answers: set[str]) -> bool:
    # A title stands before its principle where they are shown.
    return bool(answers) and (_names(f"{text.title} {text.principle}", answers) or _names(text.when_to_apply, answers))
