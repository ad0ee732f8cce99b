"""Episodes of a question: searches up to the last turn but one, and an answer, which ends them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa import candidates
from d2skill.envs.search_qa.information import SHAPES, reference, without_tags
from d2skill.envs.search_qa.passage import Passage, PassageSearch
from d2skill.envs.search_qa.questions import QAQuestion
from d2skill.envs.search_qa.scoring import exact_match, f1
from d2skill.prompts import in_tags
from d2skill.types import Observation, Task

FORMS = ("search[...]", "answer[...]")
"""Forms of the actions"""

_KEPT = 2**12  # observations
_LISTED_ANSWERS = 10  # golden answers that people are shown
_OPENING = "Search the passages, or answer in a few words. There are {} turns, the last of them for the answer."
_ANSWER = "Answer in a few words."
_LAST = "This is the last turn: only an answer counts."
NO_ANSWER = "answer[unknown]"
"""The answer that is listed where no passage has one"""


class FoundPassages(NamedTuple):
    """Passages that a search found, and how they are shown."""

    passages: tuple[Passage, ...]
    text: str


class Desk:
    """Search of all sessions of an environment, and the observations of recent ones: they depend on searches alone."""

    def __init__(self, retriever: PassageSearch, settings: SearchQAConfig) -> None:
        self.settings = settings
        self._retriever = retriever
        self.observe: Callable[[str, tuple[str, ...]], Observation] = lru_cache(maxsize=_KEPT)(self._observe)

    def find(self, query: str) -> FoundPassages:
        """Returns what a search finds; in the reference's shape the passages keep their tags."""
        passages = self._retriever.search([query], self.settings.passages)[0]
        if self.settings.reference:
            return FoundPassages(tuple(passages), reference(passages))
        clean = tuple(map(without_tags, passages))
        return FoundPassages(clean, SHAPES[self.settings.shape](clean))

    def _observe(self, question: str, asked: tuple[str, ...]) -> Observation:
        """Returns the observation after some searches."""
        settings, last = self.settings, len(asked) >= self.settings.turns - 1
        found = [self.find(query) for query in reversed(asked)]
        passages = tuple({one[:2]: one for each in found for one in each.passages}.values())
        text = found[0].text if found else _OPENING.format(settings.turns) if settings.turns > 1 else _ANSWER
        labels: dict[str, str] = {}  # by action
        if settings.queries and not last:
            queries = candidates.queries(question, passages, asked, settings.queries)
            labels |= {f"search[{query}]": f"query {query}" for query in queries}
        if settings.answers:
            spans = candidates.spans(question, passages, settings.answers)
            labels |= {f"answer[{span.text}]": span.label for span in spans}
        if not labels and (settings.queries or settings.answers):
            labels = {NO_ANSWER: "nothing"}
        return Observation(
            f"{text.rstrip()}\n{_LAST}" if last else text,
            tuple(labels),
            forms=FORMS[1:] if last else FORMS,
            labels=tuple(labels.values()),
        )


class SearchQASession:
    """One episode of one question; see `Session` and `HumanReadable`.

    The golden answers are in no observation.
    """

    def __init__(self, desk: Desk, question: QAQuestion, task: Task) -> None:
        self.task = task
        self.observation = desk.observe(question.text, ())
        self._desk, self._question = desk, question
        self._asked: tuple[str, ...] = ()

    @property
    def display_text(self) -> str:
        """The passages without their tags, and at the end the golden answers; see `HumanReadable`."""
        seen = self.observation
        if seen.done:
            answers = self._question.answers
            more = f", and {len(answers) - _LISTED_ANSWERS} more" if len(answers) > _LISTED_ANSWERS else ""
            return f"{seen.text} F1: {seen.score:.2f}\nGolden answers: {'; '.join(answers[:_LISTED_ANSWERS])}{more}"
        if not self._asked or seen.text != self._desk.observe(self._question.text, self._asked).text:
            return seen.text
        passages = self._desk.find(self._asked[-1]).passages
        lines = [f"{number}. {one.title}\n   {one.text.strip()}" for number, one in enumerate(passages, 1)]
        return "\n".join([*lines, *([_LAST] if FORMS[0] not in seen.forms else [])]) or seen.text

    @property
    def action_notes(self) -> Mapping[str, str]:
        """No notes: the actions say all."""
        return {}

    def step(self, action: str) -> Observation:
        """Plays a search or an answer; to anything else the text says how these are written."""
        verb, _, rest = self.observation.admissible(action).partition("[")
        text = " ".join(rest[:-1].split())
        if verb == "search":
            self._asked = (*self._asked, text)
            self.observation = self._desk.observe(self._question.text, self._asked)
        elif verb == "answer":
            is_right = exact_match(text, self._question.answers)
            told = f'You answered "{text}", which is {"right" if is_right else "not right"}.'
            score = 1.0 if is_right else f1(text, self._question.answers)
            self.observation = Observation(told, done=True, success=is_right, score=score)
        else:
            self.observation = replace(self.observation, text=self._refusal())
        return self.observation

    def _refusal(self) -> str:
        write = str if self.observation.actions else partial(in_tags, forms=FORMS)
        search, answer = write("search[words to look for]"), write("answer[a few words]")
        if FORMS[0] in self.observation.forms:
            return f"That is neither a search nor an answer. Write {search} or {answer}."
        return f"That is no answer. {_LAST} Write {answer}."
